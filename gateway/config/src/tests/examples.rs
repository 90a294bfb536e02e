//! The examples that are shipped are in order, and the reference says what is true.

use super::*;

const EXAMPLES: [(&str, &str); 7] = [
    ("engines.yaml", include_str!("../../../../deploy/examples/engines.yaml")),
    ("fleet.yaml", include_str!("../../../../deploy/examples/fleet.yaml")),
    ("llamacpp-laptop.yaml", include_str!("../../../../deploy/examples/llamacpp-laptop.yaml")),
    ("mixed-priority-pool.yaml", include_str!("../../../../deploy/examples/mixed-priority-pool.yaml")),
    ("one-gpu.yaml", include_str!("../../../../deploy/examples/one-gpu.yaml")),
    ("reference.yaml", REFERENCE),
    ("smallest.yaml", SMALLEST),
];
const REFERENCE: &str = include_str!("../../../../deploy/examples/reference.yaml");
const SMALLEST: &str = include_str!("../../../../deploy/examples/smallest.yaml");

#[test]
fn every_example_is_in_order() {
    for (name, text) in EXAMPLES {
        if let Err(faults) = Config::parse(text, name, &no_env) {
            panic!("{faults}");
        }
    }
}

#[test]
fn no_example_is_left_out_of_these_tests() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/examples");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    names.sort();
    assert_eq!(names, EXAMPLES.map(|(name, _)| name));
}

/// Three sections are enough: everything else has a default.
#[test]
fn the_smallest_file_is_complete() {
    let config = accepted(SMALLEST);

    let model = config.model("llama-3.1-8b").unwrap();
    let bounds = config.limits.bounds(&config.accounts[0], model);
    assert_eq!(model.routes[0].deployment.replicas.len(), 2);
    assert_eq!(&*model.served_model, "meta-llama/Llama-3.1-8B-Instruct");
    assert_eq!(bounds.start.prompt, 7_200_000);
    assert_eq!(bounds.ceiling.prompt, 10_800_000, "half of a large model's ceiling in spending tier 2");
}

/// Whoever reads the reference must be able to trust that a line can be left out.
#[test]
fn the_reference_shows_the_defaults() {
    let (shown, default) = (redacted(&accepted(REFERENCE)), redacted(&accepted(BASE)));

    for section in ["listen", "admin", "limits", "state", "log"] {
        assert_eq!(shown[section], default[section], "{section}");
    }
    let (shown, default) = (&shown["deployments"][0], &default["deployments"][0]);
    for block in [
        "ceilings",
        "flex",
        "queue",
        "timeouts",
        "regular_share_min",
        "long_prompt_share_min",
        "withdraw",
        "shared_prefixes",
        "dns",
        "engine_priority",
        "cache_salt",
    ] {
        assert_eq!(shown[block], default[block], "deployments[].{block}");
    }
}

/// One definition, one text: the comment above a key is its description in the schema.
#[test]
fn the_reference_has_every_key_with_its_description() {
    let comments: Vec<&str> = REFERENCE
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix('#'))
        .flat_map(str::split_whitespace)
        .collect();
    let comments = comments.join(" ");

    for (path, schema) in properties(&SCHEMA, String::new()) {
        let key = path.rsplit('.').next().unwrap();
        let lines = REFERENCE.lines().map(|line| line.trim_start().trim_start_matches(['#', '-', ' ']));
        let mut written = lines.filter(|line| {
            let line = line.strip_prefix('"').unwrap_or(line);
            line.strip_prefix(key).is_some_and(|rest| rest.trim_start_matches('"').starts_with(':'))
        });
        assert!(written.next().is_some(), "{path} is not in the reference");
        let description = schema["description"].as_str().unwrap_or_default();
        assert!(!description.is_empty(), "{path} has no description");
        let words: Vec<&str> = description.split_whitespace().collect();
        assert!(comments.contains(&words.join(" ")), "{path}: the reference does not say: {description}");
    }
}

#[test]
fn every_number_has_bounds() {
    for (path, schema) in properties(&SCHEMA, String::new()) {
        let kind = &schema["type"];
        let number = kind == "integer" || kind == "number" || kind[0] == "integer" || kind[0] == "number";
        if number {
            assert!(
                schema.get("minimum").is_some() && schema.get("maximum").is_some(),
                "{path} has no bounds"
            );
        }
    }
}

/// All keys of the schema, with their paths.
fn properties(schema: &Value, path: String) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    let branches = schema["anyOf"].as_array().into_iter().flatten();
    for part in branches.chain(schema.get("items")) {
        found.extend(properties(part, path.clone()));
    }
    for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        found.push((path.clone(), schema));
        found.extend(properties(schema, path));
    }
    found
}
