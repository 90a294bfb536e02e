//! How do bytes get in, get to a replica and get back?
