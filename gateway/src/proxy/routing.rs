//! The deployments of a model that take a request, as [`gateway_core::routing`] asks them.
//!
//! What is cached where is known for each deployment by itself, so the weight is looked at anew for each. Affinity decides
//! between places that are open, never against a ceiling.

use crate::clock;
use crate::entropy;
use crate::state::{Account, Model};
use crate::upstream::admission::{Admission, Place};
use crate::upstream::deployment::Deployment;
use crate::upstream::harvest::Live;
use config::Tier;
use gateway_core::routing::{self, Deployments};
use protocol::refusal::{Reason, Refusal};
use protocol::request::call::Call;
use protocol::request::policy;
use shedder::{Offer, Uncached};
use std::sync::Arc;
use std::time::Duration;
use weighing::weigh::Weight;

/// The deployments that take a request, in order; never empty.
#[derive(Debug, Clone)]
pub struct Routes(Vec<Arc<Deployment>>);

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
                Ok(()) => fit.push((route.weight, Arc::clone(deployment))),
                Err(refusal) => refused = refused.or(Some(refusal)),
            }
        }
        let seed = hint.unwrap_or_else(entropy::bits);
        let unit = |one: &Arc<Deployment>| entropy::unit_of(seed, one.config.name.as_bytes());
        let order = routing::in_order(fit, unit);
        if order.is_empty() {
            return Err(refused.unwrap_or_else(|| nobody_takes(model, tier)));
        }
        Ok(Routes(order))
    }

    /// The one that is asked first.
    #[must_use]
    pub fn first(&self) -> &Arc<Deployment> {
        #[expect(clippy::indexing_slicing, reason = "never empty")]
        &self.0[0]
    }

    /// Whether there is more than one.
    #[must_use]
    pub fn has_others(&self) -> bool {
        self.0.len() > 1
    }

    /// The one at that place of the order.
    fn at(&self, at: usize) -> Arc<Deployment> {
        Arc::clone(self.0.get(at).unwrap_or_else(|| self.first()))
    }

    /// What is left without `deployment`, which failed. `None`: nothing.
    #[must_use]
    pub fn without(&self, deployment: &Arc<Deployment>) -> Option<Routes> {
        let left: Vec<_> = self.0.iter().filter(|one| !Arc::ptr_eq(one, deployment)).cloned().collect();
        (!left.is_empty()).then_some(Routes(left))
    }

    /// The context window that the engines report, tokens: the largest, because a prompt is refused as too long only
    /// where no deployment could take it. `None`: unknown at one of them.
    #[must_use]
    pub fn context(&self, served_model: &str) -> Option<u32> {
        self.0
            .iter()
            .map(|one| one.learned.context(served_model))
            .try_fold(0, |most, own| Some(most.max(own?)))
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
        let count = routes.0.len();
        let (admission, at) = routing::offer(&mut Asked { bid: self, routes }, count);
        Routed { admission, deployment: routes.at(at) }
    }

    /// A place now at another deployment than the one where it waits.
    #[must_use]
    pub fn elsewhere(
        &mut self,
        routes: &Routes,
        waits_at: &Arc<Deployment>,
    ) -> Option<(Place, Arc<Deployment>)> {
        let others = routes.0.iter().enumerate().filter(|(_, one)| !Arc::ptr_eq(one, waits_at));
        let others: Vec<usize> = others.map(|(at, _)| at).collect();
        let (place, at) = routing::place_now(&mut Asked { bid: self, routes }, others)?;
        Some((place, routes.at(at)))
    }
}

/// The deployments of `routes`, asked for one bid.
struct Asked<'b, 'r> {
    bid: &'b mut Bid<'r>,
    routes: &'b Routes,
}

impl Deployments for Asked<'_, '_> {
    type Place = Place;
    type Answer = Admission;

    fn has_healthy(&mut self, at: usize) -> bool {
        self.routes.at(at).gate.read(|shedder| shedder.has_healthy(clock::now()))
    }

    fn try_admit(&mut self, at: usize) -> Option<Place> {
        let deployment = self.routes.at(at);
        deployment.gate.try_admit(self.bid.to(&deployment), Arc::clone(&self.bid.live))
    }

    fn predicted_wait(&mut self, at: usize) -> Duration {
        let deployment = self.routes.at(at);
        let offer = self.bid.to(&deployment);
        deployment.gate.read(|shedder| shedder.predict_wait(clock::now(), &offer))
    }

    fn offer(&mut self, at: usize) -> Admission {
        let deployment = self.routes.at(at);
        deployment.gate.offer(self.bid.to(&deployment), Arc::clone(&self.bid.live))
    }

    fn is_refusal(answer: &Admission) -> bool {
        matches!(answer, Admission::Shed(_))
    }

    fn admitted(place: Place) -> Admission {
        Admission::Admitted(place)
    }
}

fn nobody_takes(model: &Model, tier: Tier) -> Refusal {
    let message =
        format!("No deployment of `{}` takes this account's {} requests.", model.config.name, tier.name());
    Refusal::new(Reason::ModelNotAllowed, message).param("model")
}
