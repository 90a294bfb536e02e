//! Is it true? One binary, a file per question. Nothing but the crate's public face is used.

mod common;

mod adaptive;
mod budget;
mod properties;
mod report_a;
mod report_d;
