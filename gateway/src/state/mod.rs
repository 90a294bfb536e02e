//! What the gateway knows: a snapshot built from one config, and what outlives every config.
//!
//! A request loads the snapshot once and keeps it, so it never sees half of one config and half of another.
//! Budgets, request meters and gates are looked up by name in the [`Registry`] when a snapshot is built, so
//! they go on through reloads.

pub mod gateway;
pub mod journal;
pub mod key_expiry;
pub mod keys;
pub mod registry;
pub mod reload;
pub mod saving;
pub mod upgrades;
pub mod usage_page;
pub mod usage_saving;

pub use gateway::Gateway;
pub use registry::Registry;

use crate::accounts::budget::BudgetCell;
use crate::accounts::memory::HolderMemory;
use crate::clock;
use crate::upstream::deployment::Deployment;
use config::Config;
use config::keys::{Digest, KeyTable};
use gateway_core::averages::UsualAnswer;
use keys::{Bearer, Key};
use limits::RequestMeter;
use parking_lot::Mutex;
use protocol::stable_hash;
use registry::AccountState;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use weighing::averages::Shared;
use weighing::weigh::ModelWeigher;

/// Everything that one config says, ready to use.
#[derive(Debug)]
pub struct Snapshot {
    /// The config itself.
    pub config: Arc<Config>,
    /// Accounts by id: those of the config, and those made at run time.
    pub accounts: HashMap<Arc<str>, Arc<Account>>,
    /// Accounts by the digests of their keys, disabled ones too.
    pub keys: KeyTable<Bearer>,
    /// Keys that end by their own rights, of any account.
    pub expiring: Vec<(Arc<Account>, Arc<Key>)>,
    /// Models by name and alias.
    pub models: HashMap<Arc<str>, Arc<Model>>,
    /// Deployments in the order of the file.
    pub deployments: Arc<[Arc<Deployment>]>,
    /// Wall time of the build, seconds since the epoch: the `created` of models.
    pub built: u64,
    /// Accounts' ids by their numbers.
    numbers: HashMap<u64, Arc<str>>,
}

/// One account.
#[derive(Debug)]
pub struct Account {
    /// What the config says, or what was said at run time.
    pub config: Arc<config::Account>,
    /// Whether it was made at run time.
    pub made: bool,
    /// The unit of fairness and of prefix knowledge: a hash of the id, so it survives restarts.
    pub number: u64,
    /// What keeps its prompts apart in an engine's cache; says nothing of the id.
    pub cache_salt: Box<str>,
    /// Requests per minute and at once.
    pub meter: Arc<Mutex<RequestMeter>>,
    /// Bytes held.
    pub memory: Arc<HolderMemory>,
    /// Its keys that have a name.
    pub named_keys: Vec<Arc<Key>>,
    /// Budgets by the model's index, those that were used; the registry holds them, and lets idle ones go.
    budgets: Mutex<BTreeMap<usize, Weak<BudgetCell>>>,
}

/// One model.
#[derive(Debug)]
pub struct Model {
    /// What the config says.
    pub config: Arc<config::Model>,
    /// Its place in the account's budgets.
    pub index: usize,
    /// Its deployments in order, with whom each takes.
    pub routes: Vec<(config::Route, Arc<Deployment>)>,
    /// What requests weigh.
    pub weigher: Arc<ModelWeigher>,
    /// What an answer of this model usually generates.
    pub usual: Arc<Shared<UsualAnswer>>,
}

impl Account {
    fn build(config: Arc<config::Account>, made: bool, registry: &Registry) -> Account {
        let AccountState { meter, memory } = registry.account(&config);
        Account {
            number: stable_hash(config.id.as_bytes()),
            cache_salt: cache_salt(&config.id),
            meter,
            memory,
            budgets: Mutex::default(),
            named_keys: config
                .named_keys
                .iter()
                .map(|key| Key::build(Arc::clone(key), &config, registry))
                .collect(),
            made,
            config,
        }
    }

    /// The budget on `model`: in memory, or read from the journal, or new.
    #[must_use]
    pub fn budget(&self, registry: &Registry, config: &Config, model: &Model) -> Arc<BudgetCell> {
        if let Some(cell) = self.budgets.lock().get(&model.index).and_then(Weak::upgrade) {
            return cell;
        }
        // With nothing locked, for the journal may be read. Two that come at once get the same one.
        let cell = registry.budget(config, &self.config, &model.config);
        self.budgets.lock().insert(model.index, Arc::downgrade(&cell));
        cell
    }

    /// Gives up the places of budgets that have left memory, which keep some KiB each.
    fn forget_gone(&self) {
        self.budgets.lock().retain(|_, cell| cell.strong_count() > 0);
        self.named_keys.iter().for_each(|key| key.forget_gone());
    }

    /// The key of that digest, where it has a name. O(keys of the account).
    #[must_use]
    pub fn named_key(&self, digest: &Digest) -> Option<&Arc<Key>> {
        self.named_keys.iter().find(|key| key.config.digest == *digest)
    }
}

/// The salt of an account: a digest of its id, so that it is the same after a restart and on every gateway, and what
/// an engine logs names no customer.
fn cache_salt(account: &str) -> Box<str> {
    use sha2::Digest as _;
    let digest = sha2::Sha256::new().chain_update(b"cache salt of ").chain_update(account).finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

impl Snapshot {
    /// To be called after budgets were let go: what is left of them in the accounts goes, too. O(accounts).
    pub fn forget_gone(&self) {
        self.accounts.values().for_each(|account| account.forget_gone());
    }

    /// The account of that id.
    #[must_use]
    pub fn account(&self, id: &str) -> Option<Arc<Account>> {
        self.accounts.get(id).cloned()
    }

    /// The id of the account of that number, as shedders know it; `other` where there is none any more.
    #[must_use]
    pub fn account_numbered(&self, number: u64) -> Arc<str> {
        self.numbers.get(&number).cloned().unwrap_or_else(|| "other".into())
    }

    /// Builds the snapshot of `config`. Looks up the names of replicas, which may block; one without an address is
    /// told and looked up again later. Deployments that are in `before` by name go on with their shedders. `made` are the
    /// accounts made at run time.
    #[must_use]
    pub fn build(
        config: Arc<Config>,
        made: Vec<Arc<config::Account>>,
        registry: &Registry,
        before: Option<&Snapshot>,
    ) -> Snapshot {
        let known = before.map_or(&[][..], |before| &*before.deployments);
        let deployments: Arc<[Arc<Deployment>]> = config
            .deployments
            .iter()
            .map(|deployment| Arc::new(Deployment::after(deployment, known)))
            .collect();
        let by_name: HashMap<&str, &Arc<Deployment>> =
            deployments.iter().map(|deployment| (&*deployment.config.name, deployment)).collect();
        let mut models = HashMap::new();
        for (index, model) in config.models.iter().enumerate() {
            let (weigher, usual) = registry.model(model);
            let routes = model.routes.iter().filter_map(|route| {
                by_name.get(&*route.deployment.name).map(|deployment| (route.clone(), Arc::clone(deployment)))
            });
            let built = Arc::new(Model {
                config: Arc::clone(model),
                index,
                routes: routes.collect(),
                weigher,
                usual,
            });
            for name in std::iter::once(&model.name).chain(&model.aliases) {
                models.insert(Arc::clone(name), Arc::clone(&built));
            }
        }
        Snapshot {
            accounts: HashMap::new(),
            keys: KeyTable::default(),
            expiring: Vec::new(),
            numbers: HashMap::new(),
            models,
            deployments,
            built: clock::wall().as_secs(),
            config,
        }
        .with_accounts(made, registry)
    }

    /// The same config with other accounts made at run time; those that did not change are not built again.
    /// O(accounts).
    #[must_use]
    pub fn with_accounts(&self, made: Vec<Arc<config::Account>>, registry: &Registry) -> Snapshot {
        let declared = self.config.accounts.iter().map(|account| (Arc::clone(account), false));
        let mut accounts = HashMap::new();
        let (mut keys, mut expiring) = (KeyTable::default(), Vec::new());
        for (account, made) in declared.chain(made.into_iter().map(|account| (account, true))) {
            let old = self.accounts.get(&account.id).filter(|old| Arc::ptr_eq(&old.config, &account));
            let built = old.cloned().unwrap_or_else(|| Arc::new(Account::build(account, made, registry)));
            for key in &built.config.keys {
                let bearer = Bearer { account: Arc::clone(&built), key: built.named_key(key).cloned() };
                // Rules and roster see to it that a key opens one account; were it not so, the first would keep it.
                drop(keys.insert(*key, bearer));
            }
            let ends = built.named_keys.iter().filter(|key| key.config.expires.is_some());
            expiring.extend(ends.map(|key| (Arc::clone(&built), Arc::clone(key))));
            accounts.insert(Arc::clone(&built.config.id), built);
        }
        let numbers = accounts.values().map(|account| (account.number, Arc::clone(&account.config.id)));
        Snapshot {
            numbers: numbers.collect(),
            accounts,
            keys,
            expiring,
            models: self.models.clone(),
            deployments: self.deployments.clone(),
            built: self.built,
            config: Arc::clone(&self.config),
        }
    }
}
