//! Drills on a running config, in virtual time: in a process of their own, which gives way to everything.
//!
//! A gateway that serves must not pay for a drill. So it is the same program started once more (`tidegate drill served`): at the
//! lowest priority of processor time, the first to go when memory runs out, ended with its parent and after
//! [`runner::SECONDS_MAX`]. It reads the config's file, opens no listener, and never speaks to a replica.
//!
//! [`scenarios`] writes a scenario that fits a config; [`runner`] plays one at a time and keeps the last reports;
//! [`child`] is the process.

pub mod scenarios;

pub mod runner;

pub mod child;
