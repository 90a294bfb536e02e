//! Seeds of a target, for the driver: `seeds write TARGET FOLDER` puts them into a folder, `seeds keep TARGET FOLDER` keeps
//! the files of a folder as the corpus.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, target, folder] = arguments.as_slice() else { return ExitCode::from(2) };
    let folder = Path::new(folder);
    let done = match what.as_str() {
        "write" => write(target, folder),
        "keep" => fuzz::seeds::keep(target, folder),
        _ => return ExitCode::from(2),
    };
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn write(target: &str, folder: &Path) -> std::io::Result<()> {
    let seeds = fuzz::seeds::of(target)?;
    seeds
        .iter()
        .enumerate()
        .try_for_each(|(number, (_, bytes))| std::fs::write(folder.join(format!("seed-{number}")), bytes))
}
