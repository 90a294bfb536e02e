//! `GET /v1/models`: what this account may use. And the refusals of paths and models that do not exist.
//!
//! OpenAI and Anthropic have the path in common and not the shape. Who sends Anthropic's own header, as its SDKs do on
//! each request, is answered in Anthropic's.

use crate::clock;
use crate::downstream::client::{Client, Stop};
use crate::state::keys::Bearer;
use crate::state::{Model, Snapshot};
use crate::upstream::deployment::Deployment;
use bytes::Bytes;
use config::Tier;
use http::HeaderValue;
use protocol::api::Family;
use protocol::refusal::{Reason, Refusal};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_model_len: Option<u32>,
}

/// Anthropic's shape. The list is always one page.
#[derive(Serialize)]
struct Page<'a> {
    data: Vec<Listed<'a>>,
    first_id: Option<&'a str>,
    has_more: bool,
    last_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Listed<'a> {
    r#type: &'static str,
    id: &'a str,
    display_name: &'a str,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_input_tokens: Option<u32>,
}

/// Answers `GET /v1/models` and `GET /v1/models/{id}`.
///
/// # Errors
/// 404 for a model that this account does not see, or the client is gone.
pub async fn answer(
    snapshot: &Snapshot,
    who: &Bearer,
    client: &mut Client<'_>,
    id: Option<&str>,
) -> Result<(), Stop> {
    let family = client.envelope.family;
    let body = match id {
        None => {
            let named = snapshot.config.models.iter().filter_map(|model| snapshot.models.get(&model.name));
            let usable = named.filter(|model| is_usable(who, &model.config));
            let usable = usable.map(|model| (&*model.config.name, window(who, model)));
            match family {
                Family::OpenAi => {
                    let data = usable.map(|(id, context)| entry(id, context, snapshot.built)).collect();
                    serde_json::to_vec(&List { object: "list", data })
                }
                Family::Anthropic => {
                    let data: Vec<_> =
                        usable.map(|(id, context)| listed(id, context, snapshot.built)).collect();
                    let (first_id, last_id) = (data.first().map(|one| one.id), data.last().map(|one| one.id));
                    serde_json::to_vec(&Page { first_id, has_more: false, last_id, data })
                }
            }
        }
        Some(id) => {
            let id = decoded(id);
            let model = usable(snapshot, who, &id).ok_or_else(|| unknown(&id))?;
            match family {
                Family::OpenAi => serde_json::to_vec(&entry(&id, window(who, model), snapshot.built)),
                Family::Anthropic => serde_json::to_vec(&listed(&id, window(who, model), snapshot.built)),
            }
        }
    };
    let json = HeaderValue::from_static("application/json");
    client.answer(200, &json, Bytes::from(body.unwrap_or_default())).await
}

/// The refusal of a path that does not exist.
#[must_use]
pub fn no_such_path() -> Refusal {
    let message = "No such path. GET /v1/models lists the models; POST /v1/chat/completions talks to one.";
    Refusal::new(Reason::NotFound, message)
}

/// The refusal of a path with another method than those `allowed`.
#[must_use]
pub fn wrong_method(allowed: &'static str) -> Refusal {
    Refusal::new(Reason::MethodNotAllowed(allowed), format!("This path takes {allowed} only."))
}

fn entry(id: &str, context: Option<u32>, created: u64) -> Entry<'_> {
    Entry { id, object: "model", created, owned_by: "tidegate", max_model_len: context }
}

fn listed(id: &str, context: Option<u32>, created: u64) -> Listed<'_> {
    let created_at = clock::rfc3339(Duration::from_secs(created));
    Listed { r#type: "model", id, display_name: id, created_at, max_input_tokens: context }
}

/// The model of this name or alias, if the account and its key may use it.
pub(super) fn usable<'s>(snapshot: &'s Snapshot, who: &Bearer, name: &str) -> Option<&'s Arc<Model>> {
    snapshot.models.get(name).filter(|model| is_usable(who, &model.config))
}

/// The context window, tokens: as configured, else the largest that engines tell whose deployment takes who asks, because
/// a prompt is refused as too long only where none could take it. `None`: not known of each.
fn window(who: &Bearer, model: &Model) -> Option<u32> {
    let taking = |(route, _): &&(config::Route, Arc<Deployment>)| is_taken(who, route);
    let told = |(_, one): &(config::Route, Arc<Deployment>)| one.learned.context(&model.config.served_model);
    let mut windows = model.routes.iter().filter(taking).map(told);
    model
        .config
        .context
        .or_else(|| windows.try_fold(0, |most, own| Some(own?.max(most))).filter(|&most| most > 0))
}

/// Whether a deployment takes the account in a tier that it and its key have.
fn is_taken(who: &Bearer, route: &config::Route) -> bool {
    let (tiers, id) = (who.tiers(), &who.account.config.id);
    Tier::ALL.into_iter().any(|tier| tiers.contains(tier) && route.takes(tier, id))
}

/// Whether the model is among the account's and the key's, and one of its deployments takes the account in a tier that it
/// has.
fn is_usable(who: &Bearer, model: &config::Model) -> bool {
    who.may_use(&model.name) && model.routes.iter().any(|route| is_taken(who, route))
}

/// Percent-decodes a path segment; what is not UTF-8 then is no model's name.
pub(super) fn decoded(id: &str) -> String {
    let mut bytes = Vec::with_capacity(id.len());
    let mut rest = id.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = tail
            .get(..2)
            .and_then(|h| std::str::from_utf8(h).ok())
            .and_then(|h| u8::from_str_radix(h, 16).ok());
        match (byte, hex) {
            (b'%', Some(decoded)) => {
                bytes.push(decoded);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The refusal of a model that does not exist.
#[must_use]
pub fn unknown(model: &str) -> Refusal {
    let shown: String = model.chars().filter(|c| !c.is_control()).take(80).collect();
    Refusal::new(
        Reason::ModelNotFound,
        format!("The model `{shown}` does not exist here. GET /v1/models lists those that do."),
    )
    .param("model")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_percent_decoded() {
        assert_eq!(decoded("meta%2Fllama"), "meta/llama");
        assert_eq!(decoded("100%"), "100%");
        assert_eq!(decoded("%zz%41"), "%zzA");
    }
}
