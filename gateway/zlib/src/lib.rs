//! zlib under the name of zlib-ng: Pingora asks for zlib-ng, whose build needs CMake; this one needs a C compiler only.

pub use libz_sys::*;
