//! The table of all proofs, in the order in which they run.

use crate::blame::{b1, b2, b3, b4, b6};
use crate::budgets::{p11, p12, report_a1, reserve, t3, week};
use crate::cost::{c1, c2, c3, c5, c6, c7, c7_p99, c8, c9, decision, waiting};
use crate::drills::{agree, calibrated, configured, cost, handover};
use crate::harness::binaries::Profile;
use crate::harness::proof::Proof;
use crate::operation::{accounts, operate, t15};
use crate::overload::{load, table};
use crate::real;
use crate::weights::{b5, cached, estimate};

/// All of them.
pub(super) fn proofs() -> impl Iterator<Item = &'static Proof> {
    [PROOFS, truth::PROOFS].into_iter().flatten()
}

/// Those of this crate.
const PROOFS: &[Proof] = &[
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
    load::proof::<12>(),
    load::proof::<13>(),
    load::proof::<14>(),
    table::PROOF,
    p11::PROOF,
    p12::PROOF,
    real::SEARCH,
    real::P1,
    real::P2,
    real::P4,
    real::P6,
    real::P5,
    real::SLOW,
    real::LLAMA,
    real::LLAMA_WAVE,
    real::LLAMA_LOSS,
    c1::PROOF,
    c2::PROOF,
    c3::PROOF,
    c5::PROOF,
    c6::PROOF,
    waiting::PROOF,
    decision::PROOF,
    c7::PROOF,
    c7_p99::PROOF,
    c8::PROOF,
    c9::PROOF,
    t3::PROOF,
    t15::PROOF,
    accounts::PROOF,
    agree::PROOF,
    configured::PROOF,
    calibrated::PROOF,
    cost::PROOF,
    handover::PROOF,
    cached::PROOF,
    estimate::PROOF,
    b1::PROOF,
    b2::PROOF,
    b3::PROOF,
    b4::PROOF,
    b5::PROOF,
    b6::PROOF,
    report_a1::PROOF,
    reserve::PROOF,
    week::PROOF,
    operate::PROOF,
];

/// The group `load`.
pub(super) const LOAD: [&str; 13] =
    ["P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9", "P10", "P13", "P14", "table"];

/// Those that measure time or memory of the programs, or set them beside another program: they judge what is shipped.
const OF_WHAT_IS_SHIPPED: [&str; 15] = [
    "C1",
    "C2",
    "C3",
    "C5",
    "C7",
    "C7-p99",
    "C8",
    "C9",
    "memory",
    "real-search",
    "P1-real",
    "P2-real",
    "P4-real",
    "P5-real",
    "P6-real",
];

/// How the programs are built that a proof starts. The small size never waits for the second build of everything that
/// `dist` is: its goals of cost are wide, and find what is several times dearer.
pub(super) fn profile(proof: &Proof, quick: bool) -> Profile {
    if !quick && OF_WHAT_IS_SHIPPED.contains(&proof.id) { Profile::Dist } else { Profile::Release }
}

/// The proof of that id, whatever its case.
pub(super) fn named(id: &str) -> Option<&'static Proof> {
    proofs().find(|proof| proof.id.eq_ignore_ascii_case(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_found_in_any_case() {
        for proof in proofs() {
            assert_eq!(proofs().filter(|other| other.id == proof.id).count(), 1, "{}", proof.id);
            assert!(named(&proof.id.to_lowercase()).is_some_and(|found| found.id == proof.id));
        }
        assert!(named("C0").is_none());
    }

    #[test]
    fn only_proofs_that_exist_are_excused() {
        for shortfall in crate::known::SHORTFALLS {
            assert!(named(shortfall.id).is_some(), "{}", shortfall.id);
        }
    }

    #[test]
    fn proofs_of_cost_judge_what_is_shipped() {
        for id in OF_WHAT_IS_SHIPPED {
            assert!(named(id).is_some(), "{id}");
        }
        assert_eq!(profile(&c1::PROOF, false), Profile::Dist);
        assert_eq!(profile(&c7_p99::PROOF, false), Profile::Dist);
        assert_eq!(profile(&real::P1, false), Profile::Dist);
        assert_eq!(profile(&t3::PROOF, false), Profile::Release);
    }

    #[test]
    fn the_small_size_needs_one_build() {
        assert!(proofs().all(|proof| profile(proof, true) == Profile::Release));
    }

    /// A run of all quick proofs has to fit into a step of CI.
    #[test]
    fn all_quick_proofs_take_nine_minutes_at_most() {
        let seconds: u32 = proofs().map(|proof| proof.quick_s).sum();
        assert!(seconds <= 540, "{seconds} s");
    }
}
