//! Where clients connect: listeners, TLS, keep-alive, and the end of connections.

pub mod app;
pub mod drain;
pub mod filter;
pub mod idle;
pub mod listening;
pub mod tls;
