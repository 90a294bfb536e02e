//! The console: one page for operators, with everything that it needs in the program itself.
//!
//! Plain HTML, CSS and JavaScript modules, included when the program is built; no framework, nothing fetched from
//! elsewhere. The page holds no data: it asks the admin API like any other client, with the operator's token, and so can
//! do nothing that the token may not. [`POLICY`] lets a browser run and load what comes from here alone, and nothing
//! inline, so that a string that found its way into the page would still not run.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, header, request};
use http_body_util::Full;

/// What a browser may do with the page.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                          connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Path, kind, content.
const FILES: &[(&str, &str, &str)] = &[
    ("/", "text/html; charset=utf-8", include_str!("index.html")),
    ("/console/console.css", "text/css; charset=utf-8", include_str!("console.css")),
    ("/console/icon.svg", "image/svg+xml", include_str!("icon.svg")),
    ("/console/console.js", JAVASCRIPT, include_str!("console.js")),
    ("/console/deployments.js", JAVASCRIPT, include_str!("deployments.js")),
    ("/console/gauge.js", JAVASCRIPT, include_str!("gauge.js")),
    ("/console/accounts.js", JAVASCRIPT, include_str!("accounts.js")),
    ("/console/refusals.js", JAVASCRIPT, include_str!("refusals.js")),
    ("/console/process.js", JAVASCRIPT, include_str!("process.js")),
    ("/console/dialogs.js", JAVASCRIPT, include_str!("dialogs.js")),
    ("/console/api.js", JAVASCRIPT, include_str!("api.js")),
    ("/console/words.js", JAVASCRIPT, include_str!("words.js")),
    ("/console/view.js", JAVASCRIPT, include_str!("view.js")),
];

/// One of the page's files; `None`: the request is for something else. There is no secret in them, so nobody is asked who
/// they are: the page itself asks for the token.
#[must_use]
pub fn file(head: &request::Parts) -> Option<Response<Full<Bytes>>> {
    if head.method != Method::GET && head.method != Method::HEAD {
        return None;
    }
    let (_, kind, content) = FILES.iter().find(|(path, ..)| *path == head.uri.path())?;
    let mut answer = Response::new(Full::new(Bytes::from_static(content.as_bytes())));
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, *kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        // A page of an older program would not understand the API of a newer one.
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn asked(method: Method, path: &str) -> Option<Response<Full<Bytes>>> {
        let (head, ()) = http::Request::builder().method(method).uri(path).body(()).unwrap().into_parts();
        file(&head)
    }

    #[test]
    fn every_file_that_a_file_names_is_there_and_none_is_left_over() {
        let mut named = BTreeSet::from(["/".to_owned()]);
        for (_, _, content) in FILES {
            for part in content.split('"') {
                if let Some(module) = part.strip_prefix("./") {
                    named.insert(format!("/console/{module}"));
                } else if part.starts_with("/console/") {
                    named.insert(part.to_owned());
                }
            }
        }

        let there: BTreeSet<String> = FILES.iter().map(|(path, ..)| (*path).to_owned()).collect();

        assert_eq!(named, there);
    }

    /// Threat S16: whatever is in a name or a message, it stays text.
    #[test]
    fn threat_s16_nothing_in_the_page_turns_text_into_markup_or_code() {
        for (path, _, content) in FILES {
            for forbidden in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "style=\"",
                "onclick=\"",
                "http://",
                "https://",
            ] {
                let found = content.matches(forbidden).count();
                // The name of a vocabulary, which nobody fetches.
                let names = content.matches("http://www.w3.org/2000/svg").count();
                let allowed = if forbidden == "http://" { names } else { 0 };
                assert_eq!(found, allowed, "{path} has {forbidden}");
            }
        }
        assert!(!POLICY.contains("unsafe") && POLICY.starts_with("default-src 'none'"));
    }

    #[test]
    fn only_the_page_is_here_and_it_is_only_read() {
        for (path, kind, _) in FILES {
            let answer = asked(Method::GET, path).unwrap();
            assert_eq!(answer.headers()[header::CONTENT_TYPE], *kind);
            assert_eq!(answer.headers()[header::CONTENT_SECURITY_POLICY], POLICY);
        }
        assert!(asked(Method::GET, "/console/mod.rs").is_none());
        assert!(asked(Method::GET, "/metrics").is_none());
        assert!(asked(Method::POST, "/").is_none());
    }
}
