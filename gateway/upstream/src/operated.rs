//! What operators did to a deployment at run time: ceilings set, a part of its capacity pretended to be gone.
//!
//! The shedder acts on it; here stands what was asked, so that it can be shown and be taken back. A reload puts the
//! ceilings of the config in force again; a restart forgets all of it.

use config::Ceilings;
use parking_lot::Mutex;
use std::time::Duration;

/// A part of the capacity that is pretended to be gone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pressure {
    /// Which part, 0 … 1.
    pub share: f64,
    /// Until when, since the process started.
    pub until: Duration,
}

/// What was done to one deployment.
#[derive(Debug, Default)]
pub struct Operated {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    pressure: Option<Pressure>,
    ceilings: Option<Ceilings>,
}

impl Operated {
    /// The pressure in force, if there is any.
    #[must_use]
    pub fn pressure(&self, now: Duration) -> Option<Pressure> {
        self.inner.lock().pressure.filter(|pressure| pressure.until > now)
    }

    /// Takes the pressure away if its time is over: told once.
    pub fn take_over(&self, now: Duration) -> Option<Pressure> {
        self.inner.lock().pressure.take_if(|pressure| pressure.until <= now)
    }

    /// Notes a pressure, or that there is none.
    pub fn set_pressure(&self, pressure: Option<Pressure>) {
        self.inner.lock().pressure = pressure;
    }

    /// The ceilings that were set.
    #[must_use]
    pub fn ceilings(&self) -> Option<Ceilings> {
        self.inner.lock().ceilings
    }

    /// Notes ceilings, or that those of the config are in force.
    pub fn set_ceilings(&self, ceilings: Option<Ceilings>) {
        self.inner.lock().ceilings = ceilings;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pressure_is_over_when_its_time_is() {
        let operated = Operated::default();
        let pressure = Pressure { share: 0.5, until: Duration::from_secs(10) };
        operated.set_pressure(Some(pressure));

        assert_eq!(operated.pressure(Duration::from_secs(9)), Some(pressure));
        assert_eq!(operated.pressure(Duration::from_secs(10)), None);
        assert_eq!(operated.take_over(Duration::from_secs(9)), None);
        assert_eq!(operated.take_over(Duration::from_secs(10)), Some(pressure));
        assert_eq!(operated.take_over(Duration::from_secs(11)), None, "told once");
    }
}
