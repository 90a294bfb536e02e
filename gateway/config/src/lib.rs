//! The config: one YAML file, checked as a whole, turned into types that cannot be wrong.
//!
//! ```text
//! text ── tree ──► values with places ── check ──► JSON ── serde ──► *File structs ── resolve ──► Config
//!          │ `${VAR}` filled in           │ against the schema            │ references, names, bounds
//!          └──────────── faults ──────────┴───────────── faults ──────────┴──► Faults, in the file's order
//! ```
//!
//! A key is defined once, as a field of a `…File` struct (or of a block that needs no second shape): its
//! name, bounds, default and the reason for it are there, and the schema for editors is made from it.
//!
//! # Guarantees
//!
//! - All faults of a file are reported together; what is wrong in one place hides nothing in another.
//! - No input, however broken, makes it panic, recurse deeply or take more than linear time and memory.
//! - A loaded [`Config`] refers only to things that exist; names, ids, keys and servers are unique.
//! - Secrets are in files, and neither `Debug`, a fault nor [`redacted`] shows them.

mod accounts;
mod deployment;
mod listen;
mod model;
mod process;
mod tier;

pub mod keys;

mod redacted;

mod resolve;
mod tokenizer_file;
mod units;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

pub use accounts::account::{Account, FairBy, LimitOverride, OnForbiddenTier, SpendingTier};
pub use accounts::apart::AccountRules;
pub use accounts::key::{KEY_NAME_MAX, KeyLimit, KeyRights, NamedKey};
pub use accounts::limits::{
    Bounds, Growth, LimitPolicy, Limits, Meters, MetersFile, Shrink, SizeCeilings, TierShare,
};
pub use deployment::replica::{Host, ReplicaUrl, ReplicaUrlError, is_allowed};
pub use deployment::settings::{Ceilings, Dns, Flex, Queue, Scrape, Timeouts};
pub use deployment::upstream_tls::UpstreamTls;
pub use deployment::{Deployment, Slo};
pub use listen::{Cors, Listen, ListenLimits, Proxies, Proxy, Shutdown, Tls};
pub use model::{Exact, Model, Route, SizeClass};
pub use process::{AccessLog, Admin, ClientAddress, Log, LogFormat, LogLevel, State, Usage};
pub use redacted::redacted;
pub use resolve::Secret;
pub use tier::{Tier, Tiers};
pub use yaml::{
    CONFIG_BYTES_MAX, DEPTH_MAX, Document, FAULTS_MAX, Fault, Faults, Lines, NODES_MAX, Part, read_file,
    schema_of,
};

use accounts::account;
use resolve::{ReadFile, Resolver};
use yaml::faults::{At, Report};
use yaml::text::read_text;
use yaml::{check, tree};

/// A config in which everything that is named exists and every number is within its bounds.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where customers connect.
    pub listen: Listen,
    /// Where operators connect.
    pub admin: Admin,
    /// Model servers, in the order of the file.
    pub deployments: Vec<Arc<Deployment>>,
    /// What customers can ask for, in the order of the file.
    pub models: Vec<Arc<Model>>,
    /// The models by name and alias.
    pub model_names: HashMap<Arc<str>, Arc<Model>>,
    /// The customers, in the order of the file.
    pub accounts: Vec<Arc<Account>>,
    /// Where budgets start, how they move and how far.
    pub limits: Limits,
    /// Where limits outlive the process.
    pub state: State,
    /// What is kept of accounts' use; `None`: nothing.
    pub usage: Option<Usage>,
    /// What is logged.
    pub log: Log,
    /// What is allowed and was probably not meant, each with its place; at most [`FAULTS_MAX`].
    pub hints: Vec<Fault>,
}

/// The config of Tidegate.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(title = "Tidegate config")]
#[serde(default, deny_unknown_fields)]
struct ConfigFile {
    /// Where customers connect.
    listen: listen::ListenFile,
    /// Where operators connect: health, metrics, console, admin API.
    admin: process::AdminFile,
    /// Model servers that serve the same thing and share one queue.
    #[schemars(required, length(min = 1, max = 1000), extend("x-required" = true))]
    deployments: Option<Vec<deployment::DeploymentFile>>,
    /// The names that customers ask for, and the deployments that answer to them.
    #[schemars(required, length(min = 1, max = 10_000), extend("x-required" = true))]
    models: Option<Vec<model::ModelFile>>,
    /// The customers: who may use what, how fast and in which tier. `[]` where all are made at run time.
    #[schemars(required, length(max = 1_000_000), extend("x-required" = true))]
    accounts: Option<Vec<account::AccountFile>>,
    /// Where the accounts' budgets start, how they move and how far.
    limits: Limits,
    /// Where limits outlive the process.
    state: process::StateFile,
    /// Keeps the tokens and requests of each account by hour, key, model and tier in `state.dir`. Default: nothing is kept; `{}` keeps them.
    usage: Option<process::UsageFile>,
    /// What is logged, and where to.
    log: process::LogFile,
}

impl Config {
    /// Reads a config file, the environment that it refers to, and the files that it names.
    ///
    /// # Errors
    ///
    /// Every fault of the file at once, in its order; a file that cannot be read is one fault.
    pub fn load(path: &Path) -> Result<Self, Faults> {
        let origin = path.display().to_string();
        let text = read_text(path).map_err(|message| Faults::of_file(&origin, message))?;
        parse(&text, &origin, &|name| std::env::var(name).ok(), Some(&read_file))
    }

    /// Judges a text. Files that it names are neither read nor missed. `origin` is the file's name: faults
    /// are reported under it, and relative paths start at its folder.
    ///
    /// # Errors
    ///
    /// Every fault of the text at once, in its order.
    pub fn parse(text: &str, origin: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Faults> {
        parse(text, origin, env, None)
    }

    /// What a text says, key by key, where it is in order; without defaults, and with the environment that it refers to.
    ///
    /// # Errors
    ///
    /// Every fault of the text that its form shows.
    pub fn written(text: &str, origin: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Value, Faults> {
        let mut report = Report::default();
        let tree = tree::read(text, env, &mut report);
        let checked = tree.and_then(|tree| check::check(&tree, &SCHEMA, &At::FILE, &mut report));
        match report.into_faults(origin) {
            Some(faults) => Err(faults),
            None => checked.ok_or_else(|| unreadable(origin)),
        }
    }

    /// The model that is meant by a name or alias. O(1).
    pub fn model(&self, name: &str) -> Option<&Arc<Model>> {
        self.model_names.get(name)
    }
}

/// The JSON Schema of the config (draft 7), as `tidegate schema` prints it.
pub fn schema_json() -> String {
    serde_json::to_string_pretty(&*SCHEMA).unwrap_or_default()
}

static SCHEMA: LazyLock<Value> = LazyLock::new(schema_of::<ConfigFile>);

fn parse(
    text: &str,
    origin: &str,
    env: &dyn Fn(&str) -> Option<String>,
    read_file: Option<ReadFile<'_>>,
) -> Result<Config, Faults> {
    if text.len() > CONFIG_BYTES_MAX {
        return Err(Faults::of_file(origin, format!("is larger than {CONFIG_BYTES_MAX} bytes")));
    }
    let mut report = Report::default();
    let Some(tree) = tree::read(text, env, &mut report) else {
        return Err(report.into_faults(origin).unwrap_or_else(|| unreadable(origin)));
    };
    let empty = matches!(tree.kind, tree::Kind::Empty);
    let checked = if empty { None } else { check::check(&tree, &SCHEMA, &At::FILE, &mut report) };
    if empty {
        let what = "is empty; it needs at least deployments, models and accounts";
        report.at_place(tree.place, &At::FILE, what);
    }
    let file: ConfigFile =
        match serde_json::from_value(checked.unwrap_or(Value::Object(serde_json::Map::new()))) {
            Ok(file) => file,
            Err(error) => {
                // Schema and types are made from one definition, so this is a defect of ours: say so, but serve
                // the operator with what is known.
                report.at_place(tree.place, &At::FILE, format!("cannot be used: {error}"));
                ConfigFile::default()
            }
        };
    let folder = Path::new(origin).parent().unwrap_or(Path::new("")).to_owned();
    let mut resolver = Resolver { file: &tree, report, folder, env, read_file };
    let mut config = file.resolve(&mut resolver);
    config.hints = resolver.report.take_hints();
    match resolver.report.into_faults(origin) {
        Some(faults) => Err(faults),
        None => Ok(config),
    }
}

fn unreadable(origin: &str) -> Faults {
    Faults::of_file(origin, "cannot be used".to_owned())
}

impl ConfigFile {
    fn resolve(self, resolver: &mut Resolver<'_>) -> Config {
        let listen = self.listen.resolve(resolver);
        let admin = self.admin.resolve(resolver, listen.address);
        self.limits.judge(resolver);

        let mut seen = deployment::Seen::default();
        let files = self.deployments.unwrap_or_default().into_iter().enumerate();
        let deployments: Vec<Arc<Deployment>> =
            files.map(|(nth, file)| Arc::new(file.resolve(nth, &mut seen, resolver))).collect();

        let account_files = self.accounts.unwrap_or_default();
        let ids: BTreeSet<Arc<str>> =
            account_files.iter().filter_map(|file| file.id.as_deref().map(Arc::from)).collect();
        let by_name = deployments.iter().map(|one| (&*one.name, Arc::clone(one))).collect();
        let mut known = model::Known {
            deployments: by_name,
            accounts: &ids,
            names: HashMap::new(),
            counters: BTreeMap::new(),
        };
        let files = self.models.unwrap_or_default().into_iter().enumerate();
        let models: Vec<Arc<Model>> =
            files.map(|(nth, file)| Arc::new(file.resolve(nth, &mut known, resolver))).collect();
        let model_names = names(&models);

        let own_names =
            model_names.iter().map(|(name, model)| (Arc::clone(name), Arc::clone(&model.name))).collect();
        let mut known = account::Known { models: &own_names, ids: HashMap::new(), keys: HashMap::new() };
        let files = account_files.into_iter().enumerate();
        let accounts: Vec<Arc<Account>> =
            files.map(|(nth, file)| Arc::new(file.resolve(nth, &mut known, resolver))).collect();

        let state = self.state.resolve(resolver);
        let usage = self.usage.map(|usage| usage.resolve(resolver, &state));
        Config {
            listen,
            admin,
            deployments,
            models,
            model_names,
            accounts,
            limits: self.limits,
            state,
            usage,
            log: self.log.resolve(resolver),
            hints: Vec::new(),
        }
    }
}

fn names(models: &[Arc<Model>]) -> HashMap<Arc<str>, Arc<Model>> {
    let mut names = HashMap::new();
    for model in models {
        for name in std::iter::once(&model.name).chain(&model.aliases) {
            names.entry(Arc::clone(name)).or_insert_with(|| Arc::clone(model));
        }
    }
    names
}
