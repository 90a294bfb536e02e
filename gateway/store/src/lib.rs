//! State that outlives the process: files of budgets, of dynamic accounts, of operators' limits, of usage.
//!
//! Each is read whole at the start, written by appending, and a damaged one is put aside and told. Wall time is an
//! argument; nothing here asks a clock or knows a request.

pub mod budget_log;
pub mod dynamic_accounts;
pub mod override_events;
pub mod overrides;
pub mod private;
pub mod usage_log;
