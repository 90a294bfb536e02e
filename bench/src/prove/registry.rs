//! The table of all proofs, in the order in which they run.

use super::load;
use super::proof::Proof;
use super::table;
use super::{
    accounts, agree, b5, c1, c2, c3, c5, c6, c7, c7_p99, c8, c9, cached, estimate, operate, p11, p12, real,
    report_a1, reserve, t1, t2, t2_routes, t3, t4, t6, t7, t8, t11, t12, waiting, week,
};

/// All of them.
pub(super) const PROOFS: &[Proof] = &[
    load::proof::<0>(),
    load::proof::<1>(),
    load::proof::<2>(),
    load::proof::<3>(),
    load::proof::<4>(),
    load::proof::<5>(),
    load::proof::<6>(),
    load::proof::<7>(),
    load::proof::<8>(),
    load::proof::<9>(),
    load::proof::<10>(),
    load::proof::<11>(),
    table::PROOF,
    p11::PROOF,
    p12::PROOF,
    real::SEARCH,
    real::P1,
    real::P2,
    real::P4,
    real::P6,
    real::P5,
    c1::PROOF,
    c2::PROOF,
    c3::PROOF,
    c5::PROOF,
    c6::PROOF,
    waiting::PROOF,
    c7::PROOF,
    c7_p99::PROOF,
    c8::PROOF,
    c9::PROOF,
    t1::PROOF,
    t2::PROOF,
    t2_routes::PROOF,
    t3::PROOF,
    t4::PROOF,
    t6::PROOF,
    t7::PROOF,
    t8::PROOF,
    t11::PROOF,
    t12::PROOF,
    accounts::PROOF,
    agree::PROOF,
    cached::PROOF,
    estimate::PROOF,
    b5::PROOF,
    report_a1::PROOF,
    reserve::PROOF,
    week::PROOF,
    operate::PROOF,
];

/// The group `load`.
pub(super) const LOAD: [&str; 13] =
    ["P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9", "P10", "P13", "P14", "table"];

/// The proof of that id, whatever its case.
pub(super) fn named(id: &str) -> Option<&'static Proof> {
    PROOFS.iter().find(|proof| proof.id.eq_ignore_ascii_case(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_found_in_any_case() {
        for proof in PROOFS {
            assert_eq!(PROOFS.iter().filter(|other| other.id == proof.id).count(), 1, "{}", proof.id);
            assert!(named(&proof.id.to_lowercase()).is_some_and(|found| found.id == proof.id));
        }
        assert!(named("C0").is_none());
    }

    /// A run of all quick proofs has to fit into a step of CI.
    #[test]
    fn all_quick_proofs_take_six_minutes_at_most() {
        let seconds: u32 = PROOFS.iter().map(|proof| proof.quick_s).sum();
        assert!(seconds <= 360, "{seconds} s");
    }
}
