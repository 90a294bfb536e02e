//! Figures of all sides beside the goals.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::play::Distance;
use super::side::Kind;
use crate::harness::proof::{Finding, Setting, Trouble};

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// A share, written in percent.
    Share,
    /// Seconds.
    Seconds,
    /// A number with two decimals.
    Number,
}

/// What our value has to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Goal {
    /// No less.
    AtLeast(f64),
    /// No more.
    AtMost(f64),
}

/// One figure.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// The claim that it belongs to.
    pub(super) id: &'static str,
    /// What it is.
    pub(super) what: String,
    /// Of each side; `None`: it did not happen.
    pub(super) values: Vec<Option<f64>>,
    /// How they are written.
    pub(super) unit: Unit,
    /// What ours has to be at full size, and what the small size is judged by.
    pub(super) goal: Option<(Goal, Goal)>,
}

/// All figures of a run.
#[derive(Debug)]
pub(super) struct Table {
    /// The sides, ours first.
    pub(super) sides: Vec<Kind>,
    /// The figures.
    pub(super) rows: Vec<Row>,
    /// Whether it was the small size.
    pub(super) quick: bool,
    /// All that was measured.
    pub(super) details: Value,
}

/// Plays the same at each distance of the engines, and writes all figures as `NAME.md`.
///
/// # Errors
/// As what is played; the table cannot be written.
pub(super) fn at_each_distance(
    setting: &Setting,
    name: &str,
    sides: &[Kind],
    play: impl Fn(&Setting, Distance) -> Result<(Vec<Row>, Value), Trouble>,
) -> Result<Table, Trouble> {
    let mut table =
        Table { sides: sides.to_vec(), rows: Vec::new(), quick: setting.quick, details: Value::Null };
    let mut details = Vec::new();
    for &distance in Distance::of(setting) {
        let (rows, told) = play(setting, distance)?;
        table.rows.extend(rows);
        details.push(told);
    }
    table.details = json!(details);
    std::fs::write(setting.out.join(format!("{name}.md")), table.markdown())?;
    Ok(table)
}

impl Unit {
    fn write(self, value: Option<f64>) -> String {
        match (self, value) {
            (_, None) => "never".to_owned(),
            (Self::Share, Some(value)) => format!("{:.2} %", 100.0 * value),
            (Self::Seconds, Some(value)) => format!("{value:.2} s"),
            (Self::Number, Some(value)) => format!("{value:.2}"),
        }
    }
}

impl Goal {
    fn is_met(self, value: Option<f64>) -> bool {
        match (self, value) {
            (_, None) => false,
            (Self::AtLeast(least), Some(value)) => value >= least,
            (Self::AtMost(most), Some(value)) => value <= most,
        }
    }

    fn write(self, unit: Unit) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {}", unit.write(Some(least))),
            Self::AtMost(most) => format!("≤ {}", unit.write(Some(most))),
        }
    }
}

impl Row {
    fn judged(&self, quick: bool) -> Option<Goal> {
        self.goal.map(|(full, small)| if quick { small } else { full })
    }

    fn is_met(&self, quick: bool) -> bool {
        self.judged(quick).is_none_or(|goal| goal.is_met(self.values.first().copied().flatten()))
    }
}

impl Table {
    /// As Markdown.
    pub(super) fn markdown(&self) -> String {
        let names: Vec<&str> = self.sides.iter().map(|side| side.name()).collect();
        let mut text =
            format!("| | | {} | goal |\n|---|---|{}---|\n", names.join(" | "), "---|".repeat(names.len()));
        for row in &self.rows {
            let values: Vec<String> = row.values.iter().map(|value| row.unit.write(*value)).collect();
            let goal = row.judged(self.quick).map_or_else(String::new, |goal| {
                let verdict = if row.is_met(self.quick) { "" } else { " **short**" };
                format!("{}{verdict}", goal.write(row.unit))
            });
            // Writing into a string cannot fail.
            let _ = writeln!(text, "| {} | {} | {} | {goal} |", row.id, row.what, values.join(" | "));
        }
        text
    }

    /// What it says about one claim.
    ///
    /// # Errors
    /// Nothing.
    pub(super) fn finding(&self, id: &str) -> Result<Finding, Trouble> {
        let rows = || self.rows.iter().filter(|row| row.id == id && row.goal.is_some());
        if rows().next().is_none() {
            return Err(Trouble::Unexpected(format!("nothing was measured for {id}")));
        }
        let of_side = |(number, side): (usize, &Kind)| {
            let value = |row: &Row| row.unit.write(row.values.get(number).copied().flatten());
            format!("{} {}", side.name(), rows().map(value).collect::<Vec<_>>().join(", "))
        };
        let goal = |row: &Row| row.judged(self.quick).map_or_else(String::new, |goal| goal.write(row.unit));
        Ok(Finding {
            figure: self.sides.iter().enumerate().map(of_side).collect::<Vec<_>>().join("; "),
            goal: rows().map(goal).collect::<Vec<_>>().join(", "),
            ok: rows().all(|row| row.is_met(self.quick)),
            details: json!({ "table": self.markdown(), "runs": self.details }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(ours: Option<f64>, quick: bool) -> Table {
        let row = Row {
            id: "P1",
            what: "priority at 2×".to_owned(),
            values: vec![ours, Some(0.5)],
            unit: Unit::Share,
            goal: Some((Goal::AtLeast(0.999), Goal::AtLeast(0.95))),
        };
        Table { sides: vec![Kind::Ours, Kind::HaProxy], rows: vec![row], quick, details: Value::Null }
    }

    #[test]
    fn ours_is_judged_and_the_others_are_shown() {
        let good = table(Some(1.0), false).finding("P1").expect("measured");
        assert!(good.ok);
        assert_eq!(good.figure, "Tidegate 100.00 %; HAProxy 50.00 %");

        assert!(!table(Some(0.99), false).finding("P1").expect("measured").ok);
        assert!(
            table(Some(0.99), true).finding("P1").expect("measured").ok,
            "the small size has its own bound"
        );
        assert!(!table(None, false).finding("P1").expect("measured").ok, "what never happened meets nothing");
        assert!(table(Some(0.99), false).markdown().contains("short"));
        assert!(table(Some(1.0), false).finding("P9").is_err());
    }
}
