//! The lines of many cells as one table, to be read and to be looked at: a row for each family, a column for each goal at
//! each load, the worst of the seeds in each field.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Line;
use drill::report::svg::{Anchor, Canvas, colour};

const ROW: f64 = 20.0;
const FIELD: f64 = 54.0;
const NAMES: f64 = 110.0;
const TOP: f64 = 78.0;
/// A line that is short by more than that of its goal is drawn as far off.
const FAR: [(&str, f64); 2] = [("P1", 0.03), ("P2", 0.1)];

/// How a field stands to its goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    Held,
    Short,
    Far,
}

#[derive(Debug, Clone, Copy)]
struct Field {
    figure: f64,
    margin: f64,
    stands: Stands,
}

/// See the module.
#[derive(Debug)]
pub struct Matrix {
    /// In the order in which they were played.
    families: Vec<String>,
    columns: Vec<(&'static str, String)>,
    fields: BTreeMap<(usize, usize), Field>,
}

impl Matrix {
    /// The lines of `goals`, columns in that order. A case is named after its family and its load, as cases name themselves.
    #[must_use]
    pub fn of(lines: &[Line], goals: &[&'static str]) -> Self {
        let mut families: Vec<String> = Vec::new();
        let mut loads: Vec<String> = Vec::new();
        let mut named = Vec::new();
        for line in lines {
            let mut words = line.case.split_whitespace();
            let (Some(family), Some(load)) = (words.next(), words.next()) else { continue };
            for (known, word) in [(&mut families, family), (&mut loads, load)] {
                if !known.iter().any(|other| other == word) {
                    known.push(word.to_owned());
                }
            }
            named.push((family, load, line));
        }
        loads.sort();
        let columns: Vec<(&'static str, String)> = goals
            .iter()
            .flat_map(|&goal| loads.iter().map(move |load| (goal, load.clone())))
            .filter(|(goal, load)| named.iter().any(|(_, at, line)| line.of == *goal && at == load))
            .collect();
        let mut fields = BTreeMap::new();
        for (family, load, line) in named {
            let row = families.iter().position(|name| name == family);
            let column = columns.iter().position(|(goal, at)| *goal == line.of && at == load);
            let (Some(row), Some(column)) = (row, column) else { continue };
            let field = field(line);
            let worst = fields.entry((row, column)).or_insert(field);
            if field.margin < worst.margin {
                *worst = field;
            }
        }
        Self { families, columns, fields }
    }

    /// As text; what is short has a star, what is far off two.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{:14}", "");
        // Writing into a string cannot fail; so below.
        self.columns.iter().for_each(|(goal, load)| {
            let _ = write!(text, "{:>10}", format!("{goal} {load}"));
        });
        for (row, family) in self.families.iter().enumerate() {
            let _ = write!(text, "\n{family:14}");
            for column in 0..self.columns.len() {
                let shown = self.fields.get(&(row, column)).map(|field| {
                    let stars = match field.stands {
                        Stands::Held => "",
                        Stands::Short => "*",
                        Stands::Far => "**",
                    };
                    format!("{stars}{}", figure(field.figure))
                });
                let _ = write!(text, "{:>10}", shown.unwrap_or_default());
            }
        }
        text.push('\n');
        text
    }

    /// As a picture: a field is filled by how it stands.
    #[must_use]
    pub fn svg(&self, title: &str) -> String {
        let (columns, rows) = (self.columns.len() as f64, self.families.len() as f64);
        let mut canvas = Canvas::new((NAMES + FIELD * columns + 12.0).max(560.0), TOP + ROW * rows + 40.0);
        canvas.text((12.0, 24.0), Anchor::Start, 15.0, colour::INK, title);
        for (column, (goal, load)) in self.columns.iter().enumerate() {
            let middle = NAMES + FIELD * (column as f64 + 0.5);
            canvas.text((middle, TOP - 24.0), Anchor::Middle, 12.0, colour::INK, goal);
            canvas.text((middle, TOP - 9.0), Anchor::Middle, 11.0, colour::MUTED, load);
        }
        for (row, family) in self.families.iter().enumerate() {
            let y = TOP + ROW * row as f64;
            canvas.text((12.0, y + 14.0), Anchor::Start, 12.0, colour::INK, family);
            for column in 0..self.columns.len() {
                let Some(field) = self.fields.get(&(row, column)) else { continue };
                let x = NAMES + FIELD * column as f64;
                let (fill, ink) = match field.stands {
                    Stands::Held => ("#e8f1fb", colour::INK),
                    Stands::Short => ("#ffd8a8", colour::INK),
                    Stands::Far => (colour::DOWN, "#ffffff"),
                };
                canvas.rect((x + 1.0, y + 1.0), (FIELD - 2.0, ROW - 2.0), fill);
                let words = figure(field.figure);
                canvas.text((x + FIELD / 2.0, y + 14.0), Anchor::Middle, 11.0, ink, &words);
            }
        }
        let y = TOP + ROW * rows + 14.0;
        let mut x = 12.0;
        for (fill, words) in [
            ("#e8f1fb", "holds"),
            ("#ffd8a8", "short"),
            (colour::DOWN, "short by more than is allowed anywhere"),
        ] {
            canvas.rect((x, y), (14.0, 14.0), fill);
            canvas.text((x + 20.0, y + 12.0), Anchor::Start, 12.0, colour::INK, words);
            x += 40.0 + 7.0 * words.len() as f64;
        }
        canvas.finish()
    }
}

fn field(line: &Line) -> Field {
    let margin = line.margin();
    let far = FAR.iter().any(|(goal, most)| *goal == line.of && -margin > *most);
    let stands = match (line.ok, far) {
        (true, _) => Stands::Held,
        (false, false) => Stands::Short,
        (false, true) => Stands::Far,
    };
    Field { figure: line.figure, margin, stands }
}

/// Four characters that matter, and no minus before nothing.
fn figure(value: f64) -> String {
    let text = if value.abs() < 0.1 { format!("{value:.4}") } else { format!("{value:.2}") };
    if text.trim_start_matches('-').bytes().all(|byte| matches!(byte, b'0' | b'.')) {
        "0".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn line(case: &str, of: &'static str, figure: f64, goal: f64) -> Line {
        Line::at_most(case.to_owned(), of, figure, goal, Value::Null)
    }

    fn some() -> Matrix {
        let lines = [
            line("plain 2× CV 1, all", "P1", 0.001, 0.002),
            line("plain 2× CV 1, all", "P1", 0.0041, 0.002),
            line("plain 0.8× CV 1, all", "P1", -0.00001, 0.002),
            line("far 2× CV 1, all", "P1", 0.05, 0.002),
            line("far 2× CV 1, all", "P4", 1.8, 0.1),
        ];
        Matrix::of(&lines, &["P1", "P4", "P7"])
    }

    #[test]
    fn the_worst_of_each_field_is_shown_and_stars_say_how_it_stands() {
        assert_eq!(
            some().text(),
            "                 P1 0.8×     P1 2×     P4 2×\n\
             plain                  0   *0.0041          \n\
             far                       **0.0500     *1.80\n"
        );
    }

    #[test]
    fn the_picture_has_every_field_and_word() {
        let svg = some().svg("Cells & goals");
        assert!(svg.contains("Cells &amp; goals") && svg.contains("0.0041") && svg.contains(colour::DOWN));
        assert_eq!(svg.matches("<rect").count(), 1 + 4 + 3, "background, fields, legend");
    }
}
