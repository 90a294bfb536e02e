//! Starts, loads and measures the programs that proofs compare.
//!
//! [`proof`] is one claim and its result. [`binaries`] builds programs and `kit` starts them, [`tidegate`] is the shipped one,
//! [`contest`] sets it beside a bare proxy; [`raw`], [`meter`] and [`pace`] are the load, `kit::process` and [`allocations`] the
//! gauges.

pub mod allocations;
pub mod binaries;
pub mod canned;
pub mod contest;
pub mod meter;
pub mod pace;
pub mod proof;
pub mod raw;
pub mod tidegate;
