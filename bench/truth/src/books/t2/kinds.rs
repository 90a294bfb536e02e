//! The kinds of request: honest ones on every route, and the ways in which clients try to be charged less.
//!
//! The ways, and the kinds that try them: leaving before usage comes (four: in a stream, in one of several choices, in the
//! prefill, before a whole answer), asking for no usage (two), `n`, `best_of` with `echo` and `prompt_logprobs`, `min_tokens`
//! and `ignore_eos` without a maximum, a maximum that is huge, said twice, a fraction, negative or a string, a member
//! twice, tools, images, and other routes (ten).

use harness::tidegate::MODEL;

/// When a client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// After the answer.
    Never,
    /// After so many events of the stream.
    Events(u64),
    /// So many milliseconds after the request was sent.
    After(u64),
    /// At some time between so many and so many milliseconds after it.
    Between(u64, u64),
}

impl Leave {
    /// When the client of this request leaves, whatever has come.
    pub(super) fn after_ms(self, seed: u64) -> Option<u64> {
        match self {
            Self::Never | Self::Events(_) => None,
            Self::After(ms) => Some(ms),
            Self::Between(from, to) => Some(from + drawn(seed) as u64 % (to - from)),
        }
    }
}

/// One kind.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// Whether it tries to be charged less.
    pub(super) evasion: bool,
    pub(super) path: &'static str,
    /// Members of the body between `model` and the prompt, beginning with a comma.
    members: &'static str,
    /// Words of the prompt, in the mean.
    words: usize,
    /// Whether there is an image beside them.
    image: bool,
    pub(super) leave: Leave,
    /// Why it is known to be booked wrongly.
    pub(super) known: Option<&'static str>,
}

const CHAT: &str = "/v1/chat/completions";

const fn kind(name: &'static str, evasion: bool, members: &'static str) -> Kind {
    Kind { name, evasion, path: CHAT, members, words: 60, image: false, leave: Leave::Never, known: None }
}

/// An honest request on another route.
const fn on(path: &'static str, name: &'static str, members: &'static str) -> Kind {
    Kind { path, ..kind(name, false, members) }
}

const UNSEEN: &str =
    "a token that is not sent yet when its client leaves is not seen, and here are few others";

pub(super) const KINDS: &[Kind] = &[
    kind(
        "stream with usage",
        false,
        ",\"stream\":true,\"stream_options\":{\"include_usage\":true},\"max_tokens\":24,\"ignore_eos\":true",
    ),
    kind("whole answer", false, ",\"max_tokens\":24,\"ignore_eos\":true"),
    kind("stream without include_usage", true, ",\"stream\":true,\"max_tokens\":24,\"ignore_eos\":true"),
    kind(
        "include_usage false",
        true,
        ",\"stream\":true,\"stream_options\":{\"include_usage\":false},\"max_tokens\":24,\"ignore_eos\":true",
    ),
    kind("n of 3", true, ",\"stream\":true,\"n\":3,\"max_tokens\":12,\"ignore_eos\":true"),
    kind(
        "best_of, echo, logprobs",
        true,
        ",\"best_of\":3,\"echo\":true,\"prompt_logprobs\":1,\"max_tokens\":16,\"ignore_eos\":true",
    ),
    kind("no maximum, min_tokens", true, ",\"stream\":true,\"user\":\"sim:output=24\",\"min_tokens\":20"),
    kind("huge maximum", true, ",\"max_tokens\":4294967295,\"user\":\"sim:output=24\""),
    kind("two maxima", true, ",\"max_tokens\":1,\"max_completion_tokens\":24,\"ignore_eos\":true"),
    kind("maximum is a fraction", true, ",\"max_tokens\":1.5"),
    kind("maximum is negative", true, ",\"max_tokens\":-1"),
    kind("maximum is a string", true, ",\"max_tokens\":\"1\""),
    kind("a member twice", true, ",\"max_tokens\":1,\"max_tokens\":99"),
    kind(
        "forced tool",
        true,
        ",\"stream\":true,\"max_tokens\":24,\"ignore_eos\":true,\"tool_choice\":\"required\",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"tide\",\"parameters\":{\"type\":\"object\"}}}]",
    ),
    Kind { image: true, ..kind("image", true, ",\"max_tokens\":24,\"ignore_eos\":true") },
    on("/v1/completions", "completions", ",\"max_tokens\":24,\"ignore_eos\":true"),
    on("/v1/completions", "completions, streamed", ",\"stream\":true,\"max_tokens\":24,\"ignore_eos\":true"),
    on("/v1/responses", "responses", ",\"max_output_tokens\":24,\"ignore_eos\":true"),
    on(
        "/v1/responses",
        "responses, streamed",
        ",\"stream\":true,\"max_output_tokens\":24,\"ignore_eos\":true",
    ),
    on("/v1/messages", "messages", ",\"max_tokens\":24,\"ignore_eos\":true"),
    on("/v1/messages", "messages, streamed", ",\"stream\":true,\"max_tokens\":24,\"ignore_eos\":true"),
    on("/v1/embeddings", "embeddings", ""),
    on("/v1/rerank", "rerank", ",\"query\":\"tide\""),
    on("/v1/score", "score", ",\"text_1\":\"tide\""),
    on("/v1/messages/count_tokens", "count_tokens", ""),
    Kind {
        leave: Leave::Events(60),
        ..kind("leaves before usage", true, ",\"stream\":true,\"max_tokens\":200,\"ignore_eos\":true")
    },
    Kind {
        leave: Leave::Events(150),
        ..kind("leaves with n of 3", true, ",\"stream\":true,\"n\":3,\"max_tokens\":200,\"ignore_eos\":true")
    },
    Kind {
        leave: Leave::After(60),
        words: 800,
        known: Some(UNSEEN),
        ..kind("leaves while it is prefilled", true, ",\"stream\":true,\"max_tokens\":24,\"ignore_eos\":true")
    },
    Kind {
        leave: Leave::Between(100, 500),
        known: Some("what a whole answer has generated is told by the pace of streams, rounded down"),
        ..kind("leaves while a whole answer is generated", true, ",\"max_tokens\":400,\"ignore_eos\":true")
    },
];

const IMAGE: &str = "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,iVBORw0KGgo=\"}}";

impl Kind {
    /// Words of the prompt of this request: half of the kind's number to one and a half times as many. Prompts that are all
    /// alike would teach nothing of what words cost beside what is around them.
    fn words(&self, seed: u64) -> usize {
        self.words / 2 + drawn(seed) % (self.words + 1)
    }

    /// The body of one request, a prompt of its own.
    pub(super) fn body(&self, seed: u64) -> String {
        let prompt = engine::prompt::text_of(seed, self.words(seed) as u32);
        let Self { members, .. } = self;
        let asks = match self.path {
            "/v1/completions" => format!("\"prompt\":\"{prompt}\""),
            "/v1/responses" | "/v1/embeddings" => format!("\"input\":\"{prompt}\""),
            "/v1/rerank" => format!("\"documents\":[\"{prompt}\"]"),
            "/v1/score" => format!("\"text_2\":\"{prompt}\""),
            _ if self.image => format!(
                "\"messages\":[{{\"role\":\"user\",\"content\":[{{\"type\":\"text\",\"text\":\"{prompt}\"}},{IMAGE}]}}]"
            ),
            _ => format!("\"messages\":[{{\"role\":\"user\",\"content\":\"{prompt}\"}}]"),
        };
        format!("{{\"model\":\"{MODEL}\",\"seed\":{seed}{members},{asks}}}")
    }
}

/// The kind of a round's request of this number. Each comes once in as many requests as there are kinds, in an order that
/// changes: a kind that always came after the same other would always find the engine in that one's state.
pub(super) fn kind_of(number: usize, round: u64) -> usize {
    let block = number / KINDS.len();
    let mut order: Vec<usize> = (0..KINDS.len()).collect();
    order.sort_by_key(|at| drawn(((round << 16 | block as u64) << 8) | *at as u64));
    order.get(number % KINDS.len()).copied().unwrap_or_default()
}

/// A number that differs from request to request without any order.
fn drawn(seed: u64) -> usize {
    let mixed = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 33) as usize
}
