//! Twenty shapes of prompts that programs send again and again, and engines that count them.
//!
//! A prompt is a template with a number, a name or a sentence exchanged. The engine counts its text with a real
//! vocabulary and adds what its own chat template and its images take; the gateway sees the JSON. Nothing here knows
//! how an estimate is made.

use rand::Rng;
use rand::rngs::SmallRng;
use tiktoken_rs::CoreBPE;
use tokenizer::{Features, scan};

/// Prompts of one shape.
const VARIANTS: u32 = 64;
/// Vocabularies that an engine may have.
pub(super) const VOCABULARIES: usize = 3;

/// One prompt as the gateway sees it, and as each vocabulary counts it.
#[derive(Debug)]
pub(super) struct Prompt {
    pub(super) features: Features,
    text_tokens: [u32; VOCABULARIES],
}

/// Prompts that are alike.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) prompts: Vec<Prompt>,
}

/// What an engine makes of a prompt beyond its text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Engine {
    vocabulary: usize,
    per_request: u32,
    per_message: u32,
    per_image: u32,
}

impl Engine {
    /// One of the vocabularies, with a template of no to a hundred tokens and pictures of 256 to 2,500.
    pub(super) fn draw(random: &mut SmallRng) -> Self {
        Self {
            vocabulary: random.random_range(0..VOCABULARIES),
            per_request: one_of(&PER_REQUEST, random),
            per_message: random.random_range(3..=8),
            per_image: random.random_range(256..=2_500),
        }
    }

    /// The tokens of a prompt.
    pub(super) fn count(&self, prompt: &Prompt) -> u32 {
        let Features { messages, images, .. } = prompt.features;
        let text = prompt.text_tokens.get(self.vocabulary).copied().unwrap_or_default();
        self.per_request + self.per_message * messages + self.per_image * images + text
    }
}

/// A template: `#` is a number that differs from prompt to prompt, `@` a name, `%` a sentence.
struct Template {
    name: &'static str,
    /// System prompts and messages of one conversation.
    messages: &'static [&'static str],
    /// How often the last message is repeated within itself.
    repeat: usize,
    tools: &'static str,
    images: u32,
}

const fn text(name: &'static str, messages: &'static [&'static str], repeat: usize) -> Template {
    Template { name, messages, repeat, tools: "", images: 0 }
}

const TEMPLATES: [Template; 20] = [
    text("tide", &["tide #"], 1),
    text("number", &["#"], 1),
    text("ping", &["ping"], 1),
    text("one word", &["Say one word about @, number #."], 1),
    text("question", &["What is the capital of @, and how many people live there? Answer in # words."], 1),
    text(
        "classify",
        &["You label support tickets as billing, bug or other. Answer with the label only.", "% Ticket #."],
        1,
    ),
    text("summary", &["Summarise this for @ in one paragraph:", "% "], 40),
    text("article", &["%\\n\\n"], 150),
    text(
        "code",
        &[
            "Explain:\\n\\n    for (i = 0; i < #; i++) {\\n        if (a[i] != 0x7f) { total += table[i] * 3; }\\n    }\\n",
        ],
        1,
    ),
    text(
        "long code",
        &["fn parse_@(input: &str) -> Result<Vec<u8>, Error> {\\n    let at = input.find('#')?;\\n}\\n"],
        40,
    ),
    text(
        "record",
        &["{\\\"id\\\": #, \\\"name\\\": \\\"@\\\", \\\"tags\\\": [null, true], \\\"price\\\": 17.50}"],
        1,
    ),
    text(
        "records",
        &["{\\\"id\\\": #, \\\"name\\\": \\\"@\\\", \\\"at\\\": \\\"2025-03-09T14:41:07Z\\\"},\\n"],
        60,
    ),
    text("Chinese", &["请用一句话回答：第#个问题，@的首都在哪里？"], 1),
    text("long Chinese", &["下了一个星期的雨，河水涨得很高，渡船直到下午才重新开航。第#天，"], 50),
    text("Russian", &["Ответьте одним предложением: сколько людей живёт в городе номер #?"], 3),
    text("hashes", &["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08#\\n"], 12),
    text("shouting", &["PLEASE CALL @ BACK ABOUT ORDER #!!! "], 4),
    text("turns", &["You are a helpful guide.", "%", "%", "%", "%", "%", "And number #?"], 1),
    Template {
        name: "tools",
        messages: &["Find a flight to @ for # people."],
        repeat: 1,
        tools: "[{\"type\":\"function\",\"function\":{\"name\":\"find_flight\",\"description\":\"Finds flights between two cities on a date.\",\"parameters\":{\"type\":\"object\",\"properties\":{\"from\":{\"type\":\"string\"},\"to\":{\"type\":\"string\"},\"passengers\":{\"type\":\"integer\",\"minimum\":1}},\"required\":[\"from\",\"to\"]}}}]",
        images: 0,
    },
    Template { name: "picture", messages: &["Describe picture # for @."], repeat: 1, tools: "", images: 1 },
];

/// Tokens of a chat template around a request: none, a mark, a date, a short system prompt of its own.
const PER_REQUEST: [u32; 6] = [0, 3, 8, 25, 60, 100];
const NAMES: [&str; 8] = ["Norway", "Chad", "Peru", "Japan", "Portugal", "Sri Lanka", "Oman", "Bolivia"];
const SENTENCES: [&str; 8] = [
    "The library opens at nine, but the reading room stays closed until the heating works again.",
    "I was charged twice for the same month and nobody has answered my letters since.",
    "When my grandfather sold the boat, he kept the compass and the old charts.",
    "After the update the window stays white and the log says nothing at all.",
    "Bread dough needs time: mix flour, water, salt and a little yeast, and let it rest overnight.",
    "She laughed, put the letter back and said that some questions answer themselves.",
    "It rained so hard on Thursday that the market had to be moved to the school yard.",
    "Compare the two proposals and list every assumption that you make.",
];

/// All twenty. The texts are the same every time.
pub(super) fn shapes(vocabularies: [&CoreBPE; VOCABULARIES], random: &mut SmallRng) -> Vec<Shape> {
    let shape = |template: &Template, random: &mut SmallRng| Shape {
        name: template.name,
        prompts: (0..VARIANTS).map(|_| prompt(template, vocabularies, random)).collect(),
    };
    TEMPLATES.iter().map(|template| shape(template, random)).collect()
}

fn prompt(template: &Template, vocabularies: [&CoreBPE; VOCABULARIES], random: &mut SmallRng) -> Prompt {
    let mut json = String::from("[");
    let mut plain = template.tools.to_owned();
    let last = template.messages.len().saturating_sub(1);
    for (at, message) in template.messages.iter().enumerate() {
        let times = if at == last { template.repeat } else { 1 };
        let content: String = (0..times).map(|_| filled(message, random)).collect();
        json.push_str(if at == 0 {
            "{\"role\":\"user\",\"content\":\""
        } else {
            ",{\"role\":\"user\",\"content\":\""
        });
        json.push_str(&content);
        json.push_str("\"}");
        // Escapes are all of JSON that stands in a template.
        plain.push_str(&content.replace("\\n", "\n").replace("\\\"", "\""));
    }
    let features = Features {
        text_bytes: json.len() as u64,
        text: Some(scan(json.as_bytes())),
        messages: template.messages.len() as u32,
        tool_bytes: template.tools.len() as u64,
        images: template.images,
        other_parts: 0,
    };
    let text_tokens = vocabularies.map(|vocabulary| vocabulary.encode_ordinary(&plain).len() as u32);
    Prompt { features, text_tokens }
}

fn filled(message: &str, random: &mut SmallRng) -> String {
    let (name, sentence) = (one_of(&NAMES, random), one_of(&SENTENCES, random));
    let number = random.random_range(0..400u32).to_string();
    message.replace('#', &number).replace('@', name).replace('%', sentence)
}

fn one_of<T: Copy + Default>(list: &[T], random: &mut SmallRng) -> T {
    let at = random.random_range(0..list.len().max(1));
    list.get(at).copied().unwrap_or_default()
}
