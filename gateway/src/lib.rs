//! The gateway's I/O: how bytes get in, get to a replica and get back.
//!
//! The only crate that knows sockets, the clock and locks. It asks `tokenizer` what a request weighs, `limits`
//! whether its account may spend that, and `shedder` whether and where there is room; then it moves bytes. Start
//! reading at [`proxy`]: a request's way in one function. A module uses only modules below it:
//!
//! ```text
//! cli ─► lifecycle ─► server ─► proxy ─► downstream
//!             └─────► admin ─────┴─────► state ─► upstream ─► accounts, telemetry
//! ```

pub mod proxy;

pub use downstream;

pub use upstream;

pub use accounts;

pub mod state;

pub use telemetry;

pub mod server;

pub mod admin;

pub mod lifecycle;

pub mod cli;

pub use process::clock;

pub use process::entropy;
