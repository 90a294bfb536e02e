//! Every route, in every way that it can be asked.

use engine::prompt::text_of;
use harness::tidegate::MODEL;

/// Accounts that use all routes.
pub(super) const MIXED_ACCOUNTS: usize = 3;

/// One route: its path, and the bodies that are sent to it in turn.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) path: &'static str,
    bodies: &'static [Body],
}

/// The members of a body after `model` and `seed`; `{0}`, `{1}`, `{2}` are prompts, `{ids}` token ids.
type Body = &'static str;

const SAY: &str = r#""messages":[{"role":"user","content":"{0}"}]"#;
const TALK: &str = r#""messages":[{"role":"system","content":"{1}"},{"role":"user","content":[{"type":"text","text":"{0}"}]}]"#;

pub(super) const ROUTES: &[Route] = &[
    Route {
        path: "/v1/chat/completions",
        bodies: &[
            r#""max_tokens":24,"ignore_eos":true,{say}"#,
            r#""stream":true,"max_tokens":40,"ignore_eos":true,{talk}"#,
            r#""stream":true,"stream_options":{"include_usage":true},{say}"#,
            r#""stream":true,"n":3,"max_tokens":9,"ignore_eos":true,{say}"#,
            r#""n":2,"max_completion_tokens":17,"ignore_eos":true,{talk}"#,
            r#""reasoning_effort":"high","stream":true,"max_tokens":50,"ignore_eos":true,{say}"#,
            r#""max_tokens":20,"tool_choice":"required","tools":[{"type":"function","function":{"name":"tide","parameters":{"type":"object"}}}],{say}"#,
        ],
    },
    Route {
        path: "/v1/completions",
        bodies: &[
            r#""max_tokens":24,"ignore_eos":true,"prompt":"{0}""#,
            r#""stream":true,"max_tokens":33,"ignore_eos":true,"prompt":"{0}""#,
            r#""max_tokens":11,"ignore_eos":true,"prompt":["{0}","{1}","{2}"]"#,
            r#""stream":true,"n":2,"max_tokens":8,"prompt":["{0}","{1}"]"#,
            r#""echo":true,"max_tokens":12,"ignore_eos":true,"prompt":"{0}""#,
            r#""echo":true,"stream":true,"max_tokens":12,"ignore_eos":true,"prompt":"{0}""#,
            r#""max_tokens":7,"prompt":[{ids}]"#,
            r#""max_tokens":7,"stream":true,"prompt":[[{ids}],[{ids}]]"#,
        ],
    },
    Route {
        path: "/v1/responses",
        bodies: &[
            r#""max_output_tokens":24,"input":"{0}""#,
            r#""stream":true,"instructions":"{1}","max_output_tokens":31,"ignore_eos":true,"input":"{0}""#,
            r#""stream":true,"reasoning":{"effort":"low"},"max_output_tokens":44,"input":[{"role":"user","content":[{"type":"input_text","text":"{0}"}]}]"#,
            r#""stream":true,"tool_choice":"required","tools":[{"type":"function","name":"tide"}],"max_output_tokens":14,"input":"{0}""#,
        ],
    },
    Route {
        path: "/v1/messages",
        bodies: &[
            r#""max_tokens":24,{say}"#,
            r#""stream":true,"max_tokens":29,"ignore_eos":true,"system":"{1}",{say}"#,
            r#""stream":true,"thinking":{"type":"enabled","budget_tokens":1024},"max_tokens":40,{say}"#,
            r#""tool_choice":{"type":"any"},"tools":[{"name":"tide","input_schema":{"type":"object"}}],"max_tokens":18,{say}"#,
        ],
    },
    Route {
        path: "/v1/embeddings",
        bodies: &[
            r#""input":"{0}""#,
            r#""encoding_format":"base64","input":["{0}","{1}","{2}"]"#,
            r#""input":[{ids}]"#,
        ],
    },
    Route {
        path: "/v1/rerank",
        bodies: &[
            r#""query":"{0}","documents":["{1}"]"#,
            r#""query":"{0}","documents":["{1}","{2}","{0}","{1}"],"top_n":2"#,
        ],
    },
    Route {
        path: "/v1/score",
        bodies: &[
            r#""text_1":"{0}","text_2":["{1}","{2}"]"#,
            r#""text_1":["{0}","{1}"],"text_2":["{2}","{0}"]"#,
        ],
    },
];

/// One request.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) path: &'static str,
    /// The number of its account.
    pub(super) account: usize,
    pub(super) body: String,
}

impl Asked {
    /// The accounts take turns; those of one route its bodies, the mixed ones all routes.
    pub(super) fn number(number: usize, seed: u64) -> Self {
        let accounts = ROUTES.len() + MIXED_ACCOUNTS;
        let (account, turn) = (number % accounts, number / accounts);
        let (route, turn) = match account.checked_sub(ROUTES.len()) {
            None => (account, turn),
            Some(mixed) => ((turn + mixed) % ROUTES.len(), turn / ROUTES.len()),
        };
        let Some(route) = ROUTES.get(route) else { return Self { path: "", account, body: String::new() } };
        let template = route.bodies.get(turn % route.bodies.len()).copied().unwrap_or_default();
        Self { path: route.path, account, body: filled(template, seed) }
    }
}

/// A body with prompts of its own, 20 … 419 words the first, shorter the others.
fn filled(template: Body, seed: u64) -> String {
    let words = 20 + (seed.wrapping_mul(0x9E37_79B9) >> 7) % 400;
    let ids: Vec<String> = (0..words / 2).map(|id| (id * 31 % 4096).to_string()).collect();
    let mut body = template.replace("{say}", SAY).replace("{talk}", TALK).replace("{ids}", &ids.join(","));
    for (mark, seed, words) in
        [("{0}", seed, words), ("{1}", seed ^ 0xA11, words / 3 + 1), ("{2}", seed ^ 0xB22, words / 5 + 1)]
    {
        body = body.replace(mark, &text_of(seed, words as u32));
    }
    format!("{{\"model\":\"{MODEL}\",\"seed\":{seed},{body}}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_body_of_every_route_is_asked_by_its_own_account_and_by_the_mixed_ones() {
        let accounts = ROUTES.len() + MIXED_ACCOUNTS;
        let mut asked = std::collections::BTreeSet::new();
        for number in 0..accounts * 100 {
            let Asked { path, account, body } = Asked::number(number, number as u64);
            let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
            let mut members: Vec<String> =
                body.as_object().expect("an object").keys().map(ToString::to_string).collect();
            members.sort();
            assert!(account >= ROUTES.len() || ROUTES[account].path == path);
            asked.insert((path, account >= ROUTES.len(), members));
        }
        let shapes = |mixed: bool| asked.iter().filter(|(_, by, _)| *by == mixed).count();
        assert_eq!(shapes(false), shapes(true));
        assert!(shapes(true) >= 20, "{asked:?}");
    }
}
