//! Between which limits a meter may move, and what bounds make no sense.

/// The largest limit that can be configured: 71 million tokens per second. It bounds what a slot must hold.
pub const TOKENS_PER_MINUTE_MAX: u64 = u32::MAX as u64;

/// Between which limits a meter moves, in tokens per minute: `1 <= floor <= start <= ceiling`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The limit of a new account, and of one that was idle for long.
    pub start: u64,
    /// The limit never shrinks below this.
    pub floor: u64,
    /// The limit never grows above this, and no larger request is ever admitted.
    pub ceiling: u64,
}

impl Bounds {
    /// Bounds that were checked.
    ///
    /// # Errors
    ///
    /// A [`BoundsError`] names the first rule that does not hold.
    pub fn new(start: u64, floor: u64, ceiling: u64) -> Result<Self, BoundsError> {
        if floor == 0 {
            return Err(BoundsError::NoFloor);
        }
        if ceiling > TOKENS_PER_MINUTE_MAX {
            return Err(BoundsError::CeilingTooHigh { ceiling });
        }
        if floor > start {
            return Err(BoundsError::StartBelowFloor { start, floor });
        }
        if start > ceiling {
            return Err(BoundsError::StartAboveCeiling { start, ceiling });
        }
        Ok(Bounds { start, floor, ceiling })
    }

    /// A limit that never moves.
    ///
    /// # Errors
    ///
    /// As [`Bounds::new`].
    pub fn fixed(limit: u64) -> Result<Self, BoundsError> {
        Bounds::new(limit, limit, limit)
    }

    /// The nearest bounds that hold. The fields are public, so a budget makes sure once instead of trusting.
    pub(crate) fn nearest_valid(self) -> Self {
        let ceiling = self.ceiling.clamp(1, TOKENS_PER_MINUTE_MAX);
        let floor = self.floor.clamp(1, ceiling);
        Bounds { start: self.start.clamp(floor, ceiling), floor, ceiling }
    }
}

/// Why bounds were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BoundsError {
    /// A limit of nothing would refuse every request for ever. Usually an account that should have been removed.
    #[error("floor must be at least 1 token per minute")]
    NoFloor,
    /// The ceiling is more than a slot can hold. Usually "unlimited" was meant: take the largest.
    #[error("ceiling ({ceiling}) must not exceed {TOKENS_PER_MINUTE_MAX} tokens per minute")]
    CeilingTooHigh {
        /// The configured ceiling.
        ceiling: u64,
    },
    /// The limit would begin below the floor. Usually the start was lowered and the floor forgotten.
    #[error("start ({start}) must not be below floor ({floor})")]
    StartBelowFloor {
        /// The configured start.
        start: u64,
        /// The configured floor.
        floor: u64,
    },
    /// The limit would begin above the ceiling. Usually a start of its own with a spending tier's ceiling.
    #[error("start ({start}) must not exceed ceiling ({ceiling})")]
    StartAboveCeiling {
        /// The configured start.
        start: u64,
        /// The configured ceiling.
        ceiling: u64,
    },
}
