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

/// The fixture of the reader of such files.
const TOKENIZER: &str = include_str!("tokenizer.json");

#[test]
fn models_that_name_one_tokenizer_file_count_with_it() {
    let folder = Folder::new("tokenizer");
    folder.write("tokenizer.json", TOKENIZER);
    let text = BASE.replace(
        "models:\n",
        "models:\n  - { name: n, deployments: [gpu], tokenizer_file: tokenizer.json }\n",
    );
    let path = folder.write("t.yaml", &text);

    let config = Config::load(&path).map_err(|faults| faults.to_string()).unwrap();

    let Some(Exact::File { path, counter: Some(counter) }) = &config.models[0].exact else {
        panic!("{:?}", config.models[0].exact)
    };
    assert_eq!(*path, folder.0.join("tokenizer.json"), "relative paths start at the config's folder");
    assert_eq!(counter.count("import "), 2);
    assert_eq!(redacted(&config)["models"][0]["tokenizer_file"], path.display().to_string());
    assert!(
        matches!(accepted(&text).models[0].exact, Some(Exact::File { counter: None, .. })),
        "only judged"
    );
}

#[test]
fn a_tokenizer_file_that_cannot_be_counted_with_is_a_fault_that_says_why() {
    let folder = Folder::new("no-tokenizer");
    folder.write("unigram.json", r#"{ "model": { "type": "Unigram", "vocab": [] } }"#);
    folder.write("tokenizer.json", TOKENIZER);
    let cases = [
        ("tokenizer_file: none.json", "none.json cannot be read"),
        (
            "tokenizer_file: unigram.json",
            "unigram.json has a model of type Unigram, and exact counts need byte-level BPE; leave",
        ),
        ("tokenizer_file: tokenizer.json, vocabulary: o200k_base", "keep one"),
    ];
    for (keys, wanted) in cases {
        let model = format!("models:\n  - {{ name: n, deployments: [gpu], {keys} }}\n");
        let faults = refused(&folder.write("t.yaml", BASE.replace("models:\n", &model)));
        assert!(faults.contains("models[0].tokenizer_file") && faults.contains(wanted), "{faults}");
    }
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
