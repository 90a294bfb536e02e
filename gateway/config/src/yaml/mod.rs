//! A YAML document with the place of each value: read, checked against its schema, every fault told at once.
//!
//! The config and the scenarios of drills are read by it.

pub(crate) mod check;
mod document;
mod expand;
pub(crate) mod faults;
pub(crate) mod schema;
pub(crate) mod suggest;
pub(crate) mod text;
pub(crate) mod tree;

pub use document::{Document, Lines, Part};
pub use faults::{FAULTS_MAX, Fault, Faults};
pub use schema::schema_of;
pub use text::{CONFIG_BYTES_MAX, read_file};
pub use tree::{DEPTH_MAX, NODES_MAX};
