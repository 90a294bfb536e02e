//! `tidegate accounts`: who may use the gateway; accounts made, changed and removed while it runs, through the admin API.

use super::account_keys::{self, KeysCommand};
use super::{AdminArguments, CommandError, ask, at, cell, header_row, rows, show};
use crate::api::segment;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

/// Arguments of `tidegate accounts`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidegate accounts\n  tidegate accounts create acme --tiers priority,regular --spending-tier 2 --token-file admin.token\n  \
                        tidegate accounts disable acme --token-file admin.token\n  \
                        tidegate accounts rotate acme --overlap 86400 --token-file admin.token\n  \
                        tidegate accounts keys add acme --name ci --share 0.25 --expires 2027-01-01T00:00:00Z --token-file admin.token\n\n\
                        Accounts that the config declares are changed there."
)]
pub struct AccountsArguments {
    #[command(subcommand)]
    command: Option<AccountsCommand>,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Subcommand)]
enum AccountsCommand {
    /// Accounts in the order of their ids, up to 1,000. Shown when no command is given.
    List {
        /// Ids that contain this.
        #[arg(long)]
        containing: Option<String>,
        /// Ids after this one, for the next page.
        #[arg(long)]
        after: Option<String>,
    },
    /// One account.
    Show {
        /// The account's id.
        account: String,
    },
    /// Makes an account, in force at once. Shows its key, once.
    Create {
        /// The account's id.
        account: String,
        /// The digest of a key that was made elsewhere, `sha256:…`; several times for several. Without it a key is made.
        #[arg(long = "key", value_name = "DIGEST")]
        keys: Vec<String>,
        #[command(flatten)]
        rights: Rights,
    },
    /// Changes what an account may do.
    Set {
        /// The account's id.
        account: String,
        #[command(flatten)]
        rights: Rights,
    },
    /// Refuses its keys from the next request on; what runs, runs on.
    Disable {
        /// The account's id.
        account: String,
    },
    /// Takes its keys again.
    Enable {
        /// The account's id.
        account: String,
    },
    /// Makes a new key and shows it, once; those that are there end.
    Rotate {
        /// The account's id.
        account: String,
        /// Seconds for which the old keys stay good: 0 ends them at once, as after a leak.
        #[arg(long, value_name = "SECONDS")]
        overlap: u32,
    },
    /// Keys inside an account: names, ends, rights and limits of their own.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Removes an account.
    Remove {
        /// The account's id.
        account: String,
    },
}

#[derive(Debug, Args)]
struct Rights {
    /// How much the customer spends: 1 to 4, unlimited or enterprise.
    #[arg(long)]
    spending_tier: Option<String>,
    /// Tiers that it may ask for: `regular` or `priority,regular`.
    #[arg(long, value_delimiter = ',')]
    tiers: Option<Vec<String>>,
    /// The tier of requests that name none.
    #[arg(long)]
    default_tier: Option<String>,
    /// What becomes of requests for a tier that it may not use: downgrade or refuse.
    #[arg(long)]
    on_forbidden_tier: Option<String>,
    /// Models that it may use, with commas; `all` for all.
    #[arg(long, value_delimiter = ',')]
    models: Option<Vec<String>>,
    /// Its share of a contended queue.
    #[arg(long)]
    weight: Option<f64>,
    /// Which of its own waiting requests is next: arrival, or user for turns of its end users.
    #[arg(long)]
    fair_by: Option<String>,
    /// Requests in any minute.
    #[arg(long)]
    requests_per_minute: Option<u32>,
    /// Requests at once.
    #[arg(long)]
    concurrency: Option<u32>,
}

impl Rights {
    fn fields(&self) -> Map<String, Value> {
        let spending = self.spending_tier.as_ref().map(|tier| match tier.parse::<u8>() {
            Ok(number) => json!(number),
            Err(_) => json!(tier),
        });
        let models = self.models.as_ref().map(|models| match models.as_slice() {
            [all] if all == "all" => Value::Null,
            models => json!(models),
        });
        let fields = [
            ("spending_tier", spending),
            ("tiers", self.tiers.as_ref().map(|tiers| json!(tiers))),
            ("default_tier", self.default_tier.as_ref().map(|tier| json!(tier))),
            ("on_forbidden_tier", self.on_forbidden_tier.as_ref().map(|what| json!(what))),
            ("models", models),
            ("weight", self.weight.map(|weight| json!(weight))),
            ("fair_by", self.fair_by.as_ref().map(|what| json!(what))),
            ("requests_per_minute", self.requests_per_minute.map(|number| json!(number))),
            ("concurrency", self.concurrency.map(|number| json!(number))),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

pub(super) const PATH: &str = "/api/v1/accounts";

/// Runs the command; what is to be printed.
///
/// # Errors
/// It was called wrongly, or the gateway does not answer or refuses.
pub fn run(arguments: &AccountsArguments) -> Result<String, CommandError> {
    let admin = &arguments.admin;
    let of = |account: &str| format!("{PATH}/{}", segment(account));
    let list = AccountsCommand::List { containing: None, after: None };
    match arguments.command.as_ref().unwrap_or(&list) {
        AccountsCommand::List { containing, after } => {
            let mut path = format!("{PATH}?limit=1000");
            for (name, value) in [("containing", containing), ("after", after)] {
                path.extend(value.iter().map(|value| format!("&{name}={}", segment(value))));
            }
            show(admin, &path, list_table)
        }
        AccountsCommand::Show { account } => show(admin, &of(account), one_table),
        AccountsCommand::Create { account, keys, rights } => {
            let mut body = json!({ "id": account, "account": rights.fields() });
            if let (false, Value::Object(body)) = (keys.is_empty(), &mut body) {
                body.insert("keys".to_owned(), json!(keys));
            }
            ask(admin, Method::POST, PATH, body.to_string(), changed_table)
        }
        AccountsCommand::Set { account, rights } => {
            let fields = rights.fields();
            if fields.is_empty() {
                return Err(CommandError::Usage(
                    "give at least one of --tiers, --spending-tier, --models, …; --help lists them"
                        .to_owned(),
                ));
            }
            change(admin, &of(account), &Value::Object(fields))
        }
        AccountsCommand::Disable { account } => change(admin, &of(account), &json!({ "disabled": true })),
        AccountsCommand::Enable { account } => change(admin, &of(account), &json!({ "disabled": false })),
        AccountsCommand::Rotate { account, overlap } => {
            let body = json!({ "overlap_seconds": overlap });
            ask(admin, Method::POST, &format!("{}/keys", of(account)), body.to_string(), changed_table)
        }
        AccountsCommand::Keys(command) => account_keys::run(admin, command),
        AccountsCommand::Remove { account } => {
            ask(admin, Method::DELETE, &of(account), String::new(), |gone| {
                vec![vec![format!("removed {}", cell(at(gone, "removed")))]]
            })
        }
    }
}

fn change(admin: &AdminArguments, path: &str, body: &Value) -> Result<String, CommandError> {
    ask(admin, Method::PATCH, path, body.to_string(), changed_table)
}

fn list_table(page: &Value) -> Vec<Vec<String>> {
    let mut table = accounts_table(rows(at(page, "accounts")));
    if let Some(next) = at(page, "next").as_str() {
        table.push(vec![format!("more: --after {next}")]);
    }
    table
}

fn one_table(account: &Value) -> Vec<Vec<String>> {
    accounts_table(std::slice::from_ref(account))
}

fn accounts_table(accounts: &[Value]) -> Vec<Vec<String>> {
    let mut table = vec![header_row(&[
        "account", "source", "state", "spending", "tiers", "default", "models", "req/min", "at once",
        "running", "keys",
    ])];
    let joined = |value: &Value| {
        let words: Vec<String> = rows(value).iter().map(cell).collect();
        words.join(",")
    };
    for account in accounts {
        let of = |key: &str| cell(at(account, key));
        let models = at(account, "models");
        table.push(vec![
            of("id"),
            of("source"),
            if at(account, "disabled") == &Value::Bool(true) { "disabled" } else { "enabled" }.to_owned(),
            of("spending_tier"),
            joined(at(account, "tiers")),
            of("default_tier"),
            if models.is_null() { "all".to_owned() } else { joined(models) },
            of("requests_per_minute"),
            of("concurrency"),
            of("live"),
            joined(at(account, "keys")),
        ]);
    }
    table
}

/// The account, and below it the key that is shown once.
fn changed_table(changed: &Value) -> Vec<Vec<String>> {
    let account = at(changed, "account");
    let mut table = one_table(account);
    for ending in rows(at(account, "ending_keys")) {
        table.push(vec![format!("key {}… ends at {}", cell(at(ending, "key")), cell(at(ending, "at")))]);
    }
    table.extend(new_key(changed));
    table
}

/// The key that is shown once, if one was made.
pub(super) fn new_key(changed: &Value) -> Vec<Vec<String>> {
    let mut table = Vec::new();
    if let Some(key) = at(changed, "key").as_str() {
        table.push(Vec::new());
        table.push(vec![format!("key: {key}")]);
        table.push(vec!["Give it to the customer; it is not stored and cannot be shown again.".to_owned()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::aligned;
    use super::*;

    #[test]
    fn rights_become_the_fields_of_the_api() {
        let rights = Rights {
            spending_tier: Some("2".into()),
            tiers: Some(vec!["priority".into()]),
            default_tier: None,
            on_forbidden_tier: None,
            models: Some(vec!["all".into()]),
            weight: None,
            fair_by: None,
            requests_per_minute: Some(7),
            concurrency: None,
        };
        let wanted =
            json!({ "spending_tier": 2, "tiers": ["priority"], "models": null, "requests_per_minute": 7 });
        assert_eq!(Value::Object(rights.fields()), wanted);
    }

    #[test]
    fn a_new_key_stands_below_the_table() {
        let changed =
            json!({ "account": { "id": "acme", "disabled": true, "models": ["m"] }, "key": "tg-once" });
        let text = aligned(&changed_table(&changed));
        assert!(text.contains("disabled") && text.contains("\nkey: tg-once\n"), "{text}");
    }
}
