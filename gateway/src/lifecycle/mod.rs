//! How the process starts, hears signals, hands over to a new one, and ends.

pub mod heard;
pub mod needs;
pub mod notify;
pub mod serve;
pub mod signals;
pub mod upgrade;
