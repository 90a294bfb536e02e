//! Whole files: what is accepted, what a person is told, what no input may do.

mod examples;
mod faults;
mod files;
mod hostile;
mod meaning;

use super::*;

/// An environment in which nothing is set.
fn no_env(_: &str) -> Option<String> {
    None
}

/// A config that must be in order.
fn accepted(text: &str) -> Config {
    Config::parse(text, "t.yaml", &no_env).map_err(|faults| faults.to_string()).unwrap()
}

/// What accounts may refer to in the small config.
pub(crate) fn rules() -> AccountRules {
    AccountRules::of(&accepted(BASE))
}

/// What a person is told about a config that must not be accepted.
fn told(text: &str) -> String {
    Config::parse(text, "t.yaml", &no_env).map(|_| "accepted").unwrap_err().to_string()
}

/// The only deployment of a config in order, with `more` in it.
pub(crate) fn deployment(more: &str) -> Arc<Deployment> {
    let text = BASE.replace("{ name: gpu,", &format!("{{ name: gpu, {more},"));
    Arc::clone(&accepted(&text).deployments[0])
}

/// A small config in order, to which a test adds what it is about.
const BASE: &str = "
deployments:
  - { name: gpu, replicas: ['http://gpu-1:8000'] }
models:
  - { name: m, deployments: [gpu], size_class: small }
accounts:
  - id: a
    keys: ['sha256:4f5c9b2a8d3e6f7a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a']
";
