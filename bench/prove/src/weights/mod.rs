//! Proofs of how well the tokens of a prompt are estimated before the engine has counted them.

pub(crate) mod b5;
pub(crate) mod cached;
pub(crate) mod estimate;
