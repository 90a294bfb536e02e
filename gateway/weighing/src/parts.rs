//! Tells the text of a prompt from its parts by where each stands in the JSON, not by its looks.
//!
//! What an engine tokenises is text, whatever it looks like: a megabyte of base64 as `content` costs as many tokens as it
//! has. In any other member a `data:` URL, or a long run of base64, is a picture, a sound or a file that the client sent,
//! or something opaque that the engine gave it to keep. So the key above each string is followed; strings are jumped over.

use memchr::memmem::Finder;
use std::ops::Range;
use std::sync::LazyLock;
use tokenizer::{Features, TextClasses, TextScan};

/// Bytes from which a run of base64 is a part.
const PART_BYTES_MIN: usize = 1024;
/// Opaque text weighs a token for eight bytes, until usage teaches better; prose one for 4.67, so this share of it.
const OPAQUE_AS_PROSE: (u64, u64) = (7, 12);

/// What each message of a conversation has once. Made once, since making a searcher costs more than a short text.
static ROLE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"role\""));

/// The features of `prompt` from the byte `from` on, with `tool_bytes` of tools beside it. `prompt` is JSON values, one
/// behind the other, of which the last need not be closed. O(bytes); allocates as deep as it nests.
pub(crate) fn features(prompt: &[u8], from: usize, tool_bytes: usize) -> Features {
    let mut walk = Walk::new(prompt, from);
    walk.run();
    let mut text = walk.scan.classes();
    let opaque = walk.opaque_bytes.saturating_mul(OPAQUE_AS_PROSE.0) / OPAQUE_AS_PROSE.1;
    text.add(&TextClasses::prose(opaque));
    Features {
        text_bytes: walk.text_bytes + opaque,
        text: Some(text),
        messages: ROLE.find_iter(prompt.get(from..).unwrap_or_default()).count() as u32,
        tool_bytes: tool_bytes as u64,
        images: walk.images,
        other_parts: walk.other_parts,
    }
}

/// What a part is, by what is said beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Image,
    Other,
    Opaque,
}

/// A string that is not text by itself; what it is may be said behind it.
#[derive(Debug)]
struct Part {
    /// The string, its quotes not included.
    place: Range<usize>,
    /// By its own prefix or its key.
    kind: Option<Kind>,
    /// Whether it is an address, which is text as well.
    is_address: bool,
}

/// An open array or object.
#[derive(Debug, Default)]
struct Level<'a> {
    /// The key that it stands under.
    under: &'a [u8],
    is_object: bool,
    /// Whether all strings in it are tokenised: the arguments of a tool.
    is_tokenised: bool,
    /// Whether the next string is a key.
    expects_key: bool,
    key: &'a [u8],
    kind: Option<Kind>,
    part: Option<Part>,
}

struct Walk<'a> {
    prompt: &'a [u8],
    from: usize,
    levels: Vec<Level<'a>>,
    scan: TextScan,
    /// Where the text begins that is not scanned yet.
    unscanned: usize,
    text_bytes: u64,
    opaque_bytes: u64,
    images: u32,
    other_parts: u32,
}

impl<'a> Walk<'a> {
    fn new(prompt: &'a [u8], from: usize) -> Self {
        Walk {
            prompt,
            from,
            levels: Vec::new(),
            scan: TextScan::new(),
            unscanned: from,
            text_bytes: 0,
            opaque_bytes: 0,
            images: 0,
            other_parts: 0,
        }
    }

    fn run(&mut self) {
        let prompt = self.prompt;
        let mut at = 0;
        while let Some(found) = prompt.get(at..).and_then(|rest| memchr::memchr(b'"', rest)) {
            self.between(prompt.get(at..at + found).unwrap_or_default());
            let start = at + found + 1;
            let end = start + string_length(prompt.get(start..).unwrap_or_default());
            self.string(start..end);
            at = end + 1;
        }
        self.between(prompt.get(at..).unwrap_or_default());
        while !self.levels.is_empty() {
            self.close();
        }
        self.feed(self.unscanned..prompt.len());
    }

    /// Reads what lies between two strings.
    fn between(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'{' | b'[' => self.open(*byte == b'{'),
                b'}' | b']' => self.close(),
                b':' | b',' => {
                    if let Some(level) = self.levels.last_mut() {
                        level.expects_key = *byte == b',' && level.is_object;
                    }
                }
                _ => {}
            }
        }
    }

    fn open(&mut self, is_object: bool) {
        let mut level = Level { is_object, expects_key: is_object, ..Level::default() };
        if let Some(parent) = self.levels.last() {
            level.under = if parent.is_object { parent.key } else { parent.under };
            level.is_tokenised =
                parent.is_tokenised || matches!(level.under, b"input" | b"arguments") && is_object;
        }
        self.levels.push(level);
    }

    fn close(&mut self) {
        let Some(mut level) = self.levels.pop() else { return };
        if let Some(part) = level.part.take() {
            self.count(part, level.kind.or(self.levels.last().and_then(|parent| parent.kind)));
        }
    }

    fn string(&mut self, place: Range<usize>) {
        let string = self.prompt.get(place.clone()).unwrap_or_default();
        let Some(level) = self.levels.last_mut() else { return };
        if level.expects_key {
            level.key = string;
            return;
        }
        let key = if level.is_object { level.key } else { level.under };
        if level.is_tokenised || is_text(key) {
            return;
        }
        if matches!(key, b"type" | b"media_type") {
            level.kind = kind_named(string).or(level.kind);
            return;
        }
        let of_image = [key, level.under].into_iter().any(is_image);
        let kind = match string {
            _ if matches!(key, b"encrypted_content" | b"signature") => Some(Kind::Opaque),
            _ if string.starts_with(b"data:image") => Some(Kind::Image),
            _ if string.starts_with(b"data:") && !of_image => Some(Kind::Other),
            _ => of_image.then_some(Kind::Image),
        };
        let is_address = string.starts_with(b"http") && is_address(key, level.under);
        let is_part = is_address
            || kind == Some(Kind::Opaque)
            || string.starts_with(b"data:")
            || (string.len() >= PART_BYTES_MIN && is_base64(string));
        if is_part {
            let kind_before = level.kind;
            let before = level.part.replace(Part { place: place.clone(), kind, is_address });
            if let Some(before) = before {
                self.count(before, kind_before);
            }
            if !is_address {
                self.feed(self.unscanned..place.start);
                self.unscanned = self.unscanned.max(place.end);
            }
        }
    }

    /// Counts `part`, of which its object says `said`. One that the known beginning only ends in counts anew.
    fn count(&mut self, part: Part, said: Option<Kind>) {
        if part.place.end <= self.from {
            return;
        }
        match part.kind.or(said).unwrap_or(Kind::Other) {
            Kind::Image => self.images += 1,
            Kind::Other => self.other_parts += 1,
            Kind::Text if part.is_address => {}
            Kind::Text => self.feed(part.place),
            Kind::Opaque => {
                self.opaque_bytes += (part.place.end - part.place.start.max(self.from)) as u64;
            }
        }
    }

    /// Scans text, as far as it does not lie in the known beginning.
    fn feed(&mut self, place: Range<usize>) {
        let text = self.prompt.get(place.start.max(self.from)..place.end).unwrap_or_default();
        self.scan.feed(text);
        self.text_bytes += text.len() as u64;
    }
}

/// Whether the strings under `key` are tokenised. Those under no key are: a prompt, a list of them.
fn is_text(key: &[u8]) -> bool {
    matches!(
        key,
        b"" | b"content"
            | b"text"
            | b"prompt"
            | b"input"
            | b"arguments"
            | b"output"
            | b"system"
            | b"instructions"
            | b"refusal"
            | b"thinking"
            | b"reasoning"
            | b"reasoning_content"
    )
}

fn is_image(key: &[u8]) -> bool {
    matches!(key, b"image" | b"images" | b"image_url")
}

/// Whether an address under `key`, in an object under `under`, is one that the engine fetches a part from.
fn is_address(key: &[u8], under: &[u8]) -> bool {
    let names_part = |key: &[u8]| is_image(key) || matches!(key, b"audio_url" | b"video_url" | b"file_url");
    names_part(key) || (key == b"url" && (under == b"source" || names_part(under)))
}

/// The kind of a part by its type or media type.
fn kind_named(name: &[u8]) -> Option<Kind> {
    match name {
        b"redacted_thinking" => Some(Kind::Opaque),
        b"image" | b"image_url" | b"input_image" => Some(Kind::Image),
        b"text" => Some(Kind::Text),
        _ if name.starts_with(b"image/") => Some(Kind::Image),
        _ if name.starts_with(b"text/") => Some(Kind::Text),
        _ if [&b"audio/"[..], b"video/", b"application/"].iter().any(|of| name.starts_with(of)) => {
            Some(Kind::Other)
        }
        _ => None,
    }
}

/// Whether `string` has only characters that base64 has, in JSON and in the form for addresses.
fn is_base64(string: &[u8]) -> bool {
    string
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_' | b'\\'))
}

/// The length of the string that `rest` begins with, without its closing quote.
fn string_length(rest: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = rest.get(at..).and_then(|r| memchr::memchr2(b'"', b'\\', r)) {
        if rest.get(at + found) == Some(&b'"') {
            return at + found;
        }
        at = (at + found + 2).min(rest.len());
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(prompt: &str) -> Features {
        features(prompt.as_bytes(), 0, 0)
    }

    fn base64(bytes: usize) -> String {
        "aGVsbG8h".repeat(bytes / 8)
    }

    /// Images, other parts, and how many thousand bytes are text.
    fn seen(features: &Features) -> (u32, u32, u64) {
        (features.images, features.other_parts, features.text_bytes / 1000)
    }

    #[test]
    fn case_w03_what_an_engine_tokenises_is_text_whatever_it_looks_like() {
        let data = base64(8000);
        for prompt in [
            format!(r#""{data}""#),
            format!(r#"["{data}"]"#),
            format!(r#"[{{"role":"user","content":"{data}"}}]"#),
            format!(r#"[{{"role":"user","content":"data:image/png;base64,{data}"}}]"#),
            format!(r#"[{{"role":"user","content":[{{"type":"text","text":"{data}"}}]}}]"#),
            format!(r#"[{{"tool_calls":[{{"function":{{"name":"f","arguments":"{data}"}}}}]}}]"#),
            format!(r#"[{{"role":"tool","content":"{data}"}}]"#),
            format!(r#"[{{"type":"function_call_output","output":"{data}"}}]"#),
            format!(r#"[{{"content":[{{"type":"tool_use","input":{{"file":{{"data":"{data}"}}}}}}]}}]"#),
            format!(r#"[{{"source":{{"type":"text","media_type":"text/plain","data":"{data}"}}}}]"#),
            format!(r#"[{{"content":"\"image_url\""}},{{"content":"{data}"}}]"#),
        ] {
            assert_eq!(seen(&of(&prompt)), (0, 0, 8), "{prompt:.60}");
        }
    }

    #[test]
    fn case_w03_a_part_is_told_by_its_member() {
        let data = base64(8000);
        for (prompt, images, others) in [
            (
                format!(
                    r#"[{{"content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}}]}}]"#
                ),
                1,
                0,
            ),
            (
                format!(
                    r#"[{{"content":[{{"type":"audio_url","audio_url":{{"url":"data:audio/wav;base64,{data}"}}}}]}}]"#
                ),
                0,
                1,
            ),
            (
                format!(
                    r#"[{{"role":"tool","content":[{{"type":"input_audio","input_audio":{{"data":"{data}","format":"wav"}}}}]}}]"#
                ),
                0,
                1,
            ),
            (format!(r#"[{{"content":[{{"type":"file","file":{{"file_data":"{data}"}}}}]}}]"#), 0, 1),
            (
                format!(
                    r#"[{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{data}"}}}}]"#
                ),
                1,
                0,
            ),
            (
                format!(
                    r#"[{{"source":{{"data":"{data}","media_type":"image/png","type":"base64"}},"type":"image"}}]"#
                ),
                1,
                0,
            ),
            (format!(r#"[{{"source":{{"data":"{data}","media_type":"application/pdf"}}}}]"#), 0, 1),
            (format!(r#"[{{"type":"input_image","image_url":"data:image/png;base64,{data}"}}]"#), 1, 0),
            (format!(r#"[{{"text":"a","image":"{data}"}},{{"text":"b","image":"{data}"}}]"#), 2, 0),
            (r#"[{"type":"image_url","image_url":{"url": "https://example.com/a"}}]"#.to_owned(), 1, 0),
            (r#"[{"type":"video_url","video_url":{"url":"https://example.com/a"}}]"#.to_owned(), 0, 1),
            (r#"[{"type":"url_citation","url":"https://example.com/a"}]"#.to_owned(), 0, 0),
        ] {
            assert_eq!(seen(&of(&prompt)), (images, others, 0), "{prompt:.60}");
        }
    }

    #[test]
    fn case_w03_what_is_opaque_weighs_an_eighth_of_its_bytes() {
        let data = base64(80_000);
        for prompt in [
            format!(r#"[{{"type":"reasoning","encrypted_content":"{data}"}}]"#),
            format!(r#"[{{"type":"thinking","thinking":"","signature":"{data}"}}]"#),
            format!(r#"[{{"type":"redacted_thinking","data":"{data}"}}]"#),
            format!(r#"[{{"data":"{data}","type":"redacted_thinking"}}]"#),
        ] {
            let features = of(&prompt);
            assert_eq!((features.images, features.other_parts), (0, 0));
            let estimator = tokenizer::Estimator::new(tokenizer::Weights::default());
            let tokens = tokenizer::estimate(&estimator, None, &features).tokens;
            assert!((9_500..10_500).contains(&tokens), "{tokens} for {prompt:.40}");
        }
    }

    #[test]
    fn prose_in_a_member_of_any_name_is_text() {
        let prose = "A long text, with blanks. ".repeat(400);
        assert_eq!(seen(&of(&format!(r#"[{{"note":"{prose}"}}]"#))), (0, 0, 10));
        let han = "\u{6f6e}\u{6c50}".repeat(1000);
        assert_eq!(seen(&of(&format!(r#"[{{"note":"{han}"}}]"#))), (0, 0, 6));
    }

    /// The known beginning may end in a string; what lies behind it is read as in the whole.
    #[test]
    fn what_is_known_is_not_counted_again() {
        let (prose, data) = ("A text. ".repeat(500), base64(4000));
        let prompt = format!(r#"[{{"content":"{prose}"}},{{"image":"{data}"}},{{"content":"{prose}"}}"#);
        let whole = of(&prompt);
        for (from, images) in [(100, 1), (4100, 1), (9000, 0)] {
            let rest = features(prompt.as_bytes(), from, 0);
            let known_text = from.min(prompt.len()) as u64
                - if images == 0 { 4000 } else { from.saturating_sub(4035) as u64 };
            assert_eq!(rest.images, images, "{from}");
            assert!(whole.text_bytes.abs_diff(rest.text_bytes + known_text) < 40, "{from}");
        }
    }

    #[test]
    fn what_is_no_json_is_read_without_harm() {
        for prompt in ["", "\"", "]}", "{\"a", "{\"a\":\"\\", "[[[{"] {
            assert_eq!(seen(&of(prompt)).0, 0, "{prompt}");
        }
    }
}
