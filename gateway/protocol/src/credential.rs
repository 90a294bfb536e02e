//! The one key of a request, from its headers.
//!
//! Three carriers are accepted: `Authorization: Bearer`, `x-api-key` as Anthropic's clients send it, and `api-key` as
//! Azure's do. Several are accepted where all hold the same key. Where two keys are present, two programs could read
//! two identities, so that is refused rather than decided. An empty value is no key: clients whose setting is empty send
//! that beside the key that is meant.

use crate::refusal::{Reason, Refusal};
use http::{HeaderMap, header};

/// Longest key that is hashed, bytes. Ours have about 50.
const KEY_BYTES_MAX: usize = 512;

/// The headers that hold nothing but a key.
const PLAIN: [&str; 2] = ["x-api-key", "api-key"];

/// What an `Authorization` header holds.
enum Authorization<'a> {
    Bearer(&'a [u8]),
    Empty,
    Other,
}

/// The key that the request presents.
///
/// # Errors
/// 401 without a usable key, 400 with more than one.
pub fn key(headers: &HeaderMap) -> Result<&[u8], Refusal> {
    let mut found: Option<&[u8]> = None;
    let mut is_other = false;
    let plain = PLAIN.into_iter().flat_map(|name| headers.get_all(name));
    let plain = plain.map(|value| value.as_bytes().trim_ascii()).filter(|key| !key.is_empty());
    let bearer = headers.get_all(header::AUTHORIZATION).iter().filter_map(|value| {
        match authorization(value.as_bytes()) {
            Authorization::Bearer(key) => Some(key),
            Authorization::Empty => None,
            Authorization::Other => {
                is_other = true;
                None
            }
        }
    });
    for key in bearer.chain(plain) {
        if found.is_some_and(|first| first != key) {
            return Err(twice());
        }
        found = Some(key);
    }
    match found {
        Some(_) if is_other => Err(twice()),
        Some(key) if key.len() <= KEY_BYTES_MAX => Ok(key),
        _ if is_other => Err(no_bearer()),
        _ => Err(missing()),
    }
}

fn authorization(value: &[u8]) -> Authorization<'_> {
    let value = value.trim_ascii();
    let (scheme, rest) = value.split_at_checked(6).unwrap_or((value, &[]));
    let is_bearer = scheme.eq_ignore_ascii_case(b"bearer") && rest.first().is_none_or(|&byte| byte == b' ');
    match rest.trim_ascii() {
        _ if value.is_empty() => Authorization::Empty,
        [] if is_bearer => Authorization::Empty,
        key if is_bearer => Authorization::Bearer(key),
        _ => Authorization::Other,
    }
}

fn missing() -> Refusal {
    Refusal::new(
        Reason::Unauthenticated,
        "No API key. Send it as `Authorization: Bearer KEY`, as `x-api-key: KEY` or as `api-key: KEY`.",
    )
}

fn no_bearer() -> Refusal {
    Refusal::new(
        Reason::Unauthenticated,
        "The `Authorization` header must be `Bearer KEY`: write the word `Bearer` and a space before the API key.",
    )
}

fn twice() -> Refusal {
    Refusal::bad(
        "More than one API key. Send one, or the same in each of `Authorization: Bearer`, `x-api-key` and `api-key`.",
    )
}

/// The refusal of a key that no account has. `mistyped`: its own checksum says that it was copied wrongly.
#[must_use]
pub fn unknown(mistyped: bool) -> Refusal {
    let message = if mistyped {
        "The API key has a typing error: its last characters do not fit the rest. Copy it again, whole."
    } else {
        "The API key is not known here. Check that it is this service's and that it was not revoked."
    };
    Refusal::new(Reason::Unauthenticated, message)
}

/// The refusal of a key whose time was over at `when`.
#[must_use]
pub fn expired(name: &str, when: &str) -> Refusal {
    let message = format!(
        "The API key `{name}` expired at {when}. Ask whoever runs this service, or manages its keys, for a new one."
    );
    Refusal::new(Reason::KeyExpired, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn either_carrier_is_read() {
        assert_eq!(key(&headers(&[("authorization", "Bearer abc")])).unwrap(), b"abc");
        assert_eq!(key(&headers(&[("authorization", "bearer  abc")])).unwrap(), b"abc");
        assert_eq!(key(&headers(&[("x-api-key", "abc")])).unwrap(), b"abc");
        assert_eq!(key(&headers(&[("api-key", " abc ")])).unwrap(), b"abc");
    }

    #[test]
    fn the_same_key_in_several_carriers_is_one_key() {
        for lines in [
            &[("authorization", "Bearer a"), ("x-api-key", "a")][..],
            &[("authorization", "Bearer a"), ("authorization", "bearer a")],
            &[("api-key", "a"), ("x-api-key", "a"), ("authorization", "Bearer  a")],
            &[("authorization", "Bearer "), ("x-api-key", "a")],
            &[("authorization", ""), ("api-key", "a"), ("x-api-key", "")],
        ] {
            assert_eq!(key(&headers(lines)).unwrap(), b"a", "{lines:?}");
        }
    }

    /// Threat S3: two credential carriers.
    #[test]
    fn threat_s3_two_keys_are_refused() {
        for lines in [
            &[("authorization", "Bearer a"), ("x-api-key", "b")][..],
            &[("authorization", "Bearer a"), ("authorization", "Bearer b")],
            &[("x-api-key", "a"), ("x-api-key", "b")],
            &[("x-api-key", "a"), ("api-key", "b")],
            &[("authorization", "Basic a"), ("x-api-key", "a")],
            &[("authorization", "a"), ("api-key", "a")],
        ] {
            assert_eq!(key(&headers(lines)).unwrap_err().reason, Reason::BadRequest, "{lines:?}");
        }
    }

    #[test]
    fn what_is_no_key_is_unauthenticated() {
        for lines in [
            &[][..],
            &[("authorization", "Basic abc")],
            &[("authorization", "abc")],
            &[("authorization", "Bearerabc")],
            &[("authorization", "Bearer ")],
            &[("x-api-key", "")],
        ] {
            assert_eq!(key(&headers(lines)).unwrap_err().reason, Reason::Unauthenticated);
        }
    }
}
