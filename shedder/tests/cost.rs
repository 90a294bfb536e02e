//! What a decision costs: no allocation on the way to `Admit` and back.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use shedder::{Config, Decision, Finished, Offer, ReplicaConfig, ReplicaId, Shedder, Tier, Uncached};

struct Counting;

thread_local! {
    /// Of this thread alone: the harness has others, which allocate when they like.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "an allocator that counts is the only way to see allocations")]
// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn offer(account: u64, now: Duration) -> Offer {
    Offer {
        tier: Tier::Regular,
        account,
        user: None,
        weight: 1.0,
        prompt: 1_000,
        uncached: Uncached::everywhere(200),
        expected_output: 200,
        streaming: true,
        has_output: true,
        bytes: 4_000,
        arrived: now,
        deadline: None,
        affinity: None,
        needs: 0,
    }
}

fn serve(shedder: &mut Shedder, account: u64, now: Duration) {
    let decision = shedder.offer(now, offer(account, now));
    assert!(matches!(decision, Decision::Admit(_)), "room for one: {decision:?}");
    let Decision::Admit(permit) = decision else { return };
    shedder.dispatched(now, permit.id);
    shedder.first_token(now, permit.id);
    let how = Finished { generated: 200, content_chunks: 200, ..Finished::default() };
    shedder.finish(now, permit.id, &how);
    assert!(shedder.poll_verdict().is_none());
}

#[test]
fn admitting_and_finishing_does_not_allocate() {
    let replicas: Vec<_> = (0..4).map(|n| ReplicaConfig::new(ReplicaId(n))).collect();
    let mut shedder = Shedder::new(Duration::ZERO, Config::default(), &replicas);
    (0..100).for_each(|n| serve(&mut shedder, n % 10, Duration::from_millis(n)));

    let before = ALLOCATIONS.get();
    (100..10_100).for_each(|n| serve(&mut shedder, n % 10, Duration::from_millis(n)));
    let after = ALLOCATIONS.get();

    assert_eq!(after - before, 0);
}
