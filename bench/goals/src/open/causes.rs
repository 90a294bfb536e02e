//! Why lines of the open world fall short, and by how much at most as far as is known.

use std::fmt::Write as _;

use super::super::Line;

/// A reason, and how far it reaches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cause {
    /// A family; empty: any of those that have no row of their own for the goal.
    family: &'static str,
    /// The goal.
    of: &'static str,
    /// As far as it was seen to go, in the goal's own unit.
    pub bound: f64,
    /// Why.
    pub why: &'static str,
}

const LATE_N: &str =
    "N of so slow a card is known once answers of a minute have ended; until then too many run";
const SWINGS: &str =
    "one long prompt takes a large part of what a slow card does in a second, so that foreseen waits swing";
const EDGE: &str =
    "beyond the captured sizes a step is suddenly twice as slow, which is seen once it was crossed";
const UNSEEN: &str =
    "what a picture takes before its prefill is known when its first token comes, and was waited for in vain";
const RARE: &str =
    "one request in many is late for a reason of its own; what was computed for it is computed in vain";
const AFTER_THE_FACT: &str = "the limit that is held by hand was chosen on these very requests";
const LONG_PROMPTS: &str = "a long prompt needs a replica for itself, which priority takes first";

const fn cause(family: &'static str, of: &'static str, bound: f64, why: &'static str) -> Cause {
    Cause { family, of, bound, why }
}

/// The rows of a family before those of any.
const CAUSES: &[Cause] = &[
    cause("slower-card", "P1", 0.13, LATE_N),
    cause("slower-card", "P2", 0.90, LATE_N),
    cause("slower-card", "P3", 0.20, LATE_N),
    cause("slower-card", "P4", 2.0, LATE_N),
    cause("slower-card", "P7", 0.04, LATE_N),
    cause("slow-card", "P1", 0.005, SWINGS),
    cause("slow-card", "P2", 0.84, SWINGS),
    cause("slow-card", "P3", 0.012, SWINGS),
    cause("slow-card", "P4", 1.9, SWINGS),
    cause("graphs", "P1", 0.04, EDGE),
    cause("graphs", "P2", 0.84, EDGE),
    cause("pictures", "P1", 0.013, UNSEEN),
    cause("pictures", "P3", 0.017, UNSEEN),
    cause("tail", "P1", 0.004, RARE),
    cause("tail", "P3", 0.013, RARE),
    cause("bursty-clients", "P4", 1.9, "refusals of a burst that just fits are told when it did not"),
    cause("", "P1", 0.006, "a burst in the first minute, before the gaps of a full fleet were seen"),
    cause("", "P2", 0.88, AFTER_THE_FACT),
    cause("", "P3", 0.012, RARE),
    cause("", "P7", 0.005, "a burst below capacity that could have been borne"),
    cause("", "P15", 0.24, LONG_PROMPTS),
];

/// The reason of a line that is short.
#[must_use]
pub fn of(line: &Line) -> Option<&'static Cause> {
    let family = line.case.split(' ').next().unwrap_or_default();
    CAUSES.iter().find(|cause| cause.of == line.of && (cause.family == family || cause.family.is_empty()))
}

/// Whether a line is no further off than its reason explains.
#[must_use]
pub fn explains(line: &Line) -> bool {
    let within = |bound: f64| if line.at_most { line.figure <= bound } else { line.figure >= bound };
    line.ok || of(line).is_some_and(|cause| within(cause.bound))
}

/// The lines that are short, each with its bound and its cause, as text.
#[must_use]
pub fn text(lines: &[Line]) -> String {
    let mut text = String::from("\nWhat is short: figure, goal, bound, cause\n\n");
    for line in lines.iter().filter(|line| !line.ok) {
        let (bound, why) = of(line).map_or((f64::NAN, "not known"), |cause| (cause.bound, cause.why));
        let beyond = if explains(line) { "" } else { " BEYOND ITS BOUND" };
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "{:4} {:46} {:8.4} {:7.4} {bound:7.4}  {why}{beyond}",
            line.of, line.case, line.figure, line.goal
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_has_the_cause_of_its_family_or_that_of_any() {
        let line = |case: &str, figure| Line::at_most(case.to_owned(), "P1", figure, 0.002, json!(null));

        assert_eq!(of(&line("graphs 3×, CV 1", 0.03)).map(|cause| cause.why), Some(EDGE));
        assert!(explains(&line("graphs 3×, CV 1", 0.03)) && explains(&line("plain 2×, CV 1", 0.001)));
        let beyond = line("plain 2×, CV 1", 0.03);
        assert!(!explains(&beyond) && text(&[beyond]).contains("BEYOND ITS BOUND"));
    }

    #[test]
    fn a_bound_is_beyond_its_goal() {
        let goal = |of: &str| match of {
            "P1" => (0.002, true),
            "P2" => (0.95, false),
            "P3" => (0.01, true),
            "P4" => (0.1, true),
            "P7" => (0.001, true),
            "P15" => (1.0 / 3.0, false),
            other => panic!("{other} is no goal"),
        };
        for Cause { of, bound, why, .. } in CAUSES {
            let (goal, at_most) = goal(of);
            assert!(if at_most { *bound > goal } else { *bound < goal }, "{of} {bound}: {why}");
        }
    }
}
