//! `models`: the names that customers ask for, and the deployments that answer to them, in order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokenizer::{Counter, Vocabulary, Weights};

use crate::deployment::Deployment;
use crate::resolve::Resolver;
use crate::tier::{Tier, Tiers};
use crate::yaml::faults::{At, Shown};
use crate::yaml::suggest::nearest;

/// A model as customers know it.
#[derive(Debug, Clone)]
pub struct Model {
    /// Its name, unique among names and aliases.
    pub name: Arc<str>,
    /// Other names that mean the same.
    pub aliases: Vec<Arc<str>>,
    /// Where it is served, in the order in which requests are offered; never empty.
    pub routes: Vec<Route>,
    /// What the model servers call it.
    pub served_model: Arc<str>,
    /// Sets the ceilings of the accounts' limits.
    pub size_class: SizeClass,
    /// The context window, tokens: the model's own, else the smallest of its deployments, if all have one.
    pub context: Option<u32>,
    /// Tokens that an answer is expected to have before anything is known.
    pub default_output: u32,
    /// What prompts are counted exactly with; `None` estimates.
    pub exact: Option<Exact>,
    /// What parts of a request other than text weigh until the engine's counts have taught it.
    pub weights: Weights,
}

/// What a model's prompts are counted exactly with.
#[derive(Debug, Clone)]
pub enum Exact {
    /// A vocabulary that is built in.
    Vocabulary(Vocabulary),
    /// The model's own `tokenizer.json`.
    File {
        /// Where it is.
        path: PathBuf,
        /// What was read from it; `None` only where a config was judged without the files that it names.
        counter: Option<Counter>,
    },
}

/// One of a model's deployments, with whom it takes.
#[derive(Debug, Clone)]
pub struct Route {
    /// The deployment.
    pub deployment: Arc<Deployment>,
    /// The tiers that it takes.
    pub tiers: Tiers,
    /// The accounts that it takes, by id; `None` is all.
    pub accounts: Option<BTreeSet<Arc<str>>>,
    /// Its share beside its neighbours that have one too; `None`: its place in the list counts.
    pub weight: Option<u32>,
}

impl Route {
    /// Whether it takes requests of an account in a tier. O(log accounts).
    pub fn takes(&self, tier: Tier, account: &str) -> bool {
        self.serves(tier) && self.accounts.as_ref().is_none_or(|accounts| accounts.contains(account))
    }

    /// Whether it takes requests of somebody in a tier.
    pub fn serves(&self, tier: Tier) -> bool {
        self.tiers.contains(tier) && (tier != Tier::Flex || self.deployment.flex.is_some())
    }
}

/// How large a model is: larger ones have lower ceilings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SizeClass {
    /// Below 600 billion parameters.
    Small,
    /// From 600 billion, below 1,600 billion parameters.
    Medium,
    /// From 1,600 billion parameters, or unknown.
    #[default]
    Large,
}

impl SizeClass {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    /// Its name in the config.
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
        }
    }
}

/// A model as customers know it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ModelFile {
    /// The name that customers ask for: letters, digits and `-._:/@`.
    #[schemars(required, length(min = 1, max = 256), extend("x-required" = true))]
    name: Option<String>,
    /// Other names that mean the same model.
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    aliases: Vec<String>,
    /// Deployments that serve it, in the order in which requests are offered to them.
    #[schemars(required, length(min = 1, max = 64), extend("x-required" = true))]
    deployments: Option<Vec<RouteFile>>,
    /// What the model servers call it. Default: the name itself.
    #[schemars(length(min = 1, max = 512))]
    served_model: Option<String>,
    /// How large the model is, which sets the ceilings of the limits. Default large, which has the lowest.
    size_class: SizeClass,
    /// The context window, tokens. Default: the smallest of its deployments, if each of them has one.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    context: Option<u32>,
    /// Tokens that an answer is expected to have until the model has answered a few times. Default 256.
    #[schemars(range(min = 1, max = 1_000_000))]
    default_output: Option<u32>,
    /// The model's vocabulary, for exact counts of short prompts. Default: none, and tokens are estimated and learnt from the engine's own counts.
    vocabulary: Option<VocabularyName>,
    /// The model's own `tokenizer.json`, for exact counts where no vocabulary above is its own: byte-level BPE as Llama 3, Qwen and gpt-oss have it. Not beside `vocabulary`. Default: none.
    #[schemars(length(min = 1, max = 4096))]
    tokenizer_file: Option<String>,
    /// What parts of a request other than text weigh, until the engine's own counts have taught it.
    weights: WeightsFile,
}

/// Vocabularies whose tables are built in.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum VocabularyName {
    /// gpt-4o, gpt-4.1, gpt-5 and the o-series.
    O200kBase,
    /// gpt-oss.
    O200kHarmony,
    /// gpt-4, gpt-3.5-turbo and the text-embedding models.
    Cl100kBase,
    /// Older code models.
    P50kBase,
    /// gpt-2 and gpt-3.
    R50kBase,
}

/// The name of a vocabulary in the config.
pub(crate) fn vocabulary_name(vocabulary: Vocabulary) -> &'static str {
    match vocabulary {
        Vocabulary::O200kBase => "o200k_base",
        Vocabulary::O200kHarmony => "o200k_harmony",
        Vocabulary::Cl100kBase => "cl100k_base",
        Vocabulary::P50kBase => "p50k_base",
        Vocabulary::R50kBase => "r50k_base",
        _ => "not named here",
    }
}

impl From<VocabularyName> for Vocabulary {
    fn from(name: VocabularyName) -> Self {
        match name {
            VocabularyName::O200kBase => Self::O200kBase,
            VocabularyName::O200kHarmony => Self::O200kHarmony,
            VocabularyName::Cl100kBase => Self::Cl100kBase,
            VocabularyName::P50kBase => Self::P50kBase,
            VocabularyName::R50kBase => Self::R50kBase,
        }
    }
}

/// What parts of a request other than text weigh, until the engine's own counts have taught it.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct WeightsFile {
    /// Tokens around the messages: the template's own words. Default 8: common templates have 4 to 25.
    #[schemars(range(min = 0.0, max = 100_000.0))]
    per_request: f64,
    /// Tokens around one message: its role and its end mark. Default 4, as ChatML and Llama 3 have it.
    #[schemars(range(min = 0.0, max = 1000.0))]
    per_message: f64,
    /// Bytes of tool JSON that make one token. Default 3.9, measured on JSON schemas.
    #[schemars(range(min = 1.0, max = 12.0))]
    bytes_per_tool_token: f64,
    /// Tokens of one image. Default 1,024: 896 × 896 pixels at one token per 28 × 28. Fixed-grid models have 576.
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    per_image: f64,
    /// Tokens of any other part, such as audio. Default 500: 20 s at 25 tokens a second.
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    per_other_part: f64,
}

impl Default for WeightsFile {
    fn default() -> Self {
        let Weights { per_request, per_message, bytes_per_tool_token, per_image, per_other_part } =
            Weights::default();
        Self { per_request, per_message, bytes_per_tool_token, per_image, per_other_part }
    }
}

impl From<WeightsFile> for Weights {
    fn from(file: WeightsFile) -> Self {
        let WeightsFile { per_request, per_message, bytes_per_tool_token, per_image, per_other_part } = file;
        Self { per_request, per_message, bytes_per_tool_token, per_image, per_other_part }
    }
}

/// A deployment's name, or the name with whom it takes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum RouteFile {
    /// The name of a deployment that takes everybody.
    Name(#[schemars(length(min = 1, max = 128))] String),
    /// A deployment and whom it takes.
    Full(RouteFields),
}

/// A deployment and whom it takes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RouteFields {
    /// The deployment's name.
    #[schemars(required, length(min = 1, max = 128), extend("x-required" = true))]
    name: Option<String>,
    /// Tiers that it takes. Default: all.
    #[schemars(length(min = 1, max = 8))]
    tiers: Option<Vec<Tier>>,
    /// Accounts that it takes, by id. Default: all.
    #[schemars(length(min = 1, max = 100_000), inner(length(min = 1, max = 128)))]
    accounts: Option<Vec<String>>,
    /// Its share beside neighbours in this list that have a weight too: of those, each request tries first one drawn in proportion, and sessions stay together. Default: none; deployments are tried in the order of the list.
    #[schemars(range(min = 1, max = 1000))]
    weight: Option<u32>,
}

/// Output tokens expected of a model that has not answered yet: between a chat answer and a summary.
const DEFAULT_OUTPUT: u32 = 256;

/// What models may refer to, and the names that are taken.
pub(crate) struct Known<'a> {
    /// Deployments by name; of two with one name the later.
    pub(crate) deployments: BTreeMap<&'a str, Arc<Deployment>>,
    pub(crate) accounts: &'a BTreeSet<Arc<str>>,
    /// Names and aliases so far, with the model that has them.
    pub(crate) names: HashMap<Arc<str>, usize>,
    /// Tokenizer files read so far: models that share one share its memory.
    pub(crate) counters: BTreeMap<PathBuf, Option<Result<Counter, String>>>,
}

impl ModelFile {
    pub(crate) fn resolve(self, nth: usize, known: &mut Known<'_>, resolver: &mut Resolver<'_>) -> Model {
        let list = At::FILE.key("models");
        let at = list.item(nth);
        let name: Arc<str> = self.name.unwrap_or_default().into();
        claim(&name, nth, &at.key("name"), known, resolver);
        let mut aliases = Vec::new();
        let aliases_at = at.key("aliases");
        for (place, alias) in self.aliases.into_iter().enumerate() {
            let alias: Arc<str> = alias.into();
            claim(&alias, nth, &aliases_at.item(place), known, resolver);
            aliases.push(alias);
        }
        let mut routes: Vec<Route> = Vec::new();
        let routes_at = at.key("deployments");
        for (place, route) in self.deployments.unwrap_or_default().into_iter().enumerate() {
            let at = routes_at.item(place);
            let Some(route) = route.fields().resolve(&at, known, resolver) else { continue };
            if routes.iter().any(|other| Arc::ptr_eq(&other.deployment, &route.deployment)) {
                resolver.fault(&at, format!("`{}` is listed twice; keep one", Shown(&route.deployment.name)));
            }
            routes.push(route);
        }
        let exact = exact(self.vocabulary, self.tokenizer_file, &at, known, resolver);
        let smallest = routes.iter().map(|route| route.deployment.context).min().flatten();
        if let (Some(own), Some(served)) = (self.context, smallest)
            && own > served
        {
            let fault = format!("must not exceed the context of its deployments ({served}), is {own}");
            resolver.fault(&at.key("context"), fault);
        }
        Model {
            served_model: self.served_model.map_or_else(|| Arc::clone(&name), Arc::from),
            name,
            aliases,
            routes,
            size_class: self.size_class,
            context: self.context.or(smallest),
            default_output: self.default_output.unwrap_or(DEFAULT_OUTPUT),
            exact,
            weights: self.weights.into(),
        }
    }
}

fn exact(
    vocabulary: Option<VocabularyName>,
    file: Option<String>,
    at: &At<'_>,
    known: &mut Known<'_>,
    resolver: &mut Resolver<'_>,
) -> Option<Exact> {
    let Some(file) = file else { return vocabulary.map(|name| Exact::Vocabulary(name.into())) };
    let at = at.key("tokenizer_file");
    if vocabulary.is_some() {
        resolver.fault(&at, "and `vocabulary` are two answers to one question; keep one");
        return None;
    }
    let path = resolver.path(&file);
    let read = known.counters.entry(path.clone()).or_insert_with(|| resolver.counter(&path));
    match read {
        Some(Err(fault)) => {
            resolver.fault(&at, fault.as_str());
            None
        }
        Some(Ok(counter)) => Some(Exact::File { path, counter: Some(counter.clone()) }),
        None => Some(Exact::File { path, counter: None }),
    }
}

fn claim(name: &Arc<str>, nth: usize, at: &At<'_>, known: &mut Known<'_>, resolver: &mut Resolver<'_>) {
    if name.is_empty() {
        return;
    }
    resolver.name(at, name, "-._:/@");
    match known.names.get(name) {
        Some(first) => {
            let fault =
                format!("`{}` is a name or alias of models[{first}] already; names must differ", Shown(name));
            resolver.fault(at, fault);
        }
        None => {
            known.names.insert(Arc::clone(name), nth);
        }
    }
}

impl RouteFile {
    fn fields(self) -> RouteFields {
        match self {
            Self::Name(name) => RouteFields { name: Some(name), ..RouteFields::default() },
            Self::Full(fields) => fields,
        }
    }
}

impl RouteFields {
    fn resolve(self, at: &At<'_>, known: &Known<'_>, resolver: &mut Resolver<'_>) -> Option<Route> {
        let accounts = self.accounts.map(|ids| {
            let list = at.key("accounts");
            ids.iter()
                .enumerate()
                .filter_map(|(nth, id)| account(id, &list.item(nth), known, resolver))
                .collect()
        });
        let name = self.name.filter(|name| !name.is_empty())?;
        let Some(deployment) = known.deployments.get(&*name) else {
            let name_at = at.key("name");
            let at = if name_at.find(resolver.file).is_some() { &name_at } else { at };
            resolver.fault_with(at, || unknown("deployment", &name, known.deployments.keys().copied()));
            return None;
        };
        Some(Route {
            deployment: Arc::clone(deployment),
            tiers: self.tiers.map_or(Tiers::ALL, |tiers| Tiers::of(&tiers)),
            accounts,
            weight: self.weight,
        })
    }
}

fn account(id: &str, at: &At<'_>, known: &Known<'_>, resolver: &mut Resolver<'_>) -> Option<Arc<str>> {
    let found = known.accounts.get(id).cloned();
    if found.is_none() && !id.is_empty() {
        resolver.fault_with(at, || unknown("account", id, known.accounts.iter().map(|id| &**id)));
    }
    found
}

/// How many names are compared for a suggestion: a wrong file must not become a slow one.
const SUGGESTED_FROM_MAX: usize = 1_000;

/// What to say of a reference that leads nowhere.
pub(crate) fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let meant = nearest(name, known.filter(|name| !name.is_empty()).take(SUGGESTED_FROM_MAX));
    let hint = match meant {
        Some(meant) => format!("did you mean `{}`?", Shown(meant)),
        None => format!("define it under `{what}s`, or remove it here"),
    };
    format!("no {what} is called `{}`; {hint}", Shown(name))
}
