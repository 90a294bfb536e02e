//! The form of a line: an object of JSON whose last member is the CRC-32 of what is before it.
//!
//! ```text
//! first line  {"tidegate":"usage","version":1,"writer":"<16 hex>"}                       of a process's own file
//!             {"tidegate":"usage","version":1,"month":"2026-11","merged":{"<16 hex>":n}} of a month
//! others      {"number":n,"hour":"2026-11-30T14","account":"acme","key":"1a2b3c4d","model":"m","tier":"regular",
//!              "requests":3,"answered":2,"refused_429":1,"prompt":800,"uncached":800,"generated":64}
//! ```
//!
//! Each is closed by `,"crc":"<8 hex>"}`. What is zero or absent is left out, and so is `number` in the file of a month. A member
//! that this version does not know is passed over; what must not be passed over needs another version.

use serde::{Deserialize, Serialize};
use shedder::Tier;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use usage::calendar;
use usage::lines::Writer;
use usage::row::{Key, Slot, Totals};

/// The version that is written, and the highest that is read.
pub const VERSION: u32 = 1;
/// The longest line that is read: names have at most some hundred bytes, and a first line one number for each process.
pub const LINE_MAX: usize = 64 << 10;

/// What the file says it is.
const NAME: &str = "usage";
/// The last member, up to its digits, and what is behind them.
const CRC: &[u8] = b",\"crc\":\"";
const END: &[u8] = b"\"}";
const DIGITS: usize = 8;

/// The first line of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    tidegate: String,
    version: u32,
    /// Whose file it is, where it is a process's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    writer: Option<String>,
    /// The month that it is of, where it is one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    month: Option<String>,
    /// Up to which number the lines of each writer are in it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    merged: BTreeMap<String, u64>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Line<'l> {
    #[serde(skip_serializing_if = "is_zero")]
    number: u64,
    hour: Cow<'l, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<Cow<'l, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Cow<'l, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<Cow<'l, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tier: Option<Cow<'l, str>>,
    #[serde(skip_serializing_if = "is_zero")]
    requests: u64,
    #[serde(skip_serializing_if = "is_zero")]
    answered: u64,
    #[serde(skip_serializing_if = "is_zero")]
    refused_429: u64,
    #[serde(skip_serializing_if = "is_zero")]
    refused_503: u64,
    #[serde(skip_serializing_if = "is_zero")]
    prompt: u64,
    #[serde(skip_serializing_if = "is_zero")]
    cached: u64,
    #[serde(skip_serializing_if = "is_zero")]
    uncached: u64,
    #[serde(skip_serializing_if = "is_zero")]
    generated: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Head {
    /// That of a process's own file.
    #[must_use]
    pub fn of_writer(writer: Writer) -> Self {
        let writer = Some(writer_text(writer));
        Head { tidegate: NAME.to_owned(), version: VERSION, writer, month: None, merged: BTreeMap::new() }
    }

    /// That of the file of a month, which has the lines of these writers up to these numbers.
    #[must_use]
    pub fn of_month(month: u32, merged: impl Iterator<Item = (Writer, u64)>) -> Self {
        let merged = merged.map(|(writer, number)| (writer_text(writer), number)).collect();
        let month = Some(calendar::month_text(month));
        Head { tidegate: NAME.to_owned(), version: VERSION, writer: None, month, merged }
    }

    /// Whether this version cannot read the file.
    #[must_use]
    pub fn is_newer(&self) -> bool {
        self.tidegate == NAME && self.version > VERSION
    }

    /// Whose file it is.
    #[must_use]
    pub fn writer(&self) -> Option<Writer> {
        writer(self.writer.as_deref()?)
    }

    /// What was merged into it.
    pub fn merged(&self) -> impl Iterator<Item = (Writer, u64)> {
        self.merged.iter().filter_map(|(text, number)| Some((writer(text)?, *number)))
    }

    /// Appends it to `bytes`.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        seal(self, bytes);
    }

    /// Reads one. `None`: it is none, or was not written whole. One of a newer version need not be closed as ours are.
    #[must_use]
    pub fn read(line: &[u8]) -> Option<Head> {
        let newer = || serde_json::from_slice::<Head>(line).ok().filter(Head::is_newer);
        let head = opened(line).and_then(|body| serde_json::from_slice::<Head>(&body).ok());
        head.filter(|head| head.tidegate == NAME).or_else(newer)
    }
}

/// The text of a writer's id, as file names have it too.
#[must_use]
pub fn writer_text(writer: Writer) -> String {
    format!("{writer:016x}")
}

/// The id of that text.
#[must_use]
pub fn writer(text: &str) -> Option<Writer> {
    (text.len() == 16).then(|| Writer::from_str_radix(text, 16).ok())?
}

/// Appends a row to `bytes`; `number` is 0 in the file of a month.
pub fn write(number: u64, key: &Key, totals: &Totals, bytes: &mut Vec<u8>) {
    let Key { account, slot } = key;
    let hour = calendar::text(slot.hour);
    let line = Line {
        number,
        hour: hour.get(..13).unwrap_or(&hour).into(),
        account: account.as_deref().map(Cow::from),
        key: slot.key.map(|key| format!("{key:08x}").into()),
        model: slot.model.as_deref().map(Cow::from),
        tier: slot.tier.map(|tier| tier.name().into()),
        requests: totals.requests,
        answered: totals.answered,
        refused_429: totals.refused_429,
        refused_503: totals.refused_503,
        prompt: totals.prompt,
        cached: totals.cached,
        uncached: totals.uncached,
        generated: totals.generated,
    };
    seal(&line, bytes);
}

/// Names that many rows have, each once in memory.
#[derive(Debug, Default)]
pub struct Names(std::collections::BTreeSet<Arc<str>>);

impl Names {
    fn of(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.into();
        self.0.insert(Arc::clone(&name));
        name
    }
}

/// The number, key and totals of a row. `None`: it is none, or was not written whole.
#[must_use]
pub fn read(line: &[u8], names: &mut Names) -> Option<(u64, Key, Totals)> {
    let body = opened(line)?;
    let line: Line<'_> = serde_json::from_slice(&body).ok()?;
    let (hour, end) = calendar::parse(&line.hour)?;
    if end != hour + 1 {
        return None;
    }
    let key = match &line.key {
        Some(text) => Some(u32::from_str_radix(text, 16).ok()?),
        None => None,
    };
    let tier = match &line.tier {
        Some(name) => Some(Tier::ALL.into_iter().find(|tier| tier.name() == name)?),
        None => None,
    };
    let model = line.model.map(|name| names.of(&name));
    let key = Key { account: line.account.map(|id| names.of(&id)), slot: Slot { hour, key, model, tier } };
    let totals = Totals {
        requests: line.requests,
        answered: line.answered,
        refused_429: line.refused_429,
        refused_503: line.refused_503,
        prompt: line.prompt,
        cached: line.cached,
        uncached: line.uncached,
        generated: line.generated,
    };
    Some((line.number, key, totals))
}

/// Appends an object with its checksum and a line break.
fn seal(object: &impl Serialize, bytes: &mut Vec<u8>) {
    let begin = bytes.len();
    // Writing into memory does not fail, and no key of it is anything but a text.
    if serde_json::to_writer(&mut *bytes, object).is_err() {
        bytes.truncate(begin);
        return;
    }
    let sum = crc32fast::hash(bytes.get(begin..).unwrap_or_default());
    bytes.pop();
    bytes.extend_from_slice(CRC);
    bytes.extend_from_slice(format!("{sum:08x}").as_bytes());
    bytes.extend_from_slice(END);
    bytes.push(b'\n');
}

/// The object of a line without its checksum; `None`: the two do not fit.
fn opened(line: &[u8]) -> Option<Vec<u8>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line).strip_suffix(END)?;
    let (line, digits) = line.split_at_checked(line.len().checked_sub(DIGITS)?)?;
    let sum = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    let mut body = line.strip_suffix(CRC)?.to_vec();
    body.push(b'}');
    (crc32fast::hash(&body) == sum).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        let slot =
            Slot { hour: 498_902, key: Some(0x1a2b), model: Some("m\"é".into()), tier: Some(Tier::Flex) };
        Key { account: Some("acme".into()), slot }
    }

    /// Files of users have this form: another one needs another version.
    #[test]
    fn the_form_stays_as_it_is() {
        let mut bytes = Vec::new();
        Head::of_writer(255).write(&mut bytes);
        Head::of_month(498_902, [(1, 2)].into_iter()).write(&mut bytes);
        let totals = Totals { prompt: 9, ..Totals::of_status(429) };
        write(3, &key(), &totals, &mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| line.rsplit_once(",\"crc\"").unwrap().0).collect();

        assert_eq!(lines[0], r#"{"tidegate":"usage","version":1,"writer":"00000000000000ff""#);
        assert_eq!(
            lines[1],
            r#"{"tidegate":"usage","version":1,"month":"2026-11","merged":{"0000000000000001":2}"#
        );
        assert_eq!(
            lines[2],
            r#"{"number":3,"hour":"2026-11-30T14","account":"acme","key":"00001a2b","model":"m\"é","tier":"flex","requests":1,"refused_429":1,"prompt":9"#
        );
        let last = text.lines().last().unwrap();
        assert_eq!(read(last.as_bytes(), &mut Names::default()), Some((3, key(), totals)));
        let heads: Vec<Head> = text.lines().filter_map(|line| Head::read(line.as_bytes())).collect();
        assert_eq!(heads[0].writer(), Some(255));
        assert_eq!(heads[1].merged().collect::<Vec<_>>(), [(1, 2)]);
    }

    #[test]
    fn a_line_that_is_not_whole_is_none() {
        let mut bytes = Vec::new();
        write(1, &key(), &Totals::of_status(200), &mut bytes);
        let whole = read(&bytes, &mut Names::default());
        assert!(whole.is_some());

        for length in 0..bytes.len() - 1 {
            assert_eq!(read(&bytes[..length], &mut Names::default()), None, "{length}");
        }
        for at in 0..bytes.len() - 1 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert_eq!(read(&flipped, &mut Names::default()), None, "{at}");
        }
        assert_eq!(read(&bytes[..bytes.len() - 1], &mut Names::default()), whole, "without its line break");
    }

    #[test]
    fn a_file_of_a_newer_version_is_known_as_one() {
        let newer = br#"{"tidegate":"usage","version":2,"sealed":"otherwise"}"#;
        assert!(Head::read(newer).unwrap().is_newer());
        assert_eq!(Head::read(br#"{"tidegate":"usage","version":1}"#), None, "ours is closed");
        assert_eq!(Head::read(b"a letter"), None);
    }
}
