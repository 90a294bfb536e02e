//! Which of a model's deployments a request goes to, and where it waits.
//!
//! A model lists its deployments in order, each with the tiers and accounts that it takes: that is how priority
//! customers get a pool of their own and spill over when it is full. Neighbours with a weight share the load: each
//! request tries them in an order of its own, drawn in proportion to the weights, and a session always in the same.
//!
//! ```text
//! in order, the first that has a place now                        → there
//! none has: offered where the predicted wait W is smallest        → waits there, or is refused there too
//! refused: the next by W; refused by all                          → 503
//! waiting: every 250 ms the others are asked for a place now      → there, and the wait is over
//! ```
//!
//! What is cached where is known for each deployment by itself, so the weight is looked at anew for each.
//!
//! # Guarantees
//!
//! - A request is refused only if every deployment that takes it refuses it.
//! - It waits in one queue at a time, and it never passes anyone who waits where it gets its place: a deployment
//!   with a queue has no place now.
//! - Affinity decides between places that are open, never against a ceiling.

use crate::clock;
use crate::entropy;
use crate::state::{Account, Model};
use crate::upstream::admission::{Admission, Place};
use crate::upstream::deployment::Deployment;
use crate::upstream::harvest::{self, Live};
use config::Tier;
use protocol::refusal::{Reason, Refusal};
use protocol::request::call::Call;
use protocol::request::policy;
use shedder::{Offer, Uncached};
use std::sync::Arc;
use std::time::Duration;
use weighing::weigh::Weight;

/// How often a request that waits asks the other deployments for a place.
pub const REOFFER_EVERY: Duration = harvest::PERIOD;

/// The deployments that take a request, in order; never empty.
#[derive(Debug, Clone)]
pub struct Routes {
    first: Arc<Deployment>,
    rest: Vec<Arc<Deployment>>,
}

impl Routes {
    /// The deployments of `model` that take `call` of `account` in `tier`. `hint`: what keeps a session together.
    ///
    /// # Errors
    /// 403 where none takes the account or tier; 400 where a parameter is not taken by any.
    pub fn of(
        model: &Model,
        account: &Account,
        tier: Tier,
        call: &Call,
        hint: Option<u64>,
    ) -> Result<Routes, Refusal> {
        let taking = model.routes.iter().filter(|(route, _)| route.takes(tier, &account.config.id));
        let mut refused = None;
        let mut fit = Vec::new();
        for (route, deployment) in taking {
            match policy::check(&deployment.config.parameters, call) {
                Ok(()) => fit.push((route, deployment)),
                Err(refusal) => refused = refused.or(Some(refusal)),
            }
        }
        let mut order = in_order(fit, hint).into_iter();
        match order.next() {
            Some(first) => Ok(Routes { first, rest: order.collect() }),
            None => Err(refused.unwrap_or_else(|| nobody_takes(model, tier))),
        }
    }

    /// The one that is asked first.
    #[must_use]
    pub fn first(&self) -> &Arc<Deployment> {
        &self.first
    }

    /// Whether there is more than one.
    #[must_use]
    pub fn has_others(&self) -> bool {
        !self.rest.is_empty()
    }

    /// What is left without `deployment`, which failed. `None`: nothing.
    #[must_use]
    pub fn without(&self, deployment: &Arc<Deployment>) -> Option<Routes> {
        let mut left = self.all().filter(|one| !Arc::ptr_eq(one, deployment)).cloned();
        let first = left.next()?;
        Some(Routes { first, rest: left.collect() })
    }

    /// The context window that the engines report, tokens: the largest, because a prompt is refused as too long only
    /// where no deployment could take it. `None`: unknown at one of them.
    #[must_use]
    pub fn context(&self, served_model: &str) -> Option<u32> {
        self.all().map(|one| one.learned.context(served_model)).try_fold(0, |most, own| Some(most.max(own?)))
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Deployment>> {
        std::iter::once(&self.first).chain(&self.rest)
    }
}

/// A request that looks for a place.
#[derive(Debug)]
pub struct Bid<'a> {
    /// The request.
    pub call: &'a Call,
    /// Whose it is.
    pub account: &'a Account,
    /// Its weight, on the deployment of the offer.
    pub weight: &'a Weight,
    /// What it asks of the deployment that it was weighed for.
    pub offer: Offer,
    /// The deployment that it was weighed for.
    pub weighed_for: Arc<Deployment>,
    /// What keeps its session together.
    pub hint: Option<u64>,
    /// What the harvest reads of it.
    pub live: Arc<Live>,
    /// Silence after which a stream's client gets a comment.
    pub silence: Duration,
    /// What is not cached on other deployments, once it was asked for. At most one entry for each.
    pub views: Vec<(Arc<Deployment>, Uncached)>,
}

/// Where a request goes or waits.
#[derive(Debug)]
pub struct Routed {
    /// A place, a ticket, or the refusal of all.
    pub admission: Admission,
    /// Whose.
    pub deployment: Arc<Deployment>,
}

impl Bid<'_> {
    /// The offer to one deployment: its own cache, its own replica for the session.
    fn to(&mut self, deployment: &Arc<Deployment>) -> Offer {
        Offer { uncached: self.uncached(deployment), affinity: deployment.hinted(self.hint), ..self.offer }
    }

    fn uncached(&mut self, deployment: &Arc<Deployment>) -> Uncached {
        if Arc::ptr_eq(deployment, &self.weighed_for) {
            return self.offer.uncached;
        }
        if let Some((_, known)) = self.views.iter().find(|(one, _)| Arc::ptr_eq(one, deployment)) {
            return *known;
        }
        let seen = self.weight.uncached_on(self.call, self.account.number, &deployment.prefixes);
        self.views.push((Arc::clone(deployment), seen));
        seen
    }

    /// A place now, or a ticket where the wait is smallest, or the refusal of the one where it is.
    #[must_use]
    pub fn offer(&mut self, routes: &Routes) -> Routed {
        let first = &routes.first;
        if routes.rest.is_empty() {
            let admission = first.gate.offer(self.to(first), Arc::clone(&self.live));
            return Routed { admission, deployment: Arc::clone(first) };
        }
        if let Some((place, deployment)) = self.place_now(routes.all()) {
            return Routed { admission: Admission::Admitted(place), deployment };
        }
        let mut by_wait: Vec<(Duration, &Arc<Deployment>)> = routes
            .all()
            .map(|one| {
                let offer = self.to(one);
                (one.gate.read(|shedder| shedder.predict_wait(clock::now(), &offer)), one)
            })
            .collect();
        // Stable: of equal waits the first in order.
        by_wait.sort_by_key(|(wait, _)| *wait);
        let mut refused = None;
        for (_, deployment) in by_wait {
            let admission = deployment.gate.offer(self.to(deployment), Arc::clone(&self.live));
            let routed = Routed { admission, deployment: Arc::clone(deployment) };
            match routed.admission {
                Admission::Shed(_) => refused = refused.or(Some(routed)),
                _ => return routed,
            }
        }
        // There is at least one, so this is its refusal.
        refused.unwrap_or_else(|| Routed {
            admission: first.gate.offer(self.to(first), Arc::clone(&self.live)),
            deployment: Arc::clone(first),
        })
    }

    /// A place now at another deployment than the one where it waits.
    #[must_use]
    pub fn elsewhere(
        &mut self,
        routes: &Routes,
        waits_at: &Arc<Deployment>,
    ) -> Option<(Place, Arc<Deployment>)> {
        self.place_now(routes.all().filter(|one| !Arc::ptr_eq(one, waits_at)))
    }

    /// The first place of all. Deployments with nothing in service come last: an ejected replica gets requests
    /// only while there is no other.
    fn place_now<'d>(
        &mut self,
        deployments: impl Iterator<Item = &'d Arc<Deployment>>,
    ) -> Option<(Place, Arc<Deployment>)> {
        let now = clock::now();
        let (up, down): (Vec<_>, Vec<_>) =
            deployments.partition(|one| one.gate.read(|shedder| shedder.has_healthy(now)));
        up.into_iter().chain(down).find_map(|deployment| {
            let offer = self.to(deployment);
            let place = deployment.gate.try_admit(offer, Arc::clone(&self.live))?;
            Some((place, Arc::clone(deployment)))
        })
    }
}

fn nobody_takes(model: &Model, tier: Tier) -> Refusal {
    let message =
        format!("No deployment of `{}` takes this account's {} requests.", model.config.name, tier.name());
    Refusal::new(Reason::ModelNotAllowed, message).param("model")
}

/// The order for one request: as listed, with each run of neighbours that have weights in an order of its own.
///
/// Weighted rendezvous hashing: each neighbour draws `−ln(u) / weight` with a `u` that only session and name
/// decide, and the smallest comes first. So shares are as the weights, a session stays, and when a neighbour comes
/// or goes only its own share moves.
fn in_order(fit: Vec<(&config::Route, &Arc<Deployment>)>, hint: Option<u64>) -> Vec<Arc<Deployment>> {
    let seed = hint.unwrap_or_else(entropy::bits);
    let draw = |route: &config::Route| {
        let weight = f64::from(route.weight.unwrap_or(1).max(1));
        -entropy::unit_of(seed, route.deployment.name.as_bytes()).ln() / weight
    };
    let mut order = Vec::with_capacity(fit.len());
    for run in fit.chunk_by(|a, b| a.0.weight.is_some() && b.0.weight.is_some()) {
        let mut run: Vec<_> = run.iter().map(|(route, one)| (draw(route), Arc::clone(one))).collect();
        run.sort_by(|a, b| a.0.total_cmp(&b.0));
        order.extend(run.into_iter().map(|(_, one)| one));
    }
    order
}
