//! What a budget costs: its size, and that the way of a request allocates nothing.

#![expect(
    unsafe_code,
    reason = "counting allocations takes an allocator of one's own, and that is an unsafe trait"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use limits::{Ask, Budget, BudgetConfig, PerMeter, RequestMeter, Reservation, START, Used};

thread_local! {
    /// Allocations of this thread: other tests run beside this one.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above; `memory` came from `alloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_budget_is_under_8_kib_and_a_reservation_under_400_bytes() {
    assert!(size_of::<Budget>() <= 8 * 1024, "{}", size_of::<Budget>());
    assert!(size_of::<Reservation>() <= 400, "{}", size_of::<Reservation>());
    assert!(size_of::<RequestMeter>() <= 1_100, "{}", size_of::<RequestMeter>());
}

/// An hour of streams, refusals, minutes, quarters and changes of limits of an account that has asked before, without a
/// single allocation.
#[test]
fn c6_the_way_of_a_request_allocates_nothing() {
    let mut requests = RequestMeter::new(6_000, 100);
    let ceilings = PerMeter { prompt: 108_000_000, uncached_prompt: 27_000_000, generated: 1_080_000 };
    let config = BudgetConfig::published(START, ceilings);
    let mut budget = Budget::new(Duration::ZERO, config);
    let ask = Ask { prompt: 9_000, uncached_prompt: 4_000, choices: 1, ..Ask::default() };
    let (mut refused, mut changes) = (0, 0);
    // The account's very first request makes its minute.
    requests.enter(Duration::ZERO).expect("nothing was sent before");
    requests.leave();

    let before = ALLOCATIONS.get();
    for second in 0..3_600_u64 {
        let at = |ms| Duration::from_millis(second * 1_000 + ms);
        for _ in 0..5 {
            let _ = requests.enter(at(0));
            let Ok(mut reservation) = budget.reserve(at(0), &ask) else {
                refused += 1;
                requests.leave();
                continue;
            };
            budget.charge_prompt(at(0), &mut reservation);
            for harvest in 1..4 {
                budget.charge_generated(at(harvest * 250), &mut reservation, 60);
            }
            let used = Used { prompt: 9_100, uncached_prompt: 3_900, generated: 170, finished: true };
            budget.settle(at(999), reservation, &used);
            requests.leave();
        }
        let _ = budget.view(at(999));
        changes += budget.take_changes().count();
    }
    let allocated = ALLOCATIONS.get() - before;

    assert_eq!(allocated, 0);
    assert!(refused > 100 && changes > 5, "everything was exercised: {refused} refused, {changes} changes");
}
