//! The command line of `prove`: which proofs, in which size, and one line for each.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

use crate::harness::binaries::Binaries;
use crate::harness::proof::{Finding, Proof, Setting, Trouble};
use crate::known;
use crate::registry::{self, named, proofs};
use engine::clock;
use kit::process;

/// Exit code of a wrong call.
const USAGE: u8 = 2;

/// Show the claims of the project, one command each.
#[derive(Debug, Parser)]
#[command(
    name = "prove",
    after_help = "Examples:\n  prove --list\n  prove C1 t4\n  prove --quick\n  prove P11 --seed 1001\n\nExit code: 0 all goals met, 1 one is not (with --quick: one that is not known to fall short), 2 called wrongly."
)]
struct Arguments {
    /// Which; `load`: P1 to P10, P13, P14 and the table; default: all
    #[arg(value_name = "IDS")]
    ids: Vec<String>,
    /// The small size: all together at most nine minutes on two cores
    #[arg(long)]
    quick: bool,
    /// Say what there is, how long it takes and what it needs installed
    #[arg(long)]
    list: bool,
    /// First seed of what the load goals (P1 to P10, P13, P14), P11, T3, reserve and estimate draw at random, such as one
    /// on which nothing was tuned
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Where details, logs and configs go
    #[arg(long, value_name = "DIR", default_value = "target/prove")]
    out: PathBuf,
    /// Judge the programs in this folder (`tidegate`, `bare-pingora`), such as a release, instead of building them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// Runs the command line of this process.
pub(crate) fn run() -> ExitCode {
    let arguments = Arguments::parse();
    match prove(arguments) {
        Ok(code) => code,
        // Standard output is gone, or the folder cannot be made: there is nothing to show it in.
        Err(_) => ExitCode::FAILURE,
    }
}

fn prove(arguments: Arguments) -> io::Result<ExitCode> {
    let Ok(wanted) = chosen(&arguments.ids) else {
        let unknown = arguments.ids.iter().filter(|id| named(id).is_none());
        let unknown: Vec<&str> = unknown.map(String::as_str).collect();
        writeln!(
            io::stderr(),
            "prove: no such proof: {}. `--list` says which there are.",
            unknown.join(", ")
        )?;
        return Ok(ExitCode::from(USAGE));
    };
    if arguments.list {
        return list(&wanted);
    }
    std::fs::create_dir_all(&arguments.out)?;
    let setting = Setting::new(
        arguments.quick,
        arguments.seed,
        arguments.out.canonicalize()?,
        Binaries::of(arguments.programs),
    );
    let mut all_ok = true;
    for proof in wanted {
        process::unpin()?;
        setting.binaries().choose(registry::profile(proof, setting.quick));
        let began = clock::now();
        let result = (proof.run)(&setting);
        let took_s = (clock::now() - began).as_secs_f64();
        all_ok &= report(&setting, proof, result, took_s)?;
    }
    Ok(if all_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The proofs of these ids, each once, in the order of the table; all for none.
fn chosen(ids: &[String]) -> Result<Vec<&'static Proof>, ()> {
    let load = registry::LOAD.iter().map(|id| (*id).to_owned());
    let group = ids.iter().any(|id| id.eq_ignore_ascii_case("load"));
    let ids: Vec<String> = ids
        .iter()
        .filter(|id| !id.eq_ignore_ascii_case("load"))
        .cloned()
        .chain(load.filter(|_| group))
        .collect();
    if ids.iter().any(|id| named(id).is_none()) {
        return Err(());
    }
    let wanted = |proof: &&Proof| ids.is_empty() || ids.iter().any(|id| proof.id.eq_ignore_ascii_case(id));
    Ok(proofs().filter(wanted).collect())
}

fn list(proofs: &[&Proof]) -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    for Proof { id, what, goal, quick_s, full_s, needs, .. } in proofs {
        let needs = if needs.is_empty() { "nothing" } else { needs };
        writeln!(out, "{id:<4} {what}\n     goal {goal}; quick {quick_s} s, full {full_s} s; needs {needs}")?;
        if let Some(known) = known::shortfall(id) {
            writeln!(out, "     known to fall short: {}; next: {}", known.reason, known.next)?;
        }
    }
    let (quick, full): (u32, u32) =
        proofs.iter().fold((0, 0), |(quick, full), proof| (quick + proof.quick_s, full + proof.full_s));
    writeln!(out, "all: quick {quick} s, full {full} s, and the building of the programs")?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the line and the details; whether the goal is met.
fn report(
    setting: &Setting,
    proof: &Proof,
    result: Result<Finding, Trouble>,
    took_s: f64,
) -> io::Result<bool> {
    let Proof { id, what, .. } = proof;
    // What this machine cannot show is no defect of the programs; a run that is to judge them must not miss it.
    let skipped = setting.quick && matches!(result, Err(Trouble::Missing(_) | Trouble::Void(_)));
    let finding = result.unwrap_or_else(|trouble| Finding {
        figure: format!("not shown: {trouble}"),
        goal: proof.goal.to_owned(),
        ok: false,
        details: json!({ "trouble": trouble.to_string() }),
    });
    let Finding { figure, goal, ok, details } = finding;
    // In the small size a shortfall that is known and no worse fails nothing: CI is to find what is new.
    let known = known::shortfall(id).filter(|_| !ok && !known::is_worse(&details));
    let verdict = match known {
        _ if skipped => "skipped",
        None if ok => "ok",
        None => "short",
        Some(_) => "short (known)",
    };
    let path = setting.out.join(format!("{}.json", id.to_lowercase()));
    let size = if setting.quick { "quick" } else { "full" };
    let file = json!({
        "id": id, "what": what, "size": size, "figure": figure, "goal": goal, "verdict": verdict,
        "took_s": took_s, "seed": setting.seeds(1).start, "machine": process::machine(), "details": details,
        "known": known.map(|known| json!({ "reason": known.reason, "next": known.next })),
    });
    std::fs::write(&path, serde_json::to_vec_pretty(&file)?)?;
    writeln!(io::stdout(), "{id:<4} {what}  {figure}  {goal}  {verdict}  {}", shown(&path).display())?;
    Ok(ok || skipped || (setting.quick && known.is_some()))
}

/// Relative to where `prove` was called, if it lies below.
fn shown(path: &std::path::Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_taken_in_any_case_and_once() {
        let ids = |list: &[&str]| chosen(&list.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>());
        let found = ids(&["t1", "C1", "T1"]).expect("known");
        assert_eq!(found.iter().map(|proof| proof.id).collect::<Vec<_>>(), ["C1", "T1"]);
        assert_eq!(ids(&[]).expect("all").len(), proofs().count());
        assert!(ids(&["C1", "C0"]).is_err());
    }
}
