//! Proofs of whose fault a failure is, who pays for it, and who is charged for what was computed.

pub(crate) mod b1;
pub(crate) mod b2;
pub(crate) mod b3;
pub(crate) mod b4;
pub(crate) mod b6;
mod fleet;
