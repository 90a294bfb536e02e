//! Where clients connect: the way of a connection from its acceptance to its end.
//!
//! ```text
//! accept ── place ── PROXY header ── TLS ──┬── HTTP/1.1 ── request, idle, request … ── lingering close
//!   503       503      from proxies        └── HTTP/2   ── streams at once
//!             └─────────── one deadline, first head included ───────────┘
//! ```

pub mod accept;
pub mod app;
pub mod drain;
pub mod http2;
pub mod refusing;
