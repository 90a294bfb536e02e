//! Answers in pieces against whole ones: any members, any white space, any cuts.

use super::Ending;
use super::tests::{NAMED, STAMP, pass, pass_whole};
use crate::answer::{Whole, read_whole};
use crate::api::Api;
use bytes::Bytes;
use proptest::prelude::*;

/// A member as it is spelled: white space, key, white space, white space, value, white space.
type Spelled = (String, String, String, String, String, String);

fn any_value() -> impl Strategy<Value = String> {
    let text = "\\PC{0,6}|[\\\\\"{}\\[\\],:]{0,6}".prop_map(|text| serde_json::to_string(&text).unwrap());
    let word = prop_oneof![Just("null"), Just("true"), Just("-1.5e+3"), Just("0")];
    let leaf = prop_oneof![text.clone(), word.prop_map(str::to_owned)];
    leaf.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|list| format!("[{}]", list.join(", "))),
            prop::collection::vec((any_key(), inner), 0..4).prop_map(|members| {
                let members: Vec<_> = members.iter().map(|(key, value)| format!("{key} :{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

fn any_key() -> impl Strategy<Value = String> {
    const KNOWN: [&str; 6] = ["service_tier", "model", "usage", "error", "error_type", "data"];
    prop_oneof![
        4 => prop::sample::select(&KNOWN[..]).prop_map(|key| format!("\"{key}\"")),
        1 => prop::sample::select(&KNOWN[..]).prop_map(|key| {
            key.chars().map(|letter| format!("\\u{:04x}", letter as u32)).collect::<String>()
        }).prop_map(|key| format!("\"{key}\"")),
        2 => "\\PC{0,20}".prop_map(|key| serde_json::to_string(&key).unwrap()),
    ]
}

fn any_members() -> impl Strategy<Value = Vec<Spelled>> {
    let blank = || "[ \t\r\n]{0,2}";
    let value = prop_oneof![any_value(), Just(r#"{"prompt_tokens":9,"completion_tokens":2}"#.to_owned())];
    let member = (blank(), any_key(), blank(), blank(), value, blank());
    prop::collection::vec(member, 0..7).prop_map(|mut members| {
        let mut seen = std::collections::HashSet::new();
        members.retain(|member| seen.insert(name(&member.1)));
        members
    })
}

fn name(key: &str) -> String {
    serde_json::from_str(key).unwrap()
}

fn spelled(members: &[Spelled]) -> String {
    let spell = |(a, key, b, c, value, d): &Spelled| format!("{a}{key}{b}:{c}{value}{d}");
    members.iter().map(spell).collect::<Vec<_>>().join(",")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Against the members as they were made, and against the edit of a whole answer.
    #[test]
    fn an_answer_in_pieces_is_edited_as_a_whole_one(
        members in any_members(),
        (before, behind) in ("[ \n]{0,2}", "[ \n]{0,2}"),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        named: bool,
    ) {
        let stamp = if named { NAMED } else { STAMP };
        let body = format!("{before}{{{}}}{behind}", spelled(&members));
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(body.len())).collect();
        cuts.sort_unstable();

        let passed = pass(body.as_bytes(), &cuts, stamp);

        let tier_at = members.iter().position(|member| name(&member.1) == "service_tier");
        let tier = r#""service_tier":"default""#;
        let mut edited = members.clone();
        for member in &mut edited {
            match &*name(&member.1) {
                "service_tier" => member.4 = r#""default""#.to_owned(),
                "model" if named => member.4 = r#""llama""#.to_owned(),
                _ => {}
            }
        }
        let expected = match tier_at {
            Some(0) => spelled(&edited),
            None if members.is_empty() => tier.to_owned(),
            None => format!("{tier},{}", spelled(&edited)),
            Some(at) => {
                // The white space behind the member stays.
                let dropped = edited.remove(at);
                edited[at - 1].5.push_str(&dropped.5);
                format!("{tier},{}", spelled(&edited))
            }
        };
        prop_assert_eq!(&passed.output, &format!("{before}{{{expected}}}{behind}"));
        prop_assert_eq!(passed.ending, Ending::Complete);
        match read_whole(Api::Embeddings, &Bytes::from(body), stamp) {
            Whole::Answer(usage, whole) => {
                prop_assert_eq!(usage, passed.passage.usage());
                prop_assert_eq!(None, passed.passage.error());
                if tier_at.is_none_or(|at| at == 0) {
                    prop_assert_eq!(whole, passed.output);
                }
            }
            Whole::Error(error) => prop_assert_eq!(Some(error), passed.passage.error()),
            Whole::Unreadable => prop_assert!(false, "a whole one is read"),
        }
    }

    /// Any bytes at all, cut anywhere; a document that a parser accepts is complete.
    #[test]
    fn the_cuts_make_no_difference(
        tokens in prop::collection::vec(prop::sample::select(&[
            "{", "}", "[", "]", ",", ":", "\"", "\\", " ", "1", "n", "\"a\":1", "\"model\"", "\"service_tier\":2",
            "\"usage\":", "\"error\":{", "\"\\u006dodel\":\"x\"", "é",
        ][..]), 0..24),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 1..8),
    ) {
        let body = format!("{{{}", tokens.concat());
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(body.len())).collect();
        cuts.sort_unstable();

        let (whole, pieces) = (pass(body.as_bytes(), &[], NAMED), pass(body.as_bytes(), &cuts, NAMED));

        prop_assert_eq!(&whole.output, &pieces.output);
        prop_assert_eq!(whole.ending, pieces.ending);
        prop_assert_eq!(whole.passage.error(), pieces.passage.error());
        if serde_json::from_str::<serde_json::Value>(&body).is_ok() {
            prop_assert_eq!(whole.ending, Ending::Complete);
        }
    }

    /// An answer that stops early is never taken for a whole one, and all that came is passed on.
    #[test]
    fn an_answer_that_stops_early_is_incomplete(members in any_members(), cut: prop::sample::Index) {
        let members: Vec<_> =
            members.into_iter().filter(|member| name(&member.1) != "service_tier").collect();
        let body = format!("{{{}}}", spelled(&members));
        let kept = cut.index(body.len() - 1) + 1;
        let Some(part) = body.get(..kept) else { return Ok(()) };

        let passed = pass_whole(part, STAMP);

        prop_assert_eq!(passed.ending, Ending::Incomplete);
        let output = passed.output.replacen(r#""service_tier":"default","#, "", 1);
        prop_assert_eq!(output, part);
    }
}
