//! A model's `tokenizer.json`, read into an exact counter.
//!
//! Of the many things that such a file can describe, one is counted with: byte-pair encoding of bytes after one
//! split, which Llama 3, Qwen, Mistral Nemo, gpt-oss and most newer models have. Everything that would change the
//! counts and is not understood is a fault, because a count that is called exact and is not is worse than an
//! estimate. What a count of plain text does not depend on (decoder, template, special tokens) is not looked at.
//!
//! Such a file spells bytes as letters, as gpt-2 did: printable Latin-1 as itself, the other 68 bytes as `Ā`
//! onwards.
//!
//! Cost: the text twice in memory, and one to two seconds for 200,000 tokens, once at start.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokenizer::{Counter, MergesError, Normalization, VocabularyError, tokens_by_rank};

/// Largest such file, bytes. The largest in use have 33 MB.
pub(crate) const TOKENIZER_BYTES_MAX: usize = 64 << 20;

/// Why a file cannot be counted with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenizerFileError {
    #[error("is larger than {TOKENIZER_BYTES_MAX} bytes")]
    TooLarge,
    #[error("is not a tokenizer.json: {0}")]
    Json(#[from] serde_json::Error),
    #[error("has a model of type {0}, and exact counts need byte-level BPE")]
    Model(String),
    #[error("has `{0}` in its model, which byte-level BPE has not")]
    ModelOption(&'static str),
    #[error("has a pre_tokenizer ({0}) that is neither ByteLevel nor one Split before a ByteLevel")]
    PreTokenizer(String),
    #[error("has a normalizer ({0}) other than NFC")]
    Normalizer(String),
    #[error("takes the ordinary text \"{0}\" for an added token")]
    AddedToken(String),
    #[error("spells \"{0}\" in its vocabulary or merges, which no bytes are spelt as")]
    Spelling(String),
    #[error("has no token for the byte {0:#04x}")]
    Byte(u8),
    #[error("has merges that ranks do not reproduce: {0}")]
    Merges(#[from] MergesError),
    #[error("cannot be counted with: {0}")]
    Vocabulary(#[from] VocabularyError),
}

#[derive(Deserialize)]
struct TokenizerFile<'a> {
    #[serde(borrow)]
    model: &'a RawValue,
    #[serde(default)]
    normalizer: Option<Normalizer>,
    #[serde(default)]
    pre_tokenizer: Option<Step>,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

#[derive(Deserialize)]
struct ModelKind {
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Bpe<'a> {
    #[serde(borrow)]
    vocab: BTreeMap<Cow<'a, str>, u32>,
    #[serde(borrow)]
    merges: Vec<Merge<'a>>,
    #[serde(default)]
    dropout: Option<f64>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

/// `"a b"` in older files, `["a", "b"]` in newer ones.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge<'a> {
    Spaced(#[serde(borrow)] Cow<'a, str>),
    Pair(#[serde(borrow)] [Cow<'a, str>; 2]),
}

#[derive(Deserialize)]
struct Normalizer {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    normalizers: Vec<Normalizer>,
}

#[derive(Deserialize)]
struct Step {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    pretokenizers: Vec<Step>,
    #[serde(default)]
    pattern: Option<Pattern>,
    #[serde(default)]
    behavior: Option<String>,
    #[serde(default)]
    invert: bool,
    #[serde(default = "yes")]
    add_prefix_space: bool,
    #[serde(default = "yes")]
    use_regex: bool,
}

/// What the format takes for granted in a `ByteLevel`.
fn yes() -> bool {
    true
}

/// `{"Regex": …}`, or a plain `{"String": …}`, which byte-level files do not cut by.
#[derive(Deserialize)]
struct Pattern {
    #[serde(rename = "Regex", default)]
    regex: Option<String>,
}

#[derive(Deserialize)]
struct AddedToken {
    content: String,
}

/// How a `ByteLevel` alone cuts a text: gpt-2's pattern.
const BYTE_LEVEL: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// The counter that a file describes.
pub(crate) fn read(json: &[u8]) -> Result<Counter, TokenizerFileError> {
    if json.len() > TOKENIZER_BYTES_MAX {
        return Err(TokenizerFileError::TooLarge);
    }
    let file: TokenizerFile<'_> = serde_json::from_slice(json)?;
    let kind = serde_json::from_str::<ModelKind>(file.model.get())?.kind;
    // The oldest files have no type: if they are not BPE, they have no merges either.
    if let Some(kind) = kind.filter(|kind| kind != "BPE") {
        return Err(TokenizerFileError::Model(kind));
    }
    let pattern = pattern(file.pre_tokenizer)?;
    let normalization = normalization(file.normalizer)?;
    if let Some(plain) = file.added_tokens.iter().find(|added| is_ordinary(&added.content)) {
        return Err(TokenizerFileError::AddedToken(plain.content.clone()));
    }
    let model: Bpe<'_> = serde_json::from_str(file.model.get())?;
    Ok(Counter::from_ranks(tokens(&model, &file.added_tokens)?, &pattern, normalization)?)
}

/// Whether customers write it without meaning a token: words, numbers, runs of blanks.
fn is_ordinary(added: &str) -> bool {
    added.chars().all(|c| c.is_alphanumeric() || c.is_whitespace())
}

fn normalization(normalizer: Option<Normalizer>) -> Result<Normalization, TokenizerFileError> {
    let Some(Normalizer { kind, normalizers }) = normalizer else { return Ok(Normalization::None) };
    match (kind.as_str(), <[Normalizer; 1]>::try_from(normalizers)) {
        ("NFC", _) => Ok(Normalization::Nfc),
        ("Sequence", Ok([only])) => normalization(Some(only)),
        ("Sequence", Err(none)) if none.is_empty() => Ok(Normalization::None),
        _ => Err(TokenizerFileError::Normalizer(kind)),
    }
}

/// The pattern whose matches are pieces.
fn pattern(step: Option<Step>) -> Result<String, TokenizerFileError> {
    let Some(step) = step else { return Err(TokenizerFileError::PreTokenizer("none".to_owned())) };
    let steps = if step.kind == "Sequence" { step.pretokenizers } else { vec![step] };
    let kinds: Vec<&str> = steps.iter().map(|step| step.kind.as_str()).collect();
    let refused = TokenizerFileError::PreTokenizer(kinds.join(", "));
    match steps.as_slice() {
        [bytes] if is_byte_level(bytes, true) => Ok(BYTE_LEVEL.to_owned()),
        [split, bytes] if split.kind == "Split" && is_byte_level(bytes, false) => {
            // Removing all but the matches is isolating them, for a pattern that matches everything.
            let isolates = match split.behavior.as_deref() {
                Some("Isolated") => true,
                Some("Removed") => split.invert,
                _ => false,
            };
            let pattern = split.pattern.as_ref().and_then(|pattern| pattern.regex.clone());
            pattern.filter(|_| isolates).ok_or(refused)
        }
        _ => Err(refused),
    }
}

fn is_byte_level(step: &Step, splits: bool) -> bool {
    step.kind == "ByteLevel" && !step.add_prefix_space && step.use_regex == splits
}

/// The tokens in order of rank.
fn tokens(model: &Bpe<'_>, added: &[AddedToken]) -> Result<Vec<Vec<u8>>, TokenizerFileError> {
    let filled = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let odd = [
        ("dropout", model.dropout.is_some_and(|share| share > 0.0)),
        ("continuing_subword_prefix", filled(&model.continuing_subword_prefix)),
        ("end_of_word_suffix", filled(&model.end_of_word_suffix)),
        ("byte_fallback", model.byte_fallback),
    ];
    if let Some((option, _)) = odd.into_iter().find(|(_, odd)| *odd) {
        return Err(TokenizerFileError::ModelOption(option));
    }
    // These bytes are in no UTF-8: a vocabulary may do without them.
    let needed = (0..=u8::MAX).filter(|byte| !matches!(byte, 0xC0 | 0xC1 | 0xF5..));
    if let Some(byte) = needed.into_iter().find(|byte| !model.vocab.contains_key(&*letter(*byte).to_string()))
    {
        return Err(TokenizerFileError::Byte(byte));
    }
    let alphabet: BTreeMap<char, u8> = (0..=u8::MAX).map(|byte| (letter(byte), byte)).collect();
    let merges: Result<Vec<_>, _> = model.merges.iter().map(|merge| halves(merge, &alphabet)).collect();
    let whole = model.ignore_merges.then(|| {
        // Tokens that are spelt otherwise are special ones, cut out before the merges.
        let plain = model.vocab.keys().filter(|token| !added.iter().any(|added| added.content == **token));
        plain.filter_map(|token| bytes(token, &alphabet).ok()).collect::<Vec<_>>()
    });
    Ok(tokens_by_rank(&merges?, whole.as_deref())?)
}

fn halves(
    merge: &Merge<'_>,
    alphabet: &BTreeMap<char, u8>,
) -> Result<(Vec<u8>, Vec<u8>), TokenizerFileError> {
    let (left, right) = match merge {
        Merge::Pair([left, right]) => (&**left, &**right),
        Merge::Spaced(both) => both
            .split_once(' ')
            .ok_or_else(|| TokenizerFileError::Spelling(both.chars().take(64).collect()))?,
    };
    Ok((bytes(left, alphabet)?, bytes(right, alphabet)?))
}

fn bytes(spelt: &str, alphabet: &BTreeMap<char, u8>) -> Result<Vec<u8>, TokenizerFileError> {
    let bytes: Option<Vec<u8>> = spelt.chars().map(|letter| alphabet.get(&letter).copied()).collect();
    bytes.ok_or_else(|| TokenizerFileError::Spelling(spelt.chars().take(64).collect()))
}

/// The letter that a byte is spelt as.
fn letter(byte: u8) -> char {
    let past = match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => return char::from(byte),
        0..=0x20 => u32::from(byte),
        0x7F..=0xA0 => 33 + u32::from(byte) - 0x7F,
        0xAD => 67,
    };
    char::from_u32(0x100 + past).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// 1,200 tokens trained on source code, with NFC and the split that Llama 3 and Qwen have.
    const TRAINED: &str = include_str!("tests/tokenizer.json");
    /// Texts, and how many tokens the library that trained the file counts in each.
    const COUNTS: &str = include_str!("tests/tokenizer-counts.json");

    fn changed(change: impl FnOnce(&mut Value)) -> Result<Counter, String> {
        let mut file: Value = serde_json::from_str(TRAINED).unwrap();
        change(&mut file);
        read(&serde_json::to_vec(&file).unwrap()).map_err(|error| error.to_string())
    }

    fn refused(change: impl FnOnce(&mut Value)) -> String {
        changed(change).map(|_| "taken").unwrap_err()
    }

    fn assert_counts(counter: &Counter) {
        let counts: Vec<(String, u32)> = serde_json::from_str(COUNTS).unwrap();
        assert!(counts.len() >= 30);
        for (text, tokens) in counts {
            assert_eq!(counter.count(&text), tokens, "{text:?}");
        }
    }

    #[test]
    fn it_counts_as_the_library_that_trained_the_file() {
        assert_counts(&read(TRAINED.as_bytes()).unwrap());
    }

    #[test]
    fn older_spellings_of_the_same_file_count_the_same() {
        let older = changed(|file| {
            for merge in file["model"]["merges"].as_array_mut().unwrap() {
                *merge = json!(format!("{} {}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap()));
            }
            file["model"].as_object_mut().unwrap().remove("type");
            file["pre_tokenizer"]["pretokenizers"][0]["behavior"] = json!("Removed");
            file["pre_tokenizer"]["pretokenizers"][0]["invert"] = json!(true);
            file["normalizer"] = json!({ "type": "Sequence", "normalizers": [{ "type": "NFC" }] });
        });

        assert_counts(&older.unwrap());
    }

    #[test]
    fn whole_tokens_first_is_the_same_for_a_vocabulary_without_odd_tokens() {
        assert_counts(&changed(|file| file["model"]["ignore_merges"] = json!(true)).unwrap());

        let counter = changed(|file| {
            file["model"]["ignore_merges"] = json!(true);
            file["model"]["vocab"]["qzqzq"] = json!(5000);
        });
        assert_eq!(counter.unwrap().count("qzqzq"), 1);
    }

    #[test]
    fn bytes_are_spelt_as_in_gpt2() {
        let spelt = [(b' ', 'Ġ'), (b'\n', 'Ċ'), (0, 'Ā'), (0x7F, 'ġ'), (0xA0, 'ł'), (0xAD, 'Ń'), (b'a', 'a')];
        for (byte, wanted) in spelt {
            assert_eq!(letter(byte), wanted, "{byte:#04x}");
        }
        let all: std::collections::BTreeSet<char> = (0..=u8::MAX).map(letter).collect();
        assert_eq!(all.len(), 256);
    }

    #[test]
    fn what_would_count_differently_is_refused_by_name() {
        let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": true, "use_regex": true });
        let split = json!({ "type": "Digits", "individual_digits": true });
        let cases: Vec<(Value, &str, &str)> = vec![
            (json!({ "type": "Unigram", "vocab": [["a", 0.5]] }), "/model", "of type Unigram"),
            (json!({ "type": "WordPiece", "vocab": {} }), "/model", "of type WordPiece"),
            (json!(true), "/model/byte_fallback", "`byte_fallback`"),
            (json!("</w>"), "/model/end_of_word_suffix", "`end_of_word_suffix`"),
            (json!(0.1), "/model/dropout", "`dropout`"),
            (json!({ "type": "Lowercase" }), "/normalizer", "(Lowercase)"),
            (byte_level, "/pre_tokenizer", "(ByteLevel)"),
            (json!(null), "/pre_tokenizer", "(none)"),
            (split, "/pre_tokenizer/pretokenizers/0", "(Digits, ByteLevel)"),
            (json!("MergedWithNext"), "/pre_tokenizer/pretokenizers/0/behavior", "(Split, ByteLevel)"),
            (json!({ "String": " " }), "/pre_tokenizer/pretokenizers/0/pattern", "(Split, ByteLevel)"),
            (json!({ "Regex": "(" }), "/pre_tokenizer/pretokenizers/0/pattern", "pattern"),
            (json!("    "), "/added_tokens/0/content", "\"    \""),
            (json!("▁ a"), "/model/merges/0", "\"▁\""),
            (json!(["a", ""]), "/model/merges/0", "empty part"),
            (json!({}), "/model/vocab", "byte 0x00"),
        ];
        for (value, at, wanted) in cases {
            let why = refused(|file| {
                let (parent, key) = at.rsplit_once('/').unwrap();
                let parent = file.pointer_mut(parent).unwrap();
                match parent {
                    Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
                    parent => parent[key] = value,
                }
            });
            assert!(why.contains(wanted), "{at}: {why}");
        }
    }

    #[test]
    fn what_is_no_such_file_is_said_with_the_place() {
        for text in ["", "{", "[]", "{}", r#"{"model":{"type":"BPE"}}"#] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
        let why = read(&TRAINED.as_bytes()[..20_000]).unwrap_err().to_string();
        assert!(why.contains("not a tokenizer.json") && why.contains("column"), "{why}");
        assert!(matches!(read(&vec![b' '; TOKENIZER_BYTES_MAX + 1]), Err(TokenizerFileError::TooLarge)));
    }
}
