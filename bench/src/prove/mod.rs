//! What is claimed, and the commands that show it: one file per claim, one table of all.
//!
//! A proof of cost runs both sides in turn in one run and compares medians, because machines are small and noisy: ratios
//! are judged, absolute times are reported. A proof of truth counts, and a count is judged exactly. Where a claim is
//! about the program, the program that is shipped is built and started; where it is about a policy, the crate that is
//! shipped is called.
//!
//! To add one: a file with a `const PROOF: Proof`, and its line in [`registry::PROOFS`].

pub(crate) mod cli;

mod known;
mod registry;

mod proof;

pub(crate) mod allocations;
mod binaries;
mod canned;
mod contest;
mod meter;
mod pace;
mod process;
mod program;
mod raw;
mod tidegate;

mod load;
mod table;

mod p11;
mod p12;
mod real;

mod c1;
mod c2;
mod c3;
mod c5;
mod c6;
mod c7;
mod c7_p99;
mod c8;
mod c9;

mod t1;
mod t11;
mod t12;
mod t2;
mod t2_routes;
mod t3;
mod t4;
mod t6;
mod t7;
mod t8;

mod accounts;
mod agree;
mod b5;
mod cached;
mod estimate;
mod operate;
mod report_a1;
mod reserve;
mod waiting;
mod week;
