//! A bare Pingora proxy to measure against.
fn main() {}
