//! What a line of the access log tells of a request: one table, from which lines are written and the reference is made.
//!
//! A field is added here and nowhere else, so none is written without being explained. What does not apply to a request is
//! `null` in JSON and left out in text. Neither prompts nor answers, nor a key, are among them.

use crate::record::Record;
use config::{ClientAddress, LogFormat};
use process::clock;
use protocol::explain::Why;
use std::borrow::Cow;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// A value of one field.
#[derive(Debug, Clone, PartialEq)]
pub enum Told<'r> {
    /// It does not apply to this request.
    Absent,
    /// A text.
    Text(Cow<'r, str>),
    /// A whole number.
    Number(u64),
    /// A number with at most three decimals.
    Decimal(f64),
    /// Yes or no.
    Flag(bool),
}

/// One field.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// `text`, `number`, `decimal` or `flag`; with `?` it may be null.
    pub shape: &'static str,
    /// In what it is measured; empty where it is in nothing.
    pub unit: &'static str,
    /// What it says.
    pub about: &'static str,
    read: for<'r> fn(&'r Record, ClientAddress) -> Told<'r>,
}

type Read = for<'r> fn(&'r Record, ClientAddress) -> Told<'r>;

const fn text(name: &'static str, about: &'static str, read: Read) -> Field {
    Field { name, shape: "text", unit: "", about, read }
}

const fn maybe(name: &'static str, about: &'static str, read: Read) -> Field {
    Field { name, shape: "text?", unit: "", about, read }
}

const fn count(name: &'static str, unit: &'static str, about: &'static str, read: Read) -> Field {
    Field { name, shape: "number", unit, about, read }
}

const fn tokens(name: &'static str, about: &'static str, read: Read) -> Field {
    Field { name, shape: "number?", unit: "tokens", about, read }
}

const fn flag(name: &'static str, about: &'static str, read: Read) -> Field {
    Field { name, shape: "flag", unit: "", about, read }
}

/// All of them, in the order in which they are written.
pub const FIELDS: &[Field] = &[
    text("time", "When the request's head was read (RFC 3339, UTC).", |record, _| {
        Told::Text(clock::rfc3339(record.arrived_wall).into())
    }),
    text("msg", "Always `request`: tells these lines from others in one stream.", |_, _| {
        Told::Text("request".into())
    }),
    text("request_id", "The id that the client was told in `x-request-id`.", |record, _| {
        Told::Text(record.id.as_str().into())
    }),
    maybe(
        "client_address",
        "The client's address, as a listed proxy tells it; as much of it as `log.client_address` allows.",
        |record, how| {
            written(record.client_address.and_then(|client| shown(client, how)).map(|ip| ip.to_string()))
        },
    ),
    text("protocol", "What the client spoke: `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.", |record, _| {
        Told::Text(record.protocol.into())
    }),
    maybe("client_request_id", "The client's own `x-request-id`, its first 128 characters.", |record, _| {
        word(record.client_id.as_deref())
    }),
    maybe("traceparent", "The client's W3C trace context, where it is well formed.", |record, _| {
        word(record.trace.as_ref().and_then(|trace| trace.to_str().ok()))
    }),
    maybe("account", "The account's id.", |record, _| word(record.account.as_deref())),
    maybe(
        "key",
        "Which of the account's keys: the first 8 hexadecimal digits of its SHA-256, as `tidegate accounts show` lists them.",
        |record, _| written(record.key.map(|key| key.short())),
    ),
    maybe("key_name", "The name of that key, where it has one: `accounts[].keys[].name`.", |record, _| {
        word(record.key_name.as_deref())
    }),
    maybe("model", "The model's own name; null where none of the config was asked for.", |record, _| {
        word(record.model.as_deref())
    }),
    maybe("api", "The route, such as `/v1/chat/completions`.", |record, _| {
        word(record.api.map(|api| api.path()))
    }),
    maybe(
        "tier",
        "The tier in which it was served, or else offered: `priority` or `regular`.",
        |record, _| word(record.tier.map(config::Tier::name)),
    ),
    flag("stream", "Whether a stream was asked for.", |record, _| Told::Flag(record.stream)),
    count(
        "status",
        "",
        "The status that the client was told. Of a stream that broke after it had begun, the one that names the fault; 499: the client left first.",
        |record, _| Told::Number(record.status.into()),
    ),
    maybe("reason", "Why it was refused, as in `x-tidegate-reason`; null: it was not.", |record, _| {
        word(Some(record.reason).filter(|reason| !reason.is_empty()))
    }),
    maybe(
        "cause",
        "What was behind that: `places`, `prompts`, `memory` or `engine` (what the deployment was short of); `connect`, `reset`, `timeout`, `busy`, `absent` or `unexplained` (how the last replica failed it); `client` (it left).",
        |record, _| word(cause(record)),
    ),
    maybe(
        "finish_reason",
        "Why the answer ended, in the API's own words, such as `stop`, `length` or `tool_calls`; `other` for a word that no API has; null: it did not come to its end.",
        |record, _| word(record.finish_reason),
    ),
    maybe(
        "deployment",
        "Where it was served; without `replica`, where it waited or was refused for load.",
        |record, _| word(record.deployment.as_deref().or(record.offered_to.as_deref())),
    ),
    Field {
        shape: "number?",
        ..count(
            "replica",
            "",
            "Which replica had it last: its number in `tidegate deployments`.",
            |record, _| number(record.replica.map(u64::from)),
        )
    },
    count("body_bytes", "bytes", "The request's body.", |record, _| Told::Number(record.body_bytes)),
    count(
        "weighed_prompt_tokens",
        "tokens",
        "The prompt as weighed when it came, before an engine counted it; 0: it was not weighed.",
        |record, _| Told::Number(record.weighed_prompt.into()),
    ),
    tokens("prompt_tokens", "The prompt as charged: the engine's count, else as weighed.", |record, _| {
        number(record.used.map(|used| used.prompt))
    }),
    tokens("cached_tokens", "Of them found in the engine's cache, where it tells that.", |record, _| {
        number(record.cached)
    }),
    tokens("uncached_tokens", "Of them charged to the uncached-prompt meter.", |record, _| {
        number(record.used.map(|used| used.uncached_prompt))
    }),
    tokens("generated_tokens", "The answer as charged.", |record, _| {
        number(record.used.map(|used| used.generated))
    }),
    flag(
        "usage_missing",
        "Whether the engine sent no usage, so that its tokens are counted ones.",
        |record, _| Told::Flag(record.usage_missing),
    ),
    Field {
        shape: "decimal",
        ..count("queue_ms", "ms", "Waiting for a place, all waits summed.", |record, _| {
            Told::Decimal(milliseconds(record.queued))
        })
    },
    Field {
        shape: "decimal?",
        ..count("ttft_ms", "ms", "From arrival to the first token of a stream.", |record, _| {
            match record.first_token {
                Some(at) => Told::Decimal(milliseconds(at.saturating_sub(record.arrived))),
                None => Told::Absent,
            }
        })
    },
    Field {
        shape: "decimal",
        ..count("total_ms", "ms", "From arrival to the end.", |record, _| {
            Told::Decimal(milliseconds(record.ended.saturating_sub(record.arrived)))
        })
    },
    count("retries", "", "Attempts after the first, on another replica or deployment.", |record, _| {
        Told::Number(record.retries.into())
    }),
    count(
        "withdrawals",
        "",
        "Times that it was taken back before its first token, for a request of a higher tier.",
        |record, _| Told::Number(record.withdrawals.into()),
    ),
    count("client_retry", "", "How often the client says that it has tried before.", |record, _| {
        Told::Number(record.client_retry.into())
    }),
    flag("client_gone", "Whether the client left before the end.", |record, _| {
        Told::Flag(record.client_gone)
    }),
];

/// Whether records are written as text: where that is asked for, and on a terminal.
#[must_use]
pub fn is_text(format: LogFormat, is_terminal: bool) -> bool {
    process::logging::is_plain(format, is_terminal)
}

/// Appends the line of `record`: an object of JSON, or the time and `name=value` for people.
pub fn write(line: &mut Vec<u8>, record: &Record, address: ClientAddress, as_text: bool) {
    let mut separator = if as_text { "" } else { "{" };
    for field in FIELDS {
        let value = (field.read)(record, address);
        if as_text {
            if value == Told::Absent || value == Told::Flag(false) {
                continue;
            }
            line.extend_from_slice(separator.as_bytes());
            // The time and the word that tells these lines from others speak for themselves.
            if !matches!(field.name, "time" | "msg") {
                line.extend_from_slice(field.name.as_bytes());
                line.push(b'=');
            }
            plain(line, &value);
            separator = " ";
        } else {
            let _ = write!(line, "{separator}\"{}\":", field.name);
            json(line, &value);
            separator = ",";
        }
    }
    line.extend_from_slice(if as_text { b"\n" } else { b"}\n" });
}

fn json(line: &mut Vec<u8>, value: &Told<'_>) {
    // Writing into memory does not fail.
    let _ = match value {
        Told::Absent => line.write_all(b"null"),
        Told::Text(text) => serde_json::to_writer(line, text).map_err(Into::into),
        Told::Number(number) => write!(line, "{number}"),
        Told::Decimal(number) => serde_json::to_writer(line, number).map_err(Into::into),
        Told::Flag(flag) => write!(line, "{flag}"),
    };
}

/// A word as it is; what could be taken for several, or for none, in quotes.
fn plain(line: &mut Vec<u8>, value: &Told<'_>) {
    match value {
        Told::Text(text) if text.is_empty() || text.contains(|c: char| !c.is_ascii_graphic() || c == '"') => {
            json(line, value);
        }
        Told::Text(text) => line.extend_from_slice(text.as_bytes()),
        other => json(line, other),
    }
}

fn word(text: Option<&str>) -> Told<'_> {
    text.map_or(Told::Absent, |text| Told::Text(text.into()))
}

fn written(text: Option<String>) -> Told<'static> {
    text.map_or(Told::Absent, |text| Told::Text(text.into()))
}

fn number(number: Option<u64>) -> Told<'static> {
    number.map_or(Told::Absent, Told::Number)
}

/// What was behind the end of a request that brought no whole answer.
fn cause(record: &Record) -> Option<&'static str> {
    if record.client_gone {
        return Some("client");
    }
    if record.reason.is_empty() {
        return None;
    }
    let short = match record.why.as_deref() {
        Some(Why::Load(rejection)) => rejection.short,
        _ => None,
    };
    match short {
        Some(shedder::Short::Places) => Some("places"),
        Some(shedder::Short::Prompts) => Some("prompts"),
        Some(shedder::Short::Memory) => Some("memory"),
        Some(shedder::Short::Engine) => Some("engine"),
        None => record.upstream_failures.last().map(|(_, _, kind)| *kind),
    }
}

/// As much of an address as is to be logged.
fn shown(address: IpAddr, how: ClientAddress) -> Option<IpAddr> {
    match (how, address) {
        (ClientAddress::Off, _) => None,
        (ClientAddress::Full, _) => Some(address),
        (ClientAddress::Prefix, IpAddr::V4(v4)) => {
            Some(Ipv4Addr::from_bits(v4.to_bits() & (u32::MAX << 8)).into())
        }
        (ClientAddress::Prefix, IpAddr::V6(v6)) => {
            Some(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 80)).into())
        }
    }
}

/// Milliseconds with three decimals.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;
    use serde_json::Value;
    use std::collections::BTreeSet;

    fn record() -> Record {
        let mut record = Record::begin("req_1".to_owned(), &HeaderMap::new());
        record.protocol = "HTTP/1.1";
        record.account = Some("acme".into());
        record.client_id = Some("two words".to_owned());
        record.status = 503;
        record.reason = "shed-saturated";
        record
    }

    fn line(as_text: bool) -> String {
        let mut line = Vec::new();
        write(&mut line, &record(), ClientAddress::Full, as_text);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_line_of_json_has_every_field_of_the_table_once() {
        let object: Value = serde_json::from_str(&line(false)).unwrap();
        let names: BTreeSet<&str> = FIELDS.iter().map(|field| field.name).collect();

        assert_eq!(names.len(), FIELDS.len(), "two of one name");
        assert_eq!(object.as_object().unwrap().keys().map(String::as_str).collect::<BTreeSet<_>>(), names);
        assert_eq!((&object["account"], &object["model"]), (&"acme".into(), &Value::Null));
    }

    /// The shape that is documented is the one that is written.
    #[test]
    fn values_have_the_shape_that_the_table_says() {
        let record = record();
        for field in FIELDS {
            let shape = match (field.read)(&record, ClientAddress::Full) {
                Told::Absent => {
                    assert!(field.shape.ends_with('?'), "{} may be null", field.name);
                    continue;
                }
                Told::Text(_) => "text",
                Told::Number(_) => "number",
                Told::Decimal(_) => "decimal",
                Told::Flag(_) => "flag",
            };
            assert_eq!(field.shape.trim_end_matches('?'), shape, "{}", field.name);
            assert!(field.about.ends_with('.'), "{}", field.name);
        }
    }

    #[test]
    fn a_line_of_text_is_one_line_of_words() {
        let line = line(true);

        assert!(
            line.contains(
                " request request_id=req_1 protocol=HTTP/1.1 client_request_id=\"two words\" account=acme "
            ),
            "{line}"
        );
        assert!(line.contains(" status=503 reason=shed-saturated ") && !line.contains("model="), "{line}");
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn an_address_is_shown_whole_by_its_network_or_not_at_all() {
        let (four, six) = ("192.0.2.77".parse().unwrap(), "2001:db8:1:2::3".parse().unwrap());
        let text = |address, how| shown(address, how).map(|shown| shown.to_string());
        assert_eq!(text(four, ClientAddress::Full).unwrap(), "192.0.2.77");
        assert_eq!(text(four, ClientAddress::Prefix).unwrap(), "192.0.2.0");
        assert_eq!(text(six, ClientAddress::Prefix).unwrap(), "2001:db8:1::");
        assert_eq!(text(four, ClientAddress::Off), None);
    }
}
