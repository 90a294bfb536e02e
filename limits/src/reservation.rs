//! What a budget holds for one running request.

pub(crate) mod ask;

use crate::meter::PerMeter;
use crate::window::record::Record;
use crate::window::timeline::Millis;

/// Runs of slots that are remembered of a streamed answer: enough to place a correction within some seconds.
const STREAM_RUNS: usize = 8;

/// Tokens held for one request, and where its tokens were charged.
///
/// A plain value of about 300 bytes without heap memory. It belongs to the [`Budget`](crate::Budget) that made it and must
/// go back there, through [`settle`](crate::Budget::settle) or [`release`](crate::Budget::release): a dropped one
/// keeps its tokens reserved for ever. So the caller puts it into a guard.
#[must_use = "a reservation that is not settled or released is held for ever"]
#[derive(Debug, PartialEq, Eq)]
pub struct Reservation {
    /// What is left of the reserve.
    pub(crate) rest: PerMeter<u64>,
    /// Output that is still expected; the reserve is the part of it that had room.
    pub(crate) expected: u64,
    /// When it was made, on the budget's time line.
    pub(crate) made: Millis,
    pub(crate) prompt_charged: bool,
    pub(crate) prompt: Record<1>,
    pub(crate) uncached_prompt: Record<1>,
    pub(crate) generated: Record<STREAM_RUNS>,
    pub(crate) choices: u32,
    /// The usual answer at admission.
    pub(crate) usual: u64,
}

impl Reservation {
    pub(crate) fn new(made: Millis, reserve: PerMeter<u64>, expected: u64, choices: u32, usual: u64) -> Self {
        Reservation {
            rest: reserve,
            expected,
            made,
            prompt_charged: false,
            prompt: Record::new(),
            uncached_prompt: Record::new(),
            generated: Record::new(),
            choices,
            usual,
        }
    }

    /// Tokens still reserved for this request.
    #[must_use]
    pub fn reserved(&self) -> PerMeter<u64> {
        self.rest
    }

    /// Output tokens that are still expected of this request; what is reserved of them had room at admission.
    #[must_use]
    pub fn expected(&self) -> u64 {
        self.expected
    }

    /// Tokens charged for this request so far.
    #[must_use]
    pub fn charged(&self) -> PerMeter<u64> {
        PerMeter {
            prompt: self.prompt.total(),
            uncached_prompt: self.uncached_prompt.total(),
            generated: self.generated.total(),
        }
    }
}
