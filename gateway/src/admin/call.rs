//! One question to the admin API, taken apart: path parameters, query, body.

use super::answer::{Refused, problem};
use super::guard::Caller;
use crate::state::gateway::Gateway;
use crate::state::journal::FolderKept;
use crate::state::{Account, Snapshot};
use crate::upstream::deployment::Deployment;
use bytes::Bytes;
use history::events::{Kind, Subject};
use http::{StatusCode, request};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

/// Longest query that is read.
const QUERY_MAX: usize = 2048;

/// The latest moment that may be asked for, seconds since the epoch: the year 2286, and whole milliseconds are exact to there.
pub(super) const MOMENT_MAX: f64 = 9_999_999_999.0;

/// One question.
pub(super) struct Call<'c> {
    pub(super) gateway: &'c Arc<Gateway>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) metrics: &'c PrometheusHandle,
    pub(super) head: &'c request::Parts,
    /// What stands in the path for each `{…}`, in order.
    pub(super) parameters: Vec<String>,
    pub(super) body: &'c Bytes,
    /// Who asks, for the log.
    pub(super) caller: &'c Caller,
}

impl Call<'_> {
    /// Notes what the caller did, for the axis of the console.
    pub(super) fn note(&self, kind: Kind, subject: Subject, words: &str) {
        self.gateway.accounts.recorder.note(kind, subject, words, Some(&self.caller.token));
    }

    /// The path parameter of that place.
    pub(super) fn parameter(&self, nth: usize) -> &str {
        self.parameters.get(nth).map_or("", String::as_str)
    }

    /// A value of the query, decoded.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        let query = self.head.uri.query().filter(|query| query.len() <= QUERY_MAX)?;
        query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then(|| decoded(&value.replace('+', " ")))?
        })
    }

    /// A number of the query between 1 and `most`; `default` when it is absent.
    pub(super) fn number(&self, name: &str, default: usize, most: usize) -> Result<usize, Refused> {
        let Some(text) = self.query(name) else { return Ok(default) };
        text.parse().ok().filter(|number| (1..=most).contains(number)).ok_or_else(|| {
            let message = format!("`{name}` must be a number from 1 to {most}.");
            problem(StatusCode::BAD_REQUEST, "bad_query", message)
        })
    }

    /// A moment of the query, in seconds since the epoch; the epoch when it is absent.
    pub(super) fn moment(&self, name: &str) -> Result<Duration, Refused> {
        let Some(text) = self.query(name) else { return Ok(Duration::ZERO) };
        let seconds = text.parse().ok().filter(|seconds: &f64| (0.0..=MOMENT_MAX).contains(seconds));
        let millis = seconds.map(|seconds| Duration::from_millis((seconds * 1e3).round() as u64));
        millis.ok_or_else(|| {
            let message = format!("`{name}` must be a time in seconds since 1970, from 0 to {MOMENT_MAX}.");
            problem(StatusCode::BAD_REQUEST, "bad_query", message)
        })
    }

    /// A value of the query that must be one of these.
    pub(super) fn one_of(&self, name: &str, all: &[&str]) -> Result<Option<String>, Refused> {
        let said = self.query(name);
        if said.as_deref().is_some_and(|said| !all.contains(&said)) {
            let message = format!("`{name}` must be one of: {}.", all.join(", "));
            return Err(problem(StatusCode::BAD_REQUEST, "bad_query", message));
        }
        Ok(said)
    }

    /// The body as what it should be.
    pub(super) fn said<T: DeserializeOwned>(&self) -> Result<T, Refused> {
        serde_json::from_slice(self.body).map_err(|e| {
            let message = format!("The body could not be read: {e}. `/api/v1/openapi.json` describes it.");
            problem(StatusCode::BAD_REQUEST, "bad_body", message)
        })
    }

    /// The account that the path names.
    pub(super) fn account(&self) -> Result<Arc<Account>, Refused> {
        let id = self.parameter(0);
        self.snapshot.account(id).ok_or_else(|| {
            let message = "There is no such account. `GET /api/v1/accounts` lists them.";
            problem(StatusCode::NOT_FOUND, "no_such_account", message)
        })
    }

    /// Keeps the state folder this process's while a file in it is changed. What is changed after a new process got the
    /// folder would be lost, so it is refused. Nothing to keep where there is no folder.
    pub(super) fn keep_folder(&self) -> Result<Option<FolderKept<'_>>, Refused> {
        let Some(journal) = self.gateway.registry.journal() else { return Ok(None) };
        match journal.keep() {
            Ok(Some(kept)) => Ok(Some(kept)),
            Ok(None) => {
                let message = "A new process is taking over and has the state folder; ask again in a second.";
                Err(problem(StatusCode::CONFLICT, "handing_over", message))
            }
            Err(e) => {
                let message =
                    format!("The state folder is not this process's again yet; ask again in a second: {e}.");
                Err(problem(StatusCode::CONFLICT, "handing_over", message))
            }
        }
    }

    /// The deployment that the path names.
    pub(super) fn deployment(&self) -> Result<Arc<Deployment>, Refused> {
        self.deployment_named(self.parameter(0))
    }

    /// The deployment of that name.
    pub(super) fn deployment_named(&self, name: &str) -> Result<Arc<Deployment>, Refused> {
        let found = self.snapshot.deployments.iter().find(|deployment| *deployment.config.name == *name);
        found.cloned().ok_or_else(|| {
            let message = "There is no such deployment. `GET /api/v1/deployments` lists them.";
            problem(StatusCode::NOT_FOUND, "no_such_deployment", message)
        })
    }
}

/// `%41` as `A`. `None`: it is no UTF-8 then, or a `%` is not followed by two digits.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
            let (high, low) = (digit()?, digit()?);
            bytes.push((high << 4 | low) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_signs_are_decoded_and_broken_ones_are_nothing() {
        assert_eq!(decoded("a%2Fb%c3%a9").as_deref(), Some("a/bé"));
        for broken in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(decoded(broken), None, "{broken}");
        }
    }
}
