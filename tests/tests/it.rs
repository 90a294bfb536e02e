//! Is it true?
//!
//! One binary for all tests that look at the house from outside, so that they are linked once.

// The `cfg` tells clippy what this is: in tests, and in their helpers, `unwrap` is a fine assertion.
#[cfg(test)]
mod tidy;

/// The program under test, which cargo has built for these tests.
#[cfg(test)]
const PROGRAM: &str = env!("CARGO_BIN_EXE_tidegate-under-test");

#[cfg(test)]
mod accounts;

#[cfg(test)]
mod answers;

#[cfg(test)]
mod apis;

#[cfg(test)]
mod bodies;

#[cfg(test)]
mod book;

#[cfg(test)]
mod broken;

#[cfg(test)]
mod budgets;

#[cfg(test)]
mod cases;

#[cfg(test)]
mod commands;

#[cfg(test)]
mod connecting;

#[cfg(test)]
mod drills;

#[cfg(test)]
mod flex;

#[cfg(test)]
mod framing;

#[cfg(test)]
mod hostile;

#[cfg(test)]
mod keys;

#[cfg(test)]
mod leaving;

#[cfg(test)]
mod limit_headers;

#[cfg(test)]
mod live_status;

#[cfg(test)]
mod observing;

#[cfg(test)]
mod operating;

#[cfg(test)]
mod overload;

#[cfg(test)]
mod reference;

#[cfg(test)]
mod refusals;

#[cfg(test)]
mod routing;

#[cfg(test)]
mod reloading;

#[cfg(test)]
mod silent;

#[cfg(test)]
mod stopping;

#[cfg(test)]
mod storm;

#[cfg(test)]
mod tls;

#[cfg(test)]
mod upgrading;

#[cfg(test)]
mod upstream;

#[cfg(test)]
mod usage;

#[cfg(test)]
mod watching;
