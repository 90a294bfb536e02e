//! Is it true? One binary, a file per question.

mod adaptive;
mod budget;
mod common;
