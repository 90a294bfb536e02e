//! Estimates against real vocabularies that play the engine, and exact counts against the tokenizer itself.
//!
//! The weights of text were fitted with `o200k_base`; the engines here have that one, `cl100k_base` and
//! `p50k_base`, which has a quarter of its tokens and three tokens where it has one in Chinese.

mod texts;

use texts::{Dice, KINDS, Kind, text};
use tokenizer::{Counter, Estimator, Features, RUN_CHARS_MAX, Vocabulary, Weights, estimate, scan, segments};

const ENGINES: [Vocabulary; 3] = [Vocabulary::O200kBase, Vocabulary::Cl100kBase, Vocabulary::P50kBase];

/// Tokens that the engine's template puts around a message here: not what the default weights say.
const ENVELOPE: u32 = 19;

fn request(kind: Kind, dice: &mut Dice) -> (String, Features) {
    let bytes = 400 + dice.below(4_000);
    let text = text(kind, bytes, dice);
    let features = Features {
        text_bytes: text.len() as u64,
        text: Some(scan(text.as_bytes())),
        messages: 1,
        ..Features::default()
    };
    (text, features)
}

/// Errors of 100 estimates: of their sum, and the mean of each one's size.
struct Errors {
    of_sum: f64,
    mean: f64,
}

fn errors(
    engine: &Counter,
    model: &Estimator,
    account: &mut Estimator,
    kind: Kind,
    dice: &mut Dice,
) -> Errors {
    let (mut estimated, mut counted, mut mean) = (0.0, 0.0, 0.0);
    for _ in 0..100 {
        let (text, features) = request(kind, dice);
        let real = engine.count(&text) + ENVELOPE;
        let found = estimate(model, Some(account), &features);
        estimated += f64::from(found.tokens);
        counted += f64::from(real);
        mean += (f64::from(found.tokens) / f64::from(real) - 1.0).abs() / 100.0;
        account.observe(&features, real);
    }
    Errors { of_sum: (estimated / counted - 1.0).abs(), mean }
}

fn learn(engine: &Counter, account: &mut Estimator, kind: Kind, requests: usize, dice: &mut Dice) {
    for _ in 0..requests {
        let (text, features) = request(kind, dice);
        account.observe(&features, engine.count(&text) + ENVELOPE);
    }
}

#[test]
fn after_fifty_requests_an_account_is_estimated_to_three_percent_on_any_vocabulary() {
    for vocabulary in ENGINES {
        let engine = Counter::new(vocabulary).unwrap();
        for kind in KINDS {
            let mut dice = Dice::new(kind as u64 + 1);
            let model = Estimator::new(Weights::default());
            let mut account = Estimator::seeded(&model);
            learn(&engine, &mut account, kind, 50, &mut dice);

            let errors = errors(&engine, &model, &mut account, kind, &mut dice);

            assert!(errors.mean <= 0.03, "{vocabulary:?} {kind:?}: {:.4} per request", errors.mean);
            assert!(errors.of_sum <= 0.01, "{vocabulary:?} {kind:?}: {:.4} of the sum", errors.of_sum);
        }
    }
}

/// One set of weights for all kinds at once, as the model's estimator has.
#[test]
fn fifty_requests_of_each_kind_are_enough_for_a_model() {
    for vocabulary in ENGINES {
        let engine = Counter::new(vocabulary).unwrap();
        let mut model = Estimator::new(Weights::default());
        let mut dice = Dice::new(9);
        for _ in 0..50 {
            for kind in KINDS {
                learn(&engine, &mut model, kind, 1, &mut dice);
            }
        }
        for kind in KINDS {
            let errors = errors(&engine, &model.clone(), &mut model.clone(), kind, &mut dice);
            assert!(errors.mean <= 0.03, "{vocabulary:?} {kind:?}: {:.4} per request", errors.mean);
        }
    }
}

/// The first Chinese requests of an account that wrote English, on a model that knows both.
#[test]
fn an_account_may_change_its_language_without_being_misjudged() {
    let engine = Counter::new(Vocabulary::Cl100kBase).unwrap();
    let mut dice = Dice::new(4);
    let mut model = Estimator::new(Weights::default());
    for _ in 0..100 {
        learn(&engine, &mut model, Kind::Chinese, 1, &mut dice);
        learn(&engine, &mut model, Kind::Prose, 1, &mut dice);
    }
    let mut account = Estimator::seeded(&model);
    learn(&engine, &mut account, Kind::Prose, 200, &mut dice);

    let (text, features) = request(Kind::Chinese, &mut dice);
    let found = estimate(&model, Some(&account), &features);

    let real = engine.count(&text) + ENVELOPE;
    assert!(f64::from(found.tokens.abs_diff(real)) <= 0.05 * f64::from(real), "{found:?} for {real}");
}

#[test]
fn text_without_long_runs_is_counted_as_the_tokenizer_does() {
    let ours = Counter::new(Vocabulary::O200kBase).unwrap();
    let theirs = tiktoken_rs::o200k_base().unwrap();
    let mut dice = Dice::new(5);
    for kind in KINDS {
        for _ in 0..20 {
            let (text, _) = request(kind, &mut dice);
            assert_eq!(ours.count(&text) as usize, theirs.encode_ordinary(&text).len(), "{kind:?}");
        }
    }
}

/// Texts on which byte-pair merging or the pattern's look-ahead take more than linear time.
fn hostile() -> Vec<(&'static str, String)> {
    let letters = |n: u64| (0..n).map(|i| char::from(b'a' + ((i * i * 31 + i * 7) % 26) as u8)).collect();
    vec![
        ("one letter", "a".repeat(400_000)),
        ("underscores", "_".repeat(50_000)),
        ("blanks", " ".repeat(400_000)),
        ("blank lines", "\n \t".repeat(40_000)),
        ("letters at random", letters(100_000)),
        ("capitals", "A".repeat(100_000)),
        ("marks", "a\u{0301}".repeat(40_000)),
        ("emoji", "\u{1F600}\u{200D}".repeat(20_000)),
        ("rare Han", "龘".repeat(50_000)),
        ("signs and letters at once", "a'\u{2019}".repeat(40_000)),
    ]
}

/// The work of merging a piece of n bytes is about n · log₂ n steps. Pieces inside a segment are at most two runs
/// long, so the work per byte has a bound, whatever the length of the text.
#[test]
fn hostile_text_is_cut_into_pieces_of_bounded_work() {
    let pattern = fancy_regex::Regex::new(tiktoken_rs::O200K_BASE_PAT_STR).unwrap();
    for (name, text) in hostile() {
        let mut work = 0.0;
        for segment in segments(&text) {
            for piece in pattern.find_iter(segment) {
                let piece = piece.expect("the pattern does not give up").as_str();
                let chars = piece.chars().count() as u32;
                assert!(chars <= 2 * RUN_CHARS_MAX + 8, "{name}: a piece of {chars} characters");
                work += piece.len() as f64 * (piece.len() as f64).log2();
            }
        }
        let per_byte = work / text.len() as f64;
        assert!(per_byte <= f64::from(8 * RUN_CHARS_MAX + 32).log2(), "{name}: {per_byte:.1} steps per byte");
    }
}

#[test]
fn hostile_text_is_still_counted_to_one_percent() {
    for vocabulary in ENGINES {
        let ours = Counter::new(vocabulary).unwrap();
        let theirs = match vocabulary {
            Vocabulary::O200kBase => tiktoken_rs::o200k_base(),
            Vocabulary::Cl100kBase => tiktoken_rs::cl100k_base(),
            _ => tiktoken_rs::p50k_base(),
        }
        .unwrap();
        for (name, text) in hostile() {
            // The tokenizer itself takes too long for all of it, or gives up.
            let part: String = text.chars().take(6_000).collect();
            let (found, real) = (ours.count(&part), theirs.count_ordinary(&part) as u32);
            let cuts = segments(&part).count() as u32;
            assert!(found.abs_diff(real) <= 2 * cuts, "{vocabulary:?} {name}: {found} for {real}");
        }
    }
}
