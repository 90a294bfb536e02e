//! A request's way through the gateway, from its first header to its settled budget.

pub mod pipeline;

pub mod attempt;
mod keyless;
pub mod models;
mod outcome;
mod own_usage;
pub mod relay;
pub mod routing;
pub mod settle;

mod alarm;
