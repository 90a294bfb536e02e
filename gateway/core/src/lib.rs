//! What is decided about a request, without the machine that it is decided on: times are arguments, randomness is an
//! argument, who an account is the caller says. The gateway and the drill are two shells around it, so what a drill shows
//! is what the gateway does.
//!
//! | module | decides |
//! |---|---|
//! | [`admission`] | who gets a place at a deployment, who waits, whose verdict it is |
//! | [`attempts`] | what follows when an attempt has failed |
//! | [`averages`] | how long a usual answer is, how many tokens a chunk has |
//! | [`curve`] | how long an engine's steps take by how many streams it has |
//! | [`entry`] | what a request holds of its account's budget, from its reservation to its end |
//! | [`growth`] | whether limits on a model may grow |
//! | [`lately`] | what was admitted and shed in the last minute |
//! | [`pace`] | how far an answer is that nobody sees |
//! | [`routing`] | at which deployment a request is served, or waits |
//! | [`settlement`] | what a request is charged in the end |
//! | [`tiers`] | in which tier a request is served |
//!
//! A machine for each budget and each deployment, none for all: a caller that locks, locks each by itself.

pub mod admission;
pub mod attempts;
pub mod averages;
pub mod curve;
pub mod entry;
pub mod growth;
pub mod lately;
pub mod pace;
pub mod routing;
pub mod settlement;
pub mod tiers;
