//! Proofs of cost: processor time, latency and memory, each a ratio of two sides that run in turn.

pub(crate) mod c1;
pub(crate) mod c2;
pub(crate) mod c3;
pub(crate) mod c5;
pub(crate) mod c6;
pub(crate) mod c7;
pub(crate) mod c7_p99;
pub(crate) mod c8;
pub(crate) mod c9;
pub(crate) mod decision;
pub(crate) mod waiting;
