//! What the gateway knows: a snapshot built from one config, and what outlives every config.
//!
//! A request loads the snapshot once and keeps it, so it never sees half of one config and half of another.
//! Budgets, request meters and gates are looked up by name in the [`Registry`] when a snapshot is built, so
//! they go on through reloads.

use crate::admission::Gate;
use crate::budget::BudgetCell;
use crate::clock;
use crate::config::{self, Config, Tier};
use crate::entropy::stable_hash;
use crate::journal::Journal;
use crate::keys::KeyTable;
use crate::last_minute::LastMinute;
use crate::memory::AccountMemory;
use crate::operated::Operated;
use crate::overrides::Overrides;
use crate::request::weigh::{ModelWeigher, Prefixes};
use crate::upstream::discovery::Places;
use crate::upstream::learned::Learned;
use crate::upstream::replica::{Replica, UpstreamTimeouts};
use crate::upstream::replicas::Replicas;
use limits::{Budget, RequestMeter};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Everything that one config says, ready to use.
#[derive(Debug)]
pub struct Snapshot {
    /// The config itself.
    pub config: Arc<Config>,
    /// Accounts by id: those of the config, and those made at run time.
    pub accounts: HashMap<Arc<str>, Arc<Account>>,
    /// Accounts by the digests of their keys, disabled ones too.
    pub keys: KeyTable<Arc<Account>>,
    /// Models by name and alias.
    pub models: HashMap<Arc<str>, Arc<Model>>,
    /// Deployments in the order of the file.
    pub deployments: Vec<Arc<Deployment>>,
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
    pub memory: Arc<AccountMemory>,
    /// Budgets by the model's index; the registry holds them, and lets idle ones go.
    budgets: Vec<Mutex<Weak<BudgetCell>>>,
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
    pub usual: Arc<UsualAnswer>,
}

/// One deployment.
#[derive(Debug)]
pub struct Deployment {
    /// What the config says.
    pub config: Arc<config::Deployment>,
    /// Its gate.
    pub gate: Arc<Gate>,
    /// Its replicas by the shedder's number.
    pub replicas: Replicas,
    /// Where they are, and what their names stood for last.
    pub places: Mutex<Places>,
    /// What the engines tell about themselves.
    pub learned: Arc<Learned>,
    /// How long they may take.
    pub timeouts: UpstreamTimeouts,
    /// What they have cached.
    pub prefixes: Arc<Prefixes>,
    /// Tokens that one content chunk usually carries.
    pub tokens_per_chunk: Arc<TokensPerChunk>,
    /// What was admitted and shed in the last minute.
    pub last_minute: Arc<LastMinute>,
    /// What operators did to it.
    pub operated: Arc<Operated>,
}

/// An average that finished answers move, shared by all accounts of a model. Starts at the model's default.
#[derive(Debug)]
pub struct UsualAnswer(AtomicF64);

/// Tokens per content chunk, moved by finished streams. Starts at 1; more with speculative decoding.
#[derive(Debug)]
pub struct TokensPerChunk(AtomicF64);

/// Share of a new sample in these averages.
const GAIN: f64 = 0.1;

impl UsualAnswer {
    /// An average that nothing has moved yet.
    #[must_use]
    pub fn starting_at(tokens: u32) -> Self {
        UsualAnswer(AtomicF64::new(f64::from(tokens)))
    }

    /// Tokens.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.0.load().round() as u64
    }

    /// An answer finished with so many tokens per choice.
    pub fn learn(&self, tokens: u64) {
        self.0.move_towards(tokens as f64, GAIN);
    }
}

impl Default for TokensPerChunk {
    fn default() -> Self {
        TokensPerChunk(AtomicF64::new(1.0))
    }
}

impl TokensPerChunk {
    /// Tokens per chunk, at least 1.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.0.load()
    }

    /// A stream finished: `tokens` by the engine's usage in `chunks` content chunks.
    pub fn learn(&self, tokens: u64, chunks: u32) {
        if chunks > 0 && tokens > 0 {
            self.0.move_towards((tokens as f64 / f64::from(chunks)).clamp(1.0, 64.0), GAIN);
        }
    }
}

#[derive(Debug)]
struct AtomicF64(AtomicU64);

impl AtomicF64 {
    fn new(value: f64) -> Self {
        AtomicF64(AtomicU64::new(value.to_bits()))
    }

    fn load(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// Concurrent moves may lose one of them, which an average forgives.
    fn move_towards(&self, target: f64, gain: f64) {
        let value = self.load();
        self.0.store((value + gain * (target - value)).to_bits(), Ordering::Relaxed);
    }
}

/// What goes on through reloads, by name. Bounded by what configs ever named.
#[derive(Debug, Default)]
pub struct Registry {
    inner: Mutex<Inner>,
    journal: Option<Arc<Journal>>,
    overrides: Overrides,
}

#[derive(Debug, Default)]
struct Inner {
    accounts: HashMap<Arc<str>, AccountState>,
    budgets: HashMap<(Arc<str>, Arc<str>), Arc<BudgetCell>>,
    weighers: HashMap<Arc<str>, (Arc<ModelWeigher>, Arc<UsualAnswer>)>,
}

#[derive(Debug, Clone)]
struct AccountState {
    meter: Arc<Mutex<RequestMeter>>,
    memory: Arc<AccountMemory>,
}

impl Registry {
    /// A registry whose budgets are found again in `journal`, with limits as operators set them.
    #[must_use]
    pub fn with_state(journal: Option<Arc<Journal>>, overrides: Overrides) -> Self {
        Registry { inner: Mutex::default(), journal, overrides }
    }

    /// Where budgets outlive the process, if anywhere.
    #[must_use]
    pub fn journal(&self) -> Option<&Journal> {
        self.journal.as_deref()
    }

    /// Limits that operators set.
    #[must_use]
    pub fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// Puts the bounds in force that config and operators say now, where the budget is in memory.
    pub fn reconfigure(&self, config: &Config, account: &config::Account, model: &config::Model) {
        let bounds = budget_config(config, account, model, &self.overrides);
        let key = (Arc::clone(&account.id), Arc::clone(&model.name));
        let cell = self.inner.lock().budgets.get(&key).cloned();
        if let Some(cell) = cell {
            // Bounds that are the same restart no waits.
            let changed = cell.with(|budget| {
                let changed = *budget.config() != bounds;
                if changed {
                    budget.reconfigure(clock::now(), bounds);
                }
                changed
            });
            if changed {
                cell.touch();
            }
        }
    }

    /// Every budget in memory. Allocates.
    #[must_use]
    pub fn budgets(&self) -> Vec<Arc<BudgetCell>> {
        self.inner.lock().budgets.values().cloned().collect()
    }

    /// Running requests over all accounts: zero at rest.
    #[must_use]
    pub fn live_requests(&self) -> u64 {
        self.inner.lock().accounts.values().map(|account| u64::from(account.meter.lock().live())).sum()
    }

    /// Forgets the requests of an account that is gone: those that run end with what they hold.
    pub fn forget_account(&self, id: &str) {
        self.inner.lock().accounts.remove(id);
    }

    fn account(&self, account: &config::Account) -> AccountState {
        let (per_minute, at_once) = (u64::from(account.requests_per_minute), account.concurrency);
        let mut inner = self.inner.lock();
        let state = inner.accounts.entry(Arc::clone(&account.id)).or_insert_with(|| AccountState {
            meter: Arc::new(Mutex::new(RequestMeter::new(per_minute, at_once))),
            memory: Arc::default(),
        });
        state.meter.lock().reconfigure(per_minute, at_once);
        state.clone()
    }

    fn model(&self, model: &config::Model) -> (Arc<ModelWeigher>, Arc<UsualAnswer>) {
        let fresh =
            || (Arc::new(ModelWeigher::new(model)), Arc::new(UsualAnswer::starting_at(model.default_output)));
        self.inner.lock().weighers.entry(Arc::clone(&model.name)).or_insert_with(fresh).clone()
    }

    /// The budget in memory, or as it was saved, or a new one. The file is read with nothing locked here: its reading
    /// must hold up nobody else. Two that look for the same one at once, as at a reload, get the one that came first.
    fn budget(&self, config: &Config, account: &config::Account, model: &config::Model) -> Arc<BudgetCell> {
        let key = (Arc::clone(&account.id), Arc::clone(&model.name));
        if let Some(cell) = self.inner.lock().budgets.get(&key) {
            return Arc::clone(cell);
        }
        let bounds = budget_config(config, account, model, &self.overrides);
        let saved = self.journal.as_ref().and_then(|journal| journal.find(&account.id, &model.name, bounds));
        let budget = saved.unwrap_or_else(|| Budget::new(clock::now(), bounds));
        let found = BudgetCell::new(Arc::clone(&account.id), Arc::clone(&model.name), budget);
        Arc::clone(self.inner.lock().budgets.entry(key).or_insert(found))
    }

    /// Budgets in memory.
    #[must_use]
    pub fn in_memory(&self) -> usize {
        self.inner.lock().budgets.len()
    }

    /// Lets budgets go that were saved and not touched since `since`; how many. Without a journal none: it would
    /// be forgetting.
    pub fn forget_idle(&self, since: Duration) -> usize {
        let mut inner = self.inner.lock();
        let before = inner.budgets.len();
        // With the registry locked nobody gets a new handle; one that is out keeps the budget here.
        inner.budgets.retain(|_, cell| Arc::strong_count(cell) > 1 || !cell.is_idle(since));
        before - inner.budgets.len()
    }

    #[cfg(test)]
    pub(crate) fn insert(&self, account: &str, model: &str, config: limits::BudgetConfig) -> Arc<BudgetCell> {
        let cell = BudgetCell::new(account.into(), model.into(), Budget::new(clock::now(), config));
        self.inner.lock().budgets.insert((account.into(), model.into()), Arc::clone(&cell));
        cell
    }
}

/// The bounds and the policy of one account's budget on one model.
#[must_use]
pub fn budget_config(
    config: &Config,
    account: &config::Account,
    model: &config::Model,
    overrides: &Overrides,
) -> limits::BudgetConfig {
    let bounds = overrides.apply(&account.id, &model.name, config.limits.bounds(account, model));
    let meter = |of: fn(&config::Meters) -> u64| {
        let at_most = |tokens: u64| tokens.min(limits::TOKENS_PER_MINUTE_MAX);
        let (start, floor, ceiling) = (of(&bounds.start), of(&bounds.floor), of(&bounds.ceiling));
        // The config has floor <= start <= ceiling, so this is only another type for the same numbers.
        limits::Bounds { start: at_most(start), floor: at_most(floor), ceiling: at_most(ceiling) }
    };
    limits::BudgetConfig {
        policy: policy(&config.limits),
        bounds: limits::PerMeter {
            prompt: meter(|m| m.prompt),
            uncached_prompt: meter(|m| m.uncached_prompt),
            generated: meter(|m| m.generated),
        },
    }
}

fn policy(limits: &config::Limits) -> limits::Policy {
    let percent = |share: f64| (share * 100.0).round() as u32;
    match limits.policy {
        config::LimitPolicy::Fixed => limits::Policy::Fixed,
        config::LimitPolicy::Published => limits::Policy::Published(limits::AdaptiveRule {
            grow_above_percent: percent(limits.growth.use_over),
            grow_by_percent: percent(limits.growth.factor - 1.0),
            grow_every: limits.growth.every,
            shrink_below_percent: percent(limits.shrink.use_under),
            shrink_by_percent: percent(1.0 - limits.shrink.factor),
            shrink_every: limits.shrink.every,
            shrink_keeps_percent: percent(limits.shrink.unless_over),
            observed: Duration::from_secs(u64::from(limits.shrink.days) * 86_400),
            reset_after: limits.reset_after,
        }),
    }
}

impl Account {
    fn build(config: Arc<config::Account>, made: bool, models: usize, registry: &Registry) -> Account {
        let AccountState { meter, memory } = registry.account(&config);
        Account {
            number: stable_hash(config.id.as_bytes()),
            cache_salt: cache_salt(&config.id),
            meter,
            memory,
            budgets: (0..models).map(|_| Mutex::default()).collect(),
            made,
            config,
        }
    }

    /// The budget on `model`: in memory, or read from the journal, or new.
    #[must_use]
    pub fn budget(&self, registry: &Registry, config: &Config, model: &Model) -> Arc<BudgetCell> {
        let find = || registry.budget(config, &self.config, &model.config);
        let Some(slot) = self.budgets.get(model.index) else { return find() };
        let mut slot = slot.lock();
        if let Some(cell) = slot.upgrade() {
            return cell;
        }
        let cell = find();
        *slot = Arc::downgrade(&cell);
        cell
    }

    /// Whether the account is entitled to priority.
    #[must_use]
    pub fn may_priority(&self) -> bool {
        self.config.tiers.contains(Tier::Priority)
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
        let deployments: Vec<Arc<Deployment>> = config
            .deployments
            .iter()
            .map(|deployment| Arc::new(Deployment::after(deployment, before)))
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
        let mut keys = KeyTable::default();
        for (account, made) in declared.chain(made.into_iter().map(|account| (account, true))) {
            let old = self.accounts.get(&account.id).filter(|old| Arc::ptr_eq(&old.config, &account));
            let built = old.cloned().unwrap_or_else(|| {
                Arc::new(Account::build(account, made, self.config.models.len(), registry))
            });
            for key in &built.config.keys {
                // Rules and roster see to it that a key opens one account; were it not so, the first would keep it.
                drop(keys.insert(*key, Arc::clone(&built)));
            }
            accounts.insert(Arc::clone(&built.config.id), built);
        }
        let numbers = accounts.values().map(|account| (account.number, Arc::clone(&account.config.id)));
        Snapshot {
            numbers: numbers.collect(),
            accounts,
            keys,
            models: self.models.clone(),
            deployments: self.deployments.clone(),
            built: self.built,
            config: Arc::clone(&self.config),
        }
    }
}

/// Tells the shedders of `deployments` their replicas and their config, and does `swap` while none of them gives out a
/// place. So nobody gets a place of the new config before that is the one to be read, nor one of the old after it.
pub fn put_in_force(deployments: &[Arc<Deployment>], swap: &mut dyn FnMut()) {
    let Some((deployment, rest)) = deployments.split_first() else { return swap() };
    let told = deployment.replicas.for_shedder();
    deployment.gate.with(|shedder| {
        shedder.reconfigure(clock::now(), shedder_config(&deployment.config), &told);
        put_in_force(rest, swap);
    });
}

impl Deployment {
    /// The ceilings in force: as configured, or as an operator set them.
    #[must_use]
    pub fn ceilings(&self) -> config::Ceilings {
        self.operated.ceilings().unwrap_or(self.config.ceilings)
    }

    /// The replica that a session's hint belongs to.
    #[must_use]
    pub fn hinted(&self, hint: Option<u64>) -> Option<shedder::ReplicaId> {
        self.replicas.hinted(hint?)
    }

    /// From now on these are its replicas.
    pub fn become_these(&self, replicas: Vec<Replica>) {
        let (before, after) = (self.replicas.all().len(), replicas.len());
        self.replicas.become_these(replicas, &self.gate, &self.prefixes);
        tracing::info!(deployment = &*self.config.name, before, after, "the replicas have changed");
    }

    /// Takes a replica, by its number or by its name, out of service, or back: what runs there runs on, nothing new
    /// comes. `false`: there is no such one. It lasts until it is taken back, or its address is gone.
    pub fn drain(&self, replica: &str, drained: bool) -> bool {
        let by_number = || replica.parse().ok().map(shedder::ReplicaId);
        let found = self.replicas.named(replica).or_else(by_number);
        let Some(id) = found.filter(|id| self.replicas.get(*id).is_some()) else { return false };
        self.gate.with(|shedder| shedder.set_drained(clock::now(), id, drained));
        tracing::info!(deployment = &*self.config.name, replica, drained, "drain");
        true
    }

    /// The one of that name in `before` under its new config, or a new one.
    fn after(config: &Arc<config::Deployment>, before: Option<&Snapshot>) -> Deployment {
        let same = |old: &&Arc<Deployment>| old.config.name == config.name;
        match before.and_then(|before| before.deployments.iter().find(same)) {
            Some(old) => old.renewed(config),
            None => Deployment::build(config),
        }
    }

    /// The same deployment under a new config: who waits and who runs goes on, and so does what was learnt. Ceilings
    /// that an operator set are replaced, drains and a pressure stay. The shedder is not told yet: see [`put_in_force`].
    fn renewed(&self, config: &Arc<config::Deployment>) -> Deployment {
        let timeouts = timeouts(&config.timeouts);
        let mut places = Places::new(Arc::clone(config), timeouts);
        places.resolve_now();
        let replicas = self.replicas.renewed(places.replicas(), config, &self.gate, &self.prefixes);
        self.operated.set_ceilings(None);
        Deployment {
            gate: Arc::clone(&self.gate),
            replicas,
            places: Mutex::new(places),
            learned: Arc::clone(&self.learned),
            timeouts,
            prefixes: Arc::clone(&self.prefixes),
            tokens_per_chunk: Arc::clone(&self.tokens_per_chunk),
            last_minute: Arc::clone(&self.last_minute),
            operated: Arc::clone(&self.operated),
            config: Arc::clone(config),
        }
    }

    /// Looks its names up, which may block.
    pub(crate) fn build(config: &Arc<config::Deployment>) -> Deployment {
        let timeouts = timeouts(&config.timeouts);
        let mut places = Places::new(Arc::clone(config), timeouts);
        places.resolve_now();
        let replicas = Replicas::new(places.replicas(), config);
        let shedder = shedder::Shedder::new(clock::now(), shedder_config(config), &replicas.for_shedder());
        Deployment {
            gate: Gate::new(shedder),
            replicas,
            places: Mutex::new(places),
            learned: Arc::default(),
            timeouts,
            prefixes: Arc::new(Prefixes::new(config.shared_prefixes)),
            tokens_per_chunk: Arc::default(),
            last_minute: Arc::default(),
            operated: Arc::default(),
            config: Arc::clone(config),
        }
    }
}

/// What the config says of a deployment's timeouts.
pub(crate) fn timeouts(config: &config::Timeouts) -> UpstreamTimeouts {
    UpstreamTimeouts {
        connect: config.connect,
        first_token: config.first_token,
        between_tokens: config.between_tokens,
        answer: config.answer,
        write: config.write,
        idle: config.idle,
    }
}

fn shedder_config(config: &config::Deployment) -> shedder::Config {
    let slo = &config.slo;
    let has_slo = slo.ttft.is_some() || slo.tpot.is_some();
    shedder::Config {
        slo: has_slo.then(|| shedder::Slo {
            ttft: slo.ttft.unwrap_or(Duration::from_secs(2)),
            tpot: slo.tpot.unwrap_or(Duration::from_millis(100)),
        }),
        ceilings: shedder::PerTier { priority: config.ceilings.priority, regular: config.ceilings.regular },
        slots_max: config.slots_max,
        fixed_limit: config.limit.map(f64::from),
        step_budget: config.step_tokens,
        kv_tokens: config.kv_tokens,
        scrape_interval: config.scrape.interval,
        queue: shedder::QueueBounds {
            requests: config.queue.requests,
            tokens: config.queue.tokens,
            bytes: config.queue.bytes,
            ..shedder::QueueBounds::default()
        },
        aborts_on_disconnect: config.engine.aborts(),
        withdraw: config.withdraw,
        share_max: config.priority_share_max,
        regular_floor: config.regular_share_min,
        ..shedder::Config::default()
    }
}
