//! Proofs of what operators feel: start, idle cost, reloads, very many accounts.

pub(crate) mod accounts;
pub(crate) mod operate;
pub(crate) mod t15;
