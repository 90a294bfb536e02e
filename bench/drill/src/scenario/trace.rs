//! Requests that were recorded, as traffic: somebody's public trace, or last night's access log.
//!
//! | format | a line | what it says |
//! |---|---|---|
//! | `azure` | CSV `TIMESTAMP,ContextTokens,GeneratedTokens` | when, and both sizes |
//! | `mooncake` | JSONL `timestamp` (ms), `input_length`, `output_length`, `hash_ids` (512 tokens each) | the same, and what prompts share |
//! | `access-log` | Tidegate's own JSON lines | the same, and account, model, tier and whether it streamed |
//!
//! Times become times since the first request, divided by `speed`. Of an access log the clients' own repetitions are
//! left out (the drill's clients repeat by themselves), and a request that was refused gets the mean answer of those
//! that were not: how long it would have been nobody knows.
//!
//! A prompt of `hash_ids` continues the earlier one that it begins like, if it begins like *all* of it, as the turns
//! of a conversation do; one that leaves an earlier prompt in its middle counts as new. Two that continue the same one
//! are of one family, and what the first went on with counts as known to the second: with branches, what is expected to
//! be cached is an upper bound.
//!
//! Bounded by [`REQUESTS_MAX`] and [`BYTES_MAX`]; a line that cannot be read stops the reading and is named.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use shedder::Tier;

use engine::workload::Size;

/// Requests that a trace may hold.
pub const REQUESTS_MAX: usize = 2_000_000;
/// Bytes that its file may have.
pub const BYTES_MAX: usize = 1 << 30;
/// Accounts that an access log may name.
pub const ACCOUNTS_MAX: usize = 10_000;
/// Models that an access log may name.
pub const MODELS_MAX: usize = 10_000;
/// Tokens behind one of a `mooncake` trace's hashes.
const HASH_TOKENS: u32 = 512;
/// Sizes beyond this are a wrong column, tokens.
const TOKENS_MAX: u64 = 10_000_000;

/// How a trace is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `TIMESTAMP,ContextTokens,GeneratedTokens`.
    Azure,
    /// `timestamp`, `input_length`, `output_length`, `hash_ids`.
    Mooncake,
    /// Tidegate's own.
    AccessLog,
}

/// One recorded request. What is `None` the trace does not say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recorded {
    /// Since the start of the drill.
    pub at: Duration,
    /// Its sizes.
    pub size: Size,
    /// Whose; an index of [`Trace::accounts`] until the scenario numbers them.
    pub account: Option<u32>,
    /// The model; an index of [`Trace::models`] until the scenario numbers them.
    pub model: Option<u16>,
    /// Its tier.
    pub tier: Option<Tier>,
    /// Whether it streamed.
    pub streaming: Option<bool>,
    /// The family of prompts that its own begins like, and for how many tokens.
    pub prefix: Option<(u64, u32)>,
}

/// Recorded requests in order of time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trace {
    /// The requests.
    pub asks: Vec<Recorded>,
    /// The accounts that they name.
    pub accounts: Vec<String>,
    /// The models that they name.
    pub models: Vec<String>,
}

/// Why a trace cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// Usually another format than the one that is named.
    #[error("line {line}: {what}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// There is nothing in it.
    #[error("there is no request in it")]
    Empty,
    /// It is too large.
    #[error("it holds more than {REQUESTS_MAX} requests; cut it")]
    TooLong,
    /// Names that are no accounts, most likely.
    #[error("it names more than {ACCOUNTS_MAX} accounts, or more than {MODELS_MAX} models")]
    TooManyAccounts,
}

impl Trace {
    /// Reads a trace, `speed` times as fast as it was.
    ///
    /// # Errors
    /// The first line that cannot be read.
    pub fn read(text: &str, format: Format, speed: f64) -> Result<Self, TraceError> {
        let mut reader = Reader::default();
        for (number, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let read = match format {
                Format::Azure => reader.azure(line, number == 0),
                Format::Mooncake => reader.mooncake(line),
                Format::AccessLog => reader.access_log(line),
            };
            read.map_err(|what| TraceError::Line { line: number + 1, what })?;
            if reader.lines.len() > REQUESTS_MAX {
                return Err(TraceError::TooLong);
            }
        }
        reader.finish(speed)
    }

    /// Requests per second between the first and the last.
    #[must_use]
    pub fn rate_per_s(&self) -> f64 {
        let length = self.asks.last().map_or(0.0, |last| last.at.as_secs_f64());
        self.asks.len() as f64 / length.max(1.0)
    }
}

/// A line that was read.
struct Line {
    at_s: f64,
    prompt: u32,
    /// `None`: it was refused.
    output: Option<u32>,
    account: Option<u32>,
    model: Option<u16>,
    tier: Option<Tier>,
    streaming: Option<bool>,
    hashes: Vec<u64>,
}

#[derive(Default)]
struct Reader {
    lines: Vec<Line>,
    accounts: Vec<String>,
    numbers: BTreeMap<String, u32>,
    models: Vec<String>,
}

#[derive(Deserialize)]
struct MooncakeLine {
    timestamp: f64,
    input_length: u64,
    output_length: u64,
    #[serde(default)]
    hash_ids: Vec<u64>,
}

#[derive(Deserialize)]
struct AccessLine {
    time: String,
    account: Option<String>,
    model: Option<String>,
    tier: Option<String>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    weighed_prompt_tokens: u64,
    prompt_tokens: Option<u64>,
    generated_tokens: Option<u64>,
    #[serde(default)]
    client_retry: u32,
}

impl Reader {
    fn azure(&mut self, line: &str, first: bool) -> Result<(), String> {
        let mut fields = line.split(',').map(str::trim);
        let (Some(time), Some(prompt), Some(output)) = (fields.next(), fields.next(), fields.next()) else {
            return Err("has not the three columns TIMESTAMP,ContextTokens,GeneratedTokens".to_owned());
        };
        if first && time.eq_ignore_ascii_case("timestamp") {
            return Ok(());
        }
        let at_s =
            seconds(time).ok_or_else(|| format!("`{time}` is no time such as 2023-11-16 18:15:46.68"))?;
        let number = |text: &str| text.parse().map_err(|_| format!("`{text}` is no number of tokens"));
        let (prompt, output) = (tokens(number(prompt)?)?, tokens(number(output)?)?);
        self.add(Line { output: Some(output), ..Line::at(at_s, prompt) });
        Ok(())
    }

    fn mooncake(&mut self, line: &str) -> Result<(), String> {
        let read: MooncakeLine = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let (prompt, output) = (tokens(read.input_length)?, tokens(read.output_length)?);
        let line = Line::at(read.timestamp / 1e3, prompt);
        self.add(Line { output: Some(output), hashes: read.hash_ids, ..line });
        Ok(())
    }

    fn access_log(&mut self, line: &str) -> Result<(), String> {
        // Other log lines may stand between; what is about no request has no weight.
        if !line.contains("\"weighed_prompt_tokens\"") {
            return Ok(());
        }
        let read: AccessLine = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let prompt = read.prompt_tokens.filter(|tokens| *tokens > 0).unwrap_or(read.weighed_prompt_tokens);
        // Refused before it was weighed: there is nothing to play.
        if read.client_retry > 0 || prompt == 0 {
            return Ok(());
        }
        let at_s = seconds(&read.time).ok_or_else(|| format!("`{}` is no time", read.time))?;
        let output = read.generated_tokens.filter(|tokens| *tokens > 0).map(tokens).transpose()?;
        let account = read.account.map(|name| self.number(name));
        let model = read.model.map(|name| self.model(name));
        let tier = read
            .tier
            .map(|tier| Tier::ALL.into_iter().find(|known| known.name() == tier).unwrap_or(Tier::Regular));
        let line = Line::at(at_s, tokens(prompt)?);
        self.add(Line { output, account, model, tier, streaming: Some(read.stream), ..line });
        Ok(())
    }

    fn number(&mut self, name: String) -> u32 {
        if let Some(number) = self.numbers.get(&name) {
            return *number;
        }
        let number = self.accounts.len() as u32;
        self.accounts.push(name.clone());
        self.numbers.insert(name, number);
        number
    }

    fn model(&mut self, name: String) -> u16 {
        let number = self.models.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.models.push(name);
            self.models.len() - 1
        });
        number.min(usize::from(u16::MAX)) as u16
    }

    fn add(&mut self, line: Line) {
        self.lines.push(line);
    }

    fn finish(mut self, speed: f64) -> Result<Trace, TraceError> {
        if self.accounts.len() > ACCOUNTS_MAX || self.models.len() > MODELS_MAX {
            return Err(TraceError::TooManyAccounts);
        }
        self.lines.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        let first = self.lines.first().ok_or(TraceError::Empty)?.at_s;
        let known: Vec<u64> = self.lines.iter().filter_map(|line| line.output.map(u64::from)).collect();
        let mean = known.iter().sum::<u64>().checked_div(known.len() as u64).unwrap_or(256) as u32;
        let mut families = Families::default();
        let asks = self.lines.iter().map(|line| Recorded {
            at: Duration::from_secs_f64(((line.at_s - first) / speed).clamp(0.0, 1e9)),
            size: Size { prompt_tokens: line.prompt, output_tokens: line.output.unwrap_or(mean).max(1) },
            account: line.account,
            model: line.model,
            tier: line.tier,
            streaming: line.streaming,
            prefix: families.of(line),
        });
        Ok(Trace { asks: asks.collect(), accounts: self.accounts, models: self.models })
    }
}

impl Line {
    fn at(at_s: f64, prompt: u32) -> Self {
        Self {
            at_s,
            prompt,
            output: None,
            account: None,
            model: None,
            tier: None,
            streaming: None,
            hashes: Vec::new(),
        }
    }
}

/// Which prompts continue which.
#[derive(Default)]
struct Families {
    /// The family of the prompt that ends with this hash. In a chain of hashes the last one says all.
    ends: BTreeMap<u64, u64>,
    begun: u64,
}

impl Families {
    fn of(&mut self, line: &Line) -> Option<(u64, u32)> {
        let last = *line.hashes.last()?;
        let family = line.hashes.iter().rev().find_map(|hash| self.ends.get(hash).copied());
        let family = family.unwrap_or_else(|| {
            self.begun += 1;
            self.begun
        });
        self.ends.insert(last, family);
        let shared = HASH_TOKENS.saturating_mul(line.hashes.len() as u32);
        Some((family, shared.min(line.prompt)))
    }
}

fn tokens(number: u64) -> Result<u32, String> {
    if number > TOKENS_MAX {
        return Err(format!("{number} tokens are more than any request has; is a column missing?"));
    }
    Ok((number as u32).max(1))
}

/// Seconds of `2023-11-16 18:15:46.6805900`, of `2026-11-26T17:35:20.123Z`, or of a plain number.
fn seconds(text: &str) -> Option<f64> {
    if let Ok(number) = text.parse::<f64>() {
        return Some(number).filter(|number| number.is_finite());
    }
    let (date, time) = text.split_once([' ', 'T'])?;
    let mut date = date.split('-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let time = time.trim_end_matches('Z');
    let time = time.split_once('+').map_or(time, |(time, _)| time);
    let mut clock = time.split(':');
    let (hour, minute) = (clock.next()?.parse::<f64>().ok()?, clock.next()?.parse::<f64>().ok()?);
    let second = clock.next()?.parse::<f64>().ok()?;
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24.0 && minute < 60.0;
    in_range.then(|| days(year, month, day) as f64 * 86_400.0 + hour * 3600.0 + minute * 60.0 + second)
}

/// Days since 1970-01-01 of a date of the Gregorian calendar (H. Hinnant's `days_from_civil`).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(trace: &Trace) -> Vec<f64> {
        trace.asks.iter().map(|ask| ask.at.as_secs_f64()).collect()
    }

    #[test]
    fn an_azure_trace_counts_from_its_first_request_and_may_be_hurried() {
        let text = "TIMESTAMP,ContextTokens,GeneratedTokens\n\
                    2023-11-30 23:59:59.5000000,374,44\n2023-12-01 00:00:01.5000000,396,109\n";

        let trace = Trace::read(text, Format::Azure, 4.0).unwrap();

        assert_eq!(at(&trace), [0.0, 0.5]);
        assert_eq!(trace.asks[1].size, Size { prompt_tokens: 396, output_tokens: 109 });
    }

    #[test]
    fn a_mooncake_trace_knows_which_prompt_continues_which() {
        let text = r#"{"timestamp": 0, "input_length": 1024, "output_length": 5, "hash_ids": [1, 2]}
{"timestamp": 3000, "input_length": 1600, "output_length": 5, "hash_ids": [1, 2, 3, 4]}
{"timestamp": 4000, "input_length": 900, "output_length": 5, "hash_ids": [8, 9]}"#;

        let trace = Trace::read(text, Format::Mooncake, 1.0).unwrap();

        let family = |nth: usize| trace.asks[nth].prefix.unwrap();
        assert_eq!(family(0).0, family(1).0, "the second continues the first");
        assert_ne!(family(0).0, family(2).0);
        assert_eq!([family(0).1, family(1).1, family(2).1], [1024, 1600, 900], "never more than the prompt");
    }

    #[test]
    fn an_access_log_is_played_without_its_repetitions_and_refusals_get_the_mean_answer() {
        let line = |time: &str, generated: &str, retry: u32| {
            format!(
                r#"{{"time":"2026-01-01T00:00:{time}Z","msg":"request","account":"acme","tier":"priority","stream":true,"status":200,"weighed_prompt_tokens":90,"prompt_tokens":null,"generated_tokens":{generated},"client_retry":{retry}}}"#
            )
        };
        let text = [
            line("02.000", "100", 0),
            line("00.000", "300", 0),
            "{\"msg\":\"something else\"}".to_owned(),
            line("01.000", "null", 0),
            line("01.500", "100", 1),
        ]
        .join("\n");

        let trace = Trace::read(&text, Format::AccessLog, 1.0).unwrap();

        assert_eq!(at(&trace), [0.0, 1.0, 2.0], "in order of arrival, without the repetition");
        assert_eq!(trace.asks[1].size.output_tokens, 200, "the mean of what was answered");
        assert_eq!(
            (trace.accounts.as_slice(), trace.asks[0].tier),
            (&["acme".to_owned()][..], Some(Tier::Priority))
        );
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_line() {
        let broken = Trace::read("2023-11-16 18:15:46,12,x\n", Format::Azure, 1.0).unwrap_err();
        assert_eq!(broken.to_string(), "line 1: `x` is no number of tokens");
        assert_eq!(Trace::read("\n", Format::Azure, 1.0), Err(TraceError::Empty));
        assert!(Trace::read("{}", Format::Mooncake, 1.0).is_err());
    }

    #[test]
    fn dates_are_days_of_the_calendar() {
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2000, 3, 1) - days(2000, 2, 28), 2, "a leap year");
        assert_eq!(seconds("1970-01-02T00:00:01.5Z"), Some(86_401.5));
        assert_eq!(seconds("yesterday"), None);
    }
}
