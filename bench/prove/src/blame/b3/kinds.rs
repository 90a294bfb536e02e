//! The kinds of request, and what the engine does with each.

use std::ops::RangeInclusive;

use serde_json::{Value, json};

use super::super::fleet::set;
use crate::harness::tidegate::MODEL;

/// What the engine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Says each token as it comes, and usage where it is asked for.
    Honest,
    /// Says empty chunks, and all of the text at the end.
    HeldBack,
    /// Says each token in a delta that nobody has listed.
    Unlisted,
    /// Goes on beyond the maximum until it is left.
    Runaway,
    /// A whole answer with this usage.
    Whole(Told),
}

/// The usage of a whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Right,
    Nothing,
    Zeros,
    /// The generated tokens are less than nothing.
    Impossible,
}

/// How near it has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bounds {
    /// As T2 has it.
    Close,
    /// Whole answers without usage.
    Estimated,
    /// A whole answer that nobody waits for, as near as T2 has it.
    Left,
}

impl Bounds {
    pub(super) fn bounds(self) -> RangeInclusive<f64> {
        match self {
            Self::Close => 0.99..=1.01,
            Self::Estimated => 0.9..=1.05,
            Self::Left => 0.981..=1.019,
        }
    }

    /// What a small round, of eight requests a kind, is judged by.
    pub(super) fn in_small(self) -> RangeInclusive<f64> {
        match self {
            Self::Close => 0.95..=1.05,
            Self::Estimated => 0.75..=1.3,
            Self::Left => 0.8..=1.25,
        }
    }
}

/// When the client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    Never,
    /// After so many events.
    Events(u64),
    /// Between so many and so many milliseconds after it has asked.
    Between(u64, u64),
}

/// One kind.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) path: &'static str,
    pub(super) way: Way,
    /// Tokens that it generates in the mean, and the request's maximum but for runaways.
    pub(super) tokens: u32,
    pub(super) leave: Leave,
    pub(super) within: Bounds,
}

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
const MESSAGES: &str = "/v1/messages";

const fn whole(name: &'static str, path: &'static str, way: Way) -> Kind {
    Kind { name, path, way, tokens: 24, leave: Leave::Never, within: Bounds::Close }
}

const fn left(name: &'static str, path: &'static str, way: Way) -> Kind {
    Kind { tokens: 200, leave: Leave::Events(60), ..whole(name, path, way) }
}

const fn estimated(name: &'static str, path: &'static str, told: Told) -> Kind {
    Kind { tokens: 160, within: Bounds::Estimated, ..whole(name, path, Way::Whole(told)) }
}

/// Two honest ones, from which a gateway learns what tokens cost, and the others.
pub(super) const KINDS: &[Kind] = &[
    whole("stream", CHAT, Way::Honest),
    whole("whole answer", CHAT, Way::Whole(Told::Right)),
    whole("R01 chat", CHAT, Way::HeldBack),
    left("R01 chat, left", CHAT, Way::HeldBack),
    whole("R01 completions", COMPLETIONS, Way::HeldBack),
    left("R01 completions, left", COMPLETIONS, Way::HeldBack),
    whole("R02 chat", CHAT, Way::Unlisted),
    left("R02 chat, left", CHAT, Way::Unlisted),
    left("R02 messages, left", MESSAGES, Way::Unlisted),
    estimated("R08 no usage", CHAT, Told::Nothing),
    estimated("R08 no usage, messages", MESSAGES, Told::Nothing),
    estimated("R08 zeros", COMPLETIONS, Told::Zeros),
    estimated("R08 one impossible number", CHAT, Told::Impossible),
    Kind {
        leave: Leave::Between(100, 500),
        tokens: 200,
        within: Bounds::Left,
        ..whole("R08 no usage, left", CHAT, Way::Whole(Told::Nothing))
    },
    whole("R12", CHAT, Way::Runaway),
    Kind { leave: Leave::Events(400), ..whole("R12, left", CHAT, Way::Runaway) },
];

impl Kind {
    pub(super) fn streams(&self) -> bool {
        !matches!(self.way, Way::Whole(_))
    }

    /// Tokens of the answer to the request of this number, half of the mean to one and a half of it.
    pub(super) fn tokens_of(&self, seed: u64) -> u32 {
        match self.leave {
            Leave::Never => self.tokens / 2 + drawn(seed) % (self.tokens + 1),
            _ => self.tokens,
        }
    }

    /// When the client of this request leaves, whatever has come.
    pub(super) fn leaves_after_ms(&self, seed: u64) -> Option<u64> {
        match self.leave {
            Leave::Between(from, to) => Some(from + u64::from(drawn(seed)) % (to - from)),
            _ => None,
        }
    }

    /// The request of this number, its prompt `text`. `user` says which it is.
    pub(super) fn body(&self, at: usize, seed: u64, text: &str) -> String {
        let most = if self.way == Way::Runaway { self.tokens } else { self.tokens_of(seed) };
        let mut body = json!({
            "model": MODEL, "user": format!("{at}-{seed}"), "stream": self.streams(), "max_tokens": most,
        });
        if self.path == COMPLETIONS {
            set(&mut body, "prompt", json!(text));
        } else {
            set(&mut body, "messages", json!([{ "role": "user", "content": text }]));
        }
        if self.way == Way::HeldBack {
            set(&mut body, "stop", json!(["never said".repeat(100)]));
        }
        body.to_string()
    }
}

/// Number of the kind and seed of a request.
pub(super) fn of_user(body: &Value) -> Option<(usize, u64)> {
    let (at, seed) = body.get("user")?.as_str()?.split_once('-')?;
    Some((at.parse().ok()?, seed.parse().ok()?))
}

/// A number that differs from request to request without any order.
pub(super) fn drawn(seed: u64) -> u32 {
    let mixed = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 33) as u32
}
