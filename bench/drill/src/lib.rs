//! What a policy does to a fleet: whole overloads in virtual time, the same to the bit for the same seed.
//!
//! A drill is four things. Read in this order:
//!
//! - [`scenario`]: the fleet, the traffic, and what goes wrong when. Plain data.
//!   [`trace`](scenario::trace) reads requests that were recorded elsewhere, [`traffic`](scenario::traffic) draws the
//!   requests of a scenario. They depend on the seed alone, so two policies meet the same ones.
//! - [`policy`]: who is sent where, who waits, who is refused. The gateway's own decisions ([`gateway_core`]), with
//!   tickets instead of tasks, and the rules that others ship.
//! - [`play`](mod@play): the events between clients, gateway and engines, on one clock.
//! - [`run`]: what became of every request, and the figures that are made of it.
//!
//! What people write and read is around it: [`mod@file`] has the keys of a scenario file, [`script`] what becomes of them,
//! [`judge`] whether it held; [`live`] plays the same in real time, [`sizing`] searches the smallest fleet.
//!
//! [`settings`] names the fleets and workloads that are judged, those that behave otherwise too; what has to be reached on them is
//! the crate `goals`. [`report`] shows what came out.
//!
//! [`command`] is `tidegate drill`: a scenario read from its file, played on engines and a gateway that are started for
//! it or against a gateway that runs already, judged and written down.

pub mod scenario;

pub mod policy;

pub mod play;

pub mod run;

pub mod live;

pub mod sizing;

pub mod script;

pub mod file;

pub mod judge;

pub mod settings;

pub mod report;

pub mod command;
