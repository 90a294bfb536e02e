//! Reads a scenario file: keys and bounds by its schema, meaning by the drill itself, faults with their lines.

use super::DrillError;
use super::configured::Configured;
use crate::file::{DrillFile, Fault, Layout, Step, resolve};
use crate::script::Drill;
use config::{Document, Faults, Part};
use std::io::Read as _;
use std::path::Path;

/// Reads a scenario and the traces that it names.
///
/// # Errors
/// Every fault, and conditions that nothing could meet.
pub fn load(path: &Path) -> Result<Drill, Faults> {
    let folder = path.parent().unwrap_or(Path::new(""));
    resolved(&Document::<DrillFile>::load(path)?, &beside(folder), None)
}

/// `error` of the config, and what is wrong with the scenario by itself: whoever mends one file mends both.
pub(super) fn with_faults_of(scenario: &Path, error: DrillError) -> DrillError {
    match (error, Document::<DrillFile>::load(scenario)) {
        (DrillError::Scenario(config), Err(faults)) => DrillError::Both(config, faults),
        (error, _) => error,
    }
}

/// The same on a config, with so many replicas where that is said.
///
/// # Errors
/// As [`load()`], and what of the scenario the config does not have.
pub(super) fn load_on(
    path: &Path,
    configured: &Configured,
    replicas: Option<u16>,
) -> Result<Drill, DrillError> {
    let document = Document::<DrillFile>::load(path)?;
    resolved_on(document, &beside(path.parent().unwrap_or(Path::new(""))), configured, replicas)
}

/// The same of a text that may name no trace; `origin` is its name in messages.
///
/// # Errors
/// As [`load_on()`].
pub(super) fn parse_on(text: &str, origin: &str, configured: &Configured) -> Result<Drill, DrillError> {
    let document = Document::<DrillFile>::parse(text.to_owned(), origin)?;
    resolved_on(document, &no_traces, configured, None)
}

fn no_traces(_: &Path, _: usize) -> std::io::Result<Vec<u8>> {
    Err(std::io::Error::other("a drill that a gateway starts reads no files; play it from the command line"))
}

/// How a trace is read: by its name, and so many bytes at most.
type Traces<'a> = dyn Fn(&Path, usize) -> std::io::Result<Vec<u8>> + 'a;

fn resolved_on(
    mut document: Document<DrillFile>,
    traces: &Traces<'_>,
    configured: &Configured,
    replicas: Option<u16>,
) -> Result<Drill, DrillError> {
    // What an account may spend the config says.
    document.value.accounts.iter_mut().flatten().for_each(|account| account.limits = None);
    let layout = configured.layout(replicas)?;
    let mut drill = resolved(&document, traces, Some(&layout))?;
    let faults = configured.apply(&mut drill);
    if faults.is_empty() { Ok(drill) } else { Err(placed(&document, faults).into()) }
}

/// The same of a text; `origin` is its name in messages, `folder` where its traces are.
///
/// # Errors
/// As [`load()`].
pub fn parse(text: &str, origin: &str, folder: &Path) -> Result<Drill, Faults> {
    resolved(&Document::<DrillFile>::parse(text.to_owned(), origin)?, &beside(folder), None)
}

/// Traces are files of this folder.
fn beside(folder: &Path) -> impl Fn(&Path, usize) -> std::io::Result<Vec<u8>> {
    move |name, bytes_max| {
        let mut bytes = Vec::new();
        std::fs::File::open(folder.join(name))?.take(bytes_max as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

fn resolved(
    document: &Document<DrillFile>,
    traces: &Traces<'_>,
    layout: Option<&Layout>,
) -> Result<Drill, Faults> {
    resolve(&document.value, &document.text, traces, layout).map_err(|faults| placed(document, faults))
}

/// Faults with their lines.
fn placed(document: &Document<DrillFile>, faults: Vec<Fault>) -> Faults {
    let part = |step: Step| match step {
        Step::Key(key) => Part::Key(key),
        Step::Item(nth) => Part::Item(nth),
    };
    document
        .faults(faults.into_iter().map(|fault| (fault.path.into_iter().map(part).collect(), fault.message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "drill: d\nduration_s: 60\naccounts: [{ id: a }]\ntraffic: [{ name: t, accounts: a, rate_per_s: 5 }]\n";

    fn faults(text: &str) -> String {
        parse(text, "d.yaml", Path::new("")).unwrap_err().to_string()
    }

    const CONFIG: &str = "\
        deployments:\n  - { name: gpu, engine: vllm, replicas: ['http://10.0.0.1:8000', 'http://10.0.0.2:8000'], \
        slo: { ttft_ms: 1500, tpot_ms: 80 }, slots_max: 32, priority_share_max: 0.5 }\n\
        limits: { growth: { shed_share_max: 0.02 } }\n\
        models: [{ name: m, deployments: [gpu] }]\n\
        accounts:\n\
        - { id: a, weight: 3, tiers: [priority, regular], keys: ['sha256:4f5c9b2a8d3e6f7a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a'] }\n\
        - { id: poor, keys: ['sha256:5f5c9b2a8d3e6f7a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a'], \
        limits: [{ start: { generated: 1000 } }] }\n";

    fn on(config: &str, scenario: &str) -> Result<(Drill, Configured), String> {
        let configured = Configured::parse(config, "tg.yaml").map_err(|e| e.to_string())?;
        let document =
            Document::<DrillFile>::parse(scenario.to_owned(), "d.yaml").map_err(|e| e.to_string())?;
        let drill =
            resolved_on(document, &beside(Path::new("")), &configured, None).map_err(|e| e.to_string())?;
        Ok((drill, configured))
    }

    #[test]
    fn a_config_says_what_is_played() {
        let text = GOOD.replace("[{ id: a }]", "[{ id: a }, { id: poor, count: 3 }]").replace(
            "rate_per_s: 5 }",
            "rate_per_s: 5, priority: 0.5 }, { name: u, accounts: poor, rate_per_s: 1, priority: 0.5 }",
        );
        let (drill, configured) = on(CONFIG, &text).unwrap();
        let scenario = &drill.scenario;

        assert_eq!(
            (
                scenario.replicas(),
                scenario.fleet().slo.ttft.as_millis(),
                scenario.fleet().slo.tpot.as_millis()
            ),
            (2, 1_500, 80)
        );
        assert_eq!(scenario.weights.first(), Some(&(0, 3.0)));
        let starts: Vec<u64> = scenario.budgets.iter().map(|one| one.budget.bounds.generated.start).collect();
        assert_eq!((starts.len(), &starts[1..]), (4, &[1_000; 3][..]), "three like `poor`");
        assert_eq!(scenario.sources.iter().map(|source| source.priority).collect::<Vec<_>>(), [0.5, 0.0]);
        let told = &scenario.fleet().told;
        assert_eq!((told.slots_max, told.share_max), (Some(32), Some(0.5)));
        assert!(configured.words().contains("model m on deployment gpu"), "{}", configured.words());
        assert_eq!(scenario.shed_share_max, 0.02);
    }

    #[test]
    fn what_a_config_does_not_have_is_said_at_once_with_its_lines() {
        let text = GOOD.replace("[{ id: a }]", "\n- { id: b }\n- { id: c }");
        let faults = on(CONFIG, &text.replace("accounts: a,", "accounts: b,")).unwrap_err();
        assert!(
            faults.contains("d.yaml:4:")
                && faults.contains("tg.yaml has no account `b`; it has: a, poor (tg.yaml:6)"),
            "{faults}"
        );
        assert!(faults.contains("d.yaml:5:") && faults.contains("`c`"), "{faults}");
        let refused = CONFIG.replace("{ id: poor,", "{ id: poor, on_forbidden_tier: refuse,");
        let text = GOOD
            .replace("id: a }", "id: poor }")
            .replace("accounts: a, rate_per_s: 5", "accounts: poor, rate_per_s: 5, priority: 1");
        assert!(on(&refused, &text).unwrap_err().contains("d.yaml:4:"), "a 403 each");
        let two = CONFIG.replace("models: [", "models: [{ name: n, deployments: [gpu] }, ");
        let unnamed = on(&two, GOOD).unwrap_err();
        assert!(
            unnamed.contains("d.yaml:4:") && unnamed.contains("has to be named; there are: n, m (tg.yaml:4)"),
            "{unnamed}"
        );
    }

    const FLEETS: &str = "\
        deployments:\n\
        - { name: small, engine: vllm, replicas: ['http://10.0.0.1:8000', 'http://10.0.0.2:8000'], slo: { ttft_ms: 1500, tpot_ms: 80 } }\n\
        - { name: large, engine: vllm, replicas: ['http://10.0.1.1:8000'], slots_max: 12 }\n\
        - { name: spill, engine: vllm, replicas: ['http://10.0.2.1:8000'] }\n\
        models:\n\
        - { name: fast, deployments: [{ name: small, accounts: [a, b] }, { name: spill, tiers: [priority] }] }\n\
        - { name: deep, deployments: [large, spill] }\n\
        accounts:\n\
        - { id: a, tiers: [priority, regular], requests_per_minute: 60, concurrency: 5, keys: ['sha256:4f5c9b2a8d3e6f7a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a'] }\n\
        - { id: b, keys: ['sha256:5f5c9b2a8d3e6f7a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a'] }\n\
        - { id: c, keys: ['sha256:6f5c9b2a8d3e6f7a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a'] }\n";
    const OF_FLEETS: &str = "drill: d\nduration_s: 60\n\
        fleet: { deployments: [{ name: large, profile: 70b-h100-tp4, replicas: 3 }] }\n\
        accounts: [{ id: a }, { id: b, count: 2 }]\n\
        events: [{ at_s: 5, deployment: large, lose: 2 }]\n\
        traffic:\n\
        - { name: t, accounts: a, model: fast, rate_per_s: 5, priority: 0.5 }\n\
        - { name: u, accounts: b, model: deep, rate_per_s: 1 }\n";

    #[test]
    fn models_and_deployments_of_a_config_are_played() {
        let (drill, configured) = on(FLEETS, OF_FLEETS).unwrap();
        let scenario = &drill.scenario;

        let fleets: Vec<_> = scenario
            .deployments
            .iter()
            .map(|one| (one.name.as_str(), one.profile.name, one.replicas, one.slo.ttft.as_millis()))
            .collect();
        let expected = [
            ("small", "8b-a100", 2, 1_500),
            ("large", "70b-h100-tp4", 3, 2_000),
            ("spill", "8b-a100", 1, 2_000),
        ];
        assert_eq!(fleets, expected);
        assert_eq!(scenario.sources.iter().map(|source| source.model).collect::<Vec<_>>(), [0, 1]);
        let routes = &scenario.models[0].routes;
        assert_eq!(routes[0].accounts.as_ref().map(|own| own.iter().copied().collect()), Some(vec![0, 1, 2]));
        assert_eq!(
            (routes[1].deployment, routes[1].tiers.priority, routes[1].tiers.regular),
            (2, true, false)
        );
        let spent: Vec<_> = scenario.budgets.iter().map(|one| (one.account, one.model)).collect();
        assert_eq!(spent, [(0, 0), (1, 1), (2, 1)], "a budget for each model that an account asks for");
        assert_eq!((scenario.requests[0].per_minute, scenario.requests[0].concurrency), (60, 5));
        assert_eq!(
            scenario.incidents.last().map(|(_, what)| *what),
            Some(crate::scenario::Incident::Lost(4))
        );
        assert_eq!(scenario.deployments[1].told.slots_max, Some(12));
        assert!(
            configured.words().contains("models fast, deep on deployments small, large, spill"),
            "{}",
            configured.words()
        );
    }

    #[test]
    fn what_of_a_config_is_not_there_is_said_where_it_stands() {
        let faults = |scenario: &str| on(FLEETS, scenario).unwrap_err();
        let model = faults(&OF_FLEETS.replace("model: fast", "model: quick"));
        assert!(
            model.contains("d.yaml:7:") && model.contains("there are: fast, deep (tg.yaml:6)"),
            "{model}"
        );
        let deployment = faults(
            &OF_FLEETS.replace("deployment: large", "deployment: huge").replace("name: large", "name: hug"),
        );
        assert!(deployment.contains("d.yaml:3:") && deployment.contains("`hug`"), "{deployment}");
        assert!(deployment.contains("d.yaml:5:") && deployment.contains("`huge`"), "{deployment}");
        let replica = faults(&OF_FLEETS.replace("lose: 2", "lose: 3"));
        assert!(replica.contains("there is no replica 3: there are 3"), "{replica}");
        let taken = faults(
            &OF_FLEETS
                .replace("accounts: b, model: deep", "accounts: c, model: fast")
                .replace("{ id: b, count: 2 }", "{ id: c }"),
        );
        assert!(
            taken.contains(
                "no deployment of `fast` that is played takes regular requests of `c` in tg.yaml:6"
            ),
            "{taken}"
        );
        assert!(parse(OF_FLEETS, "d.yaml", Path::new("")).unwrap_err().to_string().contains("--config"));
    }

    #[test]
    fn faults_of_both_files_are_said_at_once() {
        let folder = std::env::temp_dir().join(format!("tidegate-both-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let scenario = folder.join("d.yaml");
        std::fs::write(&scenario, GOOD.replace("duration_s", "durations")).unwrap();
        let config = Configured::parse(&CONFIG.replace("engine: vllm", "engine: wllm"), "tg.yaml");

        let said = with_faults_of(&scenario, config.unwrap_err()).to_string();

        std::fs::remove_dir_all(&folder).unwrap();
        assert!(said.contains("tg.yaml:2:") && said.contains("d.yaml:2:1 durations"), "{said}");
    }

    #[test]
    fn a_gateway_that_is_restarted_ends_as_its_config_says() {
        let config = format!("{CONFIG}listen: {{ shutdown: {{ lame_duck_ms: 1000, grace_ms: 20000 }} }}\n");
        let (drill, _) = on(&config, GOOD).unwrap();

        let shutdown = drill.scenario.shutdown;

        assert_eq!((shutdown.lame_duck.as_secs(), shutdown.grace.as_secs()), (1, 20));
    }

    #[test]
    fn the_very_config_is_played_with_other_places() {
        let (drill, configured) = on(FLEETS, OF_FLEETS).unwrap();
        let at = |port: u16| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        let replicas = [vec![at(1), at(2)], vec![at(3), at(4), at(5)], vec![at(6)]];
        let places = super::super::rewritten::Places {
            address: at(80),
            admin: at(90),
            token_file: Path::new("/tmp/t"),
            state: Path::new("/tmp/s"),
            replicas: &replicas,
        };
        let text = super::super::rewritten::rewritten(&configured, &drill, &places);
        let config = config::Config::parse(&text, "rewritten.yaml", &|_| None).unwrap();

        assert_eq!(config.listen.address, at(80));
        let urls: Vec<usize> = config.deployments.iter().map(|one| one.replicas.len()).collect();
        assert_eq!(urls, [2, 3, 1]);
        assert!(!text.contains("10.0."), "no replica of the file is asked: {text}");
        let ids: Vec<&str> = config.accounts.iter().map(|account| &*account.id).collect();
        assert_eq!(ids, ["a", "b-1", "b-2"]);
        let fast = config.model("fast").unwrap();
        assert!(fast.routes[0].takes(config::Tier::Regular, "b-2"), "who is like `b` may go where `b` may");
        assert_eq!(config.accounts[0].requests_per_minute, 60);
    }

    #[test]
    fn four_lines_are_a_drill() {
        let drill = parse(GOOD, "d.yaml", Path::new("")).unwrap();
        assert_eq!((drill.scenario.replicas(), drill.scenario.sources.len()), (4, 1));
        assert_eq!(drill.text, GOOD, "the report shows what was written");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_what_was_meant() {
        let faults = faults(&format!("{GOOD}fleet:\n  replcias: 3\n"));
        assert_eq!(faults, "d.yaml:6:3 fleet.replcias: is not a known key; did you mean `replicas`?");
    }

    #[test]
    fn an_impossible_rate_is_refused_where_it_stands() {
        let faults = faults(&GOOD.replace("rate_per_s: 5", "rate_per_s: -5"));
        assert!(faults.starts_with("d.yaml:4:") && faults.contains("between 0 and 100000"), "{faults}");
    }

    #[test]
    fn a_missing_trace_is_said_with_its_line() {
        let faults = faults(&GOOD.replace("rate_per_s: 5", "trace: { file: none.csv, format: azure }"));
        assert!(faults.starts_with("d.yaml:4:") && faults.contains("`none.csv` cannot be read"), "{faults}");
    }

    #[test]
    fn recorded_requests_say_how_long_and_whose() {
        let folder = std::env::temp_dir().join(format!("tidegate-recorded-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let line = |second: u32, account: &str| {
            format!(
                "{{\"time\":\"2026-11-30T10:00:{second:02}.000Z\",\"account\":\"{account}\",\"weighed_prompt_tokens\":50,\"prompt_tokens\":50,\"generated_tokens\":5,\"status\":200}}\n"
            )
        };
        std::fs::write(folder.join("access.log"), [line(0, "acme"), line(41, "other")].concat()).unwrap();
        let text = "drill: d\ntraffic: [{ name: t, trace: { file: access.log, format: access-log } }]\n";

        let drill = parse(text, "d.yaml", &folder);

        std::fs::remove_dir_all(&folder).unwrap();
        let drill = drill.unwrap();
        assert_eq!(drill.scenario.end.as_secs(), 42);
        assert_eq!(drill.groups.iter().map(|group| group.id.as_str()).collect::<Vec<_>>(), ["acme", "other"]);
    }

    #[test]
    fn traffic_that_is_drawn_does_not_say_how_long() {
        let faults = faults(&GOOD.replace("duration_s: 60\n", ""));
        assert!(faults.contains("needs duration_s") && !faults.contains("offers"), "{faults}");
    }

    #[test]
    fn a_replica_that_does_not_exist_and_an_event_after_the_end_are_both_said() {
        let faults =
            faults(&format!("{GOOD}events:\n  - {{ at_s: 5, lose: 4 }}\n  - {{ at_s: 61, reload: true }}\n"));
        assert!(faults.contains("d.yaml:6:") && faults.contains("there is no replica 4"), "{faults}");
        assert!(faults.contains("d.yaml:7:") && faults.contains("comes after the end"), "{faults}");
    }

    #[test]
    fn a_drill_that_cannot_pass_is_told_so_before_it_runs() {
        let pass = |pass: &str| faults(&format!("{GOOD}pass:\n  - {pass}\n"));
        let too_much = pass("{ goodput_per_s: 50 }");
        assert!(too_much.contains("d.yaml:6:") && too_much.contains("about 5.0 are offered"), "{too_much}");
        let nobody = pass("{ attainment: 0.9, tier: priority }");
        assert!(nobody.contains("no traffic asks for priority"), "{nobody}");
        let flood = GOOD.replace("rate_per_s: 5", "rate_per_s: 500");
        let flood = faults(&format!("{flood}pass:\n  - {{ attainment: 0.99 }}\n"));
        assert!(flood.contains("cannot pass") && flood.contains("tokens computed per second"), "{flood}");
    }
}
