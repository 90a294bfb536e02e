//! `listen.cors`: whose web pages may call from a browser.
//!
//! An origin is compared byte by byte with what the browser sends, so it has to be written as browsers write it: scheme,
//! host in lower case, the port where it is not the scheme's own, and nothing behind it.

use crate::resolve::Resolver;
use crate::yaml::faults::{At, Shown};
use protocol::cors::Cors;

/// Ports that browsers leave out.
const DEFAULT_PORTS: [(&str, &str); 2] = [("http", "80"), ("https", "443")];

pub(crate) fn resolve(origins: Vec<String>, resolver: &mut Resolver<'_>, at: &At<'_>) -> Option<Cors> {
    if origins.is_empty() {
        return None;
    }
    if origins.iter().any(|origin| origin == "*") {
        if origins.len() > 1 {
            resolver.fault(at, "has `*` and other origins; keep `*` alone, or the others");
        }
        return Some(Cors::Any);
    }
    for (nth, origin) in origins.iter().enumerate() {
        if let Some(fault) = fault(origin) {
            resolver.fault(&at.item(nth), format!("`{}` {fault}", Shown(origin)));
        }
    }
    Some(Cors::Origins(origins.into_iter().map(String::into_boxed_str).collect()))
}

/// Why no browser would send this as an origin.
fn fault(origin: &str) -> Option<&'static str> {
    let Some((scheme, host)) = origin.split_once("://") else {
        return Some("is no origin; write it with its scheme, such as https://chat.example.org");
    };
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let is_lower = |text: &str| !text.bytes().any(|byte| byte.is_ascii_uppercase());
    if scheme.is_empty() || name.is_empty() || !origin.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some("is no origin; write it such as https://chat.example.org");
    }
    if name.contains('*') {
        return Some("has a wildcard, which is not matched; list each origin, or `*` alone");
    }
    if host.contains(['/', '?', '#', '@', ',']) {
        return Some("has more than scheme, host and port; leave the rest out, a slash at the end, too");
    }
    if !is_lower(origin) {
        return Some("has capital letters, which browsers send in lower case");
    }
    match port {
        Some(port) if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some("has a port that is no number")
        }
        Some(port) if DEFAULT_PORTS.contains(&(scheme, port)) => {
            Some("has the port that browsers leave out; leave it out, too")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_written_as_browsers_write_them() {
        for good in [
            "https://chat.example.org",
            "http://localhost:3000",
            "http://[::1]:8080",
            "https://[::1]",
            "chrome-extension://abcdefgh",
            "app://obsidian.md",
        ] {
            assert_eq!(fault(good), None, "{good}");
        }
        for bad in [
            "chat.example.org",
            "https://",
            "https://chat.example.org/",
            "https://chat.example.org/app",
            "https://*.example.org",
            "https://Chat.example.org",
            "https://chat.example.org:443",
            "http://chat.example.org:80",
            "http://chat.example.org:x",
            "https://a.example, https://b.example",
            "null",
        ] {
            assert!(fault(bad).is_some(), "{bad}");
        }
    }
}
