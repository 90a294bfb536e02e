//! Where connections arrive: structural checks, routes, keep-alive, and what is allowed to pass.

pub mod anthropic;
pub mod app;
pub mod client;
pub mod connections;
pub mod credential;
pub mod filter;
pub mod head;
pub mod idle;
pub mod listening;
pub mod models;
pub mod respond;
pub mod route;
pub mod tls;
pub mod values;
