//! Starts, loads and measures the programs that proofs compare.
//!
//! [`proof`] is one claim and its result. [`binaries`] builds programs and `kit` starts them, [`tidegate`] is the shipped one,
//! [`contest`] sets it beside a bare proxy; [`raw`], [`meter`] and [`pace`] are the load, `kit::process` and [`allocations`] the
//! gauges.

pub(crate) mod allocations;
pub(crate) mod binaries;
pub(crate) mod canned;
pub(crate) mod contest;
pub(crate) mod meter;
pub(crate) mod pace;
pub(crate) mod proof;
pub(crate) mod raw;
pub(crate) mod tidegate;
