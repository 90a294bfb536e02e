//! The client's side of a request: its head, key and body, and how it is answered.

pub mod anthropic;
pub mod body;
pub mod client;
pub mod head;
pub mod respond;
pub mod values;
