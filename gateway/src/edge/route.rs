//! Which path is which API. What is not listed here has no way to an engine.

use crate::api::Api;
use http::Method;

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
    let found = match path.strip_prefix("/v1/models") {
        Some("" | "/") => Route::Models,
        Some(rest) if rest.len() > 1 && rest.starts_with('/') => {
            Route::Model(rest.trim_start_matches('/').to_owned())
        }
        _ => return Route::Unknown,
    };
    if method == Method::GET { found } else { Route::MethodNotAllowed("GET") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metered_paths_are_served_with_and_without_the_prefix() {
        for path in ["/v1/chat/completions", "/inference/v1/chat/completions"] {
            assert_eq!(route(&Method::POST, path), Route::Metered(Api::Chat));
            assert_eq!(route(&Method::GET, path), Route::MethodNotAllowed("POST"));
        }
        assert_eq!(route(&Method::POST, "/inferencev1/chat/completions"), Route::Unknown);
        assert_eq!(route(&Method::POST, "/v1/chat/completions/"), Route::Unknown);
    }

    #[test]
    fn models_are_listed_and_looked_up_by_names_with_slashes() {
        assert_eq!(route(&Method::GET, "/v1/models"), Route::Models);
        assert_eq!(route(&Method::GET, "/v1/models/meta/llama"), Route::Model("meta/llama".into()));
        assert_eq!(route(&Method::POST, "/v1/models"), Route::MethodNotAllowed("GET"));
        assert_eq!(route(&Method::GET, "/v1/modelsx"), Route::Unknown);
    }
}
