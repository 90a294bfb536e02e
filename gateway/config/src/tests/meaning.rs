//! What accepted values mean.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// The config of `BASE` with more keys for its account.
fn account(more: &str) -> Config {
    accepted(&format!("{BASE}{more}"))
}

#[test]
fn variables_fill_in_texts_numbers_and_parts_of_both() {
    let env = |name: &str| match name {
        "HOST" => Some("gpu-7".to_owned()),
        "RPM" => Some("120".to_owned()),
        _ => None,
    };
    let text = BASE.replace("gpu-1:8000", "${HOST}:${PORT:-9000}")
        + "    requests_per_minute: ${RPM}\n    concurrency: \"${CONCURRENCY:-7}\"\n    disabled: ${OFF:-true}\n";

    let config = Config::parse(&text, "t.yaml", &env).map_err(|faults| faults.to_string()).unwrap();

    let account = &config.accounts[0];
    assert_eq!(config.deployments[0].replicas[0].to_string(), "http://gpu-7:9000");
    assert_eq!((account.requests_per_minute, account.concurrency, account.disabled), (120, 7, true));
}

#[test]
fn sizes_and_durations_are_read_in_their_units() {
    let text = format!("listen: {{ limits: {{ body_bytes: 1MiB, header_ms: 2500 }} }}\n{BASE}");
    let limits = accepted(&text).listen.limits;
    assert_eq!(limits.body_bytes, 1 << 20);
    assert_eq!(limits.header, Duration::from_millis(2_500));
}

/// Commenting out everything under a key leaves the key with nothing: that is no fault.
#[test]
fn a_key_without_a_value_has_its_default() {
    let config = accepted(&format!("listen:\nlimits: ~\nlog: null\n{BASE}"));
    assert_eq!(config.limits, Limits::default());
}

#[test]
fn names_that_look_like_numbers_are_names() {
    let config = accepted(&BASE.replace("name: m,", "name: 405, aliases: [1.10, true],"));
    assert_eq!(&*config.models[0].name, "405");
    assert_eq!(&*config.model("1.10").unwrap().name, "405");
    assert!(config.model("true").is_some());
}

#[test]
fn an_anchored_value_can_be_used_again() {
    let text = BASE
        .replace("- { name: gpu,", "- { slo: &slo { ttft_ms: 700 }, name: gpu,")
        .replace("models:", "  - { name: gpu2, replicas: ['http://gpu-2:8000'], slo: *slo }\nmodels:");
    let config = accepted(&text);
    assert_eq!(config.deployments[1].slo.ttft, Some(Duration::from_millis(700)));
}

#[test]
fn regular_needs_no_permission_and_is_the_default() {
    let config = account("    tiers: [priority]\n");
    let account = &config.accounts[0];
    assert!(account.tiers.contains(Tier::Priority) && account.tiers.contains(Tier::Regular));
    assert_eq!(account.default_tier, Tier::Regular);
}

#[test]
fn a_route_takes_the_tiers_and_accounts_that_it_names() {
    let route = "{ name: gpu, tiers: [priority], accounts: [a], weight: 3 }";
    let config = accepted(&BASE.replace("deployments: [gpu]", &format!("deployments: [{route}]")));
    let route = &config.models[0].routes[0];

    assert!(route.takes(Tier::Priority, "a"));
    assert!(!route.takes(Tier::Regular, "a"), "a tier that it does not name");
    assert!(!route.takes(Tier::Priority, "b"), "an account that it does not name");
    assert_eq!(route.weight, Some(3));
}

#[test]
fn a_model_has_the_smallest_context_of_its_deployments_if_all_are_known() {
    let two =
        BASE.replace("models:", "  - { name: two, context: 4096, replicas: ['http://gpu-2:8000'] }\nmodels:");
    let two = two.replace("[gpu]", "[gpu, two]");
    assert_eq!(accepted(&two).models[0].context, None, "gpu's is not known");

    let known = two.replace("{ name: gpu,", "{ name: gpu, context: 8192,");
    assert_eq!(accepted(&known).models[0].context, Some(4_096));
}

#[test]
fn a_disabled_account_keeps_its_keys() {
    let new = crate::keys::NewKey::from_os().unwrap();
    let text = BASE.replace(&BASE[BASE.find("sha256:").unwrap()..][..71], &new.digest.to_string());
    let config = accepted(&format!("{text}    disabled: true\n"));

    let account = &config.accounts[0];
    assert!(account.disabled);
    assert_eq!(account.keys, [new.digest]);
}

#[test]
fn an_accounts_own_limits_for_a_model_come_before_those_for_all() {
    let config = account(
        "    limits:
      - { start: { prompt: 100, generated: 100 } }
      - { model: m, start: { prompt: 50 } }\n",
    );
    let bounds = config.limits.bounds(&config.accounts[0], &config.models[0]);
    assert_eq!(bounds.start, Meters { prompt: 50, uncached_prompt: 900_000, generated: 100 });
    assert_eq!(bounds.floor, bounds.start, "the floor is the start");
}

#[test]
fn by_default_each_spending_tier_has_room_to_grow_and_no_less_than_the_one_below() {
    let config = accepted(BASE);
    let mut account = Account::clone(&config.accounts[0]);
    let mut model = Model::clone(&config.models[0]);

    for size in SizeClass::ALL {
        model.size_class = size;
        let mut below = config.limits.start;
        for tier in SpendingTier::ALL {
            account.spending_tier = tier;
            let Bounds { start, ceiling, .. } = config.limits.bounds(&account, &model);
            for of in [|m: Meters| m.prompt, |m: Meters| m.uncached_prompt, |m: Meters| m.generated] {
                assert!(of(ceiling) > of(start), "{size:?} {tier:?}");
                assert!(of(ceiling) >= of(below), "{size:?} {tier:?}");
            }
            below = ceiling;
        }
    }
}

#[test]
fn a_start_above_the_ceiling_of_the_tier_lifts_the_ceiling() {
    let config = account("    limits: [{ start: { prompt: 500000000 } }]\n");
    let bounds = config.limits.bounds(&config.accounts[0], &config.models[0]);
    assert_eq!((bounds.start.prompt, bounds.ceiling.prompt), (500_000_000, 500_000_000));
}

#[test]
fn a_ceiling_below_the_common_start_lowers_the_start() {
    let config = account("    limits: [{ ceiling: { generated: 1000 } }]\n");
    let bounds = config.limits.bounds(&config.accounts[0], &config.models[0]);
    assert_eq!((bounds.start.generated, bounds.floor.generated), (1_000, 1_000));
}

#[test]
fn fixed_limits_have_nowhere_to_move() {
    let config = accepted(&format!("limits: {{ policy: fixed }}\n{BASE}"));
    let bounds = config.limits.bounds(&config.accounts[0], &config.models[0]);
    assert_eq!((bounds.floor, bounds.ceiling), (bounds.start, bounds.start));
}

#[test]
fn what_is_shown_again_holds_no_digest() {
    let config = accepted(BASE);
    let shown = redacted(&config).to_string();
    assert!(shown.contains("4f5c9b2a"), "the first digits tell keys apart");
    assert!(!shown.contains("4f5c9b2a8d"), "{shown}");
    assert!(!format!("{config:?}").contains("4f5c9b2a8d"));
}

fn some_meters() -> impl Strategy<Value = MetersFile> {
    let meter = || proptest::option::of(1..=10_000_000_u64);
    (meter(), meter(), meter()).prop_map(|(prompt, uncached_prompt, generated)| MetersFile {
        prompt,
        uncached_prompt,
        generated,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever combination of bounds is written, what comes out can be used.
    #[test]
    fn bounds_are_always_in_order(
        wide in (some_meters(), some_meters(), some_meters()),
        narrow in (some_meters(), some_meters(), some_meters()),
        tier in 0..6_usize,
        size in 0..3_usize,
    ) {
        let config = accepted(BASE);
        let mut account = Account::clone(&config.accounts[0]);
        let mut model = Model::clone(&config.models[0]);
        model.size_class = SizeClass::ALL[size];
        account.spending_tier = SpendingTier::ALL[tier];
        let own = |model: Option<&str>, (start, floor, ceiling)| {
            LimitOverride { model: model.map(Arc::from), start, floor, ceiling }
        };
        account.limits = vec![own(None, wide), own(Some("m"), narrow)];

        let Bounds { start, floor, ceiling } = config.limits.bounds(&account, &model);

        for of in [|m: Meters| m.prompt, |m: Meters| m.uncached_prompt, |m: Meters| m.generated] {
            prop_assert!(1 <= of(floor) && of(floor) <= of(start) && of(start) <= of(ceiling));
            prop_assert!(of(ceiling) <= ::limits::TOKENS_PER_MINUTE_MAX);
        }
    }
}

#[test]
fn an_engines_own_list_of_parameters_is_the_start_of_the_operators() {
    use protocol::engine::parameters::Rule;
    let rules = |more: &str| deployment(more).parameters.clone();

    let vllm = rules("engine: vllm");
    assert_eq!(vllm.rule("priority"), Some(Rule::Strip));
    assert_eq!(vllm.rule("KV_transfer_params"), Some(Rule::Deny));
    assert_eq!(vllm.rule("temperature"), None);
    let own = rules(
        "engine: vllm, parameters: { allow: [Chat_Template], deny: [priority], cap: [{ parameter: n, at_most: 4 }] }",
    );
    assert_eq!((own.rule("chat_template"), own.rule("priority")), (None, Some(Rule::Deny)));
    assert_eq!(own.rule("n"), Some(Rule::Cap(4.0)));
    assert!(rules("engine: openai").is_empty());
}
