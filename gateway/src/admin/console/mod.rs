//! The console: one page for operators, with everything that it needs in the program itself.
//!
//! Plain HTML, CSS and JavaScript modules, included when the program is built, and uPlot for the charts (MIT license,
//! `uplot/`); no framework, nothing fetched from elsewhere. It is sent with gzip to who reads that. The page holds no data: it asks the admin API like any other client, with the operator's token, and so can
//! do nothing that the token may not. [`POLICY`] lets a browser run and load what comes from here alone, and nothing
//! inline, so that a string that found its way into the page would still not run.

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Method, Response, header, request};
use http_body_util::Full;
use std::io::Write as _;
use std::sync::LazyLock;

/// What a browser may do with the page.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                          connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";

/// The chart library as it was published, with its license, as a module.
const UPLOT: &str = concat!(
    "/*!\n",
    include_str!("uplot/LICENSE"),
    "*/\n",
    include_str!("uplot/uPlot.iife.min.js"),
    "\nexport default uPlot;\n"
);

/// Path, kind, content.
const FILES: &[(&str, &str, &str)] = &[
    ("/", "text/html; charset=utf-8", include_str!("index.html")),
    ("/console/console.css", CSS, include_str!("console.css")),
    ("/console/uplot.css", CSS, include_str!("uplot/uPlot.min.css")),
    ("/console/icon.svg", "image/svg+xml", include_str!("icon.svg")),
    ("/console/console.js", JAVASCRIPT, include_str!("console.js")),
    ("/console/route.js", JAVASCRIPT, include_str!("route.js")),
    ("/console/deployments.js", JAVASCRIPT, include_str!("deployments.js")),
    ("/console/deployment.js", JAVASCRIPT, include_str!("deployment.js")),
    ("/console/gauge.js", JAVASCRIPT, include_str!("gauge.js")),
    ("/console/timeline.js", JAVASCRIPT, include_str!("timeline.js")),
    ("/console/history.js", JAVASCRIPT, include_str!("history.js")),
    ("/console/charts.js", JAVASCRIPT, include_str!("charts.js")),
    ("/console/plot.js", JAVASCRIPT, include_str!("plot.js")),
    ("/console/uplot.js", JAVASCRIPT, UPLOT),
    ("/console/uplot-license.txt", "text/plain; charset=utf-8", include_str!("uplot/LICENSE")),
    ("/console/accounts.js", JAVASCRIPT, include_str!("accounts.js")),
    ("/console/account.js", JAVASCRIPT, include_str!("account.js")),
    ("/console/keys.js", JAVASCRIPT, include_str!("keys.js")),
    ("/console/refusals.js", JAVASCRIPT, include_str!("refusals.js")),
    ("/console/drills.js", JAVASCRIPT, include_str!("drills.js")),
    ("/console/process.js", JAVASCRIPT, include_str!("process.js")),
    ("/console/dialogs.js", JAVASCRIPT, include_str!("dialogs.js")),
    ("/console/api.js", JAVASCRIPT, include_str!("api.js")),
    ("/console/words.js", JAVASCRIPT, include_str!("words.js")),
    ("/console/view.js", JAVASCRIPT, include_str!("view.js")),
];

/// The same contents with gzip, in the same order.
static PACKED: LazyLock<Vec<Bytes>> =
    LazyLock::new(|| FILES.iter().map(|(.., content)| packed(content)).collect());

fn packed(content: &str) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Writing into memory does not fail; an empty answer would be seen by the tests.
    let written = encoder.write_all(content.as_bytes()).and_then(|()| encoder.finish());
    written.unwrap_or_default().into()
}

/// One of the page's files; `None`: the request is for something else. There is no secret in them, so nobody is asked who
/// they are: the page itself asks for the token.
#[must_use]
pub fn file(head: &request::Parts) -> Option<Response<Full<Bytes>>> {
    if head.method != Method::GET && head.method != Method::HEAD {
        return None;
    }
    let nth = FILES.iter().position(|(path, ..)| *path == head.uri.path())?;
    let (_, kind, content) = FILES.get(nth)?;
    let packed = if takes_gzip(&head.headers) { PACKED.get(nth).cloned() } else { None };
    let is_packed = packed.is_some();
    let body = packed.unwrap_or_else(|| Bytes::from_static(content.as_bytes()));
    let mut answer = Response::new(Full::new(body));
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, *kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        // A page of an older program would not understand the API of a newer one.
        (header::CACHE_CONTROL, "no-cache"),
        (header::VARY, "accept-encoding"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if is_packed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Some(answer)
}

/// Whether a client says that it reads gzip, as every browser does.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let encodings = headers.get_all(header::ACCEPT_ENCODING).into_iter();
    encodings.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|encoding| {
        let (name, weight) = encoding.split_once(';').unwrap_or((encoding, ""));
        let refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use http_body_util::BodyExt as _;
    use std::collections::BTreeSet;
    use std::io::Read as _;

    /// All that a browser is sent for the page: files with gzip and the values of their headers, bytes.
    const SENT_MAX: usize = 150_000;

    fn asked(method: Method, path: &str) -> Option<Response<Full<Bytes>>> {
        let (head, ()) = http::Request::builder().method(method).uri(path).body(()).unwrap().into_parts();
        file(&head)
    }

    #[test]
    fn every_file_that_a_file_names_is_there_and_none_is_left_over() {
        let mut named = BTreeSet::from(["/".to_owned()]);
        for (_, _, content) in FILES.iter().filter(|(_, _, content)| *content != UPLOT) {
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
        // The library's head names its home, which nobody fetches.
        let own = FILES.iter().filter(|(_, _, content)| *content != UPLOT);
        for (path, _, content) in own {
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

    #[test]
    fn the_library_turns_no_text_into_markup_or_code_and_its_license_travels_with_it() {
        for forbidden in
            ["innerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "fetch("]
        {
            assert!(!UPLOT.contains(forbidden), "uPlot has {forbidden}");
        }
        assert!(UPLOT.contains("The MIT License") && UPLOT.contains("Copyright"));
    }

    #[test]
    fn the_whole_page_is_small_and_unpacks_to_what_it_is() {
        let mut sent = 0;
        for (path, _, content) in FILES {
            let (mut head, ()) = http::Request::get(*path).body(()).unwrap().into_parts();
            head.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("br, gzip;q=0.8"));
            let answer = file(&head).unwrap();
            assert_eq!(answer.headers()[header::CONTENT_ENCODING], "gzip", "{path}");
            sent +=
                answer.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
            let body = collected(answer);
            sent += body.len();
            let mut text = String::new();
            GzDecoder::new(&*body).read_to_string(&mut text).unwrap();
            assert_eq!(text, *content, "{path}");
        }
        assert!(sent <= SENT_MAX, "{sent} bytes are sent, more than {SENT_MAX}");
    }

    #[test]
    fn who_does_not_read_gzip_gets_it_plain() {
        for encodings in ["", "br", "gzip;q=0", "identity, gzip; q=0.0"] {
            let (mut head, ()) = http::Request::get("/").body(()).unwrap().into_parts();
            head.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_str(encodings).unwrap());
            let answer = file(&head).unwrap();
            assert!(!answer.headers().contains_key(header::CONTENT_ENCODING), "{encodings}");
            assert!(collected(answer).starts_with(b"<!doctype html>"), "{encodings}");
        }
    }

    fn collected(answer: Response<Full<Bytes>>) -> Bytes {
        let body = std::pin::pin!(answer.into_body().collect());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match body.poll(&mut context) {
            std::task::Poll::Ready(collected) => collected.unwrap().to_bytes(),
            std::task::Poll::Pending => panic!("a body that is there has to be waited for"),
        }
    }
}
