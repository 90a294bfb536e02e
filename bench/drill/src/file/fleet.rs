//! The engines of a scenario file: one fleet, or the deployments of a config with what the file says of each.

use std::collections::BTreeSet;
use std::time::Duration;

use super::resolve::{Resolver, Step};
use super::{BehaviourFile, DeploymentFile, DrillFile, behaviour};
use crate::scenario::fleet::{Deployment, Model};
use crate::scenario::{Incident, Slo};
use engine::profile::{LLAMA_8B_A100, PROFILES, Profile};

/// Replicas that one drill may have.
const REPLICAS_MAX: usize = 4_000;

/// The deployments and models of a config, which take the place of the one fleet that a scenario has otherwise. What their
/// engines are like the scenario says, or what was measured of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// The deployments, at least one. A service level or a profile that the config does not have is the scenario's.
    pub deployments: Vec<Planned>,
    /// The models, at least one.
    pub models: Vec<Model>,
    /// Where the config has them.
    pub places: Places,
}

/// `FILE:LINE` of a config's sections, for what a scenario names and they do not have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// Of `deployments`.
    pub deployments: Option<String>,
    /// Of `models`.
    pub models: Option<String>,
}

/// `there are: a, b`, and where that stands.
pub(super) fn there_are(names: &[&str], place: Option<&str>) -> String {
    let place = place.map(|place| format!(" ({place})")).unwrap_or_default();
    format!("there are: {}{place}", names.join(", "))
}

/// A deployment of a config.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// Its name.
    pub name: String,
    /// Replicas; `None`: as many as the scenario says.
    pub replicas: Option<u16>,
    /// Time to the first token that is promised.
    pub ttft: Option<Duration>,
    /// Time per further token that is promised.
    pub tpot: Option<Duration>,
    /// How often its engines' metrics are read.
    pub scrape: Option<Duration>,
    /// What the gateway is told.
    pub told: shedder::Config,
    /// What its engines are like, where that was measured.
    pub measured: Option<Profile>,
    /// How fast each of its replicas is, compared with that.
    pub speeds: Vec<f64>,
}

/// What of an engine a file may say, and where.
struct Said<'a> {
    profile: Option<&'a str>,
    context: Option<u32>,
    kv_tokens: Option<u32>,
    behaviour: Option<&'a BehaviourFile>,
    path: Vec<Step>,
}

/// The deployments of a drill, and how fast their replicas work.
pub(super) fn deployments(
    file: &DrillFile,
    layout: Option<&Layout>,
    resolver: &mut Resolver<'_>,
) -> (Vec<Deployment>, Vec<(Duration, Incident)>) {
    let own = layout.map_or_else(|| vec![alone(file)], |layout| layout.deployments.clone());
    unknown(file, layout, &own, resolver);
    let mut paces = Vec::new();
    let mut deployments: Vec<Deployment> = Vec::with_capacity(own.len());
    let mut first = 0_u16;
    for planned in own {
        let more = file.fleet.deployments.iter().enumerate();
        let is_its_own =
            |(_, more): &(usize, &DeploymentFile)| more.name.as_deref() == Some(planned.name.as_str());
        let more = more.rev().find(is_its_own);
        let replicas = more.and_then(|(_, more)| more.replicas).or(planned.replicas);
        let replicas = replicas.or(file.fleet.replicas).unwrap_or(4);
        let profile = profile(file, more, planned.measured, resolver);
        let ms = |ms: f64| Duration::from_secs_f64(ms / 1e3);
        let slo = Slo {
            ttft: planned.ttft.unwrap_or_else(|| ms(file.slo.ttft_ms.unwrap_or(2000.0))),
            tpot: planned.tpot.unwrap_or_else(|| ms(file.slo.tpot_ms.unwrap_or(100.0))),
        };
        let (speeds, at) = match more {
            Some((nth, more)) if !more.speeds.is_empty() => (&more.speeds, of_deployment(nth)),
            _ if !planned.speeds.is_empty() => (&planned.speeds, vec![Step::Key("fleet")]),
            _ => (&file.fleet.speeds, vec![Step::Key("fleet")]),
        };
        paces.extend(speed(speeds, (first, replicas), &at, resolver));
        first = first.saturating_add(replicas);
        let (scrape, told) = (planned.scrape, planned.told);
        deployments.push(Deployment { name: planned.name, profile, replicas, slo, scrape, told });
    }
    let all: usize = deployments.iter().map(|one| usize::from(one.replicas)).sum();
    if all > REPLICAS_MAX {
        let message = format!("{all} replicas are more than the {REPLICAS_MAX} that a drill may have");
        resolver.fault(&[Step::Key("fleet")], message);
    }
    (deployments, paces)
}

/// The one fleet of a scenario that is played on no config.
fn alone(file: &DrillFile) -> Planned {
    let scrape_s = file.fleet.scrape_s.unwrap_or(1.0);
    Planned {
        name: "fleet".to_owned(),
        replicas: file.fleet.replicas,
        ttft: None,
        tpot: None,
        scrape: (scrape_s > 0.0).then(|| Duration::from_secs_f64(scrape_s.max(0.1))),
        told: shedder::Config::default(),
        measured: None,
        speeds: Vec::new(),
    }
}

fn of_deployment(nth: usize) -> Vec<Step> {
    vec![Step::Key("fleet"), Step::Key("deployments"), Step::Item(nth)]
}

/// Entries of `fleet.deployments` for what there is not, or for the same twice.
fn unknown(file: &DrillFile, layout: Option<&Layout>, own: &[Planned], resolver: &mut Resolver<'_>) {
    if layout.is_none() && !file.fleet.deployments.is_empty() {
        let message =
            "are those of a config; play the scenario with --config, or say this of the fleet itself";
        return resolver.fault(&[Step::Key("fleet"), Step::Key("deployments")], message);
    }
    let mut seen = BTreeSet::new();
    for (nth, more) in file.fleet.deployments.iter().enumerate() {
        let name = more.name.as_deref().unwrap_or_default();
        let path = [of_deployment(nth), vec![Step::Key("name")]].concat();
        if !own.iter().any(|planned| planned.name == name) {
            let names: Vec<&str> = own.iter().map(|planned| planned.name.as_str()).collect();
            let there_are = there_are(&names, layout.and_then(|layout| layout.places.deployments.as_deref()));
            let message = format!("no deployment that is played has the name `{name}`; {there_are}");
            resolver.fault(&path, message);
        } else if !seen.insert(name) {
            resolver.fault(&path, format!("there is another entry for `{name}`; put them together"));
        }
    }
}

/// What the engines of a deployment are like: as its entry says, else as measured, else as the fleet's keys say.
fn profile(
    file: &DrillFile,
    more: Option<(usize, &DeploymentFile)>,
    measured: Option<Profile>,
    resolver: &mut Resolver<'_>,
) -> Profile {
    let fleet = &file.fleet;
    let of_fleet = Said {
        profile: fleet.profile.as_deref(),
        context: fleet.context,
        kv_tokens: fleet.kv_tokens,
        behaviour: fleet.behaviour.as_ref(),
        path: vec![Step::Key("fleet")],
    };
    let said = match more {
        Some((nth, more)) => Said {
            profile: more.profile.as_deref().or(of_fleet.profile),
            context: more.context.or(of_fleet.context),
            kv_tokens: more.kv_tokens.or(of_fleet.kv_tokens),
            behaviour: more.behaviour.as_ref().or(of_fleet.behaviour),
            path: if more.profile.is_some() { of_deployment(nth) } else { of_fleet.path },
        },
        None => of_fleet,
    };
    let is_named = more.is_some_and(|(_, more)| more.profile.is_some());
    let mut profile = match measured {
        Some(measured) if !is_named => measured,
        _ => named(&said, resolver),
    };
    profile.kv_tokens = said.kv_tokens.unwrap_or(profile.kv_tokens);
    profile.context = said.context.unwrap_or(profile.context).min(profile.kv_tokens);
    if let Some(file) = said.behaviour {
        behaviour::apply(file, &mut profile, resolver);
    }
    profile
}

fn named(said: &Said<'_>, resolver: &mut Resolver<'_>) -> Profile {
    let name = said.profile.unwrap_or(LLAMA_8B_A100.name);
    Profile::named(name).unwrap_or_else(|| {
        let names: Vec<&str> = PROFILES.iter().map(|profile| profile.name).collect();
        let message = format!("no profile is called `{name}`; there are: {}", names.join(", "));
        resolver.fault(&[said.path.clone(), vec![Step::Key("profile")]].concat(), message);
        LLAMA_8B_A100
    })
}

/// The speeds of replicas, as what happens to them in the first moment.
fn speed(
    speeds: &[f64],
    (first, replicas): (u16, u16),
    at: &[Step],
    resolver: &mut Resolver<'_>,
) -> Vec<(Duration, Incident)> {
    if speeds.len() > usize::from(replicas) {
        let message =
            format!("has {} speeds for {replicas} replicas; leave some out or raise replicas", speeds.len());
        resolver.fault(&[at, &[Step::Key("speeds")]].concat(), message);
    }
    let percent = |speed: f64| (speed * 100.0).round().clamp(1.0, 10_000.0) as u16;
    let speeds = speeds.iter().cycle().zip(first..first.saturating_add(replicas));
    speeds.map(|(speed, replica)| (Duration::ZERO, Incident::Pace(replica, percent(*speed)))).collect()
}

/// The replicas of a deployment: the number of the first, and how many.
pub(super) fn replicas_of(deployments: &[Deployment], index: usize) -> (u16, u16) {
    let first = deployments.iter().take(index).map(|one| one.replicas).sum();
    (first, deployments.get(index).map_or(0, |one| one.replicas))
}
