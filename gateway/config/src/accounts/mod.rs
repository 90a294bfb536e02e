//! `accounts` and `limits`: the customers, and where their budgets start and end.

pub(crate) mod account;
pub(crate) mod apart;
mod budget;
pub(crate) mod key;
pub(crate) mod limits;
