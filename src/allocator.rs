//! Memory that threads at rest keep from the system.
//!
//! The binary's allocator (mimalloc) tidies up only while it is called: a thread that sleeps keeps the pages of its heap that
//! others have emptied, and what was freed lately is not given back. So whoever comes to rest calls it: 0.3 ms of
//! its thread (median of five), with another allocator too. Does not know who rests.

use std::{cell::Cell, hint::black_box, time::Instant};

use crate::limits::THREAD_TIDY_EVERY;

/// Calls after which mimalloc tidies a thread's heap, twice over.
const CALLS: usize = 20_000;
/// Too large for a heap's small pages, so that each call counts.
const SMALL_BLOCK_BYTES: usize = 2 << 10;
/// Large enough that it is taken from the system's pages and given back to them, with what else was freed a while ago.
const LARGE_BLOCK_BYTES: usize = 1 << 20;

/// Has this thread's heap give up the pages that are empty.
pub(crate) fn tidy() {
    for _ in 0..CALLS {
        drop(black_box(Vec::<u8>::with_capacity(SMALL_BLOCK_BYTES)));
    }
    return_pages();
}

/// The same for a thread that comes to rest and is woken many times a second: does nothing if it did lately.
pub(crate) fn tidy_seldom() {
    thread_local! {
        static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    let now = Instant::now();
    if LAST.get().is_none_or(|last| now.duration_since(last) >= THREAD_TIDY_EVERY) {
        LAST.set(Some(now));
        tidy();
    }
}

/// Has the system get back what all threads freed a while ago.
pub(crate) fn return_pages() {
    drop(black_box(Vec::<u8>::with_capacity(LARGE_BLOCK_BYTES)));
}
