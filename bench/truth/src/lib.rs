//! Proofs of correctness: what was booked, who is still held, what survives a crash, an attack, an hour.
//!
//! One file per claim, as in `prove`, which lists them beside all others and runs them.

mod books;
mod hostile;
mod lasting;
mod lives;

use harness::proof::Proof;

/// All of them, in the order in which they run.
pub const PROOFS: &[Proof] = &[
    books::t1::PROOF,
    books::t2::PROOF,
    books::t2_routes::PROOF,
    lives::t4::PROOF,
    lives::t5::PROOF,
    lives::t6::PROOF,
    lives::t7::PROOF,
    lives::t8::PROOF,
    hostile::t9::PROOF,
    hostile::t9_h2::PROOF,
    hostile::t10::PROOF,
    hostile::t11::PROOF,
    books::t12::PROOF,
    books::m2::PROOF,
    hostile::t13::PROOF,
    lasting::t14::PROOF,
    hostile::t16::PROOF,
    lasting::memory::PROOF,
];
