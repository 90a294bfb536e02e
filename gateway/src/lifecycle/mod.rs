//! How the process starts, hears signals, hands over to a new one, and ends.

pub mod needs;
pub mod serve;
pub mod signals;
pub mod upgrade;

pub use process::{heard, notify};
