//! The process: one snapshot of the config, and what all requests share.

use crate::accounts::memory::Memory;
use crate::clock;
use crate::state::Snapshot;
use crate::state::registry::{IDLE_AFTER, Registry};
use crate::state::reload::Reloader;
use crate::state::upgrades::Upgrades;
use crate::telemetry::accounting::Accounts;
use crate::telemetry::shortage::Shortage;
use crate::upstream::admission::Gate;
use crate::upstream::deployment::{CurrentDeployments, Deployment, put_in_force};
use crate::upstream::harvest;
use arc_swap::ArcSwap;
use config::Config;
use connections::Connections;
use drill_runner::runner::Runner;
use parking_lot::Mutex;
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use store::dynamic_accounts::{InForce, Roster};
use tokio::sync::watch;

/// Idle connections to engines that are kept, over all replicas.
const POOL_SIZE: usize = 1024;

/// What all requests share.
pub struct Gateway {
    snapshot: ArcSwap<Snapshot>,
    /// What goes on through reloads.
    pub registry: Registry,
    /// Accounts made at run time.
    pub roster: Roster,
    /// Held while a snapshot is made of the last one.
    changing: Mutex<()>,
    /// Bytes of bodies in flight.
    pub memory: Arc<Memory>,
    /// Open client connections.
    pub connections: Arc<Connections>,
    /// Connections to engines.
    pub connector: Connector<()>,
    /// Where finished requests go.
    pub accounts: Arc<Accounts>,
    /// Which models are short of capacity.
    pub shortage: Shortage,
    /// Drills on the config in force.
    pub drills: Arc<Runner>,
    /// The config's file, and what became of reading it again.
    pub reloader: Reloader,
    /// What became of attempts to hand over to a new process.
    pub upgrades: Upgrades,
    /// The config that the process started with, as the admin API shows it.
    pub started_with: serde_json::Value,
    /// Deployments that no config names any more, until their last request is over.
    retiring: Mutex<Vec<Arc<Deployment>>>,
    in_flight: Arc<AtomicU64>,
    draining: AtomicBool,
    /// Whether a new process took over; to be awaited by [`handed_over`](Self::handed_over).
    handed_over: watch::Sender<bool>,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("in_flight", &self.in_flight).finish_non_exhaustive()
    }
}

/// A request in flight; counted until it is dropped.
#[derive(Debug)]
pub struct InFlight(Arc<AtomicU64>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Every counter that must be zero when nothing runs.
#[derive(Debug, Clone, Serialize)]
pub struct Invariants {
    /// Whether all of `counters` are zero.
    pub at_rest: bool,
    /// By name.
    pub counters: BTreeMap<String, u64>,
}

impl Gateway {
    /// The gateway of one config.
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        accounts: Arc<Accounts>,
        connections: Arc<Connections>,
        registry: Registry,
        roster: Roster,
    ) -> Self {
        let limits = &config.listen.limits;
        let memory =
            Memory::new(limits.inflight_bytes, limits.inflight_account_share, limits.inflight_priority_share);
        let started_with = config::redacted(&config);
        let made = in_force(&roster, &config);
        let snapshot = Snapshot::build(config, made, &registry, None);
        Gateway {
            snapshot: ArcSwap::from_pointee(snapshot),
            registry,
            roster,
            changing: Mutex::default(),
            memory,
            connections,
            connector: Connector::new(Some(ConnectorOptions::new(POOL_SIZE))),
            accounts,
            shortage: Shortage::default(),
            drills: Arc::default(),
            reloader: Reloader::default(),
            upgrades: Upgrades::default(),
            started_with,
            retiring: Mutex::default(),
            in_flight: Arc::default(),
            draining: AtomicBool::new(false),
            handed_over: watch::Sender::new(false),
        }
    }

    /// The snapshot in force. A request keeps the one it began with.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The deployments of the config in force, for tasks that follow it.
    #[must_use]
    pub fn current_deployments(self: &Arc<Self>) -> CurrentDeployments {
        let gateway = Arc::clone(self);
        CurrentDeployments::new(move || Arc::clone(&gateway.snapshot.load().deployments))
    }

    /// Puts a config in force, at once and whole. O(accounts × models used).
    pub fn adopt(&self, config: Arc<Config>) {
        let _turn = self.changing.lock();
        let before = self.snapshot();
        let made = in_force(&self.roster, &config);
        let after = Arc::new(Snapshot::build(config, made, &self.registry, Some(&before)));
        let is_in = |snapshot: &Snapshot, one: &Arc<Deployment>| {
            snapshot.deployments.iter().any(|other| Arc::ptr_eq(&other.gate, &one.gate))
        };
        let kept: Vec<Arc<Deployment>> =
            after.deployments.iter().filter(|new| is_in(&before, new)).cloned().collect();
        put_in_force(&kept, &mut || self.snapshot.store(Arc::clone(&after)));
        let gone = before.deployments.iter().filter(|old| !is_in(&after, old)).cloned();
        self.retiring.lock().extend(gone);
        self.reconfigure(&after, None);
        self.registry.forget_keys();
    }

    /// Puts the accounts made at run time in force as they are now; of the one that changed, its limits too. A request
    /// keeps what it began with. O(accounts).
    pub fn accounts_changed(&self, id: Option<&str>) {
        let _turn = self.changing.lock();
        let before = self.snapshot();
        let made = self.roster.in_force(&before.config, clock::wall()).accounts;
        let after = Arc::new(before.with_accounts(made, &self.registry));
        self.snapshot.store(Arc::clone(&after));
        drop(before);
        self.registry.forget_keys();
        if let Some(id) = id {
            self.reconfigure(&after, Some(id));
        }
    }

    /// Bounds of budgets in memory as a snapshot has them, of all accounts or of one.
    fn reconfigure(&self, after: &Snapshot, only: Option<&str>) {
        let budgets = self.registry.budgets().into_iter();
        for budget in budgets.filter(|budget| only.is_none_or(|id| *budget.account == *id)) {
            let (account, model) = (after.account(&budget.account), after.config.model(&budget.model));
            if let (Some(account), Some(model)) = (account, model) {
                self.registry.reconfigure(&after.config, &account.config, model);
            }
        }
    }

    /// Counts a request until the guard is dropped.
    #[must_use]
    pub fn enter(&self) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(&self.in_flight))
    }

    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether the process is on its way out.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The process goes down: `/readyz` turns red, connections end with their request.
    pub fn begin_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// A new process serves from now on: this one takes no connection, and ends what it has.
    pub fn hand_over(&self) {
        self.begin_draining();
        self.handed_over.send_replace(true);
    }

    /// Whether a new process took over.
    #[must_use]
    pub fn is_handed_over(&self) -> bool {
        *self.handed_over.borrow()
    }

    /// Resolves once a new process has taken over. Cancel-safe.
    pub async fn handed_over(&self) {
        let mut handed_over = self.handed_over.subscribe();
        // The sender lives as long as the gateway.
        let _ = handed_over.wait_for(|over| *over).await;
    }

    /// Nothing that waits will get a place any more.
    pub fn close_gates(&self) {
        for gate in self.gates() {
            gate.with(|shedder| shedder.close(clock::now()));
        }
    }

    /// What runs cannot be waited for any longer: each stream is told with its next token.
    pub fn run_out_of_time(&self) {
        for gate in self.gates() {
            gate.live().iter().for_each(|(_, live)| live.run_out_of_time());
        }
    }

    fn gates(&self) -> Vec<Arc<Gate>> {
        let mut retiring = self.retiring.lock();
        // A request that still holds the old snapshot may yet come to wait there.
        retiring.retain(|old| Arc::strong_count(old) > 1 || old.gate.outstanding() != (0, 0));
        let snapshot = self.snapshot();
        let all = snapshot.deployments.iter().chain(&*retiring);
        all.map(|deployment| Arc::clone(&deployment.gate)).collect()
    }

    /// Four times a second: harvest the streams and drive the shedders.
    pub fn tick(&self) {
        for gate in self.gates() {
            harvest::harvest(&gate);
        }
    }

    /// Ends waits whose time is over, between two ticks.
    pub fn end_waits(&self) {
        let now = clock::now();
        for gate in self.gates() {
            if gate.read(|shedder| shedder.next_due().is_some_and(|due| due <= now)) {
                gate.with(|shedder| shedder.tick(now, &[]));
            }
        }
    }

    /// Once a second: note what was shed, freeze growth where a model is short, and tell of limits that moved.
    pub fn tend_budgets(&self) {
        let since = clock::now().saturating_sub(IDLE_AFTER);
        if self.registry.journal().is_none() && self.registry.forget_unused(clock::now(), since) > 0 {
            self.snapshot().forget_gone();
        }
        for deployment in self.snapshot().deployments.iter() {
            let now = clock::now();
            let state = deployment.gate.read(|shedder| shedder.snapshot(now));
            self.accounts.recorder.sample(&**deployment, &state);
            deployment.last_minute.lock().note(now, state.counters);
        }
        let snapshot = self.snapshot();
        self.accounts.recorder.tidy(|name| snapshot.deployments.iter().any(|one| *one.config.name == *name));
        let share_max = self.snapshot().config.limits.growth.shed_share_max;
        let budgets = self.registry.budgets();
        self.shortage.apply(&budgets, share_max, clock::now());
        for cell in budgets {
            let changes: Vec<limits::LimitChange> = cell.with(|budget| {
                budget.advance(clock::now());
                budget.take_changes().collect()
            });
            for change in changes {
                cell.touch();
                crate::telemetry::metrics::limit_changed(&change);
                let (meter, reason) = (change.meter.name(), change.reason.name());
                let (account, model) = (&*cell.account, &*cell.model);
                tracing::info!(
                    account,
                    model,
                    meter,
                    from = change.from,
                    to = change.to,
                    reason,
                    "limit changed"
                );
            }
        }
    }

    /// Every counter that must be zero when nothing runs. O(accounts × models used).
    #[must_use]
    pub fn invariants(&self) -> Invariants {
        let mut counters = BTreeMap::new();
        let mut count = |name: String, value: u64| *counters.entry(name).or_default() += value;
        count("requests_in_flight".into(), self.in_flight());
        count("bytes_in_flight".into(), self.memory.held());
        count("account_requests_live".into(), self.registry.live_requests());
        for budget in self.registry.all_budgets() {
            let (live, reserved) = budget.with(|budget| (budget.live(), budget.reserved()));
            count("budget_reservations_live".into(), live);
            for (meter, tokens) in reserved.iter() {
                count(format!("budget_reserved_tokens_{}", meter.name().replace('-', "_")), *tokens);
            }
        }
        for deployment in self.snapshot().deployments.iter() {
            let (waiting, live) = deployment.gate.outstanding();
            let at_rest = deployment.gate.read(|shedder| shedder.snapshot(clock::now()).at_rest);
            let name = &deployment.config.name;
            count(format!("gate_waiting:{name}"), waiting as u64);
            count(format!("gate_live:{name}"), live as u64);
            count(format!("shedder_requests:{name}"), at_rest.requests);
            count(format!("shedder_active:{name}"), at_rest.active);
            count(format!("shedder_backlog_tokens:{name}"), at_rest.backlog_tokens);
            count(format!("shedder_kv_tokens:{name}"), at_rest.kv_tokens);
            count(format!("shedder_queued:{name}"), at_rest.queued_requests);
        }
        Invariants { at_rest: counters.values().all(|value| *value == 0), counters }
    }
}

/// The accounts made at run time that are in force under a config; says which the config overrides.
fn in_force(roster: &Roster, config: &Config) -> Vec<Arc<config::Account>> {
    let InForce { accounts, overridden } = roster.in_force(config, clock::wall());
    for id in overridden {
        tracing::warn!(
            account = &*id,
            "the config declares an account that was made at run time too; what the config says counts"
        );
    }
    accounts
}
