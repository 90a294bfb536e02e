//! `tidegate accounts keys`: the keys inside an account, with names, ends, rights and limits of their own.

use super::accounts::{PATH, new_key};
use super::{AdminArguments, CommandError, ask, at, cell, header_row, rows, show};
use crate::api::segment;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// An account's keys: names, ends, last use, rights.
    List {
        /// The account's id.
        account: String,
    },
    /// Makes a key and shows it, once; those that are there stay.
    Add {
        /// The account's id.
        account: String,
        /// The key's name inside the account.
        #[arg(long)]
        name: String,
        #[command(flatten)]
        rights: KeyRights,
    },
    /// Makes a key in the place of the one of that name, with its rights, and shows it, once.
    Rotate {
        /// The account's id.
        account: String,
        /// The name of the key to replace.
        name: String,
        /// Seconds for which the old key stays good: 0 ends it at once, as after a leak.
        #[arg(long, value_name = "SECONDS")]
        overlap: u32,
        /// From when on the new one is refused (RFC 3339), such as 2026-12-31T00:00:00Z. Default: never.
        #[arg(long)]
        expires: Option<String>,
    },
    /// Changes a key.
    Set {
        /// The account's id.
        account: String,
        /// The first eight digits of the key's SHA-256, as `list` shows them.
        key: String,
        /// A name for a key that has none, or another name.
        #[arg(long)]
        name: Option<String>,
        /// Whether it is refused for now: true or false.
        #[arg(long)]
        disabled: Option<bool>,
        #[command(flatten)]
        rights: KeyRights,
    },
    /// Ends a key at once.
    End {
        /// The account's id.
        account: String,
        /// The first eight digits of the key's SHA-256, as `list` shows them.
        key: String,
    },
}

/// What a key may do. `all` or `none` puts the default in force.
#[derive(Debug, Default, Args)]
pub(super) struct KeyRights {
    /// From when on it is refused (RFC 3339), such as 2026-12-31T00:00:00Z; `never`.
    #[arg(long)]
    expires: Option<String>,
    /// Models of the account that it may use, with commas; `all` for all.
    #[arg(long, value_delimiter = ',')]
    models: Option<Vec<String>>,
    /// Tiers of the account that it may ask for, with commas; `all` for all.
    #[arg(long, value_delimiter = ',')]
    tiers: Option<Vec<String>>,
    /// The tier of its requests that name none.
    #[arg(long)]
    default_tier: Option<String>,
    /// Its part of the account's limits, such as 0.25; `none`.
    #[arg(long)]
    share: Option<String>,
    /// Requests in any minute; `none` for the account's alone.
    #[arg(long)]
    requests_per_minute: Option<String>,
    /// Requests at once; `none` for the account's alone.
    #[arg(long)]
    concurrency: Option<String>,
}

impl KeyRights {
    /// # Errors
    /// A value is no number where it must be one.
    fn fields(&self) -> Result<Map<String, Value>, CommandError> {
        let list = |words: &Option<Vec<String>>| {
            words.as_ref().map(|words| match words.as_slice() {
                [all] if all == "all" => Value::Null,
                words => json!(words),
            })
        };
        let number = |name: &str, text: &Option<String>| match text.as_deref() {
            None => Ok(None),
            Some("none") => Ok(Some(Value::Null)),
            Some(text) => match text.parse::<serde_json::Number>() {
                Ok(number) => Ok(Some(Value::Number(number))),
                Err(_) => {
                    Err(CommandError::Usage(format!("--{name} must be a number or `none`, is `{text}`")))
                }
            },
        };
        let expires = self.expires.as_ref().map(|text| match text.as_str() {
            "never" => Value::Null,
            text => json!(text),
        });
        let fields = [
            ("expires", expires),
            ("models", list(&self.models)),
            ("tiers", list(&self.tiers)),
            ("default_tier", self.default_tier.as_ref().map(|tier| json!(tier))),
            ("share", number("share", &self.share)?),
            ("requests_per_minute", number("requests-per-minute", &self.requests_per_minute)?),
            ("concurrency", number("concurrency", &self.concurrency)?),
        ];
        Ok(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
    }
}

/// Runs the command; what is to be printed.
///
/// # Errors
/// It was called wrongly, or the gateway does not answer or refuses.
pub(super) fn run(admin: &AdminArguments, command: &KeysCommand) -> Result<String, CommandError> {
    let of = |account: &str| format!("{PATH}/{}", segment(account));
    let keys = |account: &str| format!("{}/keys", of(account));
    let key = |account: &str, key: &str| format!("{}/{}", keys(account), segment(key));
    match command {
        KeysCommand::List { account } => show(admin, &of(account), keys_table),
        KeysCommand::Add { account, name, rights } => {
            let mut fields = rights.fields()?;
            fields.insert("name".to_owned(), json!(name));
            let body = json!({ "keep_others": true, "key": fields });
            ask(admin, Method::POST, &keys(account), body.to_string(), changed_table)
        }
        KeysCommand::Rotate { account, name, overlap, expires } => {
            let rights = KeyRights { expires: expires.clone(), ..KeyRights::default() };
            let mut fields = rights.fields()?;
            fields.insert("name".to_owned(), json!(name));
            let body = json!({ "overlap_seconds": overlap, "key": fields });
            ask(admin, Method::POST, &keys(account), body.to_string(), changed_table)
        }
        KeysCommand::Set { account, key: digits, name, disabled, rights } => {
            let mut fields = rights.fields()?;
            fields.extend(name.as_ref().map(|name| ("name".to_owned(), json!(name))));
            fields.extend(disabled.map(|disabled| ("disabled".to_owned(), json!(disabled))));
            if fields.is_empty() {
                return Err(CommandError::Usage(
                    "give at least one of --name, --expires, --share, …; --help lists them".to_owned(),
                ));
            }
            let body = Value::Object(fields).to_string();
            ask(admin, Method::PATCH, &key(account, digits), body, changed_table)
        }
        KeysCommand::End { account, key: digits } => {
            ask(admin, Method::DELETE, &key(account, digits), String::new(), changed_table)
        }
    }
}

/// The keys, and below them the one that is shown once.
fn changed_table(changed: &Value) -> Vec<Vec<String>> {
    let mut table = keys_table(at(changed, "account"));
    table.extend(new_key(changed));
    table
}

fn keys_table(account: &Value) -> Vec<Vec<String>> {
    let mut table = vec![header_row(&[
        "key",
        "name",
        "state",
        "expires",
        "ends",
        "last used",
        "models",
        "tiers",
        "share",
        "req/min",
        "at once",
    ])];
    let joined = |value: &Value| rows(value).iter().map(cell).collect::<Vec<_>>().join(",");
    for key in rows(at(account, "key_list")) {
        let of = |field: &str| match at(key, field) {
            Value::Null => "-".to_owned(),
            value => cell(value),
        };
        let models = at(key, "models");
        table.push(vec![
            of("key"),
            of("name"),
            of("state"),
            of("expires"),
            of("ends"),
            of("last_used"),
            if models.is_null() { "all".to_owned() } else { joined(models) },
            if at(key, "name").is_null() { "all".to_owned() } else { joined(at(key, "tiers")) },
            of("share"),
            of("requests_per_minute"),
            of("concurrency"),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_become_the_fields_of_the_api() {
        let rights = KeyRights {
            expires: Some("never".into()),
            models: Some(vec!["m".into()]),
            tiers: Some(vec!["all".into()]),
            share: Some("0.25".into()),
            concurrency: Some("none".into()),
            ..KeyRights::default()
        };
        let wanted =
            json!({ "expires": null, "models": ["m"], "tiers": null, "share": 0.25, "concurrency": null });
        assert_eq!(Value::Object(rights.fields().unwrap()), wanted);

        let wrong = KeyRights { share: Some("a quarter".into()), ..KeyRights::default() };
        assert!(wrong.fields().unwrap_err().to_string().contains("--share must be a number"));
    }
}
