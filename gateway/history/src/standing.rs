//! Whether a replica is down, told when that changes and not at each trial.
//!
//! A replica that failed is tried again and again, and looks healthy for the moment of each trial. It is up again once it
//! looked so for [`LOOKS_TO_BE_UP`] looks in a row. What an operator drained is neither up nor down.

/// Looks in a row, about a second apart.
pub const LOOKS_TO_BE_UP: u32 = 3;

/// What a replica was found to have become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It failed.
    Down,
    /// It is in service again after it had failed.
    Up,
}

/// One replica, looked at about once a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    is_down: bool,
    /// Looks in a row in which it seemed healthy, since it went down.
    healthy: u32,
}

impl Standing {
    /// Looks at it. What has changed, if anything.
    pub fn look(&mut self, is_healthy: bool, is_drained: bool) -> Option<Change> {
        if is_drained {
            return None;
        }
        self.healthy = if is_healthy { self.healthy.saturating_add(1) } else { 0 };
        let is_down = if self.is_down { self.healthy < LOOKS_TO_BE_UP } else { !is_healthy };
        match (std::mem::replace(&mut self.is_down, is_down), is_down) {
            (false, true) => Some(Change::Down),
            (true, false) => Some(Change::Up),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(looks: &[(bool, bool)]) -> Vec<(usize, Change)> {
        let mut standing = Standing::default();
        let all = looks.iter().enumerate();
        all.filter_map(|(at, (healthy, drained))| Some((at, standing.look(*healthy, *drained)?))).collect()
    }

    const UP: (bool, bool) = (true, false);
    const DOWN: (bool, bool) = (false, false);
    /// As shedders show what is drained.
    const DRAINED: (bool, bool) = (false, true);

    #[test]
    fn trials_of_a_dead_replica_are_not_told() {
        assert_eq!(changes(&[UP, DOWN, DOWN, UP, DOWN, UP, UP, DOWN]), [(1, Change::Down)]);
        assert_eq!(changes(&[UP, DOWN, UP, UP, UP, UP]), [(1, Change::Down), (4, Change::Up)]);
    }

    #[test]
    fn a_drained_replica_is_not_down_and_one_that_died_meanwhile_is_once_it_is_put_back() {
        assert_eq!(changes(&[UP, DRAINED, DRAINED, UP]), []);
        assert_eq!(changes(&[UP, DRAINED, DOWN]), [(2, Change::Down)]);
    }
}
