//! The one key of a request, from its headers.
//!
//! Two carriers are accepted, `Authorization: Bearer` and `x-api-key`, and exactly one of them once. Where two
//! are present, two programs could read two identities, so that is refused rather than decided.

use http::{HeaderMap, header};
use protocol::refusal::{Reason, Refusal};

/// Longest key that is hashed, bytes. Ours have about 50.
const KEY_BYTES_MAX: usize = 512;

/// The key that the request presents.
///
/// # Errors
/// 401 without a usable key, 400 with more than one.
pub fn key(headers: &HeaderMap) -> Result<&[u8], Refusal> {
    let mut bearer = headers.get_all(header::AUTHORIZATION).iter();
    let mut plain = headers.get_all("x-api-key").iter();
    let (value, is_bearer) = match (bearer.next(), plain.next()) {
        (Some(value), None) => (value, true),
        (None, Some(value)) => (value, false),
        (None, None) => return Err(missing()),
        (Some(_), Some(_)) => return Err(twice()),
    };
    if bearer.next().is_some() || plain.next().is_some() {
        return Err(twice());
    }
    let value = value.as_bytes();
    let key = if is_bearer { after_bearer(value).ok_or_else(missing)? } else { value };
    let key = key.trim_ascii();
    if key.is_empty() || key.len() > KEY_BYTES_MAX { Err(missing()) } else { Ok(key) }
}

fn after_bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(rest)
}

fn missing() -> Refusal {
    Refusal::new(
        Reason::Unauthenticated,
        "No API key. Send it as `Authorization: Bearer KEY` or as `x-api-key: KEY`.",
    )
}

fn twice() -> Refusal {
    Refusal::bad("More than one API key. Send exactly one `Authorization` or `x-api-key` header.")
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
    }

    /// Threat S3: two credential carriers.
    #[test]
    fn threat_s3_two_keys_are_refused_even_when_equal() {
        for lines in [
            &[("authorization", "Bearer a"), ("x-api-key", "a")][..],
            &[("authorization", "Bearer a"), ("authorization", "Bearer a")],
            &[("x-api-key", "a"), ("x-api-key", "b")],
        ] {
            assert_eq!(key(&headers(lines)).unwrap_err().reason, Reason::BadRequest);
        }
    }

    #[test]
    fn what_is_no_key_is_unauthenticated() {
        for lines in [
            &[][..],
            &[("authorization", "Basic abc")],
            &[("authorization", "Bearer ")],
            &[("x-api-key", "")],
        ] {
            assert_eq!(key(&headers(lines)).unwrap_err().reason, Reason::Unauthenticated);
        }
    }
}
