//! A drill on an operator's own configuration: what its file says of a model, of where that is served and of its customers
//! takes the place of what the scenario says.
//!
//! | of the config | in place of |
//! |---|---|
//! | the deployment's `replicas`, `slo`, `scrape` | the scenario's `fleet.replicas`, `slo`, `fleet.scrape_s` |
//! | its `limit`, `slots_max`, `kv_tokens`, `step_tokens`, `ceilings`, shares, `queue`, `withdraw` | the gateway's defaults |
//! | the accounts' `limits` on the model, how limits move, `weight`, `tiers` | the scenario's `accounts[].limits`, and who has priority |
//!
//! The entries of the scenario's `accounts` name accounts of the config; one with a `count` means `id-1`, `id-2` …, or so many
//! like `id`. A replica that is a DNS name counts as one. Only the text is read: no listener, state, log, key file or replica of it is opened. How fast its engines are
//! the config does not say, so `fleet.profile` does.

use super::DrillError;
use crate::file::{DrillFile, Fault, Step};
use crate::policy::Policy;
use crate::scenario::trace::Recorded;
use crate::script::Drill;
use config::{Account, Config, Deployment, Model, OnForbiddenTier, Route, Tier};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Names that an error lists.
const NAMES_MAX: usize = 20;

/// Which part of a config is played.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted<'a> {
    /// The model; `None`: the only one.
    pub(super) model: Option<&'a str>,
    /// One of its deployments; `None`: the only one.
    pub(super) deployment: Option<&'a str>,
}

/// A config, and what of it is played.
#[derive(Debug)]
pub(super) struct Configured {
    /// The file's name as it was given.
    origin: String,
    config: Config,
    /// By id.
    accounts: BTreeMap<Arc<str>, Arc<Account>>,
    model: Arc<Model>,
    deployment: Arc<Deployment>,
}

impl Configured {
    /// Reads the file `path`.
    ///
    /// # Errors
    /// All faults of the file, or what it lacks.
    pub(super) fn read(path: &Path, wanted: Wanted<'_>) -> Result<Configured, DrillError> {
        let origin = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| DrillError::Usage(format!("--config {origin} cannot be read: {error}")))?;
        let config = Config::parse(&text, &origin, &|name| std::env::var(name).ok())?;
        Self::of(config, origin, wanted)
    }

    #[cfg(test)]
    pub(super) fn parse(text: &str, origin: &str) -> Result<Configured, DrillError> {
        let config = Config::parse(text, origin, &|_| None)?;
        Self::of(config, origin.to_owned(), Wanted::default())
    }

    fn of(config: Config, origin: String, wanted: Wanted<'_>) -> Result<Configured, DrillError> {
        let model = match wanted.model {
            Some(name) => config.model(name).cloned(),
            None if config.models.len() == 1 => config.models.first().cloned(),
            None => None,
        };
        let model = model.ok_or_else(|| {
            let names = names(config.models.iter().map(|model| &*model.name));
            DrillError::Usage(format!("--model has to name one of the models of {origin}: {names}"))
        })?;
        let routes = || model.routes.iter().map(|route| &route.deployment);
        let deployment = match wanted.deployment {
            Some(name) => routes().find(|one| *one.name == *name).cloned(),
            None if model.routes.len() == 1 => routes().next().cloned(),
            None => None,
        };
        let deployment = deployment.ok_or_else(|| {
            DrillError::Usage(format!(
                "`{}` is served by several deployments, and a drill plays one of them: --deployment has to name it: {}",
                model.name,
                names(routes().map(|one| &*one.name))
            ))
        })?;
        let of_id = |account: &Arc<Account>| (Arc::clone(&account.id), Arc::clone(account));
        let accounts = config.accounts.iter().map(of_id).collect();
        Ok(Configured { origin, config, accounts, model, deployment })
    }

    /// Puts what the config says into a scenario's file, before that is judged. `replicas`: how many are meant, where a name
    /// stands for several.
    pub(super) fn put_into(&self, file: &mut DrillFile, replicas: Option<u16>) {
        let configured = u16::try_from(self.deployment.replicas.len()).unwrap_or(u16::MAX);
        file.fleet.replicas = Some(replicas.unwrap_or(configured));
        let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        let slo = &self.deployment.slo;
        file.slo.ttft_ms = slo.ttft.map(ms).or(file.slo.ttft_ms);
        file.slo.tpot_ms = slo.tpot.map(ms).or(file.slo.tpot_ms);
        let scrape = &self.deployment.scrape;
        file.fleet.scrape_s = Some(scrape.path.as_ref().map_or(0.0, |_| scrape.interval.as_secs_f64()));
        file.accounts.iter_mut().flatten().for_each(|account| account.limits = None);
    }

    /// Gives the drill's accounts what the config gives them. Every fault, with its place in the scenario.
    pub(super) fn apply(&self, drill: &mut Drill) -> Vec<Fault> {
        drill.scenario.shed_share_max = self.config.limits.growth.shed_share_max;
        let mut faults = Vec::new();
        for nth in 0..drill.groups.len() {
            self.apply_to_group(nth, drill, &mut faults);
        }
        faults
    }

    fn apply_to_group(&self, nth: usize, drill: &mut Drill, faults: &mut Vec<Fault>) {
        let Some(group) = drill.groups.get(nth).cloned() else { return };
        let mut fault = |path: Vec<Step>, message: String| faults.push(Fault { path, message });
        let at = || vec![Step::Key("accounts"), Step::Item(nth), Step::Key("id")];
        let mut of_group = Vec::new();
        for number in group.first..group.first + group.count {
            let name = drill.account(number);
            let found = self.accounts.get(name.as_str()).or_else(|| self.accounts.get(group.id.as_str()));
            let Some(account) = found else {
                let ids = names(self.config.accounts.iter().map(|account| &*account.id));
                return fault(at(), format!("{} has no account `{name}`; it has: {ids}", self.origin));
            };
            if account.disabled || !account.may_use(&self.model.name) {
                let model = &self.model.name;
                return fault(
                    at(),
                    format!("`{}` may not use `{model}` in {}, or is disabled", account.id, self.origin),
                );
            }
            let bounds = self.config.limits.bounds(account, &self.model);
            drill.scenario.budgets.push((number, self.config.limits.budget(&bounds)));
            drill.scenario.weights.push((number, account.weight));
            of_group.push(Arc::clone(account));
        }
        if let Some(group) = drill.groups.get_mut(nth) {
            group.limits = drill.scenario.budgets.last().map(|(_, budget)| *budget);
        }
        let own = |source: &crate::scenario::Source| source.accounts.first == group.first;
        for (nth, source) in drill.scenario.sources.iter_mut().enumerate().filter(|(_, source)| own(source)) {
            let at = |key| vec![Step::Key("traffic"), Step::Item(nth), Step::Key(key)];
            let has_regular = source.priority < 1.0;
            let refused = of_group.iter().find(|account| has_regular && !self.serves(account, Tier::Regular));
            if let Some(account) = refused {
                fault(at("accounts"), self.not_served(account, Tier::Regular));
            }
            let of_trace = source.trace.as_ref().is_some_and(|trace| trace.asks.iter().any(is_priority));
            if source.priority > 0.0 || of_trace {
                let (may, may_not): (Vec<_>, Vec<_>) =
                    of_group.iter().partition(|account| account.tiers.contains(Tier::Priority));
                let refused = may_not.iter().find(|one| one.on_forbidden_tier == OnForbiddenTier::Refuse);
                let unserved = may.iter().find(|account| !self.serves(account, Tier::Priority));
                if let Some(account) = refused {
                    let message = format!(
                        "`{}` may not use priority in {}: each of these requests would be a 403",
                        account.id, self.origin
                    );
                    fault(at("priority"), message);
                } else if !may.is_empty() && !may_not.is_empty() {
                    let message =
                        "some of these accounts have priority and some have not; make two entries of them";
                    fault(at("accounts"), message.to_owned());
                } else if let Some(account) = unserved {
                    fault(at("priority"), self.not_served(account, Tier::Priority));
                } else if may.is_empty() {
                    // Served, and billed, as regular.
                    source.priority = 0.0;
                    let asks = source.trace.as_mut().map(|trace| &mut Arc::make_mut(trace).asks);
                    asks.into_iter().flatten().filter(|ask| is_priority(ask)).for_each(|ask| {
                        ask.tier = Some(shedder::Tier::Regular);
                    });
                }
            }
        }
    }

    fn serves(&self, account: &Account, tier: Tier) -> bool {
        let is_it = |route: &&Route| Arc::ptr_eq(&route.deployment, &self.deployment);
        self.model.routes.iter().filter(is_it).any(|route| route.takes(tier, &account.id))
    }

    fn not_served(&self, account: &Account, tier: Tier) -> String {
        let (id, tier, deployment) = (&account.id, tier.name(), &self.deployment.name);
        format!(
            "`{deployment}` takes no {tier} requests of `{id}` in {}; play another with --deployment",
            self.origin
        )
    }

    /// The gateway's policy as it is configured.
    pub(super) fn policy(&self) -> Policy {
        Policy::Tuned(Box::new(self.deployment.for_shedder()))
    }

    /// What is played, for the report.
    pub(super) fn words(&self) -> String {
        let slo = &self.deployment.slo;
        let told = if slo.ttft.is_none() && slo.tpot.is_none() {
            ", told the service level of the scenario, because the config promises none"
        } else {
            ""
        };
        format!(
            "with {}: model {} on deployment {}, without requests_per_minute and concurrency{told}",
            self.origin, self.model.name, self.deployment.name
        )
    }
}

fn is_priority(ask: &Recorded) -> bool {
    ask.tier == Some(shedder::Tier::Priority)
}

fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<&str> = all.collect();
    let more = all.len().saturating_sub(NAMES_MAX);
    let listed = all.get(..all.len().min(NAMES_MAX)).unwrap_or_default().join(", ");
    if more == 0 { listed } else { format!("{listed} and {more} more") }
}
