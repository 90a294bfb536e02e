//! Averages that requests share without a lock.

use gateway_core::averages::Average;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

/// An average that many move at once.
#[derive(Debug)]
pub struct Shared<A>(AtomicU64, PhantomData<A>);

impl<A: Average> Shared<A> {
    /// One that begins at `start`.
    #[must_use]
    pub fn starting_at(start: A) -> Self {
        Shared(AtomicU64::new(start.value().to_bits()), PhantomData)
    }

    /// Where it stands.
    #[must_use]
    pub fn get(&self) -> A {
        A::at(f64::from_bits(self.0.load(Ordering::Relaxed)))
    }

    /// Moves it. Concurrent moves may lose one of them, which an average forgives.
    pub fn learn(&self, after: impl FnOnce(A) -> A) {
        self.0.store(after(self.get()).value().to_bits(), Ordering::Relaxed);
    }
}

impl<A: Average + Default> Default for Shared<A> {
    fn default() -> Self {
        Shared::starting_at(A::default())
    }
}
