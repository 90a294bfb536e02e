//! The typed client of the admin API of a running gateway, and the commands of an operator on top of it.
//!
//! [`views`] defines what the API answers, once for the server and for everybody who asks. [`api`] asks, within bounds of
//! size and time. [`commands`] is the operator's command line: arguments, calls and tables.

pub mod api;

pub mod commands;

pub mod views;
