//! What an account holds while its requests run: its budgets, and its share of the bytes in flight.

pub mod budget;
pub mod memory;
