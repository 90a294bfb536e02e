//! Is it true? One binary, a file per question. The proofs use nothing but the crate's public face, so that other
//! programs can run them at full size.

mod common;

#[path = "../proofs/p11.rs"]
mod p11;
#[path = "../proofs/p12.rs"]
mod p12;
#[path = "../proofs/t3.rs"]
mod t3;

mod adaptive;
mod budget;
mod properties;
mod report_a;
mod report_d;
mod streaming;
