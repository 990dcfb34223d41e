//! Bounds of what is owned, exported, imported and trusted, in the same form as those of `limits`.

use super::{MIB, REQUEST_BYTES_MAX};

/// Field paths in one `keep`.
pub const KEEP_PATHS_MAX: usize = 256;
/// Event types in one export or import.
pub const MAPPED_TYPES_MAX: usize = 256;
/// Events that an import may make of one.
pub const MAPPED_EVENTS_MAX: usize = 64;
/// Bytes of those events together: they are appended in one request.
pub const MAPPED_BYTES_MAX: usize = REQUEST_BYTES_MAX / 2;
/// Patterns in one list of `owns`.
pub const OWNED_PATTERNS_MAX: usize = 1_024;
/// Bytes that a published message may have besides the public event's: its headers and subject.
pub const ENVELOPE_BYTES_MAX: usize = 16 * 1_024;
/// Bytes of a file of trusted keys.
pub const TRUST_FILE_BYTES_MAX: usize = MIB;
/// Bytes of a file that holds a key.
pub const KEY_FILE_BYTES_MAX: usize = 4_096;
/// Keys of one node in the file of trusted keys.
pub const TRUSTED_KEYS_MAX: usize = 64;
