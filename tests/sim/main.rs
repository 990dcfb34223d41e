//! Simulation tests: one binary.
//!
//! Everything here runs by seed on a simulated disk and clock: a failure names its seed, and the seed tells the story
//! again.
#![expect(clippy::unwrap_used, reason = "the helpers of tests fail as the tests do")]

mod bit_flip;
mod campaign;
mod log_crash;
mod log_disk_full;
mod log_format;
mod log_open;
mod log_repair;
mod mesh;
mod poison;
mod projection;
mod sweep;
mod versions;
