//! Lines that fit a terminal of any size: each is cut at the last column, and the least important ones are left out.

use std::fmt::Write as _;

/// The size of a terminal, characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    /// In a line.
    pub(super) columns: usize,
    /// Lines.
    pub(super) rows: usize,
}

/// How much a line matters; where there is no room for all, the last of these goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// What the demo is for.
    Needed,
    /// What explains it.
    Explains,
    /// What can be done besides.
    Extra,
    /// Air.
    Blank,
}

/// Ranks in the order in which they are left out.
const LEFT_OUT: [Rank; 3] = [Rank::Blank, Rank::Extra, Rank::Explains];

/// Text in one style.
#[derive(Debug, Clone)]
struct Span {
    text: String,
    /// The parameter of "select graphic rendition": 1 is bold, 31 to 36 are colours.
    style: Option<u8>,
}

/// One line, of characters that are each one column wide.
#[derive(Debug, Clone)]
pub(super) struct Line {
    rank: Rank,
    spans: Vec<Span>,
}

impl Line {
    /// An empty line.
    pub(super) fn new(rank: Rank) -> Line {
        Line { rank, spans: Vec::new() }
    }

    /// The line with `text` at its end.
    pub(super) fn text(mut self, text: impl Into<String>) -> Line {
        self.spans.push(Span { text: text.into(), style: None });
        self
    }

    /// The line with `text` in a style at its end.
    pub(super) fn styled(mut self, style: u8, text: impl Into<String>) -> Line {
        self.spans.push(Span { text: text.into(), style: Some(style) });
        self
    }

    /// What is written: at most so many columns, without styles where `color` is not wanted.
    fn written(&self, columns: usize, color: bool) -> String {
        let mut text = String::new();
        let mut left = columns;
        for span in &self.spans {
            let shown: String = span.text.chars().take(left).collect();
            left -= shown.chars().count();
            // Writing into a string cannot fail.
            let _ = match span.style.filter(|_| color) {
                Some(style) => write!(text, "\x1b[{style}m{shown}\x1b[0m"),
                None => write!(text, "{shown}"),
            };
        }
        text
    }
}

/// The lines that fit, in their order.
fn fitting(mut lines: Vec<Line>, rows: usize) -> Vec<Line> {
    for rank in LEFT_OUT {
        while lines.len() > rows
            && let Some(last) = lines.iter().rposition(|line| line.rank == rank)
        {
            lines.remove(last);
        }
    }
    lines.truncate(rows);
    lines
}

/// A whole screen: each line at its place and cleared to its end, so that nothing flickers and nothing scrolls.
pub(super) fn frame(lines: Vec<Line>, size: Size, color: bool) -> String {
    let lines = fitting(lines, size.rows);
    let mut text = String::new();
    for (row, line) in lines.iter().enumerate() {
        let _ = write!(text, "\x1b[{};1H\x1b[K{}", row + 1, line.written(size.columns, color));
    }
    if lines.len() < size.rows {
        let _ = write!(text, "\x1b[{};1H\x1b[J", lines.len() + 1);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_least_is_left_out_first_and_the_rest_keeps_its_order() {
        let lines = [Rank::Needed, Rank::Blank, Rank::Explains, Rank::Extra, Rank::Blank, Rank::Needed];
        let ranks = |rows| -> Vec<Rank> {
            let lines = lines.iter().map(|rank| Line::new(*rank)).collect();
            fitting(lines, rows).iter().map(|line| line.rank).collect()
        };

        assert_eq!(ranks(9), lines);
        assert_eq!(ranks(4), [Rank::Needed, Rank::Explains, Rank::Extra, Rank::Needed]);
        assert_eq!(ranks(2), [Rank::Needed, Rank::Needed]);
        assert_eq!(ranks(1), [Rank::Needed]);
        assert!(ranks(0).is_empty());
    }

    #[test]
    fn a_line_ends_at_the_last_column_whatever_its_styles() {
        let line = Line::new(Rank::Needed).text("ab").styled(31, "█·┊").text("z");

        assert_eq!(line.written(4, true), "ab\x1b[31m█·\x1b[0m");
        assert_eq!(line.written(80, false), "ab█·┊z");
        assert_eq!(line.written(0, false), "");
    }

    #[test]
    fn what_an_earlier_frame_left_below_is_cleared() {
        let lines = || vec![Line::new(Rank::Needed).text("one")];

        assert_eq!(frame(lines(), Size { columns: 9, rows: 2 }, false), "\x1b[1;1H\x1b[Kone\x1b[2;1H\x1b[J");
        assert_eq!(frame(lines(), Size { columns: 9, rows: 1 }, false), "\x1b[1;1H\x1b[Kone");
    }
}
