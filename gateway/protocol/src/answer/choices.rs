//! The choices of a stream of chunks: which chunk is a step of which, and when all have come to their end.
//!
//! An engine sends a chunk for each step of a choice, also when the step shows nothing: with a long `stop` vLLM holds text
//! back and sends empty ones. So every chunk of a choice counts, except a first one that holds nothing but the role, and
//! one that only says why the choice ended. Members that nobody has listed count like the listed ones, because engines
//! name what they generate as they like; those that are listed here are known to be nothing that was generated.

use crate::answer::{Name, finish};
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// Most choices that are told apart; those beyond count as one. As many prompts with as many answers each as one request
/// may have are more than an engine takes.
const CHOICES_TRACKED_MAX: usize = 4096;

/// Members of a choice that are not generated: its place, its end, and what is told of the prompt.
const NOT_GENERATED: [&str; 8] = [
    "index",
    "stop_reason",
    "matched_stop",
    "native_finish_reason",
    "content_filter_results",
    "content_filter_offsets",
    "prompt_token_ids",
    "prompt_logprobs",
];

/// One choice in one chunk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Choice {
    index: Option<usize>,
    /// Set where anything in it has a value.
    has_content: bool,
    has_ended: bool,
    finish: Option<&'static str>,
}

/// The choices of a stream so far.
#[derive(Debug, Default)]
pub(super) struct Choices {
    states: Vec<State>,
    ended: u32,
    /// Why the first that ended did.
    finish: Option<&'static str>,
    /// Tokens that the engine has told of all choices so far.
    told: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    has_begun: bool,
    has_ended: bool,
    steps: u32,
    /// Tokens that the engine has told of it so far.
    told: u64,
}

impl Choices {
    /// Takes the choices of one chunk; returns how many it advances.
    pub(super) fn advance(&mut self, chunk: &[Choice]) -> u32 {
        let mut advanced = 0;
        for (nth, choice) in chunk.iter().enumerate() {
            let Some(state) = self.state(choice.index.unwrap_or(nth)) else { continue };
            let is_step = choice.has_content || (state.has_begun && !choice.has_ended);
            state.has_begun = true;
            state.steps = state.steps.saturating_add(u32::from(is_step));
            let ends = choice.has_ended && !state.has_ended;
            state.has_ended |= choice.has_ended;
            advanced += u32::from(is_step);
            self.ended += u32::from(ends);
            self.finish = self.finish.or(choice.finish);
        }
        advanced
    }

    /// Takes the tokens of the choices of `chunk` so far as the engine tells them of each; returns those of all.
    pub(super) fn told(&mut self, chunk: &[Choice], generated: u64) -> u64 {
        for (nth, choice) in chunk.iter().enumerate() {
            let Some(state) = self.state(choice.index.unwrap_or(nth)) else { continue };
            let more = generated.saturating_sub(state.told);
            state.told += more;
            self.told = self.told.saturating_add(more);
        }
        self.told
    }

    /// Choices that have ended.
    pub(super) fn ended(&self) -> u32 {
        self.ended
    }

    /// Why the first choice that ended did.
    pub(super) fn finish(&self) -> Option<&'static str> {
        self.finish
    }

    /// Steps of the choice that has most.
    pub(super) fn steps_max(&self) -> u32 {
        self.states.iter().map(|state| state.steps).max().unwrap_or(0)
    }

    fn state(&mut self, index: usize) -> Option<&mut State> {
        let index = index.min(CHOICES_TRACKED_MAX);
        if index >= self.states.len() {
            self.states.resize(index + 1, State::default());
        }
        self.states.get_mut(index)
    }
}

impl Choice {
    /// A choice that could not be read: something was generated, and nothing else is known.
    pub(super) fn unknown() -> Choice {
        Choice { has_content: true, ..Choice::default() }
    }

    /// Returns `true` for the last chunk of a choice.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }
}

impl<'de> Deserialize<'de> for Choice {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ChoiceVisitor)
    }
}

struct ChoiceVisitor;

impl<'de> Visitor<'de> for ChoiceVisitor {
    type Value = Choice;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a choice")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Choice, A::Error> {
        let mut choice = Choice::default();
        while let Some(key) = map.next_key::<Name<'_>>()? {
            match &*key.0 {
                "index" => choice.index = map.next_value::<Option<usize>>()?,
                "finish_reason" => {
                    let value = map.next_value::<&RawValue>()?;
                    choice.has_ended = has_value(value);
                    choice.finish = finish::word(value);
                }
                name if NOT_GENERATED.contains(&name) => {
                    map.next_value::<IgnoredAny>()?;
                }
                _ => choice.has_content |= map.next_value::<Valued>()?.0,
            }
        }
        Ok(choice)
    }
}

/// `true` for an object in which any member but its role and its type has a value, and for another value that is one.
pub(super) struct Valued(pub(super) bool);

impl<'de> Deserialize<'de> for Valued {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValuedVisitor)
    }
}

struct ValuedVisitor;

impl<'de> Visitor<'de> for ValuedVisitor {
    type Value = Valued;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Valued, A::Error> {
        let mut valued = false;
        while let Some(key) = map.next_key::<Name<'_>>()? {
            let value = map.next_value::<&RawValue>()?;
            valued |= !matches!(&*key.0, "role" | "type") && has_value(value);
        }
        Ok(Valued(valued))
    }

    fn visit_unit<E>(self) -> Result<Valued, E> {
        Ok(Valued(false))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Valued, E> {
        Ok(Valued(value))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Valued, E> {
        Ok(Valued(true))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Valued, E> {
        Ok(Valued(true))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Valued, E> {
        Ok(Valued(true))
    }

    fn visit_str<E>(self, text: &str) -> Result<Valued, E> {
        Ok(Valued(!text.is_empty()))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Valued, A::Error> {
        let mut valued = false;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            valued = true;
        }
        Ok(Valued(valued))
    }
}

/// Returns `true` for all but null, false and what is empty.
pub(super) fn has_value(value: &RawValue) -> bool {
    let value = value.get();
    let is_empty_of = |open: char, close: char| {
        let inner = value.strip_prefix(open).and_then(|inner| inner.strip_suffix(close));
        inner.is_some_and(|inner| inner.trim_ascii().is_empty())
    };
    !matches!(value, "null" | "false" | "\"\"") && !is_empty_of('[', ']') && !is_empty_of('{', '}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunk(json: &str) -> Vec<Choice> {
        serde_json::from_str(json).unwrap()
    }

    /// Case R01: vLLM with a long `stop` sends an empty chunk a step.
    #[test]
    fn case_r01_each_later_chunk_is_a_step_though_it_shows_nothing() {
        let mut choices = Choices::default();
        let role = chunk(
            r#"[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]"#,
        );
        let empty = chunk(
            r#"[{"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":null,"token_ids":null}]"#,
        );
        assert_eq!(choices.advance(&role), 0);
        for _ in 0..5 {
            assert_eq!(choices.advance(&empty), 1);
        }
        let end = chunk(r#"[{"index":0,"delta":{},"finish_reason":"length","stop_reason":7}]"#);
        assert_eq!(choices.advance(&end), 0, "the end of a choice is no step");
        assert_eq!((choices.steps_max(), choices.ended()), (5, 1));
    }

    /// Case R01: the same on completions, whose first chunk has a token.
    #[test]
    fn case_r01_empty_texts_of_completions_are_steps_but_the_first() {
        let mut choices = Choices::default();
        let empty =
            chunk(r#"[{"index":0,"text":"","logprobs":null,"finish_reason":null,"prompt_token_ids":[1,2]}]"#);
        assert_eq!([(); 3].map(|()| choices.advance(&empty)), [0, 1, 1]);
        let with_ids = chunk(r#"[{"index":1,"text":"","token_ids":[7]}]"#);
        assert_eq!(choices.advance(&with_ids), 1, "a token was generated, whatever is shown of it");
    }

    /// Case R02: members that nobody has listed.
    #[test]
    fn case_r02_a_member_that_is_not_known_is_content_from_the_first_chunk_on() {
        for delta in [
            r#"{"role":"assistant","thinking":"hm"}"#,
            r#"{"role":"assistant","content":null,"reasoning_details":[{"text":"hm"}]}"#,
            r#"{"audio":{"id":"a","data":"UklG"}}"#,
            r#"{"content":"","made_up_tomorrow":"x"}"#,
            r#"{"made_up_number":0}"#,
            r#""a delta that is a text""#,
        ] {
            let chunk = chunk(&format!(r#"[{{"index":0,"delta":{delta},"finish_reason":null}}]"#));
            assert_eq!(Choices::default().advance(&chunk), 1, "{delta}");
        }
        for choice in [r#"{"message":{"role":"assistant","content":"x"}}"#, r#"{"index":0,"tokens":"x"}"#] {
            assert_eq!(Choices::default().advance(&chunk(&format!("[{choice}]"))), 1, "{choice}");
        }
    }

    #[test]
    fn a_first_chunk_with_a_role_and_nothing_else_is_no_step() {
        for delta in [
            "{}",
            "null",
            r#"{"role":"assistant"}"#,
            r#"{"role":"assistant","content":"","refusal":null}"#,
            r#"{"role":"assistant","content":"","reasoning_content":null,"tool_calls":[ ],"audio":{ }}"#,
            r#"{"content":null,"padding":false}"#,
        ] {
            let chunk = chunk(&format!(
                r#"[{{"index":0,"delta":{delta},"matched_stop":null,"logprobs":{{"content":[],"refusal":null}}}}]"#
            ));
            assert_eq!(Choices::default().advance(&chunk), 0, "{delta}");
        }
    }

    /// Of three answers each has a first chunk, steps and an end of its own.
    #[test]
    fn choices_are_told_apart_by_their_index() {
        let mut choices = Choices::default();
        let role = chunk(r#"[{"index":2,"delta":{"role":"assistant"}},{"index":0,"delta":{"content":"a"}}]"#);
        assert_eq!(choices.advance(&role), 1);
        let next = chunk(
            r#"[{"index":2,"delta":{}},{"index":1,"delta":{}},{"index":0,"delta":{},"finish_reason":"stop"}]"#,
        );
        assert_eq!(choices.advance(&next), 1, "the first of the second and the end of the first are none");
        assert_eq!(choices.ended(), 1);
        choices.advance(&chunk(r#"[{"index":0,"delta":{},"finish_reason":"stop"}]"#));
        assert_eq!(choices.ended(), 1, "an end that is told twice is one");
    }

    #[test]
    fn running_tokens_are_told_of_each_choice_and_summed() {
        let mut choices = Choices::default();
        assert_eq!(choices.told(&chunk(r#"[{"index":0}]"#), 4), 4);
        assert_eq!(choices.told(&chunk(r#"[{"index":1}]"#), 3), 7);
        assert_eq!(choices.told(&chunk(r#"[{"index":0}]"#), 6), 9);
    }

    #[test]
    fn an_index_without_end_is_bounded() {
        let mut choices = Choices::default();
        choices.advance(&chunk(r#"[{"index":18446744073709551615,"text":"x"}]"#));
        assert_eq!(choices.states.len(), CHOICES_TRACKED_MAX + 1);
    }

    proptest! {
        /// Steps of a choice are its chunks without the first empty one and the empty end, however choices mix.
        #[test]
        fn case_r01_steps_are_the_chunks_of_each_choice(order in proptest::collection::vec(0usize..4, 0..60)) {
            let mut choices = Choices::default();
            let mut sent = [0u32; 4];
            for index in order {
                choices.advance(&chunk(&format!(r#"[{{"index":{index},"delta":{{"content":""}}}}]"#)));
                sent[index] += 1;
            }
            let most = sent.iter().map(|sent| sent.saturating_sub(1)).max().unwrap_or(0);
            prop_assert_eq!(choices.steps_max(), most);
        }
    }
}
