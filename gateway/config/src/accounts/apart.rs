//! An account that stands in no file, judged by the very rules that accounts of the file are judged by.
//!
//! What is made at run time has the same keys, the same bounds and the same messages: the record is read, checked and
//! resolved as if it were the only account of a file. Only what needs the neighbours (ids and keys that must differ) is
//! for whoever knows them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value, json};

use crate::accounts::account::{self, Account, AccountFile};
use crate::resolve::Resolver;
use crate::yaml::faults::{At, Faults, Report};
use crate::yaml::{check, tree};
use crate::{Config, SCHEMA};

/// The part of the schema that describes accounts.
static ACCOUNTS: LazyLock<Value> = LazyLock::new(|| {
    let accounts = SCHEMA.pointer("/properties/accounts").cloned().unwrap_or_default();
    json!({ "type": "object", "properties": { "accounts": accounts } })
});

/// What an account may refer to.
#[derive(Debug)]
pub struct AccountRules {
    models: HashMap<Arc<str>, Arc<str>>,
}

impl AccountRules {
    /// Those of a config. O(models).
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let models = config.model_names.iter();
        AccountRules {
            models: models.map(|(name, model)| (Arc::clone(name), Arc::clone(&model.name))).collect(),
        }
    }

    /// The account that a record describes, whose keys are those of `accounts[]` in the config.
    ///
    /// # Errors
    /// Every fault of it, each with its key, in one text.
    pub fn judge(&self, record: Map<String, Value>) -> Result<Account, String> {
        let text = json!({ "accounts": [Value::Object(record)] }).to_string();
        let mut report = Report::default();
        let nothing = |_: &str| None;
        let Some(tree) = tree::read(&text, &nothing, &mut report) else { return Err(told(report)) };
        let checked = check::check(&tree, &ACCOUNTS, &At::FILE, &mut report).unwrap_or_default();
        let record = checked.pointer("/accounts/0").cloned().unwrap_or_default();
        let file: AccountFile = serde_json::from_value(record).map_err(|e| e.to_string())?;
        let mut resolver =
            Resolver { file: &tree, report, folder: PathBuf::new(), env: &nothing, read_file: None };
        let mut known = account::Known { models: &self.models, ids: HashMap::new(), keys: HashMap::new() };
        let account = file.resolve(0, &mut known, &mut resolver);
        if resolver.report.is_empty() { Ok(account) } else { Err(told(resolver.report)) }
    }
}

/// Faults without the place in a file that nobody wrote.
fn told(report: Report) -> String {
    let Some(Faults { list, .. }) = report.into_faults("") else { return "cannot be used".to_owned() };
    let said = list.into_iter().map(|fault| {
        let key = fault.path.trim_start_matches("accounts[0]").trim_start_matches('.');
        if key.is_empty() { fault.message } else { format!("{key}: {}", fault.message) }
    });
    said.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::rules;

    fn judged(record: Value) -> Result<Account, String> {
        let Value::Object(record) = record else { panic!("no record") };
        rules().judge(record)
    }

    #[test]
    fn a_record_becomes_what_the_same_lines_of_a_file_become() {
        let key = crate::keys::Digest::of("tg-key").to_string();
        let account =
            judged(json!({ "id": "bolt", "keys": [key], "spending_tier": 3, "tiers": ["priority"] }))
                .unwrap();
        assert_eq!(
            (&*account.id, account.spending_tier.name(), account.tiers.contains(crate::tier::Tier::Priority)),
            ("bolt", "3", true)
        );
        assert_eq!(account.requests_per_minute, 6_000, "defaults are the file's");
    }

    #[test]
    fn every_fault_is_told_with_its_key_and_without_the_place_in_a_file() {
        let told = judged(
            json!({ "id": "a b", "keys": ["tg-secret"], "weight": 0, "models": ["nope"], "colour": 1 }),
        );
        let told = told.unwrap_err();
        for part in ["id: may have", "keys[0]: must be `sha256:`", "weight: must be", "models[0]: ", "colour"]
        {
            assert!(told.contains(part), "{part} is not in {told}");
        }
        assert!(!told.contains("tg-secret") && !told.contains("accounts[0]"), "{told}");
    }

    #[test]
    fn variables_of_the_environment_are_not_looked_up() {
        let key = crate::keys::Digest::of("tg-key").to_string();
        let told = judged(json!({ "id": "${HOME}", "keys": [key] })).unwrap_err();
        assert!(told.contains("HOME") && !told.contains('/'), "{told}");
    }
}
