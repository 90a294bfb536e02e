//! How do bytes get in, get to a replica and get back?
//!
//! The gateway is the only crate that knows sockets, HTTP, JSON, the clock and locks. It asks `tokenizer` what
//! a request weighs, `limits` whether its account may spend that, and `shedder` whether and where there is
//! room; then it moves bytes. Start reading at [`path`]: a request's way in one function.

pub mod path;

pub mod admission;
pub mod alarm;
pub mod attempt;
pub mod budget;
pub mod explain;
pub mod refusal;
pub mod relay;
pub mod routing;
pub mod settle;

pub mod api;
pub mod edge;
pub mod engine;
pub mod request;
pub mod upstream;

pub mod access_log;
pub mod accounting;
pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod demo;
pub mod drain;
pub mod drill;
pub mod entropy;
pub mod gateway;
pub mod harvest;
pub mod journal;
pub mod keys;
pub mod last_minute;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod notify;
pub mod operated;
pub mod overrides;
pub mod pace;
pub mod record;
pub mod reload;
pub mod roster;
pub mod scrape;
pub mod serve;
pub mod shortage;
pub mod signals;
pub mod state;
pub mod upgrade;
