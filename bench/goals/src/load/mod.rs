//! The load goals, each by its id; what they ask is in the table of the crate.

pub(crate) mod m1;
pub(crate) mod p1;
pub(crate) mod p10;
pub(crate) mod p13;
pub(crate) mod p14;
pub(crate) mod p2;
pub(crate) mod p3;
pub(crate) mod p4;
pub(crate) mod p5;
pub(crate) mod p6;
pub(crate) mod p7;
pub(crate) mod p8;
pub(crate) mod p9;
