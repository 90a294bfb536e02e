//! Scenarios that fit a config: its model, accounts of it, its deployments, and so much traffic as it has.
//!
//! Written as JSON, which is YAML, so nothing of a name can be taken for a key.

use config::{Account, Config, Model, Tier};
use serde_json::{Value, json};
use std::sync::Arc;

/// Traffic of one replica where nobody says how much there is, requests per second: what an 8B model on one A100 carries.
const RATE_OF_REPLICA: f64 = 5.0;
/// The least and the most that a drill is given.
const RATE: std::ops::RangeInclusive<f64> = 0.5..=2_000.0;
/// How much of the traffic asks for priority.
const PRIORITY_SHARE: f64 = 0.2;
/// Accounts like the one of the config that send it: so many for each request per second, so that limits do not bind.
const ACCOUNTS_PER_RATE: f64 = 4.0;
const ACCOUNTS: std::ops::RangeInclusive<f64> = 4.0..=2_000.0;
/// The longest id that a scenario takes.
const ID_MAX: usize = 60;

/// A kind of scenario.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// What it shows.
    pub shows: &'static str,
}

/// All kinds.
pub const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "surge",
        title: "Three times the load",
        shows: "Traffic climbs to three times as much within half a minute and stays for a minute and a half. Regular requests \
                are refused before priority ones, and everybody is served again afterwards.",
    },
    Scenario {
        name: "lost-half",
        title: "Half of the replicas lost",
        shows: "Half of the replicas of the model's first deployment die with all that runs on them, and come back a minute \
                later. What had no token yet is sent elsewhere; regular traffic makes room until they are back.",
    },
    Scenario {
        name: "slow-engines",
        title: "All engines at half their speed",
        shows: "Every engine works at half its speed for a minute and a half, as when clocks are throttled. Fewer requests run \
                at once, regular ones are refused first, and the old pace comes back by itself.",
    },
    Scenario {
        name: "priority-surge",
        title: "Four times as much priority",
        shows: "Priority traffic grows to four times as much and takes its places from regular traffic, which gets what is left.",
    },
];

/// Why a scenario does not fit a config.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// No such scenario.
    #[error("there is no scenario `{0}`; there are: {names}", names = SCENARIOS.map(|scenario| scenario.name).join(", "))]
    Scenario(String),
    /// No such model.
    #[error("the config has no model `{0}`")]
    Model(String),
    /// Nobody may use it.
    #[error(
        "no account that the config declares may use `{0}` at a deployment that takes it; a drill plays accounts of the config"
    )]
    Accounts(String),
    /// Nobody may use priority on it.
    #[error("no account that the config declares may use priority on `{0}`")]
    Priority(String),
    /// The rate is not one.
    #[error("`rate_per_s` is from {} to {}", RATE.start(), RATE.end())]
    Rate,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish<'a> {
    /// The model; `None`: the first of the config.
    pub model: Option<&'a str>,
    /// Requests per second before anything happens; `None`: as many as `usual`.
    pub rate_per_s: Option<f64>,
    /// As many as there are now; `None`: not known.
    pub usual: Option<f64>,
    /// Model and hardware of the engines, where they are not as measured.
    pub profile: Option<&'a str>,
}

/// A scenario for a config, and the model that it is about.
///
/// # Errors
/// It does not fit.
pub fn scenario(name: &str, config: &Config, wish: Wish<'_>) -> Result<(String, Arc<Model>), Lack> {
    let kind = SCENARIOS.iter().find(|scenario| scenario.name == name);
    let kind = kind.ok_or_else(|| Lack::Scenario(name.to_owned()))?;
    let model = model_of(config, wish.model)?;
    let senders = Senders::of(config, &model);
    let lacks = || Lack::Accounts(model.name.to_string());
    if senders.regular.is_none() && senders.priority.is_none() {
        return Err(lacks());
    }
    if kind.name == "priority-surge" && senders.priority.is_none() {
        return Err(Lack::Priority(model.name.to_string()));
    }
    let rate = rate_of(&model, wish)?;
    let fleet = wish.profile.map_or(json!({}), |profile| json!({ "profile": profile }));
    let written = json!({
        "drill": kind.name,
        "title": kind.title,
        "shows": kind.shows,
        "duration_s": 240,
        "warm_up_s": 20,
        "fleet": fleet,
        "accounts": senders.accounts(rate),
        "traffic": senders.traffic(kind.name, rate, &model),
        "events": events(kind.name, &model),
        "pass": passes(kind.name, senders.priority.is_some() && senders.regular.is_some()),
    });
    Ok((serde_json::to_string_pretty(&written).unwrap_or_default(), model))
}

fn model_of(config: &Config, wanted: Option<&str>) -> Result<Arc<Model>, Lack> {
    let found = match wanted {
        Some(name) => config.model(name).cloned(),
        None => config.models.first().cloned(),
    };
    found.ok_or_else(|| Lack::Model(wanted.unwrap_or("").to_owned()))
}

fn rate_of(model: &Model, wish: Wish<'_>) -> Result<f64, Lack> {
    let replicas: usize = model.routes.iter().map(|route| route.deployment.replicas.len()).sum();
    let usual = wish.usual.filter(|usual| *usual >= *RATE.start());
    let guess = usual.unwrap_or(RATE_OF_REPLICA * replicas.max(1) as f64);
    let rate = wish.rate_per_s.unwrap_or(guess.min(*RATE.end()));
    if RATE.contains(&rate) { Ok(rate) } else { Err(Lack::Rate) }
}

/// Who sends: accounts of the config, each standing for many like it.
struct Senders {
    regular: Option<Arc<Account>>,
    priority: Option<Arc<Account>>,
}

impl Senders {
    fn of(config: &Config, model: &Model) -> Self {
        let may = |account: &&Arc<Account>, tier: Tier| {
            let is_taken = || model.routes.iter().any(|route| route.takes(tier, &account.id));
            let is_entitled = tier == Tier::Regular || account.tiers.contains(tier);
            let is_usable = !account.disabled && account.id.chars().count() <= ID_MAX;
            is_usable && is_entitled && account.may_use(&model.name) && is_taken()
        };
        let first = |tier| config.accounts.iter().find(|account| may(account, tier)).cloned();
        Senders { regular: first(Tier::Regular), priority: first(Tier::Priority) }
    }

    fn both(&self) -> impl Iterator<Item = (&Arc<Account>, f64, f64)> {
        let (regular_share, priority_share) = match (&self.regular, &self.priority) {
            (Some(_), Some(_)) => (1.0 - PRIORITY_SHARE, PRIORITY_SHARE),
            _ => (1.0, 1.0),
        };
        let priority = self.priority.iter().map(move |account| (account, priority_share, 1.0));
        priority.chain(self.regular.iter().map(move |account| (account, regular_share, 0.0)))
    }

    fn accounts(&self, rate: f64) -> Vec<Value> {
        let mut told: Vec<&str> = Vec::new();
        let count = (ACCOUNTS_PER_RATE * rate).ceil().clamp(*ACCOUNTS.start(), *ACCOUNTS.end()) as u32;
        let mut written = Vec::new();
        for (account, ..) in self.both() {
            if !told.contains(&&*account.id) {
                told.push(&account.id);
                written.push(json!({ "id": &*account.id, "count": count }));
            }
        }
        written
    }

    fn traffic(&self, kind: &str, rate: f64, model: &Model) -> Vec<Value> {
        let one = |(account, share, priority): (&Arc<Account>, f64, f64)| {
            let load = match kind {
                "surge" => json!([{ "at_s": 60, "factor": 3, "over_s": 30 }, { "at_s": 180, "factor": 0.8 }]),
                "priority-surge" if priority > 0.0 => {
                    json!([{ "at_s": 60, "factor": 4, "over_s": 10 }, { "at_s": 180, "factor": 1 }])
                }
                _ => json!([]),
            };
            json!({
                "name": if priority > 0.0 { "priority" } else { "regular" },
                "model": &*model.name,
                "accounts": &*account.id,
                "rate_per_s": (rate * share * 1e3).round() / 1e3,
                "priority": priority,
                "workload": "azure",
                "load": load,
            })
        };
        self.both().map(one).collect()
    }
}

fn events(kind: &str, model: &Model) -> Vec<Value> {
    let Some(first) = model.routes.first() else { return Vec::new() };
    let (name, replicas) = (&*first.deployment.name, first.deployment.replicas.len());
    match kind {
        "lost-half" => {
            let lost = replicas.div_ceil(2).clamp(1, 500);
            let lose = |nth| json!({ "at_s": 60, "for_s": 60, "deployment": name, "lose": nth });
            (0..lost).map(lose).collect()
        }
        "slow-engines" => vec![json!({ "at_s": 60, "for_s": 90, "capacity": 0.5 })],
        _ => Vec::new(),
    }
}

/// What has to hold whatever the config is: how much is served is for the report to say.
fn passes(kind: &str, has_both: bool) -> Vec<Value> {
    let over_s = match kind {
        "lost-half" => 120,
        "slow-engines" => 150,
        _ => 180,
    };
    let mut all = vec![json!({ "recovery_s": 45, "after_s": over_s, "attainment": 0.9 })];
    if has_both {
        all.push(json!({ "shed_order": true }));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(accounts: &str) -> Config {
        let text = format!(
            "deployments: [{{ name: gpu, replicas: ['http://a:1', 'http://b:1', 'http://c:1'] }}]\n\
             models: [{{ name: m, deployments: [gpu] }}, {{ name: n, deployments: [gpu] }}]\n\
             accounts:\n{accounts}"
        );
        Config::parse(&text, "test", &|_| None).unwrap()
    }

    fn account(id: &str, more: &str) -> String {
        let key = id.bytes().map(|byte| format!("{byte:02x}")).collect::<String>() + &"0".repeat(64);
        format!("- {{ id: {id}, keys: ['sha256:{}'], {more} }}\n", &key[..64])
    }

    #[test]
    fn a_scenario_has_the_accounts_tiers_and_deployments_of_the_config() {
        let accounts = [
            account("off", "disabled: true"),
            account("plain", "models: [m]"),
            account("gold", "tiers: [regular, priority]"),
        ];
        let config = config(&accounts.concat());
        for kind in SCENARIOS {
            let (text, model) = scenario(kind.name, &config, Wish::default()).unwrap();
            let written: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(&*model.name, "m");
            let traffic = written["traffic"].as_array().unwrap();
            assert_eq!(traffic.len(), 2, "{}", kind.name);
            assert_eq!((&traffic[0]["accounts"], &traffic[1]["accounts"]), (&json!("gold"), &json!("plain")));
            assert_eq!((&traffic[0]["rate_per_s"], &traffic[1]["rate_per_s"]), (&json!(3.0), &json!(12.0)));
        }
        let (text, _) = scenario("lost-half", &config, Wish::default()).unwrap();
        let lost = serde_json::from_str::<Value>(&text).unwrap()["events"].as_array().unwrap().len();
        assert_eq!(lost, 2, "of three");
        let (of_n, model) = scenario("surge", &config, Wish { model: Some("n"), ..Wish::default() }).unwrap();
        assert!(&*model.name == "n" && !of_n.contains("plain"), "plain may not use it");
    }

    #[test]
    fn the_rate_is_what_is_wished_or_what_is_usual_or_a_guess() {
        let config = config(&account("plain", ""));
        let rate = |rate_per_s, usual| {
            let wish = Wish { rate_per_s, usual, ..Wish::default() };
            let (text, _) = scenario("surge", &config, wish)?;
            Ok::<_, Lack>(serde_json::from_str::<Value>(&text).unwrap()["traffic"][0]["rate_per_s"].clone())
        };
        assert_eq!(rate(Some(7.5), Some(20.0)), Ok(json!(7.5)));
        assert_eq!(rate(None, Some(20.0)), Ok(json!(20.0)));
        assert_eq!(rate(None, Some(0.01)), Ok(json!(15.0)), "too little to drill");
        assert_eq!(rate(Some(0.0), None), Err(Lack::Rate));
        assert_eq!(rate(Some(f64::NAN), None), Err(Lack::Rate));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let config = config(&account("plain", "models: [m]"));
        let lack = |name, model| scenario(name, &config, Wish { model, ..Wish::default() }).unwrap_err();
        assert!(lack("tsunami", None).to_string().contains("there are: surge, lost-half"));
        assert_eq!(lack("surge", Some("q")), Lack::Model("q".to_owned()));
        assert_eq!(lack("surge", Some("n")), Lack::Accounts("n".to_owned()));
        assert_eq!(lack("priority-surge", None), Lack::Priority("m".to_owned()));
    }
}
