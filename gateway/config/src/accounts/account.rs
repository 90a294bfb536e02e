//! `accounts`: who may use what, how fast, and in which tier.
//!
//! Everything that an account may do follows from its key alone; nothing a client sends changes it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use gateway_core::tiers::Entitled;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::accounts::key::{self, KeyFile, NamedKey};
use crate::accounts::limits::MetersFile;
use crate::keys::Digest;
use crate::model::unknown;
use crate::resolve::Resolver;
use crate::tier::{Tier, Tiers};
use crate::yaml::faults::{At, Shown};

/// A customer.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its id, unique; appears in metrics and the admin API.
    pub id: Arc<str>,
    /// Digests of its keys, each in one account only.
    pub keys: Vec<Digest>,
    /// Those of them that have a name, with what they may do.
    pub named_keys: Vec<Arc<NamedKey>>,
    /// Sets the ceilings of its limits.
    pub spending_tier: SpendingTier,
    /// Tiers that it may ask for. Regular is always in it.
    pub tiers: Tiers,
    /// The tier of requests that name none; always one of `tiers`.
    pub default_tier: Tier,
    /// What happens to requests for a tier that it may not use.
    pub on_forbidden_tier: OnForbiddenTier,
    /// Limits of its own; the narrower one wins.
    pub limits: Vec<LimitOverride>,
    /// Its share of a contended queue, relative to other accounts.
    pub weight: f64,
    /// Which of its own waiting requests is next.
    pub fair_by: FairBy,
    /// Requests in any minute, refused ones included.
    pub requests_per_minute: u32,
    /// Requests at once, waiting ones included.
    pub concurrency: u32,
    /// Models that it may use, by their names (not aliases); `None` is all.
    pub models: Option<BTreeSet<Arc<str>>>,
    /// Whether its keys are refused for now.
    pub disabled: bool,
}

impl Account {
    /// In which tiers its requests may be served.
    #[must_use]
    pub fn entitled(&self) -> Entitled {
        Entitled {
            priority: self.tiers.contains(Tier::Priority),
            flex: self.tiers.contains(Tier::Flex),
            default: self.default_tier.into(),
            downgrade: self.on_forbidden_tier == OnForbiddenTier::Downgrade,
        }
    }

    /// Whether it may use a model, by the model's own name. O(log models).
    pub fn may_use(&self, model: &str) -> bool {
        self.models.as_ref().is_none_or(|models| models.contains(model))
    }
}

/// Limits of one account for one model or for all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LimitOverride {
    /// The model's own name; `None` is every model.
    pub model: Option<Arc<str>>,
    /// Where the limit starts.
    pub start: MetersFile,
    /// Below which it never falls.
    pub floor: MetersFile,
    /// Above which it never grows.
    pub ceiling: MetersFile,
}

/// How much a customer spends, which sets the ceilings of its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum SpendingTier {
    /// A payment method is known.
    #[default]
    One,
    /// The next step.
    Two,
    /// From here on the whole ceiling.
    Three,
    /// The highest step that is reached by paying.
    Four,
    /// No limit of spending.
    Unlimited,
    /// By contract.
    Enterprise,
}

impl SpendingTier {
    /// All of them, in their order.
    pub const ALL: [Self; 6] =
        [Self::One, Self::Two, Self::Three, Self::Four, Self::Unlimited, Self::Enterprise];

    /// Its name in the config and the admin API.
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "1",
            Self::Two => "2",
            Self::Three => "3",
            Self::Four => "4",
            Self::Unlimited => "unlimited",
            Self::Enterprise => "enterprise",
        }
    }
}

/// Numbers stay numbers, as they are written.
impl Serialize for SpendingTier {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.name().parse::<u8>() {
            Ok(number) => to.serialize_u8(number),
            Err(_) => to.serialize_str(self.name()),
        }
    }
}

impl<'de> Deserialize<'de> for SpendingTier {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(from)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let known = Self::ALL.into_iter().find(|tier| tier.name() == text);
        known.ok_or_else(|| serde::de::Error::custom("not a spending tier"))
    }
}

impl JsonSchema for SpendingTier {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SpendingTier".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": [1, 2, 3, 4, "unlimited", "enterprise"] })
    }
}

/// What happens to requests for a tier that the account may not use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnForbiddenTier {
    /// They are served as regular, and the answer says so.
    #[default]
    Downgrade,
    /// They are refused with 403.
    Refuse,
}

/// Which of an account's own waiting requests is next. Between accounts it changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FairBy {
    /// The one that came first.
    #[default]
    Arrival,
    /// Its end users take turns, as requests name them: `safety_identifier`, `user`, `metadata.user_id`.
    User,
}

impl FairBy {
    /// Its name in the config and the admin API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FairBy::Arrival => "arrival",
            FairBy::User => "user",
        }
    }
}

/// A customer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AccountFile {
    /// An id of letters, digits and `-._:@` that is unique and appears in metrics.
    #[schemars(required, length(min = 1, max = 128), extend("x-required" = true))]
    pub(crate) id: Option<String>,
    /// Its keys: each a digest, `sha256:` and 64 hexadecimal digits as `tidegate keys new` prints it, or a mapping that gives it a name, an end and rights of its own.
    #[schemars(required, length(min = 1, max = 64), extend("x-secret" = true, "x-required" = true))]
    keys: Option<Vec<KeyFile>>,
    /// How much the customer spends, which sets the ceilings of its limits: 1 to 4, unlimited or enterprise. Default 1, the lowest.
    spending_tier: SpendingTier,
    /// Tiers that it may ask for. Default regular only; regular itself needs no permission.
    #[schemars(length(min = 1, max = 8))]
    tiers: Option<Vec<Tier>>,
    /// The tier of requests that name none. Default regular.
    default_tier: Tier,
    /// What happens to requests for priority where it may not use it. Default downgrade: they are served as regular, as requests for flex are in any case.
    on_forbidden_tier: OnForbiddenTier,
    /// Limits of its own, for one model or for all.
    #[schemars(length(max = 1000))]
    limits: Vec<LimitFile>,
    /// Its share of a contended queue, relative to other accounts. Default 1.
    #[schemars(range(min = 0.01, max = 1000.0))]
    weight: f64,
    /// Which of its own waiting requests is next. Default arrival. Between accounts it changes nothing: many users earn no larger share.
    fair_by: FairBy,
    /// Requests in any minute, refused ones included. Default 6,000: 100 a second; it bounds what refusing costs.
    #[schemars(range(min = 1, max = 100_000_000))]
    requests_per_minute: u32,
    /// Requests at once, waiting ones included. Default 1,024: as many as connections from one address.
    #[schemars(range(min = 1, max = 1_000_000))]
    concurrency: u32,
    /// Models that it may use. Default: all.
    #[schemars(length(min = 1, max = 10_000), inner(length(min = 1, max = 256)))]
    models: Option<Vec<String>>,
    /// Whether its keys are refused for now. Default false.
    disabled: bool,
}

impl Default for AccountFile {
    fn default() -> Self {
        Self {
            id: None,
            keys: None,
            spending_tier: SpendingTier::One,
            tiers: None,
            default_tier: Tier::Regular,
            on_forbidden_tier: OnForbiddenTier::Downgrade,
            limits: Vec::new(),
            weight: 1.0,
            fair_by: FairBy::Arrival,
            requests_per_minute: 6_000,
            concurrency: 1_024,
            models: None,
            disabled: false,
        }
    }
}

/// Limits of one account for one model or for all, tokens per minute.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct LimitFile {
    /// The model's name or alias. Default: every model that has no entry of its own.
    #[schemars(length(min = 1, max = 256))]
    model: Option<String>,
    /// Where the limits start. Default: limits.start.
    start: MetersFile,
    /// Below which they never fall. Default: the start.
    floor: MetersFile,
    /// Above which they never grow. Default: that of spending tier and size class.
    ceiling: MetersFile,
}

/// What accounts may refer to, and what is taken.
pub(crate) struct Known<'a> {
    /// Names and aliases of models, with the model's own name.
    pub(crate) models: &'a HashMap<Arc<str>, Arc<str>>,
    /// Ids so far.
    pub(crate) ids: HashMap<Arc<str>, usize>,
    /// Digests so far, with the account that has them.
    pub(crate) keys: HashMap<Digest, usize>,
}

impl AccountFile {
    pub(crate) fn resolve(self, nth: usize, known: &mut Known<'_>, resolver: &mut Resolver<'_>) -> Account {
        let list = At::FILE.key("accounts");
        let at = list.item(nth);
        let id: Arc<str> = self.id.unwrap_or_default().into();
        unique_id(&id, nth, &at.key("id"), known, resolver);
        let asked = self.tiers.as_deref().map(Tiers::of);
        let tiers = asked.unwrap_or(Tiers::of(&[])).with(Tier::Regular);
        // Where the list itself was faulty, what it would have held is not known.
        let unknown = asked.is_none() && resolver.is_faulty(&at.key("tiers"));
        if !unknown && !tiers.contains(self.default_tier) {
            let fault =
                format!("`{}` is not among the account's tiers; add it there", self.default_tier.name());
            resolver.fault(&at.key("default_tier"), fault);
        }
        let models_at = at.key("models");
        let models = self.models.map(|names| {
            let names = names.iter().enumerate();
            names.filter_map(|(nth, name)| model(name, &models_at.item(nth), known, resolver)).collect()
        });
        let mut account = Account {
            id,
            keys: Vec::new(),
            named_keys: Vec::new(),
            spending_tier: self.spending_tier,
            tiers,
            default_tier: self.default_tier,
            on_forbidden_tier: self.on_forbidden_tier,
            limits: overrides(self.limits, &at.key("limits"), known, resolver),
            weight: self.weight,
            fair_by: self.fair_by,
            requests_per_minute: self.requests_per_minute,
            concurrency: self.concurrency,
            models,
            disabled: self.disabled,
        };
        let keys = self.keys.unwrap_or_default();
        (account.keys, account.named_keys) =
            key::resolve(keys, (&account, nth), &at.key("keys"), known, resolver);
        account
    }
}

fn unique_id(id: &Arc<str>, nth: usize, at: &At<'_>, known: &mut Known<'_>, resolver: &mut Resolver<'_>) {
    if id.is_empty() {
        return;
    }
    resolver.name(at, id, "-._:@");
    match known.ids.get(id) {
        Some(first) => {
            let fault = format!("`{}` is the id of accounts[{first}] already; ids must differ", Shown(id));
            resolver.fault(at, fault);
        }
        None => {
            known.ids.insert(Arc::clone(id), nth);
        }
    }
}

/// The digest of a key that no other account has.
pub(crate) fn key(
    text: &str,
    nth: usize,
    at: &At<'_>,
    known: &mut Known<'_>,
    resolver: &mut Resolver<'_>,
) -> Option<Digest> {
    let digest = resolver.digest(at, text)?;
    if let Some(owner) = known.keys.get(&digest) {
        let fault = format!("is a key of accounts[{owner}] already; a key opens one account");
        resolver.fault(at, fault);
        return None;
    }
    known.keys.insert(digest, nth);
    Some(digest)
}

/// The own name of the model that is called so.
pub(crate) fn model(
    name: &str,
    at: &At<'_>,
    known: &Known<'_>,
    resolver: &mut Resolver<'_>,
) -> Option<Arc<str>> {
    let found = known.models.get(name).cloned();
    if found.is_none() && !name.is_empty() {
        resolver.fault_with(at, || {
            let mut names: Vec<&str> = known.models.keys().map(|name| &**name).collect();
            names.sort_unstable();
            unknown("model", name, names.into_iter())
        });
    }
    found
}

fn overrides(
    files: Vec<LimitFile>,
    at: &At<'_>,
    known: &Known<'_>,
    resolver: &mut Resolver<'_>,
) -> Vec<LimitOverride> {
    let mut list: Vec<LimitOverride> = Vec::with_capacity(files.len());
    for (nth, file) in files.into_iter().enumerate() {
        let at = at.item(nth);
        let name = match file.model.as_deref() {
            None if resolver.is_faulty(&at.key("model")) => continue,
            None => None,
            Some(name) => match model(name, &at.key("model"), known, resolver) {
                None => continue,
                found => found,
            },
        };
        if list.iter().any(|other| other.model == name) {
            let what = name.as_deref().map_or("every model".to_owned(), |name| format!("`{}`", Shown(name)));
            resolver.fault(&at, format!("is a second entry for {what}; keep one"));
        }
        in_order(&file, &at, resolver);
        let LimitFile { start, floor, ceiling, .. } = file;
        list.push(LimitOverride { model: name, start, floor, ceiling });
    }
    list
}

/// Where two bounds of a meter are both written, they must not be swapped.
fn in_order(file: &LimitFile, at: &At<'_>, resolver: &mut Resolver<'_>) {
    let pairs = [
        ("floor", &file.floor, "start", &file.start),
        ("start", &file.start, "ceiling", &file.ceiling),
        ("floor", &file.floor, "ceiling", &file.ceiling),
    ];
    for (low_name, low, high_name, high) in pairs {
        for ((meter, low), (_, high)) in low.meters().into_iter().zip(high.meters()) {
            if let (Some(low), Some(high)) = (low, high)
                && low > high
            {
                let at = at.key(low_name);
                let fault =
                    format!("must not exceed {high_name}.{meter} ({high}), is {low}; were the two swapped?");
                resolver.fault(&at.key(meter), fault);
            }
        }
    }
}
