//! The Prometheus text format, as far as reading an engine's load needs it.
//!
//! A page is lines of `name{label="value",…} value [timestamp]`, comments and blanks. Names may hold colons, values
//! may be `NaN` or `+Inf`, a label's value may hold any character, braces and escaped quotes among them. A line
//! that is none of this is passed over: an engine's strange series must not cost us the good ones.
//!
//! # Guarantees
//!
//! - Any bytes give samples or an error. Pages over [`PAGE_MAX`] bytes or [`LINES_MAX`] lines are refused whole,
//!   because a sum over half a page is wrong.
//! - One pass, O(bytes); labels are looked at on lines whose name is wanted, nothing is copied.

/// Bytes of a page. vLLM 0.32 writes 57 KB per engine.
pub const PAGE_MAX: usize = 1 << 20;
/// Lines of a page. vLLM 0.32 writes 690 per engine.
pub const LINES_MAX: usize = 16_384;

/// Why a page says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// Usually not a metrics page at all.
    #[error("the page has more than {PAGE_MAX} bytes")]
    TooLong,
    /// Usually an engine that makes a series per request.
    #[error("the page has more than {LINES_MAX} lines")]
    TooManyLines,
    /// Usually a compressed page.
    #[error("the page is not UTF-8")]
    NotText,
    /// Usually another engine than the config says, or one that was started without its metrics.
    #[error("the page has none of the names that tell this engine's load")]
    Foreign,
}

/// One line of a page.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample<'a> {
    /// The whole name, suffixes such as `_total` included.
    pub name: &'a str,
    /// Any float, NaN and infinities too.
    pub value: f64,
    labels: &'a str,
}

impl<'a> Sample<'a> {
    /// The value of a label, escapes left as they are written. O(labels).
    pub fn label(&self, name: &str) -> Option<&'a str> {
        Labels(self.labels).find(|&(found, _)| found == name).map(|(_, value)| value)
    }

    /// A label that is written as a number.
    pub fn label_number(&self, name: &str) -> Option<f64> {
        self.label(name)?.parse().ok()
    }
}

/// The samples of a page whose name is `wanted`, in their order.
pub fn samples<'a>(
    page: &'a [u8],
    wanted: impl Fn(&str) -> bool + 'a,
) -> Result<impl Iterator<Item = Sample<'a>>, PageError> {
    if page.len() > PAGE_MAX {
        return Err(PageError::TooLong);
    }
    if memchr::memchr_iter(b'\n', page).count() > LINES_MAX {
        return Err(PageError::TooManyLines);
    }
    let text = std::str::from_utf8(page).map_err(|_| PageError::NotText)?;
    Ok(text.lines().filter_map(move |line| sample(line, &wanted)))
}

fn sample<'a>(line: &'a str, wanted: &impl Fn(&str) -> bool) -> Option<Sample<'a>> {
    let line = line.trim_start_matches(BLANK);
    // A comment's `#` is no name either.
    let end = line.bytes().position(|byte| !is_name(byte)).filter(|end| *end > 0)?;
    let (name, rest) = line.split_at_checked(end)?;
    if !wanted(name) {
        return None;
    }
    let (labels, rest) = match rest.trim_start_matches(BLANK).strip_prefix('{') {
        Some(inside) => {
            let end = closing_brace(inside)?;
            (inside.get(..end)?, inside.get(end + 1..)?)
        }
        None => ("", rest.strip_prefix(BLANK)?),
    };
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Sample { name, value, labels })
}

const BLANK: [char; 2] = [' ', '\t'];

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':')
}

/// Where the labels end: at the first brace that no quotes enclose.
fn closing_brace(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.bytes().position(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return true,
            _ => {}
        }
        false
    })
}

/// Walks `name="value",…`; ends at what is neither.
struct Labels<'a>(&'a str);

impl<'a> Iterator for Labels<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = self.0.trim_start_matches([' ', '\t', ',']).split_once('=')?;
        let rest = rest.trim_start_matches(BLANK).strip_prefix('"')?;
        let end = closing_quote(rest)?;
        self.0 = rest.get(end + 1..)?;
        Some((name.trim_end_matches(BLANK), rest.get(..end)?))
    }
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| match byte {
        _ if escaped => {
            escaped = false;
            false
        }
        b'\\' => {
            escaped = true;
            false
        }
        byte => byte == b'"',
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(page: &str) -> Vec<Sample<'_>> {
        samples(page.as_bytes(), |_| true).unwrap().collect()
    }

    fn only(page: &str) -> Sample<'_> {
        let found = read(page);
        assert_eq!(found.len(), 1, "{page}: {found:?}");
        found[0]
    }

    #[test]
    fn a_sample_has_a_name_with_colons_labels_and_a_value() {
        let sample =
            only("vllm:num_requests_running{engine=\"0\", model_name = \"a/b\",} 3.0 1700000000000\r\n");

        assert_eq!((sample.name, sample.value), ("vllm:num_requests_running", 3.0));
        assert_eq!(sample.label("engine"), Some("0"));
        assert_eq!(sample.label_number("engine"), Some(0.0));
        assert_eq!(sample.label("model_name"), Some("a/b"));
        assert_eq!(sample.label("model"), None, "no part of a name");
    }

    #[test]
    fn values_may_be_any_float() {
        assert!(only("a NaN").value.is_nan());
        assert_eq!(only("a +Inf").value, f64::INFINITY);
        assert_eq!(only("a\t-Inf").value, f64::NEG_INFINITY);
        assert_eq!(only("  a{} 4.89347072e+09 # {trace=\"x\"} 1").value, 4_893_470_720.0);
    }

    #[test]
    fn quotes_hide_braces_commas_and_escaped_quotes() {
        let sample = only(r#"info{layers="[}]",say="\"}, b=\"1",path="c:\\",b="2"} 1.0"#);

        assert_eq!(sample.label("layers"), Some("[}]"));
        assert_eq!(sample.label("b"), Some("2"), "not the one inside the quotes");
        assert_eq!(sample.label("path"), Some(r"c:\\"));
        assert_eq!(sample.value, 1.0);
    }

    #[test]
    fn what_is_no_sample_is_passed_over() {
        let page = "# HELP a 1\n# TYPE a gauge\n\n{} 1\na\na{b=\"1\" 2\na{b=\"}\na one\n-1\n<html>\nb-1\nc 7";

        let found = read(page);

        assert_eq!(found.iter().map(|sample| sample.name).collect::<Vec<_>>(), ["c"]);
    }

    #[test]
    fn threat_f8_a_page_has_a_bound() {
        let long = vec![b'a'; PAGE_MAX + 1];
        let many = "a 1\n".repeat(LINES_MAX + 1);

        assert_eq!(samples(&long, |_| true).err(), Some(PageError::TooLong));
        assert_eq!(samples(many.as_bytes(), |_| true).err(), Some(PageError::TooManyLines));
        assert_eq!(samples(&[0x1f, 0x8b, 0x08, 0x00], |_| true).err(), Some(PageError::NotText));
    }

    #[test]
    fn each_sample_of_the_recorded_pages_is_read() {
        for page in
            [include_str!("fixtures/vllm-0.32.0-metrics.txt"), include_str!("fixtures/llamacpp-metrics.txt")]
        {
            let lines = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
            assert_eq!(read(page).len(), lines.count());
        }
    }

    proptest! {
        /// threat_f8: whatever an engine sends, reading it ends.
        #[test]
        fn any_bytes_are_read_without_a_panic(page in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(found) = samples(&page, |_| true) {
                found.for_each(|sample| { sample.label("a"); });
            }
        }

        /// The same with the characters that mean something, so that the inner branches are reached.
        #[test]
        fn any_punctuation_is_read_without_a_panic(page in "[ab:{}\"\\\\,= \t\n1.#NäI+-]{0,200}") {
            for sample in samples(page.as_bytes(), |_| true).unwrap() {
                prop_assert!(!sample.name.is_empty());
                sample.label("a");
            }
        }

        #[test]
        fn what_was_written_is_read(
            name in "[a-z:_][a-z0-9:_]{0,20}",
            label in "[a-z_]{1,8}",
            text in "[^\"\\\\\n\r]{0,20}",
            value in any::<f64>(),
        ) {
            let page = format!("{name}{{x=\"}}\",{label}_=\"{text}\"}} {value}\n");

            let sample = only(&page);

            prop_assert_eq!(sample.name, &name);
            prop_assert_eq!(sample.label(&format!("{label}_")), Some(text.as_str()));
            prop_assert_eq!(sample.value.to_bits(), value.to_string().parse::<f64>().unwrap().to_bits());
        }
    }
}
