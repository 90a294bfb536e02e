//! Client connections before and beside HTTP: who may be connected, who the client is, and how an end is made.
//!
//! | module | answers |
//! |---|---|
//! | [`places`] | Who may be connected, and who gives way when all places are taken? |
//! | [`operators`] | The same of the admin listener, where a probe is answered in any crowd. |
//! | [`turned`] | What is told of those that were not served? |
//! | [`proxy_header`], [`forwarded`] | Which address has the client behind a trusted proxy? |
//! | [`descriptors`] | How many descriptors are there? |
//! | [`socket`] | How is a client's socket buffered? |
//! | [`tls`] | Which certificate does it see? |
//! | [`idle`], [`streams`] | When does the next request come, and does any run? |
//! | [`linger`] | How is a connection closed without losing its last answer? |
//!
//! No clock is read here: whoever makes [`places::Connections`] gives it one.

pub mod descriptors;
pub mod forwarded;
pub mod idle;
pub mod linger;
pub mod operators;
pub mod places;
pub mod proxy_header;
pub mod reset;
pub mod socket;
pub mod streams;
pub mod tls;
pub mod turned;

pub use places::{Asking, Bounds, Connections, NoPlace, Place, StreamPlace, Visit};
pub use turned::Turned;
