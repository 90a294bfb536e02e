//! The three meters of a budget, and one value for each.

/// What a budget counts. Each meter has a limit of its own; a request needs room in all three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Meter {
    /// Every input token, cached or not.
    Prompt,
    /// Input tokens that had to be prefilled.
    UncachedPrompt,
    /// Output tokens, reasoning included.
    Generated,
}

impl Meter {
    /// All meters, in the order in which they are shown.
    pub const ALL: [Meter; 3] = [Meter::Prompt, Meter::UncachedPrompt, Meter::Generated];

    /// The name used in headers, metrics and configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Meter::Prompt => "prompt",
            Meter::UncachedPrompt => "uncached-prompt",
            Meter::Generated => "generated",
        }
    }
}

impl std::fmt::Display for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One value per meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PerMeter<T> {
    /// The value for [`Meter::Prompt`].
    pub prompt: T,
    /// The value for [`Meter::UncachedPrompt`].
    pub uncached_prompt: T,
    /// The value for [`Meter::Generated`].
    pub generated: T,
}

impl<T> PerMeter<T> {
    /// Asks `value` for each meter, in the order of [`Meter::ALL`].
    pub fn from_fn(mut value: impl FnMut(Meter) -> T) -> Self {
        PerMeter {
            prompt: value(Meter::Prompt),
            uncached_prompt: value(Meter::UncachedPrompt),
            generated: value(Meter::Generated),
        }
    }

    /// The value of one meter.
    pub const fn get(&self, meter: Meter) -> &T {
        match meter {
            Meter::Prompt => &self.prompt,
            Meter::UncachedPrompt => &self.uncached_prompt,
            Meter::Generated => &self.generated,
        }
    }

    /// The value of one meter, to be changed.
    pub const fn get_mut(&mut self, meter: Meter) -> &mut T {
        match meter {
            Meter::Prompt => &mut self.prompt,
            Meter::UncachedPrompt => &mut self.uncached_prompt,
            Meter::Generated => &mut self.generated,
        }
    }

    /// Applies `change` to each value.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> PerMeter<U> {
        PerMeter {
            prompt: change(self.prompt),
            uncached_prompt: change(self.uncached_prompt),
            generated: change(self.generated),
        }
    }

    /// Each meter with its value, in the order of [`Meter::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Meter, &T)> {
        Meter::ALL.into_iter().map(|meter| (meter, self.get(meter)))
    }
}
