//! The events of a scenario file: what happens, when it is over, and what a chart calls it.

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::resolve::{Resolver, Step};
use super::traffic::Named;
use super::{DrillFile, EventFile, MetricsFile, fleet};
use crate::scenario::Incident;
use crate::scenario::fleet::Deployment;
use crate::scenario::trace::{Recorded, Trace};
use crate::script::Mark;

type Incidents = Vec<(Duration, Incident)>;

pub(super) fn incidents(
    file: &DrillFile,
    deployments: &[Deployment],
    sources: &mut Vec<Named>,
    resolver: &mut Resolver<'_>,
) -> (Incidents, Vec<Mark>) {
    let (mut incidents, mut marks) = (Vec::new(), Vec::new());
    for (nth, event) in file.events.iter().enumerate() {
        let path = [Step::Key("events"), Step::Item(nth)];
        let at = resolver.moment(&path, event.at_s.unwrap_or(0.0));
        let over = event.for_s.map(|length| at + Duration::from_secs_f64(length));
        if given(event) != 1 {
            let what = "needs exactly one of lose, back, slow, capacity, drain, undrain, metrics, pressure, reload, \
                        upgrade_gateway, restart_gateway_s, kill_gateway_s and herd";
            resolver.fault(&path, what);
            continue;
        }
        let Some((first, replicas)) = meant(event, deployments, &path, resolver) else { continue };
        for (key, number) in [
            ("lose", event.lose),
            ("back", event.back),
            ("slow", event.slow),
            ("drain", event.drain),
            ("undrain", event.undrain),
        ] {
            if let Some(number) = number.filter(|number| *number >= replicas) {
                let message = format!("there is no replica {number}: there are {replicas}, the first is 0");
                resolver.fault(&[path[0], path[1], Step::Key(key)], message);
            }
        }
        if event.to.is_some() && event.slow.is_none() {
            resolver.fault(
                &[path[0], path[1], Step::Key("to")],
                "says how slow `slow` is; which replica is slow?",
            );
        }
        if event.herd.is_some() {
            herd(file, event, at, &path, sources, resolver);
            let label = format!("herd of {}", event.herd.unwrap_or(0));
            marks.push(Mark { at, until: None, label });
            continue;
        }
        let (begin, end, label) = happenings(event, (first, replicas), &path, resolver);
        incidents.extend(begin.into_iter().map(|incident| (at, incident)));
        let ends = end
            .into_iter()
            .filter_map(|(after, incident)| Some((after.map_or(over, |after| Some(at + after))?, incident)));
        let ends: Incidents = ends.collect();
        let until = ends.first().map(|(at, _)| *at).or(over);
        incidents.extend(ends);
        marks.push(Mark { at, until, label });
    }
    (incidents, marks)
}

/// Which replicas an event is about: the number of the first, and how many. `None`: those of a deployment that is not there.
fn meant(
    event: &EventFile,
    deployments: &[Deployment],
    path: &[Step; 2],
    resolver: &mut Resolver<'_>,
) -> Option<(u16, u16)> {
    let Some(name) = &event.deployment else {
        return Some((0, deployments.iter().map(|one| one.replicas).sum()));
    };
    let found = deployments.iter().position(|one| one.name == *name);
    if found.is_none() {
        let names: Vec<&str> = deployments.iter().map(|one| one.name.as_str()).collect();
        let there_are = fleet::there_are(&names, resolver.places.deployments.as_deref());
        let message = format!("no deployment that is played has the name `{name}`; {there_are}");
        resolver.fault(&[path[0], path[1], Step::Key("deployment")], message);
    }
    Some(fleet::replicas_of(deployments, found?))
}

/// How many things an event says.
fn given(event: &EventFile) -> usize {
    let said = [
        event.lose.is_some(),
        event.back.is_some(),
        event.slow.is_some(),
        event.capacity.is_some(),
        event.drain.is_some(),
        event.undrain.is_some(),
        event.metrics.is_some(),
        event.pressure.is_some(),
        event.reload == Some(true),
        event.upgrade_gateway == Some(true),
        event.restart_gateway_s.is_some(),
        event.kill_gateway_s.is_some(),
        event.herd.is_some(),
    ];
    said.into_iter().filter(|said| *said).count()
}

type Ending = Vec<(Option<Duration>, Incident)>;

/// What begins, what ends it (after `for_s`, or after a time of its own), and its name.
fn happenings(
    event: &EventFile,
    (first, replicas): (u16, u16),
    path: &[Step; 2],
    resolver: &mut Resolver<'_>,
) -> (Vec<Incident>, Ending, String) {
    let of = event.deployment.as_deref().map_or(String::new(), |name| format!(" of {name}"));
    let percent = |share: f64| (share * 100.0).round().max(1.0) as u16;
    let all = |pace: u16| (first..first + replicas).map(move |replica| Incident::Pace(replica, pace));
    let ends = |incident: Incident| vec![(None, incident)];
    if let Some(replica) = event.lose {
        return (
            vec![Incident::Lost(first + replica)],
            ends(Incident::Back(first + replica)),
            format!("replica {replica}{of} lost"),
        );
    }
    if let Some(replica) = event.back {
        return (vec![Incident::Back(first + replica)], Vec::new(), format!("replica {replica}{of} back"));
    }
    if let Some(replica) = event.slow {
        let to = percent(event.to.unwrap_or(0.5));
        let begin = vec![Incident::Pace(first + replica, to)];
        let end = ends(Incident::Pace(first + replica, 100));
        return (begin, end, format!("replica {replica}{of} at {to} % speed"));
    }
    if let Some(share) = event.capacity {
        let end = all(100).map(|incident| (None, incident)).collect();
        return (all(percent(share)).collect(), end, format!("fleet{of} at {} % speed", percent(share)));
    }
    if let Some(replica) = event.drain {
        let end = ends(Incident::Drained(first + replica, false));
        let begin = vec![Incident::Drained(first + replica, true)];
        return (begin, end, format!("replica {replica}{of} drained"));
    }
    if let Some(replica) = event.undrain {
        return (
            vec![Incident::Drained(first + replica, false)],
            Vec::new(),
            format!("replica {replica}{of} in service"),
        );
    }
    match event.metrics {
        Some(MetricsFile::Frozen) => {
            return (vec![Incident::MetricsFrozen], ends(Incident::MetricsBack), "metrics frozen".to_owned());
        }
        Some(MetricsFile::Back) => {
            return (vec![Incident::MetricsBack], Vec::new(), "metrics back".to_owned());
        }
        None => {}
    }
    if let Some(share) = event.pressure {
        let Some(length) = event.for_s else {
            resolver.fault(path, "pressure needs for_s: it has to end by itself");
            return (Vec::new(), Vec::new(), String::new());
        };
        let pressed = Incident::Pressure((share * 100.0).round() as u16, length.ceil() as u64);
        return (vec![pressed], Vec::new(), format!("pressure {:.0} %", share * 100.0));
    }
    if event.upgrade_gateway == Some(true) {
        return (vec![Incident::GatewayUpgraded], Vec::new(), "gateway upgraded".to_owned());
    }
    if let Some(pause) = event.restart_gateway_s {
        let told = Incident::GatewayRestarted((pause * 1e3) as u64);
        return (vec![told], Vec::new(), "gateway told to restart".to_owned());
    }
    if let Some(down) = event.kill_gateway_s {
        let end = vec![(Some(Duration::from_secs_f64(down)), Incident::GatewayBack)];
        return (vec![Incident::GatewayLost], end, "gateway killed".to_owned());
    }
    (vec![Incident::Reload], Vec::new(), "reload".to_owned())
}

/// Many requests at one moment: a source of its own, with a trace in which all times are the same.
fn herd(
    file: &DrillFile,
    event: &EventFile,
    at: Duration,
    path: &[Step; 2],
    sources: &mut Vec<Named>,
    resolver: &mut Resolver<'_>,
) {
    let wanted = event.traffic.as_deref();
    let Some(like) = sources.iter().find(|named| Some(named.name.as_str()) == wanted) else {
        let names: Vec<&str> = sources.iter().map(|named| named.name.as_str()).collect();
        let message = format!("a herd needs `traffic`, one of: {}", names.join(", "));
        resolver.fault(&[path[0], path[1], Step::Key("traffic")], message);
        return;
    };
    let seed = file.seed.unwrap_or(1) ^ at.as_nanos() as u64 ^ 0x6865_7264;
    let mut rng = SmallRng::seed_from_u64(seed);
    let recorded = |_| Recorded {
        at,
        size: like.source.workload.draw(&mut rng),
        account: None,
        model: None,
        tier: None,
        streaming: None,
        prefix: None,
    };
    let asks = (0..event.herd.unwrap_or(0)).map(recorded).collect();
    let trace = Some(Arc::new(Trace { asks, accounts: Vec::new(), models: Vec::new() }));
    let name = format!("herd of {}", like.name);
    let source = crate::scenario::Source { trace, ..like.source.clone() };
    sources.push(Named { name, source });
}
