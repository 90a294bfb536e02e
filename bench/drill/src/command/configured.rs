//! A drill on an operator's own configuration: what its file says of models, of where they are served and of customers
//! takes the place of what the scenario says.
//!
//! | of the config | in place of |
//! |---|---|
//! | `deployments`: `replicas`, `slo`, `scrape` | the scenario's `fleet.replicas`, `slo`, `fleet.scrape_s` |
//! | their `limit`, `slots_max`, `kv_tokens`, `step_tokens`, `ceilings`, shares, `queue`, `withdraw` | the gateway's defaults |
//! | `models`: their deployments in order, with tiers, accounts and weights | one model on one deployment |
//! | the accounts' `limits`, how limits move, `requests_per_minute`, `concurrency`, `weight`, `tiers` | the scenario's `accounts[].limits`, and who has priority |
//!
//! The entries of the scenario's `accounts` name accounts of the config; one with a `count` means `id-1`, `id-2` …, or so many
//! like `id`. Its `traffic` names the models. A replica that is a DNS name counts as one. Only the text is read: no listener,
//! state, log, key file or replica of it is opened. How fast its engines are the config does not say, so `fleet.profile` and
//! `fleet.deployments` do.

use super::DrillError;
use super::calibrate::{self, Calibrated};
use crate::file::{Fault, Layout, Places, Planned, Step};
use crate::scenario::Shutdown;
use crate::scenario::fleet as scenario;
use crate::scenario::trace::Recorded;
use crate::script::Drill;
use client::views::measured::Measured;
use config::{Account, Config, Deployment, Lines, Model, Part};
use serde_json::Value;
use shedder::{PerTier, Tier};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Names that an error lists.
const NAMES_MAX: usize = 20;

/// Which part of a config is played.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted<'a> {
    /// One model; `None`: all.
    pub(super) model: Option<&'a str>,
    /// One deployment, and the models that it serves; `None`: all.
    pub(super) deployment: Option<&'a str>,
}

/// A config, and what of it is played.
#[derive(Debug)]
pub(super) struct Configured {
    /// The file's name as it was given.
    origin: String,
    /// Where what stands in it.
    lines: Lines,
    /// What it says, key by key.
    written: Value,
    config: Config,
    /// By id.
    accounts: BTreeMap<Arc<str>, Arc<Account>>,
    models: Vec<Arc<Model>>,
    deployments: Vec<Arc<Deployment>>,
    /// What was measured of deployments, by name.
    measured: BTreeMap<String, Calibrated>,
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
        let env = |name: &str| std::env::var(name).ok();
        let config = Config::parse(&text, &origin, &env)?;
        let written = Config::written(&text, &origin, &env)?;
        Self::of((config, written), Lines::of(&text, &origin, &env), origin, wanted)
    }

    #[cfg(test)]
    pub(super) fn parse(text: &str, origin: &str) -> Result<Configured, DrillError> {
        let config = Config::parse(text, origin, &|_| None)?;
        let written = Config::written(text, origin, &|_| None)?;
        let lines = Lines::of(text, origin, &|_| None);
        Self::of((config, written), lines, origin.to_owned(), Wanted::default())
    }

    fn of(
        (config, written): (Config, Value),
        lines: Lines,
        origin: String,
        wanted: Wanted<'_>,
    ) -> Result<Configured, DrillError> {
        let mut models = config.models.clone();
        if let Some(name) = wanted.model {
            let model = config.model(name).cloned().ok_or_else(|| {
                let names = names(config.models.iter().map(|model| &*model.name));
                DrillError::Usage(format!("--model has to name one of the models of {origin}: {names}"))
            })?;
            models = vec![model];
        }
        let serves =
            |model: &Arc<Model>, name: &str| model.routes.iter().any(|route| &*route.deployment.name == name);
        if let Some(name) = wanted.deployment {
            if !models.iter().any(|model| serves(model, name)) {
                let routes = models.iter().flat_map(|model| &model.routes);
                let all: BTreeSet<&str> = routes.map(|route| &*route.deployment.name).collect();
                return Err(DrillError::Usage(format!(
                    "--deployment has to name one of those that are played of {origin}: {}",
                    names(all.into_iter())
                )));
            }
            models.retain(|model| serves(model, name));
        }
        let is_played = |one: &&Arc<Deployment>| {
            wanted.deployment.is_none_or(|name| *one.name == *name)
                && models.iter().any(|model| serves(model, &one.name))
        };
        let deployments = config.deployments.iter().filter(is_played).cloned().collect();
        let of_id = |account: &Arc<Account>| (Arc::clone(&account.id), Arc::clone(account));
        let accounts = config.accounts.iter().map(of_id).collect();
        Ok(Configured {
            origin,
            lines,
            written,
            config,
            accounts,
            models,
            deployments,
            measured: BTreeMap::new(),
        })
    }

    /// What the file says, key by key.
    pub(super) fn written(&self) -> &Value {
        &self.written
    }

    /// The names of the deployments that are played.
    pub(super) fn deployments(&self) -> impl Iterator<Item = &str> {
        self.deployments.iter().map(|one| &*one.name)
    }

    /// What the gateway at `admin` has measured of the engines is played in place of profiles.
    ///
    /// # Errors
    /// It does not answer, or has not seen enough.
    pub(super) fn calibrate(&mut self, admin: &str, token_file: Option<&PathBuf>) -> Result<(), DrillError> {
        let names: Vec<String> = self.deployments().map(str::to_owned).collect();
        self.measured = calibrate::ask(admin, token_file, &names)?.into_iter().collect();
        Ok(())
    }

    /// The same by what was told already; what is not played is left out.
    ///
    /// # Errors
    /// Not enough was seen yet.
    pub(super) fn calibrate_by(&mut self, measured: &[Measured]) -> Result<(), DrillError> {
        let is_played = |one: &&Measured| self.deployments().any(|name| name == &*one.name);
        let each = measured.iter().filter(is_played).map(calibrate::of);
        self.measured = each.collect::<Result<_, _>>().map_err(DrillError::Usage)?;
        Ok(())
    }

    /// The deployments and models that are played. `replicas`: how many are meant, where the only deployment is a name that
    /// stands for several.
    ///
    /// # Errors
    /// It is not said of which of several deployments.
    pub(super) fn layout(&self, replicas: Option<u16>) -> Result<Layout, DrillError> {
        if replicas.is_some() && self.deployments.len() > 1 {
            let message = "--replicas is of one deployment, and several are played: name it with --deployment, or say \
                           `replicas` in the scenario's fleet.deployments";
            return Err(DrillError::Usage(message.to_owned()));
        }
        let deployments = self.deployments.iter().map(|one| Planned {
            name: one.name.to_string(),
            replicas: replicas.or(u16::try_from(one.replicas.len()).ok()),
            ttft: one.slo.ttft,
            tpot: one.slo.tpot,
            scrape: one.scrape.path.as_ref().map(|_| one.scrape.interval),
            told: one.for_shedder(),
            measured: self.measured.get(&*one.name).map(|measured| measured.profile.clone()),
            speeds: self.measured.get(&*one.name).map(|measured| measured.speeds.clone()).unwrap_or_default(),
        });
        let models = self.models.iter().map(|model| scenario::Model {
            name: model.name.to_string(),
            routes: self.routes(model),
            usual: model.default_output,
        });
        let place = |key| Some(self.lines.at(&[Part::Key(key)]));
        let places = Places { deployments: place("deployments"), models: place("models") };
        Ok(Layout { deployments: deployments.collect(), models: models.collect(), places })
    }

    /// Whose requests a route takes is said later, when the scenario's accounts have numbers.
    fn routes(&self, model: &Model) -> Vec<scenario::Route> {
        let route = |route: &config::Route| {
            let index = self.deployments.iter().position(|one| Arc::ptr_eq(one, &route.deployment))?;
            Some(scenario::Route {
                deployment: index as u16,
                weight: route.weight,
                tiers: PerTier::from_fn(|tier| route.serves(tier.into())),
                accounts: None,
            })
        };
        model.routes.iter().filter_map(route).collect()
    }

    /// Gives the drill's accounts what the config gives them. Every fault, with its place in the scenario.
    pub(super) fn apply(&self, drill: &mut Drill) -> Vec<Fault> {
        drill.scenario.shed_share_max = self.config.limits.growth.shed_share_max;
        let shutdown = &self.config.listen.shutdown;
        drill.scenario.shutdown = Shutdown { lame_duck: shutdown.lame_duck, grace: shutdown.grace };
        drill.scenario.budgets.clear();
        let mut faults = Vec::new();
        let mut known = BTreeMap::new();
        for nth in 0..drill.groups.len() {
            self.apply_to_group(nth, drill, &mut known, &mut faults);
        }
        self.take_accounts(drill, &known);
        for nth in 0..drill.scenario.sources.len() {
            self.apply_to_source(nth, drill, &known, &mut faults);
        }
        faults
    }

    /// `FILE:LINE` of an account.
    fn line_of(&self, account: &Account) -> String {
        let nth = self.config.accounts.iter().position(|one| one.id == account.id).unwrap_or_default();
        self.lines.at(&[Part::Key("accounts"), Part::Item(nth)])
    }

    /// `FILE:LINE` of a model.
    fn line_of_model(&self, model: &Model) -> String {
        let nth = self.config.models.iter().position(|one| one.name == model.name).unwrap_or_default();
        self.lines.at(&[Part::Key("models"), Part::Item(nth)])
    }

    /// The account of the config that a number of the drill stands for.
    pub(super) fn account(&self, drill: &Drill, number: u32, group: &str) -> Option<&Arc<Account>> {
        self.accounts.get(drill.account(number).as_str()).or_else(|| self.accounts.get(group))
    }

    fn apply_to_group(
        &self,
        nth: usize,
        drill: &mut Drill,
        known: &mut BTreeMap<u32, Arc<Account>>,
        faults: &mut Vec<Fault>,
    ) {
        let Some(group) = drill.groups.get(nth).cloned() else { return };
        // Groups that a trace names have no entry in the file.
        let path = if nth < drill.written_groups {
            vec![Step::Key("accounts"), Step::Item(nth), Step::Key("id")]
        } else {
            vec![Step::Key("traffic")]
        };
        let models = drill.models_of(&group);
        for number in group.first..group.first + group.count {
            let Some(account) = self.account(drill, number, &group.id) else {
                let ids = names(self.config.accounts.iter().map(|account| &*account.id));
                let name = drill.account(number);
                let accounts = self.lines.at(&[Part::Key("accounts")]);
                let message = format!("{} has no account `{name}`; it has: {ids} ({accounts})", self.origin);
                return faults.push(Fault { path, message });
            };
            if account.disabled {
                let message = format!("`{}` is disabled in {}", account.id, self.line_of(account));
                return faults.push(Fault { path, message });
            }
            drill.scenario.weights.push((number, account.weight));
            drill.scenario.requests.push(scenario::Requests {
                account: number,
                per_minute: account.requests_per_minute.into(),
                concurrency: account.concurrency,
            });
            for &index in &models {
                let Some(model) = self.models.get(usize::from(index)) else { continue };
                if !account.may_use(&model.name) {
                    let line = self.line_of(account);
                    let message = format!("`{}` may not use `{}` in {line}", account.id, model.name);
                    return faults.push(Fault { path, message });
                }
                let budget = self.config.limits.budget(&self.config.limits.bounds(account, model));
                drill.scenario.budgets.push(scenario::Spending { account: number, model: index, budget });
            }
            known.insert(number, Arc::clone(account));
        }
        let limits = drill.scenario.budgets.last().map(|one| one.budget);
        if let Some(group) = drill.groups.get_mut(nth) {
            group.limits = limits;
        }
    }

    /// Which of the drill's accounts each route takes.
    fn take_accounts(&self, drill: &mut Drill, known: &BTreeMap<u32, Arc<Account>>) {
        for (model, played) in self.models.iter().zip(&mut drill.scenario.models) {
            let routes = model.routes.iter().filter(|route| self.is_played(route));
            for (route, played) in routes.zip(&mut played.routes) {
                let takes = |ids: &BTreeSet<Arc<str>>| {
                    known.iter().filter(|(_, account)| ids.contains(&account.id)).map(|(n, _)| *n).collect()
                };
                played.accounts = route.accounts.as_ref().map(takes);
            }
        }
    }

    fn is_played(&self, route: &config::Route) -> bool {
        self.deployments.iter().any(|one| Arc::ptr_eq(one, &route.deployment))
    }

    /// In which tiers a source's requests are served, and where.
    fn apply_to_source(
        &self,
        nth: usize,
        drill: &mut Drill,
        known: &BTreeMap<u32, Arc<Account>>,
        faults: &mut Vec<Fault>,
    ) {
        let Some(source) = drill.scenario.sources.get_mut(nth) else { return };
        let mut fault = |key, message| {
            let path = vec![Step::Key("traffic"), Step::Item(nth), Step::Key(key)];
            faults.push(Fault { path, message });
        };
        let numbers = source.accounts.first..source.accounts.first + source.accounts.count;
        let accounts: Vec<&Arc<Account>> = known.range(numbers).map(|(_, account)| account).collect();
        let Some(model) = self.models.get(usize::from(source.model)) else { return };
        let unserved = |account: &Account, tier: Tier| {
            let takes =
                |route: &config::Route| self.is_played(route) && route.takes(tier.into(), &account.id);
            let served = model.routes.iter().any(takes);
            (!served).then(|| {
                let (id, tier, name) = (&account.id, tier.name(), &model.name);
                let line = self.line_of_model(model);
                format!("no deployment of `{name}` that is played takes {tier} requests of `{id}` in {line}")
            })
        };
        if source.share(Tier::Regular) > 0.0
            && let Some(message) = accounts.iter().find_map(|account| unserved(account, Tier::Regular))
        {
            fault("accounts", message);
        }
        let sold = |account: &Account| {
            let takes =
                |route: &config::Route| self.is_played(route) && route.takes(config::Tier::Flex, &account.id);
            account.entitled().served(Some(Tier::Flex), || model.routes.iter().any(takes)) == Ok(Tier::Flex)
        };
        if source.flex > 0.0 {
            match accounts.iter().filter(|account| sold(account)).count() {
                // Served, and billed, as regular.
                0 => source.flex = 0.0,
                some if some < accounts.len() => {
                    let message =
                        "some of these accounts have flex and some have not; make two entries of them";
                    fault("accounts", message.to_owned());
                }
                _ => {}
            }
        }
        let of_trace = source.trace.as_ref().is_some_and(|trace| trace.asks.iter().any(is_priority));
        if source.priority == 0.0 && !of_trace {
            return;
        }
        let served: Vec<_> = accounts
            .iter()
            .map(|account| (account, account.entitled().served(Some(Tier::Priority), || false)))
            .collect();
        let ups = served.iter().filter(|(_, tier)| *tier == Ok(Tier::Priority)).count();
        if let Some((account, _)) = served.iter().find(|(_, tier)| tier.is_err()) {
            let message = format!(
                "`{}` may not use priority in {}: each of these requests would be a 403",
                account.id,
                self.line_of(account)
            );
            fault("priority", message);
        } else if ups > 0 && ups < served.len() {
            let message = "some of these accounts have priority and some have not; make two entries of them";
            fault("accounts", message.to_owned());
        } else if ups > 0 {
            if let Some(message) = accounts.iter().find_map(|account| unserved(account, Tier::Priority)) {
                fault("priority", message);
            }
        } else {
            // Served, and billed, as regular.
            source.priority = 0.0;
            let asks = source.trace.as_mut().map(|trace| &mut Arc::make_mut(trace).asks);
            asks.into_iter().flatten().filter(|ask| is_priority(ask)).for_each(|ask| {
                ask.tier = Some(Tier::Regular);
            });
        }
    }

    /// What is played, for the report.
    pub(super) fn words(&self) -> String {
        let is_silent = |one: &&Arc<Deployment>| one.slo.ttft.is_none() && one.slo.tpot.is_none();
        let silent = names(self.deployments.iter().filter(is_silent).map(|one| &*one.name));
        let told = if silent.is_empty() {
            String::new()
        } else {
            format!(", told the service level of the scenario where the config promises none ({silent})")
        };
        let measured = if self.measured.is_empty() { "" } else { ", calibrated from a running gateway" };
        let models = names(self.models.iter().map(|model| &*model.name));
        let one_of =
            |count: usize, one: &'static str, many: &'static str| if count == 1 { one } else { many };
        format!(
            "with {}: {} {models} on {} {}{told}{measured}",
            self.origin,
            one_of(self.models.len(), "model", "models"),
            one_of(self.deployments.len(), "deployment", "deployments"),
            names(self.deployments())
        )
    }
}

fn is_priority(ask: &Recorded) -> bool {
    ask.tier == Some(Tier::Priority)
}

fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<&str> = all.collect();
    let more = all.len().saturating_sub(NAMES_MAX);
    let listed = all.get(..all.len().min(NAMES_MAX)).unwrap_or_default().join(", ");
    if more == 0 { listed } else { format!("{listed} and {more} more") }
}
