//! `listen.proxies`: the load balancers and reverse proxies before the gateway, whose word on a client's address is taken.
//!
//! Nothing is guessed. A proxy that is listed with `proxy_protocol` has to send its header, and a header from anybody else
//! is malformed HTTP. `X-Forwarded-For` is read from the right for as long as the hops are listed: what stands further left
//! was written by whoever wanted to.

use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::resolve::Resolver;
use crate::yaml::faults::At;

/// Networks that may be listed.
const PROXIES_MAX: usize = 256;

/// A network of trusted proxies.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Proxy {
    /// Its addresses.
    pub cidr: IpNet,
    /// Whether each of its connections begins with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Whether its `X-Forwarded-For` is read.
    pub x_forwarded_for: bool,
}

/// The trusted proxies.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Proxies(Vec<Proxy>);

impl Proxies {
    /// The entry for an address; where networks overlap, the smallest. O(entries).
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Option<&Proxy> {
        let address = address.to_canonical();
        let containing = self.0.iter().filter(|proxy| proxy.cidr.contains(&address));
        containing.max_by_key(|proxy| proxy.cidr.prefix_len())
    }
}

/// A network of trusted proxies.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ProxyFile {
    /// Their addresses: a network such as 10.0.0.0/8 or 2001:db8::/32, or one address.
    #[schemars(required, length(min = 1, max = 64), extend("x-required" = true))]
    cidr: Option<String>,
    /// Each connection from there begins with a PROXY protocol header, version 1 or 2, and one without it is closed. Default false.
    proxy_protocol: bool,
    /// `X-Forwarded-For` from there names the client. Default false. It is read from the right, as far as the hops are listed with this key.
    x_forwarded_for: bool,
}

/// Resolves the list, at `at`.
pub(super) fn resolve(files: Vec<ProxyFile>, resolver: &mut Resolver<'_>, at: &At<'_>) -> Proxies {
    if files.len() > PROXIES_MAX {
        resolver.fault(at, format!("may have {PROXIES_MAX} entries at most"));
    }
    let files = files.into_iter().take(PROXIES_MAX).enumerate();
    Proxies(files.filter_map(|(nth, file)| file.resolve(resolver, &at.item(nth))).collect())
}

impl ProxyFile {
    fn resolve(self, resolver: &mut Resolver<'_>, at: &At<'_>) -> Option<Proxy> {
        let text = self.cidr?;
        let Some(cidr) = network(&text) else {
            let fault = "must be a network such as \"10.0.0.0/8\" or \"2001:db8::/32\", or an IP address";
            resolver.fault(&at.key("cidr"), fault);
            return None;
        };
        Some(Proxy { cidr, proxy_protocol: self.proxy_protocol, x_forwarded_for: self.x_forwarded_for })
    }
}

fn network(text: &str) -> Option<IpNet> {
    let network: Option<IpNet> = text.parse().ok();
    network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)).map(|network| network.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_network_counts_and_an_address_is_a_network_of_one() {
        let proxy = |text: &str, proxy_protocol| Proxy {
            cidr: network(text).unwrap(),
            proxy_protocol,
            x_forwarded_for: false,
        };
        let proxies = Proxies(vec![proxy("10.0.0.7", true), proxy("10.1.2.3/8", false)]);

        assert!(proxies.find([10, 0, 0, 7].into()).unwrap().proxy_protocol);
        assert!(proxies.find("::ffff:10.0.0.7".parse().unwrap()).unwrap().proxy_protocol);
        assert!(!proxies.find([10, 200, 0, 1].into()).unwrap().proxy_protocol);
        assert_eq!(proxies.find([11, 0, 0, 1].into()), None);
        assert!(network("10.0.0.0/33").is_none() && network("proxy.example").is_none());
    }
}
