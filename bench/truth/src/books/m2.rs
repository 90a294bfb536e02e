//! M2: is usage by hour what the access log says, and what engines computed, however often the gateway is killed?
//!
//! Mixed requests of several accounts, models and tiers, among them refused and wrong ones, over several lives of a gateway on
//! one state folder. Every other life ends by `SIGKILL` under load, the others by `SIGTERM`. After each the next one is asked
//! for all usage, and what this has more than before is set beside that life's access log.
//!
//! A life that ended well must equal its log in every row, and its tokens those that its engine computed. A killed one may lack
//! what the log has of the second before its last line; the log loses the last moments of such a life, too, so usage may
//! also have so much more. An hour that was counted twice would show in either.

mod life;

use std::fs;
use std::ops::RangeInclusive;

use serde_json::json;

use harness::proof::{Finding, Proof, Setting, Trouble};
use life::{End, Life, Sums};

pub(crate) const PROOF: Proof = Proof {
    id: "M2",
    what: "usage by hour beside the access log and the engines, with kills and restarts",
    goal: "equal but for ≤1 s a kill; 0.99…1.01 of the engines",
    quick_s: 20,
    full_s: 900,
    needs: "",
    run,
};

/// What a killed life may lack, seconds.
const LOST_MAX_S: f64 = 1.0;
/// The same in quick size, on a machine that does other work as well.
const LOST_QUICK_S: f64 = 1.5;
/// Usage by what the engine computed, as T2 has it.
const WITHIN: RangeInclusive<f64> = 0.99..=1.01;

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    let (requests, lives) = setting.size((16_000, 4), (1_000_000, 40));
    let folder = setting.out.join("m2-state");
    let _ = fs::remove_dir_all(&folder);
    let lives: Vec<Life> = setting.block_on(async {
        let (mut played, mut before) = (Vec::new(), Sums::new());
        for nth in 0..lives {
            let end = if nth % 2 == 1 { End::Killed } else { End::Ended };
            let life = life::play(setting, &folder, end, (requests / lives, nth), &before).await?;
            before.clone_from(&life.usage);
            played.push(life);
        }
        Ok(played)
    })?;
    let of = |end: End| lives.iter().filter(move |life| life.end == end);
    let differing: usize = of(End::Ended).map(|life| life.differing).sum();
    let lost = of(End::Killed).map(|life| life.lost_s).fold(0.0, f64::max);
    let more = of(End::Killed).all(|life| life.more <= life.last_second);
    let ratios: Vec<[f64; 2]> = of(End::Ended).map(|life| life.of_engine).collect();
    let worst = ratios.iter().flatten().copied().max_by(|a, b| (a - 1.0).abs().total_cmp(&(b - 1.0).abs()));
    let worst = worst.unwrap_or(0.0);
    let logged: u64 = lives.iter().map(|life| life.logged).sum();
    let bound = setting.size(LOST_QUICK_S, LOST_MAX_S);
    let twice: usize = lives.iter().map(|life| life.twice).sum();
    Ok(Finding {
        figure: format!(
            "{logged} requests, {} lives: {differing} rows differ in those that ended, {lost:.2} s lost at most in those \
             killed; by the engines' counts {worst:.4} at worst; {twice} hours twice",
            lives.len()
        ),
        goal: format!("0 rows, ≤{bound} s; 0.99…1.01; 0"),
        ok: differing == 0 && lost <= bound && more && WITHIN.contains(&worst) && twice == 0,
        details: json!({ "lives": lives.iter().map(Life::shown).collect::<Vec<_>>() }),
    })
}
