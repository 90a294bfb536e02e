//! Which path is which API. What is not listed here has no way to an engine.

use crate::api::{Api, Family};
use http::Method;
use http::request::Parts;

/// What a request line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// A metered API.
    Metered(Api),
    /// A metered API whose path names the model, as Azure's do; the name still percent-encoded.
    Named(Api, String),
    /// `GET /v1/models`.
    Models,
    /// `GET /v1/models/{id}`, the id still percent-encoded.
    Model(String),
    /// `GET /v1/usage`.
    Usage,
    /// Whether the process lives, or takes requests.
    Probe(Probe),
    /// A known path with another method; the value of `Allow`.
    MethodNotAllowed(&'static str),
    /// Nothing.
    Unknown,
}

/// What a load balancer or a container runtime asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Whether the process lives.
    Live,
    /// Whether it takes requests.
    Ready,
}

/// Every path is also served under this prefix, as some hosted services do.
pub const PREFIX: &str = "/inference";

/// What the paths of the APIs begin with.
const V1: &str = "/v1";

/// What Azure's paths begin with: `/openai/v1/…` is `/v1/…`, and its older client leaves `/v1` out.
pub const AZURE: &str = "/openai";

/// Azure's name for a model is a deployment, and it stands in the path.
const DEPLOYMENTS: &str = "/deployments/";

/// The path of the models.
const MODELS: &str = "/models";

/// The path of what an account used.
const USAGE: &str = "/usage";

/// Values of `Allow`.
const READ: &str = "GET, HEAD";

/// The APIs that Azure's client asks for by the path of a deployment. The longer path first: it ends like the shorter one.
const OF_DEPLOYMENTS: [Api; 4] = [Api::Chat, Api::Completions, Api::Embeddings, Api::Responses];

/// What asks whether the process lives, under the names that load balancers, container runtimes and engines have for it.
const PROBES: [(&str, Probe); 5] = [
    ("/livez", Probe::Live),
    ("/ping", Probe::Live),
    ("/health", Probe::Ready),
    ("/healthz", Probe::Ready),
    ("/readyz", Probe::Ready),
];

/// What Anthropic's SDKs send with each request, and no other.
const ANTHROPIC_VERSION: &str = "anthropic-version";

/// The path as an API has it: without a prefix and without one slash at its end.
fn plain(path: &str) -> &str {
    let path = match path.strip_prefix(PREFIX) {
        Some(rest) if rest.starts_with('/') => rest,
        _ => path,
    };
    path.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(path)
}

/// What follows `/v1`, also as Azure's clients write it.
fn after_version(plain: &str) -> Option<&str> {
    match plain.strip_prefix(AZURE) {
        Some(rest) => Some(rest.strip_prefix(V1).unwrap_or(rest)),
        None => plain.strip_prefix(V1),
    }
}

/// The API and the model of a path of a deployment.
fn of_deployment(after: &str) -> Option<(Api, &str)> {
    let rest = after.strip_prefix(DEPLOYMENTS)?;
    OF_DEPLOYMENTS.into_iter().find_map(|api| {
        let name = rest.strip_suffix(api.path().strip_prefix(V1)?)?;
        (!name.is_empty() && !name.starts_with('/')).then_some((api, name))
    })
}

/// The route of a request line. O(paths), no allocation but for a model's name.
#[must_use]
pub fn route(method: &Method, path: &str) -> Route {
    let is_read = method == Method::GET || method == Method::HEAD;
    let by = |allowed: bool, route: Route, methods: &'static str| {
        if allowed { route } else { Route::MethodNotAllowed(methods) }
    };
    if let Some((_, probe)) = PROBES.into_iter().find(|(name, _)| *name == path) {
        return by(is_read, Route::Probe(probe), READ);
    }
    let is_post = method == Method::POST;
    let plain = plain(path);
    let Some(after) = after_version(plain) else { return Route::Unknown };
    if let Some(api) = Api::ALL.into_iter().find(|api| api.path().strip_prefix(V1) == Some(after)) {
        return by(is_post, Route::Metered(api), "POST");
    }
    if let Some((api, name)) = of_deployment(after).filter(|_| plain.starts_with(AZURE)) {
        return by(is_post, Route::Named(api, name.to_owned()), "POST");
    }
    if after == USAGE {
        return by(is_read, Route::Usage, READ);
    }
    let found = match after.strip_prefix(MODELS) {
        Some("") => Route::Models,
        Some(rest) if rest.starts_with('/') => Route::Model(rest.trim_start_matches('/').to_owned()),
        _ => return Route::Unknown,
    };
    by(is_read, found, READ)
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
            assert_eq!(route(&Method::POST, &format!("{}/", api.path())), Route::Metered(api));
            assert_eq!(route(&Method::POST, &format!("{}//", api.path())), Route::Unknown);
            assert_eq!(route(&Method::POST, &format!("/openai{}", api.path())), Route::Metered(api));
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
            "/health_generate",
            "/healthz/",
            "/openai/deployments/sim",
            "/openai/deployments//chat/completions",
            "/openai/deployments/sim/audio/speech",
            "/openai/deployments/sim/completion",
            "/v1/deployments/sim/chat/completions",
            "/deployments/sim/chat/completions",
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
        assert_eq!(route(&Method::GET, "/v1/models/meta/llama/"), Route::Model("meta/llama".into()));
        assert_eq!(route(&Method::HEAD, "/v1/models/"), Route::Models);
        assert_eq!(route(&Method::GET, "/openai/models"), Route::Models);
        assert_eq!(route(&Method::POST, "/v1/models"), Route::MethodNotAllowed("GET, HEAD"));
        assert_eq!(route(&Method::GET, "/v1/modelsx"), Route::Unknown);
    }

    #[test]
    fn usage_is_read_and_nothing_else() {
        for path in ["/v1/usage", "/v1/usage/", "/inference/v1/usage"] {
            assert_eq!(route(&Method::GET, path), Route::Usage, "{path}");
        }
        assert_eq!(route(&Method::HEAD, "/v1/usage"), Route::Usage);
        assert_eq!(route(&Method::POST, "/v1/usage"), Route::MethodNotAllowed("GET, HEAD"));
        assert_eq!(route(&Method::GET, "/v1/usage/acme"), Route::Unknown);
    }

    #[test]
    fn azures_paths_name_the_model() {
        let named = |path: &str| route(&Method::POST, path);
        let of = |api, name: &str| Route::Named(api, name.to_owned());
        assert_eq!(named("/openai/deployments/sim/chat/completions"), of(Api::Chat, "sim"));
        assert_eq!(named("/openai/deployments/sim/chat/completions/"), of(Api::Chat, "sim"));
        assert_eq!(named("/openai/deployments/sim/completions"), of(Api::Completions, "sim"));
        assert_eq!(named("/openai/deployments/meta/llama/embeddings"), of(Api::Embeddings, "meta/llama"));
        assert_eq!(named("/inference/openai/deployments/a%2Fb/responses"), of(Api::Responses, "a%2Fb"));
        assert_eq!(
            route(&Method::GET, "/openai/deployments/sim/embeddings"),
            Route::MethodNotAllowed("POST")
        );
    }

    #[test]
    fn probes_are_asked_by_reading_only() {
        for (path, probe) in PROBES {
            assert_eq!(route(&Method::GET, path), Route::Probe(probe));
            assert_eq!(route(&Method::HEAD, path), Route::Probe(probe));
            assert_eq!(route(&Method::POST, path), Route::MethodNotAllowed("GET, HEAD"));
        }
    }
}
