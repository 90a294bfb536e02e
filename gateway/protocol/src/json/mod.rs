//! Scans of a JSON body: how deep it nests, and where its decisive members are. No value is built.

pub mod depth;
pub mod members;
