//! What a person is told about a file that is wrong.

use super::*;

/// A file with about every fault there is, in every section.
const WRONG: &str = r#"listen:
  address: localhost:8080
  limit: 5
  limits: { body_bytes: 32MB, json_depth: many, header_ms: 10_000 }
admin:
  address: 0.0.0.0:9090
deployments:
  - name: llama
    engine: vlm
    replcias: ["http://gpu-1:8000"]
    slo: { ttft_ms: 0, tpot_ms: "100" }
    ceilings: { priority: 0.8, regular: 0.9 }
  - name: llama
    engine: tgi
    replicas: ["gpu-1:8000", "http://gpu-2:8000/v1", "http://gpu-3:8000", "http://GPU-3:8000/"]
    withdraw: true
    limit: 64
    slots_max: 16
  - text
models:
  - name: small model
    deployments: [lama, llama, llama]
    size_class: tiny
  - name: big
    aliases: [big]
    deployments: []
accounts:
  - id: acme
    keys: ["tg-iamarealkeythatmustnotbeprinted", "sha256:abc"]
    tiers: [regular, fast]
    default_tier: priority
    spending_tier: 5
    weight: -1
    disabled: yes
    disabled: no
  - id: acme
    keys: ["sha256:4f5c9b2a8d3e6f7a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a"]
    default_tier: priority
    models: [bigg]
    limits:
      - { model: big, start: { prompt: 1000 }, ceiling: { prompt: 100 } }
      - { model: huge, floor: { generated: 0 } }
  - keys: "sha256:4f5c9b2a8d3e6f7a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a"
limits:
  growth: { factor: 1.255 }
  reset_after_hours: ${RESET}
log: [stdout]
tracing: on
"#;

#[test]
fn all_faults_of_a_file_are_told_at_once() {
    insta::assert_snapshot!(told(WRONG));
}

/// What is wrong in one place must not hide, and not invent, a fault in another.
#[test]
fn a_deployment_with_a_fault_can_still_be_referred_to() {
    let faults = told(&BASE.replace("{ name: gpu,", "{ name: gpu, slots_max: none,"));
    assert_eq!(
        faults,
        "t.yaml:3:29 deployments[0].slots_max: must be a whole number between 1 and 100000, is none"
    );
}

#[test]
fn a_fault_at_the_end_is_found_beside_one_at_the_start() {
    let faults = told(&format!("listen: 7\n{BASE}    concurrency: none\n"));
    let lines: Vec<&str> = faults.lines().collect();
    assert_eq!(lines.len(), 2, "{faults}");
    assert!(lines[0].starts_with("t.yaml:1:9 listen: "), "{faults}");
    assert!(lines[1].starts_with("t.yaml:10:18 accounts[0].concurrency: "), "{faults}");
}

#[test]
fn what_is_missing_is_named_where_it_belongs() {
    let faults = told("deployments:\n  - name: gpu\n");
    assert!(faults.contains("t.yaml:2:5 deployments[0].replicas: is missing"), "{faults}");
    assert!(faults.contains("t.yaml:1:1 models: is missing"), "{faults}");
    assert!(faults.contains("t.yaml:1:1 accounts: is missing"), "{faults}");
}

#[test]
fn an_empty_file_and_a_list_are_no_configs() {
    assert!(told("").contains("is empty"), "{}", told(""));
    assert!(told("# nothing\n").contains("is empty"));
    assert!(told("- a\n").contains("must be a mapping"), "{}", told("- a\n"));
}

#[test]
fn broken_yaml_is_one_fault_with_its_place() {
    let faults = told("listen: { address: 'a'\nmodels: [\n");
    assert_eq!(faults.lines().count(), 1, "{faults}");
    assert!(faults.contains("not valid YAML"), "{faults}");
}

/// A key pasted in place of its digest, a password in a URL, a secret in a variable: none may be repeated.
#[test]
fn secrets_in_the_wrong_place_are_not_repeated() {
    let secret = "hunter2";
    let env = |_: &str| Some(secret.to_owned());
    let cases = [
        BASE.replace("'sha256:4f", "'hunter2 sha256:4f"),
        BASE.replace("http://gpu-1", "http://root:hunter2@gpu-1"),
        format!("admin: {{ token_sha256: hunter2 }}\n{BASE}"),
        format!("{BASE}    concurrency: ${{SECRET}}\n"),
        format!("{BASE}    spending_tier: \"${{SECRET}}\"\n"),
        format!("listen: {{ address: \"${{SECRET}}\" }}\n{BASE}"),
    ];
    for text in cases {
        let faults = Config::parse(&text, "t.yaml", &env).map(|_| "accepted").unwrap_err().to_string();
        assert!(!faults.contains(secret), "{faults}");
    }
}

#[test]
fn a_listener_that_is_open_to_the_network_needs_a_token() {
    let open = |token: &str| format!("admin: {{ address: '0.0.0.0:9090'{token} }}\n{BASE}");
    assert!(told(&open("")).contains("set admin.token_file"));
    accepted(&open(", token_file: /run/token"));
    let digest = "4f5c9b2a8d3e6f7a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a";
    accepted(&open(&format!(", token_sha256: 'sha256:{digest}'")));
}

#[test]
fn two_listeners_cannot_share_an_address() {
    let both = |listen: &str, admin: &str| {
        format!("listen: {{ address: '{listen}' }}\nadmin: {{ address: '{admin}' }}\n{BASE}")
    };
    assert!(
        told(&both("127.0.0.1:80", "127.0.0.1:80")).contains("admin.address: is taken by listen.address")
    );
    assert!(
        told(&both("0.0.0.0:80", "127.0.0.1:80")).contains("is taken"),
        "the wildcard holds every address"
    );
    accepted(&both("127.0.0.1:80", "127.0.0.1:81"));
    accepted(&both("127.0.0.1:0", "127.0.0.1:0"));
}

#[test]
fn a_key_belongs_to_one_account_and_a_server_to_one_deployment() {
    let digest = "sha256:4f5c9b2a8d3e6f7a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a";
    let twice =
        format!("{BASE}  - {{ id: b, keys: ['{}'] }}\n", digest.to_uppercase().replace("SHA256", "sha256"));
    assert!(
        told(&twice).contains("accounts[1].keys[0]: is a key of accounts[0] already"),
        "{}",
        told(&twice)
    );

    let twice = BASE.replace("models:", "  - { name: b, replicas: ['http://GPU-1:8000'] }\nmodels:");
    assert!(
        told(&twice).contains("deployments[1].replicas[0]: http://gpu-1:8000 is a replica of `gpu` already")
    );
}

#[test]
fn the_largest_body_must_fit_an_accounts_share_of_the_memory() {
    let text = format!("listen: {{ limits: {{ inflight_bytes: 64MiB }} }}\n{BASE}");
    assert!(told(&text).contains("listen.limits.body_bytes: must not exceed"), "{}", told(&text));
}

/// Nothing that is wrong with the rule may reach the budgets.
#[test]
fn the_rule_must_hold_together() {
    let rule = |text: &str| told(&format!("limits: {text}\n{BASE}"));
    assert!(rule("{ shrink: { use_under: 0.6 } }").contains("limits.shrink.use_under: must not exceed"));
    assert!(rule("{ growth: { factor: 1.255 } }").contains("must be in steps of 0.01"));
    assert!(
        rule("{ start: { prompt: 300000000, uncached_prompt: 1, generated: 1 } }")
            .contains("must not be below")
    );
    assert!(rule("{ start: { prompt: 5 } }").contains("limits.start.uncached_prompt: is missing"));
}

/// What only some engines have, or what contradicts itself, is a fault and not without effect.
#[test]
fn what_an_engine_does_not_have_is_told() {
    let fault = |more: &str| told(&BASE.replace("{ name: gpu,", &format!("{{ name: gpu, {more},")));
    for (more, says) in [
        (
            "engine: tgi, engine_priority: true",
            "engine_priority: needs an engine that schedules by priority (vllm, sglang), not tgi",
        ),
        ("engine: sglang, cache_salt: true", "cache_salt: needs engine: vllm; sglang has no such parameter"),
        ("tls: { server_name: x.internal }", "tls: has no effect: no replica's URL begins with https://"),
        ("tls: { server_name: 'a b' }", "tls.server_name: must be a DNS name or an IP address"),
        ("dns: { interval_ms: 5 }", "dns.interval_ms: must be between 100 and 3600000, is 5"),
        (
            "parameters: { deny: [messages] }",
            "parameters.deny[0]: `messages` is what the request is; it cannot be ruled on",
        ),
        (
            "parameters: { deny: [seed], strip: [SEED] }",
            "parameters.strip[0]: `seed` is under `deny` already; keep one",
        ),
        (
            "parameters: { allow: [seed] }",
            "parameters.allow[0]: `seed` passes already: openai has no default for it; remove it here",
        ),
        ("parameters: { cap: [{ parameter: n }] }", "parameters.cap[0].at_most: is missing"),
        ("parameters: { set: [{ parameter: seed }] }", "parameters.set[0].json: is missing"),
        (
            "parameters: { set: [{ parameter: max_tokens, json: '9' }] }",
            "parameters.set[0].parameter: `max_tokens` decides what a request may cost; use `cap` to lower it",
        ),
        (
            "parameters: { default: [{ parameter: Stream, json: 'true' }] }",
            "parameters.default[0].parameter: `stream` is what the request is; it cannot be written",
        ),
        (
            "parameters: { deny: [seed], default: [{ parameter: seed, json: '1' }] }",
            "parameters.default[0].parameter: `seed` is under `deny` already; keep one",
        ),
        ("parameters: { set: [{ parameter: seed, json: auto }] }", "parameters.set[0].json: is not JSON"),
        ("parameters: { set: [{ parameter: 'a\"b', json: '1' }] }", "parameters.set[0].parameter: is no key"),
        (
            "parameters: { default: [{ parameter: Priority, json: '1' }] }",
            "parameters.default[0].parameter: `priority` is written by the gateway; see engine_priority and cache_salt",
        ),
        (
            "parameters: { set: [{ parameter: a.b, json: '1' }] }",
            "parameters.set[0].parameter: has a dot; write the whole object",
        ),
    ] {
        let said = fault(more);
        assert!(said.contains(says), "{more}: {said}");
    }
}

/// What is meant is said, where it can be told.
#[test]
fn case_e14_a_value_that_is_nearly_right_is_told_what_was_meant() {
    for (line, wanted) in [
        ("engine: vLLM", "did you mean `vllm`?"),
        ("engine: VLLM", "did you mean `vllm`?"),
        ("engine: llama.cpp", "did you mean `llamacpp`?"),
        ("engine: sg-lang", "did you mean `sglang`?"),
        ("engine: tensorflow", "must be "),
        ("withdraw: Yes", "did you mean `true`?"),
        ("timeouts: { first_token_ms: 30 }", "write 30000 for 30 seconds"),
        ("timeouts: { first_tokens_ms: 3000 }", "did you mean `first_token_ms`?"),
    ] {
        let said = told(&BASE.replace("{ name: gpu,", &format!("{{ name: gpu, {line},")));
        assert!(said.contains(wanted), "{line}: {said}");
        assert_eq!(said.contains("did you mean"), wanted.contains("did you mean"), "{line}: {said}");
    }
}

/// A file that may be so is taken, and the hint stands beside it.
#[test]
fn case_e14_seconds_in_the_place_of_milliseconds_are_noticed() {
    for (line, hint) in [
        (
            "slo: { ttft_ms: 2 }",
            Some(" deployments[0].slo.ttft_ms: is 2 milliseconds; write 2000 if 2 seconds are meant"),
        ),
        ("slo: { ttft_ms: 300 }", None),
        ("slo: { tpot_ms: 5 }", None),
        ("timeouts: { between_tokens_ms: 300 }", Some("write 300000 if 300 seconds are meant")),
        ("timeouts: { idle_ms: 0 }", None),
    ] {
        let text = BASE.replace("{ name: gpu,", &format!("{{ name: gpu, {line},"));
        let config = Config::parse(&text, "t.yaml", &|_| None).map_err(|faults| faults.to_string()).unwrap();
        let hints: Vec<String> = config.hints.iter().map(ToString::to_string).collect();
        assert_eq!(hints.len(), usize::from(hint.is_some()), "{line}: {hints:?}");
        assert!(hint.is_none_or(|hint| hints[0].contains(hint) && hints[0].starts_with(':')), "{hints:?}");
    }
}

const FIRST: &str = "sha256:4f5c9b2a8d3e6f7a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a";
const SECOND: &str = "sha256:5f5c9b2a8d3e6f7a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a";
const THIRD: &str = "sha256:6f5c9b2a8d3e6f7a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a";

/// What the account says before its keys, its third key, and what is told of that.
fn faults_of_a_key() -> Vec<(&'static str, String, &'static str)> {
    let (first, third) = (FIRST, THIRD);
    let entry = |more: &str| format!("{{ key: '{third}', name: web{more} }}");
    vec![
        ("", format!("{{ name: web, key: '{first}' }}"), "keys[2].key: is a key of accounts[0] already"),
        ("", "{ name: web }".to_owned(), "keys[2].key: is missing; what belongs here: The key's digest"),
        (
            "",
            format!("{{ key: '{third}' }}"),
            "keys[2].name: is missing; what belongs here: A name of letters",
        ),
        ("", format!("{{ key: '{third}', name: 'a b' }}"), "keys[2].name: may have letters, digits"),
        ("", format!("{{ key: '{third}', name: a/b }}"), "keys[2].name: may have letters, digits"),
        ("", "{ key: tg-clear, name: web }".to_owned(), "keys[2].key: must be `sha256:` and 64 hexadecimal"),
        (
            "",
            format!("{{ key: '{third}', name: ci }}"),
            "keys[2].name: `ci` is the name of keys[1] already, which may do something else",
        ),
        ("", entry(", nme: x"), "keys[2].nme: is not a known key; did you mean `name`?"),
        (
            "",
            entry(", expires: soon"),
            "keys[2].expires: must be a time with its zone (RFC 3339) such as 2026-12-31T00:00:00Z, is soon",
        ),
        ("", entry(", expires: 2026-12-31"), "keys[2].expires: must be a time with its zone"),
        ("", entry(", share: 1.5"), "keys[2].share: must be between 0.001 and 1.0, is 1.5"),
        ("", entry(", requests_per_minute: 0"), "keys[2].requests_per_minute: must be between 1 and"),
        ("", entry(", concurrency: many"), "keys[2].concurrency: must be a whole number"),
        ("", entry(", models: [nn]"), "keys[2].models[0]: "),
        (
            "    models: [m]\n",
            entry(", models: [m, big]"),
            "keys[2].models[1]: `big` is not among the account's models, and what the account may not use no key of it may",
        ),
        (
            "",
            entry(", tiers: [priority]"),
            "keys[2].tiers: `priority` is not among the account's tiers, and what the account may not use no key of it may",
        ),
        (
            "    tiers: [priority]\n",
            entry(", tiers: [regular], default_tier: priority"),
            "keys[2].default_tier: `priority` is not among the tiers that the key may use",
        ),
        (
            "",
            entry(", limits: [{ model: m }]"),
            "keys[2].limits[0]: limits nothing; name at least one of prompt",
        ),
        ("", entry(", limits: [{ generated: 0 }]"), "keys[2].limits[0].generated: must be between 1 and"),
        (
            "",
            entry(", limits: [{ model: n, prompt: 1 }, { model: big, prompt: 2 }]"),
            "keys[2].limits[1]: is a second entry for `n`; keep one",
        ),
        ("", entry(", limits: [{ prompt: 1, start: 1 }]"), "keys[2].limits[0].start: is not a known key"),
    ]
}

/// Keys with names: each fault with its line, and what to do.
#[test]
fn faults_of_a_key_with_a_name_are_told_with_their_lines() {
    let text = |account: &str, entry: &str| {
        let keys = format!(
            "    keys:\n      - '{FIRST}'\n      - {{ key: '{SECOND}', name: ci, share: 0.5 }}\n      - {entry}\n"
        );
        let models = "  - { name: n, deployments: [gpu], size_class: small, aliases: [big] }\naccounts:";
        let text = BASE.replace(&format!("    keys: ['{FIRST}']\n"), &format!("{account}{keys}"));
        text.replace("accounts:", models)
    };
    for (account, entry, expected) in faults_of_a_key() {
        let text = text(account, &entry);
        let faults = told(&text);
        let line = 1 + text.lines().position(|line| line.contains(&*entry)).unwrap();
        assert!(faults.starts_with(&format!("t.yaml:{line}:")), "{entry}: {faults}");
        assert!(faults.contains(&format!("accounts[0].{expected}")), "{entry}: {faults}");
        assert!(!faults.contains("tg-clear") && faults.lines().count() == 1, "{entry}: {faults}");
    }
    accepted(&text("", &format!("{{ key: '{THIRD}', name: web }}")));
}

/// An entry of a name that is there already replaces it, so it may do the same.
#[test]
fn keys_with_names_are_read_with_their_rights() {
    let one = "sha256:4f5c9b2a8d3e6f7a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a";
    let (two, three) = (one.replace("4f5c", "5f5c"), one.replace("4f5c", "6f5c"));
    let rights = "tiers: [priority], models: [m], limits: [{ generated: 9 }], requests_per_minute: 5";
    let keys = format!(
        "['{one}', {{ key: '{two}', name: ci, {rights}, expires: 2026-12-31T00:00:00Z }}, {{ key: '{three}', name: ci, {rights}, disabled: true }}]\n    tiers: [priority]"
    );
    let config = accepted(&BASE.replace(&format!("['{one}']"), &keys));

    let account = &config.accounts[0];
    let [old, new] = &account.named_keys[..] else { panic!("{:?}", account.named_keys) };
    assert_eq!(account.keys.len(), 3);
    assert_eq!((&*old.name, &old.rights), ("ci", &new.rights));
    assert_eq!(old.expires.map(|at| at.as_secs()), Some(1_798_675_200));
    assert!(old.may_use("m") && !old.may_use("n") && new.disabled);
    assert!(old.entitled(account).priority);
}
