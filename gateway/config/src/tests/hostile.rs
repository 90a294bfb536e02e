//! No input, however broken, does more than be refused.

use proptest::prelude::*;

use super::*;

const EXAMPLE: &str = include_str!("../../../../deploy/examples/mixed-priority-pool.yaml");

/// Must come back, and where it refuses, the places must be in the text.
fn judge(text: &str) -> Result<(), TestCaseError> {
    if let Err(faults) = Config::parse(text, "t.yaml", &no_env) {
        let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count() + 1;
        prop_assert!(!faults.list.is_empty() && faults.list.len() <= FAULTS_MAX);
        for fault in &faults.list {
            prop_assert!((1..=lines).contains(&(fault.line as usize)), "{faults}");
            prop_assert!(fault.column >= 1);
            // The checker must refuse all that the types cannot take.
            prop_assert!(!fault.message.contains("cannot be used"), "{faults}");
        }
    }
    Ok(())
}

/// Bits of YAML that mean something, to be thrown together.
const PIECES: [&str; 40] = [
    "listen",
    "admin",
    "deployments",
    "models",
    "accounts",
    "limits",
    "name",
    "id",
    "keys",
    "replicas",
    "tiers",
    ": ",
    ":",
    "\n",
    "\n  ",
    "\n    - ",
    "- ",
    "{ ",
    " }",
    "[",
    "]",
    ", ",
    "'",
    "\"",
    "|\n",
    ">-\n",
    "&a ",
    "*a",
    "!!str ",
    "? ",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "# ",
    "~",
    "${A:-b}",
    "${",
    "<<",
    "0",
    "1e400",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_is_refused_quietly(text in "\\PC{0,200}") {
        judge(&text)?;
    }

    #[test]
    fn arbitrary_bytes_are_refused_quietly(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        judge(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn pieces_of_yaml_are_judged(pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..60)) {
        judge(&pieces.concat())?;
    }

    #[test]
    fn a_damaged_example_is_judged(cuts in proptest::collection::vec((0..EXAMPLE.len(), 0..40_usize, 0..PIECES.len()), 1..6)) {
        let mut text = EXAMPLE.to_owned();
        for (at, length, piece) in cuts {
            let at = text.floor_char_boundary(at.min(text.len()));
            let end = text.floor_char_boundary((at + length).min(text.len())).max(at);
            text.replace_range(at..end, PIECES[piece]);
        }
        judge(&text)?;
    }

    /// Every value of a file replaced in turn by every kind of value.
    #[test]
    fn a_value_of_another_kind_is_judged(line in 0..400_usize, kind in 0..8_usize) {
        const KINDS: [&str; 8] = ["7", "-1.5", "true", "text", "[a, 1]", "{ a: 1 }", "99999999999999999999999", ""];
        let reference = include_str!("../../../../deploy/examples/reference.yaml");
        let nth = line % reference.lines().count();
        let lines = reference.lines().enumerate().map(|(at, line)| match line.split_once(": ") {
            Some((key, _)) if at == nth && !line.trim_start().starts_with('#') => format!("{key}: {}\n", KINDS[kind]),
            _ => format!("{line}\n"),
        });
        judge(&lines.collect::<String>())?;
    }
}

/// Nine levels of nine aliases each: 3 GB once filled in.
#[test]
fn an_alias_bomb_is_refused() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let below = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    assert!(told(&bomb).contains("once its aliases are filled in"), "{}", told(&bomb));
}

#[test]
fn an_alias_inside_its_own_value_is_refused() {
    let faults = told("a: &a [*a]\n");
    assert_eq!(faults.lines().count(), 1, "{faults}");
}

#[test]
fn nesting_has_a_bottom() {
    for text in ["[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(50_000), "? ".repeat(50_000)] {
        assert_eq!(told(&text).lines().count(), 1, "{}", told(&text));
    }
}

#[test]
fn what_yaml_has_and_a_config_does_not_need_is_refused_by_name() {
    let cases = [
        ("a: !!binary aGk=\n", "tags"),
        ("a: 1\n---\nb: 2\n", "one YAML document"),
        ("[a]: 1\n", "a key must be a name"),
        ("a: &k b\n*k : 1\n", "a key must be a name"),
        ("%YAML 1.2\n---\na: 1\n", "not valid YAML"),
    ];
    for (text, wanted) in cases {
        assert!(told(text).contains(wanted), "{text:?}: {}", told(text));
    }
}

#[test]
fn a_file_beyond_the_bound_is_not_even_parsed() {
    let large = " ".repeat(CONFIG_BYTES_MAX + 1);
    assert_eq!(told(&large), format!("t.yaml: is larger than {CONFIG_BYTES_MAX} bytes"));
}

/// Half a million wrong keys: bounded output, and no quadratic search for what each of them could mean.
#[test]
fn a_flood_of_faults_stays_small() {
    let flood: String = (0..200_000).map(|n| format!("k{n}: 1\n")).collect();
    let faults = Config::parse(&flood, "t.yaml", &no_env).map(|_| "accepted").unwrap_err();
    assert_eq!(faults.list.len(), FAULTS_MAX);
    assert_eq!(faults.list.len() + faults.more, 200_003, "the keys, and three sections that are missing");
}

#[test]
fn ten_thousand_accounts_are_read() {
    let mut text = BASE.to_owned();
    for nth in 0..10_000 {
        text.push_str(&format!(
            "  - id: customer-{nth}\n    keys: ['sha256:{nth:064x}']\n    spending_tier: 3\n    tiers: [priority, regular]\n    limits:\n      - {{ model: m, start: {{ prompt: 7200000 }} }}\n"
        ));
    }
    assert_eq!(accepted(&text).accounts.iter().map(|account| account.keys.len()).sum::<usize>(), 10_001);
}
