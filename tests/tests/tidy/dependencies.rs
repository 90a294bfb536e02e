//! Dependencies: who may know whom, and what stays above the pure crates.
//!
//! The shape of the house is its list of dependencies. It is read from `cargo metadata`, so a dependency for tests or
//! for a build counts like any other.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

use super::purity::PURE;

/// Who may know whom, and nobody else.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("limits", &[]),
    ("shedder", &[]),
    ("tokenizer", &[]),
    ("gateway-core", &["limits", "shedder"]),
    ("history", &["shedder"]),
    ("usage", &["shedder"]),
    ("protocol", &["limits", "shedder"]),
    ("config", &["gateway-core", "limits", "shedder", "tokenizer", "protocol"]),
    ("process", &["config", "protocol"]),
    ("accounts", &["gateway-core", "limits", "process"]),
    ("client", &["config", "protocol", "usage"]),
    ("connections", &["config"]),
    ("drill-runner", &["client", "config", "process"]),
    ("downstream", &["limits", "config", "protocol", "process", "accounts", "connections"]),
    ("store", &["limits", "config", "protocol", "shedder", "usage"]),
    (
        "telemetry",
        &[
            "gateway-core",
            "history",
            "limits",
            "shedder",
            "config",
            "protocol",
            "process",
            "accounts",
            "connections",
            "weighing",
            "usage",
        ],
    ),
    ("weighing", &["gateway-core", "shedder", "tokenizer", "config", "protocol"]),
    (
        "upstream",
        &[
            "gateway-core",
            "history",
            "limits",
            "shedder",
            "config",
            "protocol",
            "process",
            "accounts",
            "telemetry",
            "weighing",
            "engine",
        ],
    ),
    ("engine", &[]),
    ("load", &["engine"]),
    (
        "drill",
        &["gateway-core", "limits", "shedder", "tokenizer", "protocol", "config", "client", "engine", "load"],
    ),
    ("demo", &["config", "shedder", "engine", "load", "drill"]),
    (
        "gateway",
        &[
            "gateway-core",
            "history",
            "limits",
            "shedder",
            "tokenizer",
            "config",
            "connections",
            "downstream",
            "drill-runner",
            "protocol",
            "process",
            "accounts",
            "store",
            "telemetry",
            "upstream",
            "weighing",
            "usage",
            "client",
            "engine",
            "load",
            "demo",
            "drill",
        ],
    ),
    ("goals", &["shedder", "engine", "drill"]),
    ("kit", &["limits", "shedder", "tokenizer", "config", "protocol", "client", "engine", "load", "drill"]),
    ("fuzz", &["config", "protocol", "shedder", "store", "limits", "tokenizer"]),
    ("harness", &["config", "engine", "kit"]),
    ("truth", &["config", "engine", "kit", "fuzz", "harness"]),
    (
        "prove",
        &[
            "gateway-core",
            "limits",
            "shedder",
            "tokenizer",
            "config",
            "client",
            "engine",
            "load",
            "drill",
            "goals",
            "kit",
            "harness",
            "truth",
            "fuzz",
        ],
    ),
    (
        "tests",
        &[
            "limits",
            "shedder",
            "tokenizer",
            "config",
            "protocol",
            "client",
            "engine",
            "load",
            "drill",
            "usage",
            "gateway",
            "kit",
            "store",
        ],
    ),
];

/// The package of the shipped binary.
const SHIPPED: &str = "gateway";

/// What only judges the product, and does not ship.
const NOT_SHIPPED: [&str; 7] = ["prove", "goals", "truth", "harness", "kit", "fuzz", "tests"];

/// Beginnings of the names of crates that bring Pingora, HTTP, JSON, a runtime, a lock, a clock, randomness or a log.
const NOT_PURE: [&str; 26] = [
    "arc-swap",
    "async-",
    "axum",
    "chrono",
    "crossbeam",
    "fastrand",
    "futures",
    "getrandom",
    "h2",
    "http",
    "hyper",
    "jiff",
    "log",
    "metrics",
    "parking_lot",
    "pingora",
    "rand",
    "rayon",
    "reqwest",
    "rustls",
    "serde_json",
    "simd-json",
    "sonic-rs",
    "tokio",
    "tower",
    "tracing",
];

/// More packages than this are more than anybody reviews. Each is code that runs with the gateway's rights.
/// Most of it is Pingora's, twenty-five are the house's own; the number is what the lock file holds and a little room.
const PACKAGES_MAX: usize = 382;

/// One package of the workspace and all that it names, of every kind.
#[derive(Debug)]
struct Package {
    name: String,
    /// Its `Cargo.toml`, as the metadata has it.
    manifest: String,
    dependencies: BTreeSet<String>,
    /// Those that are neither for tests nor for a build: they are linked.
    linked: BTreeSet<String>,
}

fn packages(metadata: &Value) -> Vec<Package> {
    let list = metadata["packages"].as_array().unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_string();
    list.iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            Package {
                name: name(package),
                manifest: package["manifest_path"].as_str().unwrap().to_string(),
                dependencies: dependencies.iter().map(name).collect(),
                linked: dependencies.iter().filter(|one| one["kind"].is_null()).map(name).collect(),
            }
        })
        .collect()
}

fn workspace() -> Vec<Package> {
    let cargo = std::env::var("CARGO").unwrap_or("cargo".to_string());
    let output = Command::new(cargo)
        .args(["metadata", "--offline", "--locked", "--no-deps", "--format-version", "1"])
        .current_dir(super::house())
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    packages(&serde_json::from_slice(&output.stdout).unwrap())
}

/// Dependencies between our own crates that the house does not allow, and crates that it does not know.
fn acquaintances(packages: &[Package]) -> Vec<String> {
    let mut faults = Vec::new();
    for Package { name, manifest, dependencies, .. } in packages {
        let Some((_, allowed)) = MAY_KNOW.iter().find(|(known, _)| known == name) else {
            faults.push(format!("{name}: a crate that the house does not know. Put the code into the crate whose question it answers."));
            continue;
        };
        let ours =
            dependencies.iter().filter(|dependency| MAY_KNOW.iter().any(|(known, _)| known == dependency));
        for stranger in ours.filter(|dependency| !allowed.contains(&dependency.as_str())) {
            faults.push(format!("{manifest}: `{name}` must not know `{stranger}`. Let the gateway pass the fact from one to the other."));
        }
    }
    faults
}

/// What does not ship and yet is linked into the shipped binary, with the way to it. Only packages of the workspace can
/// lead there, since no published one depends on them.
fn stowaways(packages: &[Package]) -> Vec<String> {
    let mut ways: Vec<Vec<&str>> = vec![vec![SHIPPED]];
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut faults = Vec::new();
    while let Some(way) = ways.pop() {
        let Some(package) = packages.iter().find(|package| Some(&package.name.as_str()) == way.last()) else {
            continue;
        };
        if NOT_SHIPPED.contains(&package.name.as_str()) {
            let way = way.join(" -> ");
            faults.push(format!("{way}: `{}` does not ship. Move what is needed of it.", package.name));
        } else if seen.insert(&package.name) {
            ways.extend(package.linked.iter().map(|next| [way.as_slice(), &[next.as_str()]].concat()));
        }
    }
    faults
}

/// Foreign crates in the pure crates that would make them impure.
fn heavy_baggage(packages: &[Package]) -> Vec<String> {
    let mut faults = Vec::new();
    for Package { manifest, dependencies, .. } in
        packages.iter().filter(|package| PURE.iter().any(|(_, name)| *name == package.name))
    {
        for heavy in dependencies
            .iter()
            .filter(|dependency| NOT_PURE.iter().any(|prefix| dependency.starts_with(prefix)))
        {
            faults.push(format!(
                "{manifest}: `{heavy}` belongs to the gateway. Take what it gives as an argument."
            ));
        }
    }
    faults
}

/// What the lock file holds beyond our number, or from elsewhere than the one registry.
fn locked(lock: &str, packages_max: usize) -> Vec<String> {
    let mut faults = Vec::new();
    let count = lock.lines().filter(|line| *line == "[[package]]").count();
    if count > packages_max {
        faults.push(format!("Cargo.lock: {count} packages, at most {packages_max}. Do without one, or argue for the new number in tests/tests/tidy/dependencies.rs."));
    }
    let sources: BTreeSet<&str> = lock.lines().filter_map(|line| line.strip_prefix("source = ")).collect();
    let elsewhere = sources.iter().filter(|source| !source.starts_with("\"registry+"));
    faults.extend(
        elsewhere.map(|source| format!("Cargo.lock: {source} is not the registry. Use a published version.")),
    );
    if sources.iter().filter(|source| source.starts_with("\"registry+")).count() > 1 {
        faults.push("Cargo.lock: packages of several registries. Use one.".to_string());
    }
    faults
}

#[test]
fn crates_know_only_whom_they_may() {
    let packages = workspace();

    assert!(packages.len() > 10, "these are not all crates: {packages:?}");
    super::assert_none(&acquaintances(&packages));
}

#[test]
fn what_only_judges_the_product_does_not_ship() {
    super::assert_none(&stowaways(&workspace()));
}

#[test]
fn only_the_gateway_names_pingora_http_and_json() {
    super::assert_none(&heavy_baggage(&workspace()));
}

#[test]
fn the_lock_file_stays_small_and_has_one_source() {
    let lock = fs::read_to_string(super::house().join("Cargo.lock")).unwrap();

    super::assert_none(&locked(&lock, PACKAGES_MAX));
}

/// A package with dependencies, as a sample.
fn package(name: &str, dependencies: &[&str]) -> Package {
    Package {
        name: name.to_string(),
        manifest: format!("{name}/Cargo.toml"),
        dependencies: dependencies.iter().map(|name| name.to_string()).collect(),
        linked: dependencies.iter().map(|name| name.to_string()).collect(),
    }
}

#[test]
fn a_forbidden_acquaintance_is_found() {
    super::assert_one(
        &acquaintances(&[package("limits", &["thiserror", "shedder"])]),
        &["limits/Cargo.toml", "`shedder`"],
    );
    super::assert_one(&acquaintances(&[package("drill", &["limits", "gateway"])]), &["`gateway`"]);
    super::assert_one(&acquaintances(&[package("gateway", &["prove"])]), &["`prove`"]);
    super::assert_one(&acquaintances(&[package("client", &["protocol", "gateway"])]), &["`gateway`"]);
    super::assert_one(&acquaintances(&[package("kit", &["engine", "gateway"])]), &["`gateway`"]);
    super::assert_one(&acquaintances(&[package("common", &[])]), &["common", "does not know"]);
    super::assert_none(&acquaintances(&[package(
        "gateway",
        &["limits", "shedder", "tokenizer", "engine", "pingora"],
    )]));
}

#[test]
fn what_is_linked_by_way_of_another_crate_is_found() {
    let tree = [package("gateway", &["drill", "tokio"]), package("drill", &["kit"]), package("kit", &[])];

    super::assert_one(&stowaways(&tree), &["gateway -> drill -> kit", "does not ship"]);
    super::assert_none(&stowaways(&[
        package("gateway", &["drill"]),
        package("drill", &[]),
        package("prove", &[]),
    ]));
}

#[test]
fn a_foreign_crate_in_a_pure_crate_is_found() {
    for heavy in ["pingora-core", "http-body-util", "hyper", "serde_json", "tokio", "rand", "parking_lot"] {
        super::assert_one(
            &heavy_baggage(&[package("tokenizer", &["tiktoken-rs", heavy])]),
            &["tokenizer/Cargo.toml", heavy],
        );
    }
    super::assert_none(&heavy_baggage(&[package("gateway", &["pingora", "serde_json"])]));
}

#[test]
fn too_many_packages_and_other_sources_are_found() {
    let package = "[[package]]\nname = \"a\"\nsource = \"registry+x\"\n";

    super::assert_one(&locked(&package.repeat(3), 2), &["3 packages", "at most 2"]);
    super::assert_one(&locked("source = \"git+y\"", 2), &["git+y", "published"]);
    super::assert_one(&locked(&format!("{package}source = \"registry+z\""), 2), &["several registries"]);
    super::assert_none(&locked(package, 2));
}

#[test]
fn dependencies_of_every_kind_are_read() {
    let metadata = serde_json::json!({ "packages": [{ "name": "limits", "manifest_path": "limits/Cargo.toml", "dependencies": [
        { "name": "thiserror", "kind": null }, { "name": "proptest", "kind": "dev" }, { "name": "cc", "kind": "build" },
    ] }] });

    let found = packages(&metadata);

    assert_eq!(found[0].name, "limits");
    assert_eq!(
        found[0].dependencies.iter().map(String::as_str).collect::<Vec<_>>(),
        ["cc", "proptest", "thiserror"]
    );
    assert_eq!(found[0].linked.iter().map(String::as_str).collect::<Vec<_>>(), ["thiserror"]);
}
