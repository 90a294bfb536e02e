//! The gateway with an allocator that counts live bytes, for the proof that nothing grows.
//!
//! It writes the count beside its config file, ten times a second. Resident memory would say as much of the allocator as of
//! the program. Built only with the feature `counted`, so that no test waits for it.

#![expect(unsafe_code, reason = "an allocator of one's own is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::time::Duration;

/// Between two counts that are written.
const EVERY: Duration = Duration::from_millis(100);

/// Bytes that are allocated and not freed.
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// Passes everything on, and counts.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is passed on to the system's allocator unchanged; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        let memory = unsafe { System.alloc(layout) };
        if !memory.is_null() {
            LIVE.fetch_add(layout.size(), Relaxed);
        }
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above; `memory` came from `alloc` or `realloc`.
        unsafe { System.dealloc(memory, layout) };
        LIVE.fetch_sub(layout.size(), Relaxed);
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        let moved = unsafe { System.realloc(memory, layout, size) };
        if !moved.is_null() {
            LIVE.fetch_add(size, Relaxed);
            LIVE.fetch_sub(layout.size(), Relaxed);
        }
        moved
    }
}

fn main() -> ExitCode {
    let config = std::env::args().skip_while(|word| word != "--config").nth(1);
    if let Some(config) = config {
        std::thread::spawn(move || write(&PathBuf::from(config).with_extension("heap")));
    }
    gateway::cli::run()
}

fn write(path: &PathBuf) {
    // Nobody sends: the only way out of the wait is its time.
    let (_keep, wait) = channel::<()>();
    loop {
        let next = path.with_extension("heap-next");
        let written = std::fs::write(&next, LIVE.load(Relaxed).to_string());
        let _ = written.and_then(|()| std::fs::rename(&next, path));
        let _ = wait.recv_timeout(EVERY);
    }
}
