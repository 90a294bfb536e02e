//! Proofs of what token budgets admit, charge and refuse.

pub(crate) mod p11;
pub(crate) mod p12;
pub(crate) mod report_a1;
pub(crate) mod reserve;
pub(crate) mod t3;
pub(crate) mod week;
