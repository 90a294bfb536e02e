//! Tables and headings of Markdown.

use std::fmt::Write as _;

/// A page: its title, the note that it is made, and what comes after.
pub(super) struct Page(String);

impl Page {
    pub(super) fn new(title: &str) -> Page {
        Page(format!("# {title}\n{}\n", super::NOTE))
    }

    /// Adds a paragraph.
    pub(super) fn paragraph(&mut self, text: &str) -> &mut Page {
        let _ = write!(self.0, "\n{}\n", text.trim());
        self
    }

    /// Adds a heading of a section; `depth` 2 is one below the title.
    pub(super) fn heading(&mut self, depth: usize, text: &str) -> &mut Page {
        let _ = write!(self.0, "\n{} {text}\n", "#".repeat(depth));
        self
    }

    /// Adds a table. Nothing is added where there is no row.
    pub(super) fn table<const N: usize>(&mut self, head: [&str; N], rows: &[[String; N]]) -> &mut Page {
        if rows.is_empty() {
            return self;
        }
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let _ = write!(self.0, "\n{}|{}\n", line(&head.map(str::to_owned)), "---|".repeat(N));
        for row in rows {
            self.0.push_str(&line(&row.each_ref().map(|cell| escaped(cell))));
        }
        self
    }

    /// The page as text.
    pub(super) fn text(self) -> String {
        self.0
    }
}

/// A cell's text on one line, with bars that do not end the cell.
fn escaped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// Code in a line of text.
pub(super) fn code(text: &str) -> String {
    format!("`{text}`")
}

/// A number with separators, as the documents write it: 1,024.
pub(super) fn grouped(number: f64) -> String {
    let text = if number.fract() == 0.0 { format!("{number:.0}") } else { format!("{number}") };
    let (sign, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |digits| ("-", digits));
    let (whole, part) = digits.split_once('.').map_or((digits, None), |(whole, part)| (whole, Some(part)));
    let mut shown = String::new();
    for (nth, digit) in whole.chars().enumerate() {
        if nth > 0 && (whole.len() - nth).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    part.map_or(format!("{sign}{shown}"), |part| format!("{sign}{shown}.{part}"))
}

#[test]
fn numbers_are_grouped_and_bars_do_not_end_a_cell() {
    assert_eq!(
        [0.0, 999.0, 1024.0, 1e6, 0.85, -12345.5].map(grouped),
        ["0", "999", "1,024", "1,000,000", "0.85", "-12,345.5"]
    );
    let mut page = Page::new("A");
    page.table(["x"], &[["a | b\nc".to_owned()]]);
    assert!(page.text().ends_with("\n| x |\n|---|\n| a \\| b c |\n"));
}
