//! The address of a model server: what its URL says, taken apart and checked once.
//!
//! No other destination than these is ever contacted, so the checks are here and nowhere else: only http and
//! https, no credentials, no query, no redirect target, no spelling of an IP address that resolvers read in
//! different ways (`2130706433`, `0x7f.1`, `127.1`), and no link-local address: those answer with the
//! machine's own cloud credentials.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A model server's address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicaUrl {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// An IP address or a DNS name in lower case.
    pub host: Host,
    /// The port, from the URL or the scheme's own.
    pub port: u16,
    /// What precedes the API's own paths: empty, or `/…` without a slash at its end.
    pub base_path: String,
}

/// Where a replica is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// An IP address.
    Ip(IpAddr),
    /// A DNS name, lower case, without a dot at its end.
    Name(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Ip(ip) => write!(f, "{ip}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// The URL in one spelling, whatever it was written as.
impl fmt::Display for ReplicaUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.base_path)
    }
}

impl ReplicaUrl {
    /// Host and port as the `Host` header has them; the scheme's own port is left out.
    pub fn authority(&self) -> String {
        if self.port == default_port(self.tls) {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

/// Why a text is not the URL of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicaUrlError {
    /// Usually only host and port were written.
    #[error("must start with http:// or https://")]
    Scheme,
    /// Usually a password stands before an `@`.
    #[error("must not hold user or password; put the engine's key into api_key_file")]
    Credentials,
    /// Usually pasted from a browser.
    #[error("must not hold a query or fragment (`?`, `#`)")]
    Query,
    /// Usually a wildcard, a space or a number that only some resolvers take for an address.
    #[error("must name its host as a DNS name or a full IP address such as 10.0.0.7 or [fd00::7]")]
    Host,
    /// Usually more than 65535, or nothing after the colon.
    #[error("must have a port between 1 and 65535, or none")]
    Port,
    /// A link-local, multicast or unspecified address: no model server listens there.
    #[error("must not be a link-local, multicast or unspecified address")]
    Forbidden,
    /// Usually a space or `..`.
    #[error("must have a plain path of letters, digits and - . _ ~ / without `..`")]
    Path,
    /// Usually a client's base URL.
    #[error("must not end in /v1: requests bring that themselves")]
    Version,
}

impl std::str::FromStr for ReplicaUrl {
    type Err = ReplicaUrlError;

    fn from_str(url: &str) -> Result<Self, ReplicaUrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(ReplicaUrlError::Scheme)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(ReplicaUrlError::Scheme),
        };
        if rest.contains(['?', '#']) {
            return Err(ReplicaUrlError::Query);
        }
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if authority.contains('@') {
            return Err(ReplicaUrlError::Credentials);
        }
        let (host, port) = split_port(authority)?;
        let host = parse_host(host)?;
        let port = match port {
            None => default_port(tls),
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|port| *port > 0).ok_or(ReplicaUrlError::Port)?
            }
            Some(_) => return Err(ReplicaUrlError::Port),
        };
        Ok(Self { tls, host, port, base_path: parse_path(path)? })
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), ReplicaUrlError> {
    if let Some(inside) = authority.strip_prefix('[') {
        let (host, after) = inside.split_once(']').ok_or(ReplicaUrlError::Host)?;
        let port = match after.strip_prefix(':') {
            None if after.is_empty() => None,
            None => return Err(ReplicaUrlError::Host),
            port => port,
        };
        // With the bracket, so that only an IPv6 address can follow.
        return Ok((authority.get(..host.len() + 2).unwrap_or_default(), port));
    }
    Ok(authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))))
}

fn parse_host(host: &str) -> Result<Host, ReplicaUrlError> {
    if let Some(inside) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let ip: Ipv6Addr = inside.parse().map_err(|_| ReplicaUrlError::Host)?;
        return allowed(ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4));
    }
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return allowed(IpAddr::V4(ip));
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let label_ok = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label of digits (or 0x…) is an IP address in a spelling that resolvers read differently.
    let last = name.rsplit('.').next().unwrap_or_default();
    let number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    if name.len() > 253 || number || !name.split('.').all(label_ok) {
        return Err(ReplicaUrlError::Host);
    }
    if matches!(name.as_str(), "metadata" | "metadata.google.internal" | "instance-data") {
        return Err(ReplicaUrlError::Forbidden);
    }
    Ok(Host::Name(name))
}

/// Whether a replica may be at this address. To be asked again for what a DNS name resolves to.
pub fn is_allowed(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            !(ip.is_link_local() || ip.is_multicast() || ip.is_unspecified() || ip.is_broadcast())
        }
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => is_allowed(IpAddr::V4(ip)),
            // fd00:ec2::254 is a cloud's metadata service at a unique-local address.
            None => {
                !(ip.is_unicast_link_local()
                    || ip.is_multicast()
                    || ip.is_unspecified()
                    || ip == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254))
            }
        },
    }
}

fn allowed(ip: IpAddr) -> Result<Host, ReplicaUrlError> {
    if is_allowed(ip) { Ok(Host::Ip(ip)) } else { Err(ReplicaUrlError::Forbidden) }
}

fn parse_path(path: &str) -> Result<String, ReplicaUrlError> {
    let path = path.trim_end_matches('/');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/');
    if !path.bytes().all(plain)
        || path.contains("//")
        || path.split('/').any(|part| matches!(part, "." | ".."))
    {
        return Err(ReplicaUrlError::Path);
    }
    if path.ends_with("/v1") {
        return Err(ReplicaUrlError::Version);
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<String, ReplicaUrlError> {
        text.parse::<ReplicaUrl>().map(|url| url.to_string())
    }

    #[test]
    fn one_server_has_one_spelling() {
        for text in ["http://GPU-1:80", "HTTP://gpu-1", "http://gpu-1.", "http://gpu-1/", "http://gpu-1:80//"]
        {
            assert_eq!(url(text), Ok("http://gpu-1:80".to_owned()), "{text}");
        }
        assert_eq!(url("https://[::1]/a/b/"), Ok("https://[::1]:443/a/b".to_owned()));
        assert_eq!(url("http://[::ffff:10.0.0.7]:8000"), Ok("http://10.0.0.7:8000".to_owned()));
    }

    #[test]
    fn the_host_header_leaves_out_the_schemes_own_port() {
        let authority = |text: &str| text.parse::<ReplicaUrl>().unwrap().authority();
        assert_eq!(authority("https://gpu-1"), "gpu-1");
        assert_eq!(authority("https://gpu-1:80"), "gpu-1:80");
        assert_eq!(authority("http://[fd00::7]:8000"), "[fd00::7]:8000");
    }

    /// threat_s15: forty spellings that must not become a destination.
    #[test]
    fn threat_s15_destinations_that_are_none_are_refused() {
        use ReplicaUrlError::{Credentials, Forbidden, Host, Path, Port, Query, Scheme, Version};
        let cases = [
            ("", Scheme),
            ("gpu-1:8000", Scheme),
            ("//gpu-1:8000", Scheme),
            ("ftp://gpu-1", Scheme),
            ("file:///etc/passwd", Scheme),
            ("gopher://gpu-1", Scheme),
            ("unix:///run/engine.sock", Scheme),
            (" http://gpu-1", Scheme),
            ("http:/gpu-1", Scheme),
            ("http://", Host),
            ("http:///v1", Host),
            ("http://:8000", Host),
            ("http://gpu 1", Host),
            ("http://gpu\n1", Host),
            ("http://gpu-1\r\nx-evil: 1", Host),
            ("http://2130706433", Host),
            ("http://0x7f000001", Host),
            ("http://0x7f.0.0.1", Host),
            ("http://127.1", Host),
            ("http://0177.0.0.1", Host),
            ("http://127.0.0.1.:80", Host),
            ("http://1.2.3.4.5", Host),
            ("http://ｅxample", Host),
            ("http://*.gpu", Host),
            ("http://gpu..1a", Host),
            ("http://-gpu", Host),
            ("http://[::1", Host),
            ("http://[::1]a", Host),
            ("http://[fe80::1%25eth0]", Host),
            ("http://%31%32%37.0.0.1", Host),
            ("http://user:secret@gpu-1", Credentials),
            ("http://gpu-1@169.254.169.254", Credentials),
            ("http://gpu-1?x=1", Query),
            ("http://gpu-1/#a", Query),
            ("http://169.254.169.254", Forbidden),
            ("http://[::ffff:169.254.169.254]", Forbidden),
            ("http://[fe80::1]", Forbidden),
            ("http://[fd00:ec2::254]", Forbidden),
            ("http://0.0.0.0:8000", Forbidden),
            ("http://[::]:8000", Forbidden),
            ("http://224.0.0.1", Forbidden),
            ("http://metadata.google.internal", Forbidden),
            ("http://Metadata.Google.Internal.", Forbidden),
            ("http://gpu-1:0", Port),
            ("http://gpu-1:65536", Port),
            ("http://gpu-1:", Port),
            ("http://gpu-1:+80", Port),
            ("http://gpu-1:80:80", Port),
            ("http://gpu-1/../admin", Path),
            ("http://gpu-1/a b", Path),
            ("http://gpu-1/a//b", Path),
            ("http://gpu-1/%2e%2e", Path),
            ("http://gpu-1:8000/v1", Version),
            ("http://gpu-1:8000/v1/", Version),
        ];
        for (text, want) in cases {
            assert_eq!(url(text), Err(want), "{text}");
        }
    }
}
