//! Reads a scenario file: keys and bounds by its schema, meaning by the drill itself, faults with their lines.

use crate::file::{DrillFile, Step, resolve};
use crate::script::Drill;
use config::{Document, Faults, Part};
use std::io::Read as _;
use std::path::Path;

/// Reads a scenario and the traces that it names.
///
/// # Errors
/// Every fault, and conditions that nothing could meet.
pub fn load(path: &Path) -> Result<Drill, Faults> {
    resolved(&Document::<DrillFile>::load(path)?, path.parent().unwrap_or(Path::new("")))
}

/// The same of a text; `origin` is its name in messages, `folder` where its traces are.
///
/// # Errors
/// As [`load()`].
pub fn parse(text: &str, origin: &str, folder: &Path) -> Result<Drill, Faults> {
    resolved(&Document::<DrillFile>::parse(text.to_owned(), origin)?, folder)
}

fn resolved(document: &Document<DrillFile>, folder: &Path) -> Result<Drill, Faults> {
    let read = |name: &Path, bytes_max: usize| {
        let mut bytes = Vec::new();
        std::fs::File::open(folder.join(name))?.take(bytes_max as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    resolve(&document.value, &document.text, &read).map_err(|faults| {
        let part = |step: Step| match step {
            Step::Key(key) => Part::Key(key),
            Step::Item(nth) => Part::Item(nth),
        };
        document.faults(
            faults.into_iter().map(|fault| (fault.path.into_iter().map(part).collect(), fault.message)),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "drill: d\nduration_s: 60\naccounts: [{ id: a }]\ntraffic: [{ name: t, accounts: a, rate_per_s: 5 }]\n";

    fn faults(text: &str) -> String {
        parse(text, "d.yaml", Path::new("")).unwrap_err().to_string()
    }

    #[test]
    fn four_lines_are_a_drill() {
        let drill = parse(GOOD, "d.yaml", Path::new("")).unwrap();
        assert_eq!((drill.scenario.replicas, drill.scenario.sources.len()), (4, 1));
        assert_eq!(drill.text, GOOD, "the report shows what was written");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_what_was_meant() {
        let faults = faults(&format!("{GOOD}fleet:\n  replcias: 3\n"));
        assert_eq!(faults, "d.yaml:6:3 fleet.replcias: is not a known key; did you mean `replicas`?");
    }

    #[test]
    fn an_impossible_rate_is_refused_where_it_stands() {
        let faults = faults(&GOOD.replace("rate_per_s: 5", "rate_per_s: -5"));
        assert!(faults.starts_with("d.yaml:4:") && faults.contains("between 0 and 100000"), "{faults}");
    }

    #[test]
    fn a_missing_trace_is_said_with_its_line() {
        let faults = faults(&GOOD.replace("rate_per_s: 5", "trace: { file: none.csv, format: azure }"));
        assert!(faults.starts_with("d.yaml:4:") && faults.contains("`none.csv` cannot be read"), "{faults}");
    }

    #[test]
    fn a_replica_that_does_not_exist_and_an_event_after_the_end_are_both_said() {
        let faults =
            faults(&format!("{GOOD}events:\n  - {{ at_s: 5, lose: 4 }}\n  - {{ at_s: 61, reload: true }}\n"));
        assert!(faults.contains("d.yaml:6:") && faults.contains("there is no replica 4"), "{faults}");
        assert!(faults.contains("d.yaml:7:") && faults.contains("comes after the end"), "{faults}");
    }

    #[test]
    fn a_drill_that_cannot_pass_is_told_so_before_it_runs() {
        let pass = |pass: &str| faults(&format!("{GOOD}pass:\n  - {pass}\n"));
        let too_much = pass("{ goodput_per_s: 50 }");
        assert!(too_much.contains("d.yaml:6:") && too_much.contains("about 5.0 are offered"), "{too_much}");
        let nobody = pass("{ attainment: 0.9, tier: priority }");
        assert!(nobody.contains("no traffic asks for priority"), "{nobody}");
        let flood = GOOD.replace("rate_per_s: 5", "rate_per_s: 500");
        let flood = faults(&format!("{flood}pass:\n  - {{ attainment: 0.99 }}\n"));
        assert!(flood.contains("cannot pass") && flood.contains("tokens computed per second"), "{flood}");
    }
}
