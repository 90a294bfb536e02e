//! The service tiers, in the order in which they are served.
//!
//! Everything that differs between tiers is a [`PerTier`] value, and everything that follows from their order asks for the
//! tiers [above](Tier::above) or [below](Tier::below), so a further tier is one more variant and one more field, found by the
//! compiler.

use std::fmt;
use std::ops::{Index, IndexMut};

/// A class of service. The order is the order of service: `Priority < Regular`, the smaller first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Served first, and shed only when nothing of a lower tier is left to shed.
    Priority,
    /// Everything that says nothing.
    Regular,
    /// What may wait for minutes: served from what the others leave, and the first to give way.
    Flex,
}

impl Tier {
    /// All tiers, highest first.
    pub const ALL: [Self; 3] = [Self::Priority, Self::Regular, Self::Flex];

    /// The name used in metrics, configuration and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Priority => "priority",
            Self::Regular => "regular",
            Self::Flex => "flex",
        }
    }

    /// The tiers served before this one, highest first.
    pub fn above(self) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |&tier| tier < self)
    }

    /// The tiers served after this one, lowest first: the order in which they give way.
    pub fn below(self) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().rev().filter(move |&tier| tier > self)
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One value for each tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerTier<T> {
    /// The value of [`Tier::Priority`].
    pub priority: T,
    /// The value of [`Tier::Regular`].
    pub regular: T,
    /// The value of [`Tier::Flex`].
    pub flex: T,
}

impl<T> PerTier<T> {
    /// A value for each tier, made by `make`.
    pub fn from_fn(mut make: impl FnMut(Tier) -> T) -> Self {
        Self { priority: make(Tier::Priority), regular: make(Tier::Regular), flex: make(Tier::Flex) }
    }

    /// Every tier with its value, highest first.
    pub fn iter(&self) -> impl Iterator<Item = (Tier, &T)> {
        Tier::ALL.into_iter().map(|tier| (tier, &self[tier]))
    }
}

impl<T> Index<Tier> for PerTier<T> {
    type Output = T;

    fn index(&self, tier: Tier) -> &T {
        match tier {
            Tier::Priority => &self.priority,
            Tier::Regular => &self.regular,
            Tier::Flex => &self.flex,
        }
    }
}

impl<T> IndexMut<Tier> for PerTier<T> {
    fn index_mut(&mut self, tier: Tier) -> &mut T {
        match tier {
            Tier::Priority => &mut self.priority,
            Tier::Regular => &mut self.regular,
            Tier::Flex => &mut self.flex,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_above_come_highest_first_and_tiers_below_lowest_first() {
        assert_eq!(Tier::Flex.above().collect::<Vec<_>>(), [Tier::Priority, Tier::Regular]);
        assert_eq!(Tier::Priority.below().collect::<Vec<_>>(), [Tier::Flex, Tier::Regular]);
        assert_eq!(Tier::Priority.above().count(), 0);
        assert!(
            Tier::Priority < Tier::Regular && Tier::Regular < Tier::Flex,
            "the order is the order of service"
        );
    }
}
