//! Clients and neighbours that mean harm, or speak as nobody expects.

mod malformed;
pub(crate) mod t10;
pub(crate) mod t11;
pub(crate) mod t13;
pub(crate) mod t16;
pub(crate) mod t9;
pub(crate) mod t9_h2;
