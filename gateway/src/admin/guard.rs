//! Who may ask what: a name of ours, an origin of ours, a token of the role that the entry of the table needs.
//!
//! Reading is open on loopback, where only who is on the machine can ask; elsewhere it needs a token. A change always
//! needs the token of an operator. Before both, `Host` must be an address or a name of ours, so that a page of another
//! site that resolves to us reaches nothing (DNS rebinding); and where a browser says from which page a question comes
//! (`Origin`, `Sec-Fetch-Site`), that must be ours too. Nothing is ever decided by `Host` or the path beyond that: the
//! role comes from the table.

use super::answer::{Refused, problem};
use config;
use config::keys::Digest;
use http::{HeaderMap, StatusCode, header};
use std::net::IpAddr;

/// What a caller must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// Anybody who reaches the listener: probes.
    Open,
    /// Sees.
    Read,
    /// Changes.
    Operate,
}

impl Role {
    /// Its name in the OpenAPI document and the log.
    pub(super) fn name(self) -> &'static str {
        match self {
            Role::Open => "open",
            Role::Read => "read",
            Role::Operate => "operate",
        }
    }
}

/// Who asked, for the log.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// The first digits of its token's digest; empty without one.
    pub(super) token: String,
    /// Whether the token is one of this gateway's.
    pub(super) is_known: bool,
}

/// Judges a question for an entry that needs `role`.
///
/// # Errors
/// The answer that refuses it.
pub(super) fn judge(admin: &config::Admin, headers: &HeaderMap, role: Role) -> Result<Caller, Refused> {
    let presented = bearer(headers).map(Digest::of);
    let (operates, reads) = shown(admin, presented);
    let token = presented.map(|token| token.short()).unwrap_or_default();
    let caller = Caller { token, is_known: operates || reads };
    if role == Role::Open {
        return Ok(caller);
    }
    if !host_is_ours(headers, admin) {
        let message = "This Host is not one of the admin listener's names. Use its IP address, or add the name to admin.hosts.";
        return Err(problem(StatusCode::FORBIDDEN, "foreign_host", message));
    }
    if !origin_is_ours(headers) {
        let message =
            "A page of another site may not ask here. Open the console under this listener's own address.";
        return Err(problem(StatusCode::FORBIDDEN, "foreign_origin", message));
    }
    if role == Role::Read && admin.address.ip().is_loopback() {
        return Ok(caller);
    }
    may(admin, (operates, reads), role).map(|()| caller)
}

/// Whether what was presented is the token that operates, and the one that reads.
fn shown(admin: &config::Admin, presented: Option<Digest>) -> (bool, bool) {
    let is = |token: &Option<Digest>| match (token, presented) {
        (Some(token), Some(presented)) => presented.same(token),
        _ => false,
    };
    // Both are compared, so the time says nothing about which one was nearly right.
    (is(&admin.token), is(&admin.read_token))
}

fn may(admin: &config::Admin, (operates, reads): (bool, bool), role: Role) -> Result<(), Refused> {
    if admin.token.is_none() && role == Role::Operate {
        let message = "Changes need a token: set admin.token_file in the config.";
        return Err(problem(StatusCode::FORBIDDEN, "no_token_configured", message));
    }
    match role {
        _ if operates => Ok(()),
        Role::Read if reads => Ok(()),
        Role::Operate if reads => {
            let message = "This token may read only. A change needs the token of admin.token_file.";
            Err(problem(StatusCode::FORBIDDEN, "read_only_token", message))
        }
        _ => {
            let message = "Send the admin token as `Authorization: Bearer TOKEN`.";
            Err(problem(StatusCode::UNAUTHORIZED, "unauthenticated", message))
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// An IP address, `localhost` or a configured name: a page of another site that resolves to us has none of these.
fn host_is_ours(headers: &HeaderMap, admin: &config::Admin) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next().and_then(|host| host.to_str().ok()), hosts.next()) else {
        return false;
    };
    let name = host_name(host);
    name == "localhost" || name.parse::<IpAddr>().is_ok() || admin.hosts.contains(&name)
}

/// A host without its port and brackets, in lower case.
fn host_name(host: &str) -> String {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.to_ascii_lowercase()
}

/// Where a browser says from which page it asks, that is a page of this listener.
fn origin_is_ours(headers: &HeaderMap) -> bool {
    let said = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?").to_ascii_lowercase());
    let site_is_ours = said("sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none");
    let host = said("host").unwrap_or_default();
    let origin_is_ours = said("origin").is_none_or(|origin| {
        origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) == Some(host.as_str())
    });
    site_is_ours && origin_is_ours
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn admin(address: &str, token: Option<&str>) -> config::Admin {
        config::Admin {
            address: address.parse().unwrap(),
            token: token.map(Digest::of),
            token_file: None,
            read_token: token.map(|_| Digest::of("reader")),
            read_token_file: None,
            hosts: vec!["ops.example".to_owned()],
        }
    }

    fn status(admin: &config::Admin, role: Role, said: &[(&str, &str)]) -> u16 {
        let headers: HeaderMap = said
            .iter()
            .map(|(name, value)| {
                (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
            })
            .collect();
        judge(admin, &headers, role).map_or_else(|refused| refused.answer().status().as_u16(), |_| 200)
    }

    const HERE: (&str, &str) = ("host", "127.0.0.1:9090");

    #[test]
    fn reading_is_open_on_loopback_and_a_change_always_needs_the_operators_token() {
        let here = admin("127.0.0.1:9090", Some("secret"));
        assert_eq!(status(&here, Role::Read, &[HERE]), 200);
        assert_eq!(status(&here, Role::Operate, &[HERE]), 401);
        assert_eq!(status(&here, Role::Operate, &[HERE, ("authorization", "Bearer wrong")]), 401);
        assert_eq!(status(&here, Role::Operate, &[HERE, ("authorization", "Bearer reader")]), 403);
        assert_eq!(status(&here, Role::Operate, &[HERE, ("authorization", "Basic secret")]), 401);
        assert_eq!(status(&here, Role::Operate, &[HERE, ("authorization", "Bearer secret")]), 200);
        let without = admin("127.0.0.1:9090", None);
        assert_eq!(status(&without, Role::Operate, &[HERE, ("authorization", "Bearer secret")]), 403);
    }

    #[test]
    fn off_loopback_reading_needs_a_token_of_either_role() {
        let outside = admin("10.0.0.5:9090", Some("secret"));
        assert_eq!(status(&outside, Role::Open, &[]), 200, "probes have neither token nor name");
        assert_eq!(status(&outside, Role::Read, &[HERE]), 401);
        assert_eq!(status(&outside, Role::Read, &[HERE, ("authorization", "Bearer reader")]), 200);
        assert_eq!(status(&outside, Role::Read, &[HERE, ("authorization", "bearer secret")]), 200);
    }

    /// Threat S16: a page of another site that resolves to this listener.
    #[test]
    fn threat_s16_a_host_that_is_not_ours_is_refused() {
        let here = admin("127.0.0.1:9090", Some("secret"));
        let token = ("authorization", "Bearer secret");
        for theirs in ["evil.example:9090", "127.0.0.1.evil.example", "localhost.evil.example:9090", ""] {
            assert_eq!(status(&here, Role::Read, &[("host", theirs)]), 403, "{theirs}");
            assert_eq!(status(&here, Role::Operate, &[("host", theirs), token]), 403, "{theirs}");
        }
        assert_eq!(status(&here, Role::Read, &[]), 403, "no Host at all");
        assert_eq!(status(&here, Role::Read, &[HERE, ("host", "evil.example")]), 403, "two of them");
        for ours in ["localhost:9090", "LOCALHOST", "[::1]:9090", "ops.example", "127.0.0.1"] {
            assert_eq!(status(&here, Role::Read, &[("host", ours)]), 200, "{ours}");
        }
    }

    /// Threat S16: another site's page that has the operator's browser ask.
    #[test]
    fn threat_s16_a_page_of_another_site_may_not_ask() {
        let here = admin("127.0.0.1:9090", Some("secret"));
        let token = ("authorization", "Bearer secret");
        let asked = |more: (&'static str, &'static str)| status(&here, Role::Operate, &[HERE, token, more]);
        assert_eq!(asked(("origin", "https://evil.example")), 403);
        assert_eq!(asked(("origin", "http://127.0.0.1:9091")), 403, "another port is another origin");
        assert_eq!(asked(("origin", "null")), 403);
        assert_eq!(asked(("sec-fetch-site", "cross-site")), 403);
        assert_eq!(asked(("sec-fetch-site", "same-site")), 403);
        assert_eq!(asked(("origin", "http://127.0.0.1:9090")), 200);
        assert_eq!(asked(("sec-fetch-site", "same-origin")), 200);
    }
}
