//! `tidegate drill` as a command: its exit codes, its report, and what an interruption leaves behind.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder with one scenario, gone with its value.
struct Folder(PathBuf);

impl Folder {
    fn with(name: &str, scenario: &str) -> Folder {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("drill-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("drill.yaml"), scenario).unwrap();
        Folder(path)
    }

    fn drill(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-under-test"));
        command.arg("drill").arg(self.0.join("drill.yaml")).arg("--out").arg(&self.0).args(arguments);
        command.output().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const SMALL: &str = "drill: small\nduration_s: 8\nwarm_up_s: 1\ndrain_s: 20\nfleet: { replicas: 1 }\n\
    accounts: [{ id: a }]\ntraffic: [{ name: t, accounts: a, rate_per_s: 3, priority: 0.5, workload: \"fixed:100:10\" }]\n";

#[test]
fn a_drill_that_holds_ends_with_0_and_one_that_does_not_with_1() {
    for (share, code) in [("shed_max: 0", 0), ("shed_min: 0.9", 1)] {
        let folder = Folder::with(&format!("code-{code}"), &format!("{SMALL}pass: [{{ {share} }}]\n"));

        let output = folder.drill(&["--virtual"]);

        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stdout));
        let page = std::fs::read_to_string(folder.0.join("small.html")).unwrap();
        assert!(
            page.contains("Content-Security-Policy")
                && !page.contains("http://")
                && !page.contains("https://")
        );
        let figures = std::fs::read(folder.0.join("small.json")).unwrap();
        let figures: serde_json::Value = serde_json::from_slice(&figures).unwrap();
        assert_eq!(figures["passed"], code == 0);
    }
}

#[test]
fn a_wrong_scenario_ends_with_2_and_names_the_line() {
    let folder = Folder::with("wrong", &SMALL.replace("duration_s", "duratoin_s"));

    let output = folder.drill(&["--virtual"]);

    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("drill.yaml:2:1 duratoin_s: is not a known key; did you mean `duration_s`?"),
        "{said}"
    );
}

#[test]
fn load_for_another_machine_needs_a_yes() {
    let folder = Folder::with("target", SMALL);

    let output = folder.drill(&["--target", "http://192.0.2.1:8080", "--key", "k"]);

    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--yes"));
}

/// The real gateway, as a process of its own, before a simulated engine: what virtual time plays, over HTTP.
#[test]
fn real_time_offers_what_virtual_time_offers_and_serves_it() {
    let folder = Folder::with("real", &format!("{SMALL}pass: [{{ shed_max: 0.5 }}]\n"));
    let offered = |arguments: &[&str]| -> (i64, i64) {
        let output = folder.drill(&[arguments, &["--output", "json"]].concat());
        let figures: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let sum = |key: &str| {
            figures["tiers"].as_array().unwrap().iter().map(|tier| tier[key].as_i64().unwrap()).sum()
        };
        assert!(sum("offered") > 0, "{figures}");
        (sum("offered"), sum("failed"))
    };

    let (virtual_time, real) = (offered(&["--virtual"]), offered(&[]));

    assert_eq!(virtual_time.0, real.0, "the same requests");
    assert_eq!(real.1, 0, "every answer is what the engine said");
}
