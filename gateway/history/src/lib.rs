//! What happened lately, over time, for a console to draw: without I/O, clock, lock or thread. Whoever records passes the
//! wall time.
//!
//! | module | holds |
//! |---|---|
//! | [`histogram`] | durations, so that quantiles of any span can be told |
//! | [`step`] | one step of the axis: being filled, and closed |
//! | [`series`] | one deployment: an hour in steps of 5 s, a day in steps of 1 min |
//! | [`history`] | all deployments, within a bound of memory |
//! | [`events`] | what people and machines did meanwhile |
//! | [`standing`] | whether a replica is down, trials left out |
//! | [`groups`] | refused requests by account and reason, minute by minute |
//!
//! Memory: at most [`history::DEPLOYMENT_BYTES_MAX`] for a deployment that had traffic, nothing for one without, and
//! [`history::BYTES_MAX`] for all together. A step keeps the quantiles, not the histograms they come from: those exist for the
//! open steps only.

pub mod histogram;

pub mod step;

pub mod series;

pub mod history;

pub mod events;

pub mod standing;

pub mod groups;
