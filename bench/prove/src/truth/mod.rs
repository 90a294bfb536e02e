//! Proofs of correctness: what was booked, who is still held, what survives a crash.

pub(crate) mod memory;
pub(crate) mod t1;
pub(crate) mod t11;
pub(crate) mod t12;
pub(crate) mod t13;
pub(crate) mod t14;
pub(crate) mod t16;
pub(crate) mod t2;
pub(crate) mod t2_routes;
pub(crate) mod t4;
pub(crate) mod t6;
pub(crate) mod t7;
pub(crate) mod t8;
pub(crate) mod t9;
