//! State that outlives the process: budgets, accounts made at run time, limits that operators set.

pub mod journal;
pub mod overrides;
pub mod roster;
