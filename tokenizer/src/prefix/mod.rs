//! What is cached already, and where.

mod bytes;
mod index;
mod keys;
mod lifetime;
mod lru;

pub use bytes::NoExport;
pub use index::{KNOWLEDGE_AGE_MAX, PrefixIndex, PrefixIndexConfig, PrefixMatch, REPLICAS_PER_BLOCK_MAX};
pub use keys::{PrefixHasher, PrefixKeys};
