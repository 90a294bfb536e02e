//! What may this account still spend on this model in this minute?
//!
//! Two accounts of the same fleet must not be able to take each other's share, and an account must be
//! able to foresee what it may use. So each pair of account and model has a [`Budget`] of three meters,
//! in tokens per minute:
//!
//! | meter | counts | why it is a meter of its own |
//! |---|---|---|
//! | [`Meter::Prompt`] | every input token | cheap when cached, but never free |
//! | [`Meter::UncachedPrompt`] | input tokens that must be prefilled | what compute is spent on |
//! | [`Meter::Generated`] | output tokens, reasoning included | what time and KV memory are spent on |
//!
//! A request passes a budget in four steps, and a refused or shed one leaves no trace:
//!
//! ```text
//! reserve ──► charge_prompt ──► charge_generated … ──► settle      (or release, from the queue)
//! all three    first token       as the tokens flow     the engine's own count corrects all three
//! or none
//! ```
//!
//! # Guarantees
//!
//! - **A minute is any sixty seconds**, not a calendar minute: no sixty seconds hold more charged tokens than
//!   the limit. What running answers bring beyond their reserve is *debt*, paid in full before anyone is
//!   admitted again ([`window`](crate#the-sliding-minute)).
//! - **All three meters or none.** A refusal changes nothing.
//! - **No refund mints tokens.** A credit for a charge that has left the minute is dropped.
//! - **At rest everything is exactly zero**: [`Budget::reserved`], [`Budget::live`].
//! - **A lone account that waits as told is admitted** ([`Refusal::retry_after`]).
//! - Time never runs backwards inside a budget, and a clock that jumps back neither refills nor locks out.
//!
//! # The sliding minute
//!
//! 240 slots of 250 ms and the running one, so the sum of the slots covers at least the last 60.00 s and at most
//! the last 60.25 s. Whatever is charged goes to the running slot as far as the limit has room, the rest is debt.
//! Debt enters later slots as earlier ones leave.
//!
//! # Cost
//!
//! A [`Budget`] is under 8 KiB, in one piece, without heap memory. Calls are O(1) amortised over time passed and do
//! not allocate; a refusal is one pass over 241 slots. Nothing here reads a clock, locks, logs or does I/O:
//! `now` is the time since the process started, and the caller holds one mutex per budget.

mod bounds;
mod meter;

mod budget;
mod config;
mod view;

mod forecast;
mod ledger;
mod reservation;
mod window;

mod adaptive;

mod snapshot;

mod requests;

pub use adaptive::history::{ChangeReason, LimitChange};
pub use adaptive::{AdaptiveRule, RuleFault};
pub use bounds::{Bounds, BoundsError, TOKENS_PER_MINUTE_MAX};
pub use budget::Budget;
pub use budget::outlook::{NextChange, NextGrowth, NextReset, NextShrink};
pub use config::{BudgetConfig, Policy, START};
pub use meter::{Meter, PerMeter};
pub use requests::{RequestMeter, RequestRefusal, RequestRefusalKind, RequestsView};
pub use reservation::Reservation;
pub use reservation::ask::{Ask, USUAL_UNKNOWN, Used};
pub use snapshot::{Snapshot, SnapshotError};
pub use view::{MeterView, Refusal};
