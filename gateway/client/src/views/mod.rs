//! The answers of the admin API: plain structures, written as JSON and described from the same definition.
//!
//! The server fills them and derives `/api/v1/openapi.json` from them, its clients read them, so a field cannot be shown
//! and not be described. Names of fields are stable: fields are added, none is renamed or taken away.

pub mod accounts;

pub mod deployments;

pub mod drills;

pub mod events;

pub mod history;

pub mod limits;

pub mod measured;

pub mod process;

pub mod refusals;

pub mod usage;
