//! How do bytes get in, get to a replica and get back?

pub mod config;
pub mod keys;
