//! The replicas of a deployment as they are now, by the shedder's number.
//!
//! A request holds the number of its replica, so a number keeps its meaning as long as anything runs there: one that
//! was given up is given again only after its last request has ended. Numbers are the smallest that are free, so they,
//! and the metrics with them, stay few however often servers come and go.

use super::replica::Replica;
use crate::admission::Gate;
use arc_swap::ArcSwap;
use process::clock;
use process::entropy::rendezvous_among;
use shedder::{ReplicaConfig, ReplicaId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use weighing::weigh::Prefixes;

/// A replica and its number.
pub type Numbered = (ReplicaId, Arc<Replica>);

/// The replicas of one deployment.
#[derive(Debug)]
pub struct Replicas {
    lists: ArcSwap<Lists>,
    slots_max: Option<u32>,
    /// Whether another config's list took over: this one then follows no more.
    superseded: AtomicBool,
}

#[derive(Debug, Default)]
struct Lists {
    /// By number.
    current: Arc<Vec<Numbered>>,
    /// Given up, with requests on them when that was last looked at.
    leaving: Vec<Numbered>,
}

impl Lists {
    fn all(&self) -> impl Iterator<Item = &Numbered> {
        self.current.iter().chain(&self.leaving)
    }

    /// The replica of this number, if it is the one of this name.
    fn named(&self, id: ReplicaId, name: &str) -> Option<Arc<Replica>> {
        let is = |(own, replica): &&Numbered| *own == id && replica.name == name;
        self.all().find(is).map(|(_, replica)| Arc::clone(replica))
    }

    /// Those that are not in `next` but still have requests.
    fn leaving(&self, next: &[Numbered], in_use: &[ReplicaId]) -> Vec<Numbered> {
        let stays = |id: ReplicaId| next.iter().any(|(own, _)| *own == id);
        self.all().filter(|(id, _)| !stays(*id) && in_use.contains(id)).cloned().collect()
    }
}

impl Replicas {
    /// These, numbered from 0 in their order.
    #[must_use]
    pub fn new(replicas: Vec<Replica>, config: &config::Deployment) -> Self {
        let numbered: Vec<Numbered> = (0..).map(ReplicaId).zip(replicas.into_iter().map(Arc::new)).collect();
        let lists = Lists { current: Arc::new(numbered), leaving: Vec::new() };
        Replicas::with(lists, config)
    }

    fn with(lists: Lists, config: &config::Deployment) -> Self {
        let lists = ArcSwap::from_pointee(lists);
        Replicas { lists, slots_max: config.slots_max, superseded: AtomicBool::new(false) }
    }

    /// The replica with this number, also one that was given up while requests are on it. O(replicas).
    #[must_use]
    pub fn get(&self, id: ReplicaId) -> Option<Arc<Replica>> {
        self.lists.load().all().find(|(own, _)| *own == id).map(|(_, replica)| Arc::clone(replica))
    }

    /// All that take requests, as they are now.
    #[must_use]
    pub fn all(&self) -> Arc<Vec<Numbered>> {
        Arc::clone(&self.lists.load().current)
    }

    /// The number of the replica that operators call so.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<ReplicaId> {
        self.lists.load().current.iter().find(|(_, replica)| replica.name == name).map(|(id, _)| *id)
    }

    /// The replica that a session's hint belongs to.
    #[must_use]
    pub fn hinted(&self, hint: u64) -> Option<ReplicaId> {
        rendezvous_among(hint, self.lists.load().current.iter().map(|(id, _)| id.0)).map(ReplicaId)
    }

    /// What the shedder is told of them.
    #[must_use]
    pub fn for_shedder(&self) -> Vec<ReplicaConfig> {
        let replica = |(id, _): &Numbered| ReplicaConfig { id: *id, slots_max: self.slots_max };
        self.lists.load().current.iter().map(replica).collect()
    }

    /// From now on these are the replicas. Those that stay, by name, keep their number and everything that was
    /// learnt; requests on those that go run to their end. Not to be called by two at a time. Nothing happens where
    /// another config's list took over.
    pub fn become_these(&self, wanted: Vec<Replica>, gate: &Gate, prefixes: &Prefixes) {
        if self.superseded.load(Ordering::Acquire) {
            return;
        }
        let known = self.lists.load_full();
        let in_use: Vec<ReplicaId> = gate.read(|shedder| shedder.replica_ids().collect());
        let next = numbered(&known, &in_use, wanted, |id| {
            prefixes.forget(id.0);
            gate.forget(id);
        });
        let own = next.into_iter().map(|(id, fresh)| (id, known.named(id, &fresh.name).unwrap_or(fresh)));
        let current: Vec<Numbered> = own.collect();
        let leaving = known.leaving(&current, &in_use);
        // First the lists, so that a number which the shedder gives out is always found.
        self.lists.store(Arc::new(Lists { current: Arc::new(current), leaving }));
        let told = self.for_shedder();
        gate.with(|shedder| shedder.set_replicas(clock::now(), &told));
    }

    /// The replicas of the same deployment under a new config, numbered as here. Requests that began under the old one
    /// go on with what it said of the replicas they know, and find those that are new. The shedder is not told yet.
    #[must_use]
    pub fn renewed(
        &self,
        wanted: Vec<Replica>,
        config: &config::Deployment,
        gate: &Gate,
        prefixes: &Prefixes,
    ) -> Replicas {
        self.superseded.store(true, Ordering::Release);
        let known = self.lists.load_full();
        let in_use: Vec<ReplicaId> = gate.read(|shedder| shedder.replica_ids().collect());
        let next = numbered(&known, &in_use, wanted, |id| {
            prefixes.forget(id.0);
            gate.forget(id);
        });
        let leaving = known.leaving(&next, &in_use);
        let as_known = next
            .iter()
            .map(|(id, fresh)| (*id, known.named(*id, &fresh.name).unwrap_or_else(|| Arc::clone(fresh))));
        let lists = Lists { current: Arc::new(as_known.collect()), leaving: leaving.clone() };
        self.lists.store(Arc::new(lists));
        Replicas::with(Lists { current: Arc::new(next), leaving }, config)
    }
}

/// Numbers for `wanted`, by number: those that are known and in use keep theirs, others get the smallest free, of which `forget`
/// is told: another replica may have had it.
fn numbered(
    known: &Lists,
    in_use: &[ReplicaId],
    wanted: Vec<Replica>,
    forget: impl Fn(ReplicaId),
) -> Vec<Numbered> {
    let (mut next, mut fresh) = (Vec::<Numbered>::with_capacity(wanted.len()), Vec::new());
    for replica in wanted {
        let same = |(id, known): &&Numbered| known.name == replica.name && in_use.contains(id);
        match known.all().find(same) {
            Some((id, _)) => next.push((*id, Arc::new(replica))),
            None => fresh.push(replica),
        }
    }
    for replica in fresh {
        let is_free = |id: &u16| {
            let id = ReplicaId(*id);
            !in_use.contains(&id) && next.iter().all(|(own, _)| *own != id)
        };
        let Some(id) = (0..u16::MAX).find(is_free) else { break };
        forget(ReplicaId(id));
        next.push((ReplicaId(id), Arc::new(replica)));
    }
    next.sort_by_key(|(id, _)| *id);
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::Deployment;
    use crate::deployment::configured as deployment;
    use crate::harvest::Live;

    /// A deployment with these servers, which nobody calls.
    fn deployment_with(servers: &[u8]) -> Deployment {
        Deployment::build(&config_with(servers))
    }

    fn config_with(servers: &[u8]) -> Arc<config::Deployment> {
        let urls: Vec<String> = servers.iter().map(|n| format!("http://10.0.0.{n}:8000")).collect();
        let mut config = config::Deployment::clone(&deployment("engine: vllm"));
        config.replicas = urls.iter().map(|url| url.parse().unwrap()).collect();
        Arc::new(config)
    }

    fn become_these(deployment: &Deployment, servers: &[u8]) {
        let config = config_with(servers);
        let mut places = crate::discovery::Places::new(config, deployment.timeouts);
        deployment.become_these(places.replicas());
    }

    fn numbers(deployment: &Deployment) -> Vec<(u16, String)> {
        deployment
            .replicas
            .all()
            .iter()
            .map(|(id, one)| (id.0, one.peer.to_string()))
            .map(|(id, peer)| {
                let address =
                    peer.split("addr: ").nth(1).unwrap_or_default().split(':').next().unwrap_or_default();
                (id, address.rsplit('.').next().unwrap_or_default().to_owned())
            })
            .collect()
    }

    fn offer() -> shedder::Offer {
        shedder::Offer {
            tier: shedder::Tier::Regular,
            account: 1,
            user: None,
            weight: 1.0,
            prompt: 10,
            uncached: shedder::Uncached::everywhere(10),
            expected_output: 10,
            streaming: true,
            has_output: true,
            bytes: 10,
            arrived: clock::now(),
            deadline: None,
            needs: 0,
            affinity: None,
        }
    }

    fn admit(deployment: &Deployment) -> crate::admission::Place {
        deployment.gate.try_admit(offer(), Live::for_tests()).expect("there is room")
    }

    #[test]
    fn those_that_stay_keep_their_number_and_new_ones_get_the_smallest_free() {
        let deployment = deployment_with(&[1, 2, 3]);

        become_these(&deployment, &[3, 4, 1]);
        assert_eq!(
            numbers(&deployment),
            [(0, "1".into()), (2, "3".into()), (3, "4".into())],
            "2 was in use until now"
        );
        become_these(&deployment, &[5, 3, 4, 1]);

        assert_eq!(numbers(&deployment)[1], (1, "5".to_owned()), "its number is free by now");
    }

    #[test]
    fn a_number_that_another_replica_gets_has_seen_nothing() {
        let deployment = deployment_with(&[1, 2]);
        let seen = gateway_core::curve::Seen {
            streams: 1,
            gaps: 10,
            gap_sum: std::time::Duration::from_millis(250),
            prompt_tokens: 0,
        };
        let both = [(ReplicaId(0), seen), (ReplicaId(1), seen)].into();
        deployment.gate.harvested(clock::now(), &both, &[]);

        become_these(&deployment, &[1]);
        become_these(&deployment, &[1, 3]);

        assert_eq!(numbers(&deployment)[1], (1, "3".to_owned()), "the number of 2, which is gone");
        assert_eq!(deployment.gate.curve(ReplicaId(1)).at_loads().count(), 0);
        assert_eq!(deployment.gate.curve(ReplicaId(0)).at_loads().count(), 1, "that one stays");
    }

    /// A number must not change its meaning under a request that holds it.
    #[test]
    fn the_number_of_a_replica_that_is_gone_is_free_only_when_nothing_runs_there() {
        let deployment = deployment_with(&[1]);
        let place = admit(&deployment);
        let id = place.permit().replica;

        become_these(&deployment, &[2]);
        assert!(
            deployment.replicas.get(id).unwrap().name.contains("10.0.0.1"),
            "the request finds its replica"
        );
        assert_eq!(admit(&deployment).permit().replica, ReplicaId(1), "nothing new goes there");
        become_these(&deployment, &[2, 3]);
        assert_eq!(numbers(&deployment).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2]);

        drop(place);
        deployment.gate.with(|shedder| shedder.tick(clock::now(), &[]));
        become_these(&deployment, &[2, 3, 4]);
        assert_eq!(numbers(&deployment)[0], (0, "4".to_owned()));
    }

    #[test]
    fn a_drained_replica_gets_nothing_new_and_comes_back() {
        let deployment = deployment_with(&[1, 2]);
        let running = admit(&deployment);
        let name = deployment.replicas.get(running.permit().replica).unwrap().name.clone();

        assert!(deployment.drain(&name, true));
        let others: Vec<_> = (0..20).map(|_| admit(&deployment)).collect();
        assert!(others.iter().all(|place| place.permit().replica != running.permit().replica));
        let snapshot = deployment.gate.read(|shedder| shedder.snapshot(clock::now()));
        assert_eq!(snapshot.replicas.iter().filter(|replica| replica.drained).count(), 1);
        assert_eq!(
            snapshot.replicas.iter().find(|replica| replica.drained).unwrap().active,
            1,
            "what runs there runs on"
        );

        assert!(deployment.drain(&running.permit().replica.0.to_string(), false), "by its number too");
        let again: Vec<_> = (0..20).map(|_| admit(&deployment)).collect();
        assert!(again.iter().any(|place| place.permit().replica == running.permit().replica));
        assert!(!deployment.drain("http://10.0.0.9:8000", true) && !deployment.drain("7", true));
    }

    #[test]
    fn without_any_replica_there_is_no_place_and_with_one_there_is() {
        let deployment = deployment_with(&[]);
        assert!(deployment.gate.try_admit(offer(), Live::for_tests()).is_none());

        become_these(&deployment, &[9]);

        assert_eq!(admit(&deployment).permit().replica, ReplicaId(0));
    }
}
