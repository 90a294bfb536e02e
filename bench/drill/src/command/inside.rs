//! The inside of a gateway as a drill reports it, from its admin API.

use crate::policy::{BudgetGauge, Inside, ReplicaGauge};
use client::api::{Bounds, Client};
use client::views::deployments::DeploymentState;
use client::views::limits::AccountLimits;
use shedder::Tier;
use std::net::SocketAddr;
use std::time::Duration;

/// Bounds of a call: it is made once a second.
const BOUNDS: Bounds = Bounds { body_max: 32 << 20, patience: Duration::from_secs(2) };

/// The admin API of the gateway under drill, and the deployment that is looked at.
#[derive(Debug, Clone)]
pub(super) struct Admin {
    pub(super) client: Client,
    /// `None`: the first.
    deployment: Option<String>,
    /// All of them, in the order of the config.
    all: bool,
}

impl Admin {
    pub(super) fn new(address: SocketAddr, token: Option<&str>) -> Self {
        Self { client: Client::new(address.to_string(), token, BOUNDS), deployment: None, all: false }
    }

    /// The same, looking at this deployment.
    pub(super) fn about(self, deployment: Option<String>) -> Self {
        Self { deployment, ..self }
    }

    /// The same, looking at all deployments.
    pub(super) fn about_all(self) -> Self {
        Self { all: true, ..self }
    }

    /// Returns what the gateway shows of itself now; nothing where it does not answer. Of the deployment that the drill
    /// is about, or the first; budgets of the named accounts.
    pub(super) async fn inside(&self, accounts: &[(u32, String)]) -> Inside {
        let deployments = self.all_inside().await;
        let wanted = deployments.iter().position(|(name, _)| Some(name) == self.deployment.as_ref());
        let mut inside = if self.all {
            deployments.into_iter().map(|(_, inside)| inside).fold(Inside::default(), together)
        } else {
            deployments.into_iter().nth(wanted.unwrap_or(0)).map(|(_, inside)| inside).unwrap_or_default()
        };
        for (account, id) in accounts {
            if let Ok(limits) = self.client.account_limits(id).await {
                inside.budgets.extend(budget(*account, &limits));
            }
        }
        inside
    }

    /// Returns every deployment by its name; none where the gateway does not answer.
    pub(super) async fn all_inside(&self) -> Vec<(String, Inside)> {
        let answer = self.client.deployments().await.map(|answer| answer.deployments).unwrap_or_default();
        answer.iter().map(|one| (one.name.to_string(), shown(one))).collect()
    }
}

/// Two deployments as one.
fn together(mut one: Inside, other: Inside) -> Inside {
    one.replicas.extend(other.replicas);
    one.queued.iter_mut().zip(other.queued).for_each(|(sum, more)| *sum += more);
    one
}

/// A deployment's replicas and queue.
fn shown(deployment: &DeploymentState) -> Inside {
    let replicas = deployment.replicas.iter().map(|replica| ReplicaGauge {
        limit: replica.limit,
        active: replica.active,
        saturation: replica.saturation,
        in_service: replica.healthy && !replica.drained,
    });
    let queued = |name: &str| {
        let tier = deployment.tiers.iter().find(|tier| tier.tier == name);
        tier.map_or(0, |tier| tier.queued)
    };
    Inside {
        replicas: replicas.collect(),
        queued: Tier::ALL.map(|tier| queued(tier.name())),
        budgets: Vec::new(),
    }
}

/// The meters of an account's first model.
fn budget(account: u32, limits: &AccountLimits) -> Option<BudgetGauge> {
    let meters = &limits.models.first()?.meters;
    let mut gauge = BudgetGauge { account, ..BudgetGauge::default() };
    for ((meter, used), limit) in meters.iter().zip(&mut gauge.used).zip(&mut gauge.limit) {
        *used = meter.used + meter.reserved + meter.debt;
        *limit = meter.limit;
    }
    Some(gauge)
}
