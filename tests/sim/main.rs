//! Simulation tests: one binary.
//!
//! Everything here runs by seed on a simulated disk and clock: a failure names its seed, and the seed tells the story
//! again.
#![expect(clippy::unwrap_used, reason = "the helpers of tests fail as the tests do")]

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Counts what is allocated, for stories in which memory must not grow.
#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

mod bit_flip;
mod campaign;
mod index_rebuild;
mod log_crash;
mod log_disk_full;
mod log_format;
mod log_open;
mod log_repair;
mod mesh;
mod poison;
mod projection;
mod restored;
mod sweep;
mod versions;
