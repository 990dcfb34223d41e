//! Bounds of backups and restores, in the same form as those of `limits`.

use super::MIB;

/// Bytes of a backup's file in one message.
pub const BACKUP_CHUNK_BYTES: usize = MIB;
/// Names of segments that a caller may say to have.
pub const BACKUP_HAVE_MAX: usize = 65_536;
/// Bytes of one message of a backup that a restore takes from a stream.
pub const BACKUP_MESSAGE_BYTES_MAX: usize = 8 * MIB;
/// Bytes of the file that says what a backup directory holds, and of a backup's definitions.
pub const BACKUP_MANIFEST_BYTES_MAX: usize = 256 * MIB;
/// How often a cut is tried again because local state has changed meanwhile.
pub const BACKUP_CUTS_MAX: usize = 8;
/// Where a restore keeps what it has not finished, in the data directory.
pub const RESTORING_DIR: &str = "restoring";
