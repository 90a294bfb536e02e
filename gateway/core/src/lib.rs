//! What is decided about a request, without the machine that it is decided on: times are arguments, randomness is an
//! argument, who an account is the caller says. The gateway and the drill are two shells around it, so what a drill shows
//! is what the gateway does.
//!
//! | module | decides |
//! |---|---|
//! | [`growth`] | whether limits on a model may grow |
//! | [`settlement`] | what a request is charged in the end |

pub mod growth;
pub mod settlement;
