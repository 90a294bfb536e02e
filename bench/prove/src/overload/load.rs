//! P1 to P10, P13 and P14: the load goals of [`goals`] as proofs.
//!
//! All in virtual time, so the figures are the same on every machine. Several of them fall short by margins that are
//! written in [`crate::known`]; to become worse means that more lines are short than were when that was written.

use goals::matrix::Matrix;
use goals::open::causes;
use goals::{GOALS, Goal, Shown, Size};
use serde_json::{Value, json};

use crate::harness::proof::{Finding, Proof, Setting, Trouble, WORSE};

/// Lines that are short of the goal in the small size, where some are.
const KNOWN: &[(&str, usize)] =
    &[("P1", 1), ("P2", 2), ("P4", 1), ("P8", 20), ("P14", 1), ("open", 2), ("pairs", 6), ("M1", 1)];

/// Goals that are drawn as a matrix, and what is written over it.
const DRAWN: [(&str, &str); 2] =
    [("open", "Goals in an open world"), ("pairs", "Goals where two families meet")];

/// The goal at `N` in [`GOALS`] as a proof.
#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which refuses an index beyond the end"
)]
pub(crate) const fn proof<const N: usize>() -> Proof {
    let Goal { id, what, goal, quick_s, full_s, .. } = GOALS[N];
    Proof { id, what, goal, quick_s, full_s, needs: "", run: run::<N> }
}

fn run<const N: usize>(setting: &Setting) -> Result<Finding, Trouble> {
    let goal = GOALS.get(N).ok_or_else(|| Trouble::Unexpected("no such goal".to_owned()))?;
    let size = setting.size(Size::QUICK, Size::FULL);
    let size = size.from_seed(setting.seeds(1).start);
    let Shown { figure, ok, lines } = (goal.show)(size);
    if let Some((_, title)) = DRAWN.iter().find(|(id, _)| *id == goal.id) {
        let matrix = Matrix::of(&lines, &["P1", "P2", "P3", "P4", "P7", "P15"]);
        // Where two families meet, the causes are those of both.
        let causes = if goal.id == "open" { causes::text(&lines) } else { String::new() };
        let text = matrix.text() + &causes;
        std::fs::write(setting.out.join(format!("{}.txt", goal.id)), text)?;
        std::fs::write(setting.out.join(format!("{}.svg", goal.id)), matrix.svg(title))?;
    }
    let short = lines.iter().filter(|line| !line.ok).count();
    let known = KNOWN.iter().find(|(id, _)| *id == goal.id).map_or(0, |(_, lines)| *lines);
    let details: Value = json!({ "short": short, "of": lines.len(), WORSE: short > known, "lines": lines });
    let figure = if ok { figure } else { format!("{figure} ({short} of {} lines short)", lines.len()) };
    Ok(Finding { figure, goal: goal.goal.to_owned(), ok, details })
}
