//! Reading a config from disk, with the files that it names.

use std::path::PathBuf;

use super::*;

/// A folder of its own for one test, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("tidegate-config-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn refused(path: &Path) -> String {
    Config::load(path).map(|_| "accepted").unwrap_err().to_string()
}

#[test]
fn secrets_are_read_from_files_beside_the_config() {
    let folder = Folder::new("secrets");
    folder.write("engine-key", "sk-engine\n");
    folder.write("admin-token", "tg-admin\r\n");
    let text = BASE.replace("{ name: gpu,", "{ name: gpu, api_key_file: engine-key,");
    let path = folder.write("t.yaml", format!("admin: {{ token_file: admin-token }}\n{text}"));

    let config = Config::load(&path).map_err(|faults| faults.to_string()).unwrap();

    let deployment = &config.deployments[0];
    assert_eq!(
        deployment.api_key.as_ref().unwrap().expose(),
        "sk-engine",
        "the line break is not part of it"
    );
    assert_eq!(config.admin.token, Some(crate::keys::Digest::of("tg-admin")));
    let shown = format!("{config:?} {}", redacted(&config));
    assert!(!shown.contains("sk-engine") && !shown.contains("tg-admin"), "{shown}");
}

#[test]
fn files_that_are_missing_empty_or_no_secret_are_faults_at_their_keys() {
    let folder = Folder::new("missing");
    folder.write("empty", "\n");
    folder.write("two-lines", "a\nb\n");
    let cases =
        [("none", "cannot be read"), ("empty", "is empty"), ("two-lines", "one line of visible ASCII")];
    for (name, wanted) in cases {
        let text = BASE.replace("{ name: gpu,", &format!("{{ name: gpu, api_key_file: {name},"));
        let faults = refused(&folder.write("t.yaml", text));
        assert!(
            faults.contains("t.yaml:3:32 deployments[0].api_key_file: ") && faults.contains(wanted),
            "{faults}"
        );
    }
    let tls = format!("listen: {{ tls: {{ cert_file: none.crt, key_file: none.key }} }}\n{BASE}");
    assert_eq!(refused(&folder.write("t.yaml", tls)).matches("cannot be read").count(), 2);
}

#[test]
fn a_file_that_cannot_be_read_is_one_fault() {
    let folder = Folder::new("unreadable");
    assert!(refused(&folder.0.join("none.yaml")).contains("none.yaml: cannot be read"));
    assert!(refused(&folder.0).contains("cannot be read"), "a folder is no file");
    let latin = folder.write("latin.yaml", b"# ok\n# caf\xe9\n");
    assert!(refused(&latin).contains("is not UTF-8 (line 2)"), "{}", refused(&latin));
    let large = folder.write("large.yaml", vec![b' '; CONFIG_BYTES_MAX + 10]);
    assert!(refused(&large).contains("is larger than"));
}

#[test]
fn state_goes_where_the_service_manager_says_unless_the_file_says_otherwise() {
    let env = |name: &str| (name == "STATE_DIRECTORY").then(|| "/var/lib/tidegate:/var/lib/other".to_owned());
    let dir = |text: &str| Config::parse(text, "/etc/tidegate/t.yaml", &env).unwrap().state.dir;

    assert_eq!(dir(BASE), Some(PathBuf::from("/var/lib/tidegate")));
    assert_eq!(dir(&format!("state: {{ dir: kept }}\n{BASE}")), Some(PathBuf::from("/etc/tidegate/kept")));
    assert_eq!(accepted(BASE).state.dir, None);
}
