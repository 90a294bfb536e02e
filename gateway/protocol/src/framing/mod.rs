//! Where a request ends, by the letter: what two programs could read differently is refused.

pub mod chunked;
pub mod head;
