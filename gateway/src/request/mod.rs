//! From bytes to a request that is understood: depth, decisive members, the call, its weight, and what of it an
//! engine may see.

pub mod body;
pub mod call;
pub mod depth;
pub mod exact;
pub mod members;
pub mod policy;
pub mod prompts;
pub mod weigh;

#[cfg(test)]
mod differential;
