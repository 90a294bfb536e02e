//! In which tier a request is served: what was asked for, as far as its account may.

use shedder::Tier;

/// What an account may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entitled {
    /// Whether it may use priority. Every account may use regular.
    pub priority: bool,
    /// Whether it may use flex.
    pub flex: bool,
    /// The tier of a request that names none.
    pub default: Tier,
    /// Whether a request for a tier that it may not use is served in the regular one, instead of refused.
    pub downgrade: bool,
}

impl Entitled {
    /// The tier in which a request is served that wishes for `wish`; `None`: it names none. `flex_is_sold`: whether some
    /// deployment serves the account in flex; a request for less than it gets is never refused.
    ///
    /// # Errors
    /// The tier that the account may not use.
    pub fn served(&self, wish: Option<Tier>, flex_is_sold: impl FnOnce() -> bool) -> Result<Tier, Tier> {
        match wish.unwrap_or(self.default) {
            Tier::Priority if !self.priority && self.downgrade => Ok(Tier::Regular),
            Tier::Priority if !self.priority => Err(Tier::Priority),
            Tier::Flex if !(self.flex && flex_is_sold()) => Ok(Tier::Regular),
            tier => Ok(tier),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flex_is_served_where_it_is_sold_and_never_refused() {
        let plain = Entitled { priority: false, flex: false, default: Tier::Regular, downgrade: false };
        let flexible = Entitled { flex: true, default: Tier::Flex, ..plain };
        for (what, entitled, wish, is_sold, expected) in [
            ("as entitled", flexible, Some(Tier::Flex), true, Tier::Flex),
            ("by default", flexible, None, true, Tier::Flex),
            ("regular can still be had", flexible, Some(Tier::Regular), true, Tier::Regular),
            ("no deployment has it", flexible, None, false, Tier::Regular),
            ("the account has not", plain, Some(Tier::Flex), true, Tier::Regular),
        ] {
            assert_eq!(entitled.served(wish, || is_sold), Ok(expected), "{what}");
        }
    }

    #[test]
    fn a_wish_is_served_as_far_as_the_account_may() {
        let regular = Entitled { priority: false, flex: false, default: Tier::Regular, downgrade: false };
        let both = Entitled { priority: true, default: Tier::Priority, ..regular };
        let (wishes, up, down) = (Some(Tier::Priority), Tier::Priority, Tier::Regular);
        for (what, entitled, wish, expected) in [
            ("nothing was said", regular, None, Ok(down)),
            ("nothing was said, and priority is the default", both, None, Ok(up)),
            ("regular can always be had", both, Some(down), Ok(down)),
            ("priority as entitled", both, wishes, Ok(up)),
            ("priority that is not its own", regular, wishes, Err(up)),
            (
                "the same, where it is served all the same",
                Entitled { downgrade: true, ..regular },
                wishes,
                Ok(down),
            ),
        ] {
            assert_eq!(entitled.served(wish, || true), expected, "{what}");
        }
    }
}
