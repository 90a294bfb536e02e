//! Which servers a DNS name stands for, asked again and again: one name of a headless service is a whole fleet.
//!
//! Every address of a name is a replica. Names are looked up by the system, on a thread of their own, at an interval;
//! nothing on the way of a request waits for DNS.
//!
//! - A name that cannot be resolved keeps its last answer: DNS that is down must not take the fleet along. An empty
//!   answer is no answer. Whether a server lives is shown by requests and probes, not by DNS.
//! - An address that is missing from three answers in a row is gone. Large answers come in parts, and one that is
//!   left out once has not moved. What runs there runs to its end.
//! - Of a name with addresses of both families the IPv4 ones count: they are the same servers twice.
//! - At most `dns.replicas_max` addresses of all names of a deployment; what is over is left out and told. Never an
//!   address where no model server may be (`config::replica`).

use crate::deployment::{CurrentDeployments, Deployment};
use crate::replica::{Replica, UpstreamTimeouts};
use config::{self, Host, ReplicaUrl};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Answers in a row without an address after which it is gone.
const MISSED_MAX: u32 = 3;
/// How long one answer is waited for. The system's own limit is 30 s in places.
const PATIENCE: Duration = Duration::from_secs(10);
/// How soon a new config is noticed.
const RELOAD_POLL: Duration = Duration::from_secs(1);

/// The addresses of one name, over time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The URL with the name in it.
    pub url: ReplicaUrl,
    /// Addresses with the answers in a row that they were missing from; sorted.
    seen: Vec<(IpAddr, u32)>,
    /// Whether the last answer was none: told once, not at each interval.
    failing: bool,
}

impl Name {
    /// A name that was not looked up yet.
    #[must_use]
    pub fn new(url: ReplicaUrl) -> Self {
        Name { url, seen: Vec::new(), failing: false }
    }

    /// An answer came. `true`: the addresses changed.
    pub fn answered(&mut self, answer: &[IpAddr]) -> bool {
        let of_family = |v4: bool| answer.iter().copied().filter(move |ip| ip.is_ipv4() == v4);
        let usable = |ip: &IpAddr| config::is_allowed(*ip);
        let mut found: Vec<IpAddr> = of_family(true).filter(usable).collect();
        if found.is_empty() {
            found = of_family(false).filter(usable).collect();
        }
        if found.is_empty() {
            return false;
        }
        self.failing = false;
        found.sort_unstable();
        found.dedup();
        let before: Vec<IpAddr> = self.addresses().collect();
        let missing = self.seen.iter().filter(|(ip, missed)| !found.contains(ip) && missed + 1 < MISSED_MAX);
        let missing: Vec<_> = missing.map(|(ip, missed)| (*ip, missed + 1)).collect();
        self.seen = found.into_iter().map(|ip| (ip, 0)).chain(missing).collect();
        self.seen.sort_unstable();
        before != self.addresses().collect::<Vec<_>>()
    }

    /// No answer came: what is known stays. Told once in a row.
    fn failed(&mut self, deployment: &str, error: &io::Error) {
        if !std::mem::replace(&mut self.failing, true) {
            let (host, known) = (self.url.host.to_string(), self.addresses().count());
            tracing::warn!(
                deployment,
                host,
                known,
                "the name is not resolved, its last addresses stay: {error}"
            );
        }
    }

    /// The addresses in force, sorted.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.seen.iter().map(|(ip, _)| *ip)
    }
}

/// Where the replicas of one deployment are.
#[derive(Debug)]
pub struct Places {
    config: Arc<config::Deployment>,
    /// In the order of the file.
    names: Vec<Name>,
    timeouts: UpstreamTimeouts,
    told_too_many: bool,
}

impl Places {
    /// The places that `config` names, none of its names looked up yet.
    #[must_use]
    pub fn new(config: Arc<config::Deployment>, timeouts: UpstreamTimeouts) -> Self {
        let names = config.replicas.iter().filter(|url| matches!(url.host, Host::Name(_)));
        Places { names: names.cloned().map(Name::new).collect(), config, timeouts, told_too_many: false }
    }

    /// A copy, to look up without holding a lock.
    #[must_use]
    pub fn copy(&self) -> Self {
        Places { config: Arc::clone(&self.config), names: self.names.clone(), ..*self }
    }

    /// Whether there is anything to look up.
    #[must_use]
    pub fn has_names(&self) -> bool {
        !self.names.is_empty()
    }

    /// Looks all names up, one after the other, where that may block: before anything listens. Names without an
    /// address are told, and looked up again later.
    pub fn resolve_now(&mut self) {
        use std::net::ToSocketAddrs as _;
        for name in &mut self.names {
            let answer = (name.url.host.to_string().as_str(), name.url.port).to_socket_addrs();
            match answer.map(|found| found.map(|address| address.ip()).collect::<Vec<_>>()) {
                Ok(found) => {
                    name.answered(&found);
                }
                Err(error) => name.failed(&self.config.name, &error),
            }
        }
    }

    /// Looks all names up. `true`: something changed.
    pub async fn resolve(&mut self) -> bool {
        let mut changed = false;
        for name in &mut self.names {
            let host = (name.url.host.to_string(), name.url.port);
            let answer = tokio::time::timeout(PATIENCE, tokio::net::lookup_host(host)).await;
            match answer.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut))) {
                Ok(found) => changed |= name.answered(&found.map(|address| address.ip()).collect::<Vec<_>>()),
                Err(error) => name.failed(&self.config.name, &error),
            }
        }
        changed
    }

    /// The replicas as they are now, in the order of the file.
    pub fn replicas(&mut self) -> Vec<Replica> {
        let mut names = self.names.iter();
        let mut room = self.config.dns.replicas_max as usize;
        let mut left_out = 0;
        let mut replicas = Vec::new();
        for url in &self.config.replicas {
            let replica = |ip| Replica::at(&self.config, url, SocketAddr::new(ip, url.port), self.timeouts);
            match &url.host {
                Host::Ip(ip) => replicas.extend(replica(*ip)),
                Host::Name(_) => {
                    for ip in names.next().into_iter().flat_map(Name::addresses) {
                        if room > 0 {
                            replicas.extend(replica(ip));
                        } else {
                            left_out += 1;
                        }
                        room = room.saturating_sub(1);
                    }
                }
            }
        }
        if std::mem::replace(&mut self.told_too_many, left_out > 0) != (left_out > 0) && left_out > 0 {
            let (deployment, most) = (&*self.config.name, self.config.dns.replicas_max);
            tracing::error!(
                deployment,
                left_out,
                "names have more than {most} addresses: raise dns.replicas_max"
            );
        }
        replicas
    }
}

/// Follows the names of the config in force, on a thread of its own, until the process ends.
///
/// # Errors
/// When the thread or its runtime is not to be had.
pub fn start(current: CurrentDeployments) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("discovery".to_owned()).spawn(move || {
        runtime.block_on(follow(&current));
    })?;
    Ok(())
}

async fn follow(current: &CurrentDeployments) {
    loop {
        let deployments = current.get();
        let mut follows = JoinSet::new();
        for deployment in deployments.iter() {
            follows.spawn(follow_one(Arc::clone(deployment)));
        }
        // Dropping the set ends its tasks.
        while Arc::ptr_eq(&deployments, &current.get()) {
            tokio::time::sleep(RELOAD_POLL).await;
        }
    }
}

async fn follow_one(deployment: Arc<Deployment>) {
    if !deployment.places.lock().has_names() {
        return;
    }
    loop {
        tokio::time::sleep(deployment.config.dns.interval).await;
        // Looked up on a copy: the lock is not held across an await.
        let mut places = deployment.places.lock().copy();
        let changed = places.resolve().await;
        let replicas = places.replicas();
        *deployment.places.lock() = places;
        if changed {
            deployment.become_these(replicas);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::configured as deployment;
    use std::net::Ipv4Addr;

    fn name() -> Name {
        Name::new("http://fleet.models:8000".parse().unwrap())
    }

    fn v4(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    fn addresses(name: &Name) -> Vec<String> {
        name.addresses().map(|ip| ip.to_string()).collect()
    }

    #[test]
    fn every_address_is_a_server_whatever_their_order_and_number() {
        let mut name = name();

        assert!(name.answered(&[v4(3), v4(1), v4(3)]));
        assert!(!name.answered(&[v4(1), v4(3)]), "the same in another order is no change");

        assert_eq!(addresses(&name), ["10.0.0.1", "10.0.0.3"]);
    }

    /// Threat F22: DNS that is down, or empty, does not take the fleet along.
    #[test]
    fn threat_f22_without_an_answer_the_last_one_stays() {
        let mut name = name();
        name.answered(&[v4(1)]);

        for _ in 0..100 {
            name.failed("d", &io::Error::from(io::ErrorKind::TimedOut));
            assert!(!name.answered(&[]));
        }

        assert_eq!(addresses(&name), ["10.0.0.1"]);
    }

    /// Large answers come in parts: one that is left out now and then has not moved.
    #[test]
    fn an_address_is_gone_after_three_answers_without_it() {
        let mut name = name();
        name.answered(&[v4(1), v4(2)]);
        for _ in 0..10 {
            assert!(!name.answered(&[v4(1)]) && !name.answered(&[v4(1)]) && !name.answered(&[v4(2)]));
            assert!(!name.answered(&[v4(1), v4(2)]));
        }

        let changes = [(); 3].map(|()| name.answered(&[v4(1), v4(4)]));

        assert_eq!(changes, [true, false, true], "4 comes at once, 2 goes with the third");
        assert_eq!(addresses(&name), ["10.0.0.1", "10.0.0.4"]);
    }

    #[test]
    fn both_families_are_the_same_servers_and_count_once() {
        let mut name = name();
        let v6: IpAddr = "fd00::1".parse().unwrap();

        name.answered(&[v6, v4(1)]);
        assert_eq!(addresses(&name), ["10.0.0.1"]);

        let mut only = self::name();
        only.answered(&[v6]);
        assert_eq!(addresses(&only), ["fd00::1"]);
    }

    /// Threat S15: a name may say anything, also the address of the machine's own credentials.
    #[test]
    fn threat_s15_an_address_where_no_server_may_be_is_no_answer() {
        let mut name = name();
        assert!(!name.answered(&["169.254.169.254".parse().unwrap(), "0.0.0.0".parse().unwrap()]));
        assert_eq!(addresses(&name), [""; 0]);
    }

    #[test]
    fn names_and_addresses_keep_the_order_of_the_file_and_the_bound_of_names() {
        let mut config = config::Deployment::clone(&deployment("dns: { replicas_max: 3 }"));
        let urls = ["http://10.9.9.9:1", "https://a.models:2/base", "http://b.models:3"];
        config.replicas = urls.iter().map(|url| url.parse().unwrap()).collect();
        let mut places = Places::new(Arc::new(config), crate::deployment::timeouts(&Default::default()));
        places.names[0].answered(&[v4(1), v4(2)]);
        places.names[1].answered(&[v4(3), v4(4)]);

        let replicas = places.replicas();

        let names: Vec<&str> = replicas.iter().map(|replica| &*replica.name).collect();
        let want = [
            "http://10.9.9.9:1",
            "https://a.models:2/base (10.0.0.1)",
            "https://a.models:2/base (10.0.0.2)",
            "http://b.models:3 (10.0.0.3)",
        ];
        assert_eq!(names, want, "addresses of the file do not count, the fourth of the names is left out");
        assert_eq!(replicas[1].host, "a.models:2");
    }
}
