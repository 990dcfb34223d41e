//! `backup.json`: what a backup directory holds. It names every file with its length and SHA-256; a file that it does not name is no
//! part of the backup.
//!
//! Pure. Does not know where files are.

use serde::{Deserialize, Serialize};

use crate::{
    api::proto::v1::{self, BackupKind},
    cli::{
        error::CliError,
        text::{hex, time_text, uuid_text},
    },
};

/// The name of the file.
pub const MANIFEST: &str = "backup.json";
const FORMAT: u32 = 1;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupManifest {
    /// Of this layout.
    pub format: u32,
    /// The node's name.
    pub node: String,
    /// The log's identity, a UUID.
    pub log_id: String,
    /// The log's first position.
    pub first: u64,
    /// The log's last position in the backup.
    pub head: u64,
    /// The epoch that wrote it.
    pub epoch: u64,
    /// The log's hash behind it, in hexadecimal digits.
    pub chain: String,
    /// When the cut was made, by the node's clock.
    pub time: String,
    /// Of the node's program.
    pub version: String,
    /// Epochs of the log and where they begin.
    pub epochs: Vec<(u64, u64)>,
    /// All files.
    pub files: Vec<BackupFile>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupFile {
    /// Its name beside the manifest.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its length.
    pub bytes: u64,
    /// In hexadecimal digits; empty until it is known.
    pub sha256: String,
    /// Of a segment: its first position.
    pub first: u64,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A segment of the log.
    Segment,
    /// Whose log it is.
    LogManifest,
    /// Definitions and local state.
    Meta,
}

impl BackupManifest {
    /// What a cut says of itself. Digests are not known yet.
    pub fn of(cut: &v1::BackupCut) -> Result<Self, CliError> {
        let wrong = |what: &str| CliError::failed(format!("the backup's first message is wrong: {what}"));
        let mut files = Vec::with_capacity(cut.files.len());
        for file in &cut.files {
            let kind = match file.kind() {
                BackupKind::Segment => Kind::Segment,
                BackupKind::LogManifest => Kind::LogManifest,
                BackupKind::Meta => Kind::Meta,
                BackupKind::Unspecified => {
                    return Err(wrong("a file of a kind that this program does not know"));
                }
            };
            if !is_plain(&file.name) {
                return Err(wrong("a file's name is none"));
            }
            files.push(BackupFile {
                name: file.name.clone(),
                kind,
                bytes: file.bytes,
                sha256: String::new(),
                first: file.first_position,
            });
        }
        Ok(Self {
            format: FORMAT,
            node: cut.node.clone(),
            log_id: uuid_text(&cut.log_id),
            first: cut.first_position,
            head: cut.head,
            epoch: cut.epoch,
            chain: hex(&cut.chain),
            time: time_text(cut.time.as_ref()),
            version: cut.version.clone(),
            epochs: cut.epochs.iter().map(|start| (start.epoch, start.first_position)).collect(),
            files,
        })
    }

    /// From the text of the file; why not, if it is none of a known format.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if manifest.format != FORMAT {
            return Err(format!(
                "it has format {}, this program knows formats up to {FORMAT}; use the newer program",
                manifest.format
            ));
        }
        match manifest.files.iter().find(|file| !is_plain(&file.name)) {
            Some(file) => Err(format!("{:?} is not the name of a file of a backup", file.name)),
            None => Ok(manifest),
        }
    }

    /// The text of the file.
    pub fn text(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("a manifest is plain values");
        text.push(b'\n');
        text
    }

    /// A file by its name.
    pub fn file(&self, name: &str) -> Option<&BackupFile> {
        self.files.iter().find(|file| file.name == name)
    }

    /// Whether this log's history goes on from where another backup of it ended.
    pub fn continues(&self, former: &Self) -> bool {
        let epoch_at = |position| {
            let before = self.epochs.iter().filter(|(_, first)| *first <= position);
            before.map(|(epoch, _)| *epoch).next_back()
        };
        self.head >= former.head && (former.head == 0 || epoch_at(former.head) == Some(former.epoch))
    }
}

/// A name that stays in its directory: letters, digits, `-`, `_` and dots that are not at its beginning.
pub fn is_plain(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=200).contains(&name.len()) && name.bytes().all(good) && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(head: u64, epoch: u64, epochs: &[(u64, u64)]) -> BackupManifest {
        BackupManifest {
            format: FORMAT,
            node: "flights".into(),
            log_id: "7".into(),
            first: 1,
            head,
            epoch,
            chain: "00".into(),
            time: "2026-01-01T00:00:00Z".into(),
            version: "0.1.0".into(),
            epochs: epochs.to_vec(),
            files: vec![BackupFile {
                name: "manifest-1".into(),
                kind: Kind::LogManifest,
                bytes: 4,
                sha256: "ab".into(),
                first: 0,
            }],
        }
    }

    #[test]
    fn a_manifest_reads_back_and_names_stay_in_their_directory() {
        let written = manifest(5, 1, &[(1, 1)]);
        assert_eq!(BackupManifest::parse(&written.text()), Ok(written.clone()));
        let text = String::from_utf8(written.text()).unwrap();
        let refused =
            |from: &str, to: &str| BackupManifest::parse(text.replace(from, to).as_bytes()).unwrap_err();
        assert!(refused("\"format\": 1", "\"format\": 2").contains("format 2"));
        for bad in ["../x", "a/b", ".x", ""] {
            assert!(refused("manifest-1", bad).contains("not the name of a file"), "{bad}");
        }
    }

    #[test]
    fn a_log_goes_on_from_a_backup_whose_point_it_has() {
        let former = manifest(10, 1, &[(1, 1)]);
        assert!(manifest(10, 1, &[(1, 1)]).continues(&former));
        assert!(manifest(25, 3, &[(1, 1), (3, 11)]).continues(&former));
        assert!(!manifest(9, 1, &[(1, 1)]).continues(&former), "it ends before");
        assert!(!manifest(25, 9, &[(1, 1), (9, 8)]).continues(&former), "it parted before");
        assert!(manifest(3, 2, &[(2, 1)]).continues(&manifest(0, 0, &[])));
    }
}
