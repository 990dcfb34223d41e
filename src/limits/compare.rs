//! Bounds of comparisons of two versions, in the same form as those of `limits`.

use std::time::Duration;

/// Events that one of two versions to be compared may lie behind the other, which stands still until it has come.
pub const COMPARE_LAG_MAX: u64 = 10_000;
/// How long a version may take to stand still for a comparison, wherever it is.
pub const COMPARE_STAND_MAX: Duration = Duration::from_secs(10);
/// How long the version that is ahead stands still until the other one has come.
pub const COMPARE_MEET_MAX: Duration = Duration::from_secs(5);
/// How long the snapshots of a comparison are kept.
pub const COMPARE_TIME_MAX: Duration = Duration::from_secs(600);
/// Documents that a comparison looks at between two pauses.
pub const COMPARE_STEP_DOCUMENTS: usize = 5_000;
/// Documents of each kind that a comparison shows; all of them are counted.
pub const COMPARE_SAMPLES_MAX: usize = 20;
/// Places of one such document that it shows.
pub const COMPARE_FIELDS_MAX: usize = 20;
/// Bytes of one value, or of the way to it, as it shows them.
pub const COMPARE_VALUE_BYTES_MAX: usize = 120;
