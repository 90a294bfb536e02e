//! Whole files: what is accepted, what a person is told, what is shown again.

use super::*;

const SMALLEST: &str = include_str!("../../../deploy/examples/smallest.yaml");

fn no_env(_: &str) -> Option<String> {
    None
}

/// Three sections are enough: everything else has a default.
#[test]
fn the_smallest_file_is_complete() {
    let config =
        Config::parse(SMALLEST, "smallest.yaml", &no_env).map_err(|faults| faults.to_string()).unwrap();

    let model = config.model("llama-3.1-8b").unwrap();
    let bounds = config.limits.bounds(&config.accounts[0], model);
    assert_eq!(model.routes[0].deployment.replicas.len(), 2);
    assert_eq!(bounds.start.prompt, 7_200_000);
    assert_eq!(bounds.ceiling.prompt, 10_800_000, "half of a large model's ceiling in spending tier 2");
}
