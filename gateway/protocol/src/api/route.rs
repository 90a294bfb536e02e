//! Which path is which API. What is not listed here has no way to an engine.

use crate::api::{Api, Family};
use http::Method;
use http::request::Parts;

/// What a request line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// A metered API.
    Metered(Api),
    /// `GET /v1/models`.
    Models,
    /// `GET /v1/models/{id}`, the id still percent-encoded.
    Model(String),
    /// A known path with another method; the value of `Allow`.
    MethodNotAllowed(&'static str),
    /// Nothing.
    Unknown,
}

/// Every path is also served under this prefix, as some hosted services do.
pub const PREFIX: &str = "/inference";

/// The path of the models.
const MODELS: &str = "/v1/models";

/// What Anthropic's SDKs send with each request, and no other.
const ANTHROPIC_VERSION: &str = "anthropic-version";

/// The route of a request line. O(paths), no allocation but for a model's id.
#[must_use]
pub fn route(method: &Method, path: &str) -> Route {
    let path = match path.strip_prefix(PREFIX) {
        Some(rest) if rest.starts_with('/') => rest,
        _ => path,
    };
    if let Some(api) = Api::ALL.into_iter().find(|api| api.path() == path) {
        return if method == Method::POST { Route::Metered(api) } else { Route::MethodNotAllowed("POST") };
    }
    let found = match path.strip_prefix(MODELS) {
        Some("" | "/") => Route::Models,
        Some(rest) if rest.len() > 1 && rest.starts_with('/') => {
            Route::Model(rest.trim_start_matches('/').to_owned())
        }
        _ => return Route::Unknown,
    };
    if method == Method::GET { found } else { Route::MethodNotAllowed("GET") }
}

/// In whose shape a request is answered: its path says so, and of the models' path, which two families have in common,
/// the header that one of them sends with each request.
#[must_use]
pub fn family(head: &Parts) -> Family {
    let path = head.uri.path();
    let is_models = matches!(route(&Method::GET, path), Route::Models | Route::Model(_));
    if is_models && head.headers.contains_key(ANTHROPIC_VERSION) {
        return Family::Anthropic;
    }
    Family::of_path(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metered_paths_are_served_with_and_without_the_prefix() {
        for api in Api::ALL {
            for path in [api.path().to_owned(), format!("{PREFIX}{}", api.path())] {
                assert_eq!(route(&Method::POST, &path), Route::Metered(api));
                assert_eq!(route(&Method::GET, &path), Route::MethodNotAllowed("POST"));
            }
            assert_eq!(route(&Method::POST, &format!("/inference{}", &api.path()[1..])), Route::Unknown);
            assert_eq!(route(&Method::POST, &format!("{}/", api.path())), Route::Unknown);
        }
    }

    /// A path reaches an engine only as the path of an API, and every API is metered: there is no third kind of route.
    #[test]
    fn no_path_of_an_engine_is_served_that_is_not_metered() {
        let engines = [
            "/tokenize",
            "/detokenize",
            "/v1/tokenize",
            "/generate",
            "/generate_stream",
            "/completion",
            "/completions",
            "/v1/audio/transcriptions",
            "/v1/audio/speech",
            "/v1/images/generations",
            "/v1/batches",
            "/v1/files",
            "/v1/responses/resp_1",
            "/v1/responses/resp_1/cancel",
            "/v1/messages/batches",
            "/rerank",
            "/v2/rerank",
            "/score",
            "/pooling",
            "/classify",
            "/v1/realtime",
            "/api/generate",
            "/api/chat",
            "/api/embed",
            "/embed",
            "/v1/load_lora_adapter",
            "/sleep",
            "/abort_request",
            "/metrics",
            "/health",
            "/version",
            "/props",
            "/slots",
            "/v1/chat/completions/input_tokens",
            "/chat/completions",
            "/V1/chat/completions",
            "/v1/chat//completions",
            "//v1/chat/completions",
            "/v1/../v1/chat/completions",
            "/v1/chat/completions%20",
            "/v1/chat%2Fcompletions",
        ];
        for path in engines {
            for method in [Method::POST, Method::GET, Method::PUT, Method::DELETE] {
                assert_eq!(route(&method, path), Route::Unknown, "{method} {path}");
                assert_eq!(
                    route(&method, &format!("{PREFIX}{path}")),
                    Route::Unknown,
                    "{method} {PREFIX}{path}"
                );
            }
        }
    }

    #[test]
    fn models_are_listed_and_looked_up_by_names_with_slashes() {
        assert_eq!(route(&Method::GET, "/v1/models"), Route::Models);
        assert_eq!(route(&Method::GET, "/v1/models/meta/llama"), Route::Model("meta/llama".into()));
        assert_eq!(route(&Method::POST, "/v1/models"), Route::MethodNotAllowed("GET"));
        assert_eq!(route(&Method::GET, "/v1/modelsx"), Route::Unknown);
    }
}
