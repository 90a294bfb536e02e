//! How the simulated server misbehaves, chosen per request.
//!
//! A list of directives, separated by commas, from the first of these that has one:
//!
//! 1. the request header `x-sim-fault: cut=3,delay=200ms`,
//! 2. the body's field `user` (or `metadata.user_id`), after `sim:`, as in `"user": "sim:cut=3"` (for clients behind a
//!    gateway that passes no headers on),
//! 3. the server's own fault, from its configuration or `POST /debug/fault`, which may be limited to a share of the
//!    requests (`share=0.1`) or to the next few (`times=5`).
//!
//! | directive | what the client sees |
//! |---|---|
//! | `status=503` | that status at once, with the engine's error body; `retry-after=2` adds the header |
//! | `delay=200ms` | silence before the head (units `us`, `ms`, `s`) |
//! | `hang` | silence for ever, before the head; `hang=N`: after `N` chunks |
//! | `gap=20ms` | at least that long between two chunks |
//! | `cut=N` | the connection ends (FIN, framing unfinished) after `N` chunks; not streaming: after `N` body bytes |
//! | `reset=N` | the same with RST |
//! | `ends=N` | a stream that ends cleanly after `N` chunks, in the middle of its answer |
//! | `stream-error=N` | an error event after `N` content chunks, then `[DONE]`; `0`: instead of the first, in a 200; `error-code=429` sets its code |
//! | `no-usage` | no usage, also when it was asked for |
//! | `wrong-usage=P:C[:H]` | usage of `P` prompt, `C` completion and `H` cached tokens |
//! | `no-done` | a stream that ends without `[DONE]` (`message_stop`, `response.completed`), cleanly |
//! | `after-done` | events after `[DONE]` |
//! | `garbage` | bytes that are no JSON (a stream: one such event in the middle) |
//! | `huge-line=N` | one event with `N` bytes of text |
//! | `split-utf8` | every write split in two, inside a character where there is one |
//! | `role-in-first` | the role in the first content chunk, no preamble chunk |
//! | `gzip` | a compressed body |
//! | `wrong-length=N` | not streaming: a `content-length` that is `N` too large, then FIN |
//! | `echo-headers` | all request headers as answer headers, prefixed `x-echo-` |
//! | `output=N` | the answer is `N` tokens long, if the request's maximum allows (not a fault: a length) |
//! | `reasoning=N` | the first `N` tokens of it are reasoning, where the API has such (not a fault) |
//! | `die` | the whole server resets every connection and is gone |

use std::str::FromStr;
use std::time::Duration;

/// What a request suffers. The default is nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fault {
    /// Answer with this status.
    pub status: Option<u16>,
    /// Seconds in `retry-after`, with `status`.
    pub retry_after: Option<u32>,
    /// Silence before the head.
    pub delay: Option<Duration>,
    /// Silence for ever after this many chunks.
    pub hang: Option<u32>,
    /// Least time between two chunks.
    pub gap: Option<Duration>,
    /// FIN after this many chunks (bytes, when not streaming).
    pub cut: Option<u32>,
    /// RST after this many chunks (bytes, when not streaming).
    pub reset: Option<u32>,
    /// A clean end after this many chunks.
    pub ends: Option<u32>,
    /// Error event after this many chunks.
    pub stream_error: Option<u32>,
    /// Code in the error event, 503 if not set.
    pub error_code: Option<u16>,
    /// Leave usage out.
    pub no_usage: bool,
    /// Usage to claim: prompt, completion, cached tokens.
    pub wrong_usage: Option<(i64, i64, Option<i64>)>,
    /// Leave `[DONE]` out.
    pub no_done: bool,
    /// Events after `[DONE]`.
    pub after_done: bool,
    /// No JSON.
    pub garbage: bool,
    /// Bytes of text in one event.
    pub huge_line: Option<usize>,
    /// Two writes per event.
    pub split_utf8: bool,
    /// No preamble.
    pub role_in_first: bool,
    /// Compressed body.
    pub gzip: bool,
    /// Bytes by which `content-length` is too large.
    pub wrong_length: Option<u32>,
    /// Send the request's headers back.
    pub echo_headers: bool,
    /// Length of the answer, tokens.
    pub output: Option<u32>,
    /// Tokens of the answer that are reasoning.
    pub reasoning: Option<u32>,
    /// End the server.
    pub die: bool,
}

/// A directive that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// The name is not in the table. Usually a typing mistake.
    #[error("unknown fault `{0}`")]
    Unknown(String),
    /// The value has the wrong form.
    #[error("fault `{name}` does not take the value `{value}`")]
    Value {
        /// The directive.
        name: String,
        /// What was given.
        value: String,
    },
}

/// The marker before directives in the body's field `user`.
pub const MARKER: &str = "sim:";

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(list: &str) -> Result<Self, FaultError> {
        let mut fault = Fault::default();
        for directive in list.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            fault.set(name, value)?;
        }
        Ok(fault)
    }
}

impl Fault {
    fn set(&mut self, name: &str, value: &str) -> Result<(), FaultError> {
        let wrong = || FaultError::Value { name: name.to_owned(), value: value.to_owned() };
        let flag = || if value.is_empty() { Ok(true) } else { Err(wrong()) };
        match name {
            "status" => {
                self.status = Some(number(value).filter(|s| (200..=599).contains(s)).ok_or_else(wrong)?)
            }
            "retry-after" => self.retry_after = Some(number(value).ok_or_else(wrong)?),
            "delay" => self.delay = Some(duration(value).ok_or_else(wrong)?),
            "hang" if value.is_empty() => self.hang = Some(0),
            "hang" => self.hang = Some(number(value).ok_or_else(wrong)?),
            "gap" => self.gap = Some(duration(value).ok_or_else(wrong)?),
            "cut" => self.cut = Some(number(value).ok_or_else(wrong)?),
            "reset" => self.reset = Some(number(value).ok_or_else(wrong)?),
            "ends" => self.ends = Some(number(value).ok_or_else(wrong)?),
            "stream-error" => self.stream_error = Some(number(value).ok_or_else(wrong)?),
            "error-code" => self.error_code = Some(number(value).ok_or_else(wrong)?),
            "no-usage" => self.no_usage = flag()?,
            "wrong-usage" => self.wrong_usage = Some(usage(value).ok_or_else(wrong)?),
            "no-done" => self.no_done = flag()?,
            "after-done" => self.after_done = flag()?,
            "garbage" => self.garbage = flag()?,
            "huge-line" => self.huge_line = Some(number(value).filter(|n| *n <= HUGE_MAX).ok_or_else(wrong)?),
            "split-utf8" => self.split_utf8 = flag()?,
            "role-in-first" => self.role_in_first = flag()?,
            "gzip" => self.gzip = flag()?,
            "wrong-length" => self.wrong_length = Some(number(value).ok_or_else(wrong)?),
            "echo-headers" => self.echo_headers = flag()?,
            "output" => self.output = Some(number(value).filter(|n| *n > 0).ok_or_else(wrong)?),
            "reasoning" => self.reasoning = Some(number(value).ok_or_else(wrong)?),
            "die" => self.die = flag()?,
            _ => return Err(FaultError::Unknown(name.to_owned())),
        }
        Ok(())
    }

    /// The chunk count at which a stream is broken off, and whether by RST.
    pub(super) fn broken_at(&self) -> Option<(u32, bool)> {
        self.cut.map(|n| (n, false)).or(self.reset.map(|n| (n, true)))
    }
}

/// The largest line that `huge-line` makes, bytes.
const HUGE_MAX: usize = 64 << 20;

fn number<T: FromStr>(value: &str) -> Option<T> {
    value.parse().ok()
}

pub(crate) fn duration(value: &str) -> Option<Duration> {
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (count, unit) = value.split_at(digits);
    let count: u64 = count.parse().ok()?;
    match unit {
        "us" => Some(Duration::from_micros(count)),
        "ms" => Some(Duration::from_millis(count)),
        "s" => Some(Duration::from_secs(count)),
        _ => None,
    }
}

fn usage(value: &str) -> Option<(i64, i64, Option<i64>)> {
    let mut parts = value.split(':');
    let prompt = number(parts.next()?)?;
    let completion = number(parts.next()?)?;
    let cached = match parts.next() {
        Some(cached) => Some(number(cached)?),
        None => None,
    };
    parts.next().is_none().then_some((prompt, completion, cached))
}

/// A fault for requests that name none, possibly only for some of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StandingFault {
    /// What they suffer.
    pub fault: Fault,
    /// Share of the requests, 0 … 1, evenly spread.
    pub share: f64,
    /// How many more requests; `None` without end.
    pub times: Option<u32>,
    seen: u64,
}

impl FromStr for StandingFault {
    type Err = FaultError;

    fn from_str(list: &str) -> Result<Self, FaultError> {
        let mut standing = StandingFault { share: 1.0, ..Self::default() };
        let mut rest = Vec::new();
        for directive in list.split(',').map(str::trim) {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            let wrong = || FaultError::Value { name: name.to_owned(), value: value.to_owned() };
            match name {
                "share" => {
                    standing.share =
                        number(value).filter(|share| (0.0..=1.0).contains(share)).ok_or_else(wrong)?;
                }
                "times" => standing.times = Some(number(value).ok_or_else(wrong)?),
                _ => rest.push(directive),
            }
        }
        standing.fault = rest.join(",").parse()?;
        Ok(standing)
    }
}

impl StandingFault {
    /// The fault of the next request, if it is that one's turn.
    pub(super) fn next(&mut self) -> Option<Fault> {
        self.seen += 1;
        let due = |seen: u64| (seen as f64 * self.share) as u64;
        if self.fault == Fault::default() || due(self.seen) == due(self.seen - 1) || self.times == Some(0) {
            return None;
        }
        self.times = self.times.map(|times| times - 1);
        Some(self.fault.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_sets_every_directive_in_it() {
        let fault: Fault = "cut=3, delay=200ms,no-usage,wrong-usage=10:-5:99".parse().expect("a good list");

        assert_eq!(fault.cut, Some(3));
        assert_eq!(fault.delay, Some(Duration::from_millis(200)));
        assert!(fault.no_usage);
        assert_eq!(fault.wrong_usage, Some((10, -5, Some(99))));
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!("cutt=3".parse::<Fault>(), Err(FaultError::Unknown("cutt".to_owned())));
        assert!(matches!("delay=3".parse::<Fault>(), Err(FaultError::Value { .. })), "a unit is required");
        assert!(matches!("gzip=1".parse::<Fault>(), Err(FaultError::Value { .. })));
    }

    #[test]
    fn a_standing_fault_hits_its_share_evenly_and_only_so_often() {
        let mut standing: StandingFault = "status=503,share=0.25".parse().expect("a good list");
        let hits: Vec<bool> = (0..8).map(|_| standing.next().is_some()).collect();
        assert_eq!(hits, [false, false, false, true, false, false, false, true]);

        let mut twice: StandingFault = "status=503,times=2".parse().expect("a good list");
        assert_eq!((0..5).filter(|_| twice.next().is_some()).count(), 2);
    }
}
