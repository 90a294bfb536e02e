//! The operators' side: health, metrics, state; on its own listener and its own thread.

mod routes;
mod server;
mod views;

pub use server::start;
