//! Is it true?
//!
//! One binary for all tests that look at the house from outside, so that they are linked once.

// The `cfg` tells clippy what this is: in tests, and in their helpers, `unwrap` is a fine assertion.
#[cfg(test)]
mod tidy;
