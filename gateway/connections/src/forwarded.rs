//! Who the client is behind HTTP proxies: `X-Forwarded-For`, from the right.
//!
//! Each proxy appends the address that connected to it. So the last one was written by the proxy that is connected here,
//! and may be believed if that one is listed; the one before it was written by the last one's, and so on. The first address
//! that is not a listed hop's is the client's: what stands left of it came from the client, who may write what it likes.

use config::Proxies;
use http::HeaderMap;
use std::net::{IpAddr, SocketAddr};

/// Hops that are followed: more proxies in a row are a loop.
const HOPS_MAX: usize = 16;

/// The client's address of a request that `connected` sent. O(length of the header), allocates nothing.
#[must_use]
pub fn client(headers: &HeaderMap, connected: IpAddr, proxies: &Proxies) -> IpAddr {
    let lines = headers.get_all("x-forwarded-for").into_iter().rev();
    let hops = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    let mut client = connected;
    for hop in hops.take(HOPS_MAX) {
        if !proxies.find(client).is_some_and(|proxy| proxy.x_forwarded_for) {
            break;
        }
        // A hop that hides its client, or writes something else, is the last one that is known.
        let Some(address) = address(hop) else { break };
        client = address;
    }
    client
}

/// One element, with or without a port, as proxies write it.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse().map(|with_port: SocketAddr| with_port.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_of(lines: &[&str], connected: &str) -> String {
        let text = "listen: { proxies: [{ cidr: 10.0.0.0/8, x_forwarded_for: true }, { cidr: \"fd00::/8\", x_forwarded_for: true }, { cidr: 10.9.9.9 }] }
deployments: [{ name: d, engine: vllm, replicas: [\"http://127.0.0.1:1\"] }]
models: [{ name: m, deployments: [d] }]
accounts: [{ id: a, keys: [\"sha256:0000000000000000000000000000000000000000000000000000000000000000\"] }]";
        let config = config::Config::parse(text, "test", &|_| None).unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        client(&headers, connected.parse().unwrap(), &config.listen.proxies).to_string()
    }

    #[test]
    fn it_is_read_from_the_right_as_far_as_hops_are_listed() {
        assert_eq!(client_of(&["192.0.2.1"], "10.0.0.1"), "192.0.2.1");
        assert_eq!(
            client_of(&["6.6.6.6, 192.0.2.1"], "10.0.0.1"),
            "192.0.2.1",
            "the left one is the client's word"
        );
        assert_eq!(client_of(&["6.6.6.6, 192.0.2.1, 10.0.0.2"], "10.0.0.1"), "192.0.2.1");
        assert_eq!(client_of(&["6.6.6.6", "192.0.2.1 ,10.0.0.2", "10.0.0.3"], "10.0.0.1"), "192.0.2.1");
        assert_eq!(client_of(&["2001:db8::7"], "fd00::1"), "2001:db8::7");
        assert_eq!(client_of(&["[2001:db8::7]:443", "192.0.2.9:80"], "10.0.0.1"), "192.0.2.9");
        assert_eq!(client_of(&["::ffff:192.0.2.1"], "::ffff:10.0.0.1"), "192.0.2.1");
    }

    #[test]
    fn nobody_else_is_believed() {
        assert_eq!(client_of(&["192.0.2.1"], "192.0.2.66"), "192.0.2.66");
        assert_eq!(client_of(&["192.0.2.1"], "10.9.9.9"), "10.9.9.9", "listed, but not for this");
        assert_eq!(client_of(&[], "10.0.0.1"), "10.0.0.1");
        assert_eq!(client_of(&["192.0.2.1, unknown"], "10.0.0.1"), "10.0.0.1");
        assert_eq!(client_of(&["192.0.2.1, _hidden, 10.0.0.2"], "10.0.0.1"), "10.0.0.2");
        assert_eq!(client_of(&["10.0.0.4, 10.0.0.3"], "10.0.0.1"), "10.0.0.4", "all of them are ours");
    }
}
