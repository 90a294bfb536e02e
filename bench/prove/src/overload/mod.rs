//! Proofs of what the shipped policy does in an overload, in virtual time.

pub(crate) mod load;
pub(crate) mod table;
