//! Where a backup is read from: its directory, or its stream on standard input.
//!
//! A file whose bytes are not what they were is noted and goes on: where in it the damage is, the verification of the whole says. Does
//! not know what comes of it.

use std::path::Path;

use super::{Received, staging::Staging};
use crate::{
    api::proto::v1::backup_response::Piece,
    cli::{
        backup::{
            directory::{failed, read_manifest},
            frames::FrameReader,
            manifest::{BackupFile, BackupManifest},
            transfer::Transfer,
        },
        error::CliError,
        text::hex,
    },
    disk::{Access, Disk},
    limits::BACKUP_CHUNK_BYTES,
};

/// Copies the files of a backup directory; those that are there already are not copied again.
pub fn from_directory(
    disk: &dyn Disk,
    from: &Path,
    staging: &mut Staging,
    per_second_max: Option<u64>,
) -> Result<Received, CliError> {
    let manifest = read_manifest(disk, from)?.ok_or_else(|| {
        CliError::failed(format!(
            "{} holds no backup: there is no backup.json; name a directory that `outrigger backup --to` keeps",
            from.display()
        ))
    })?;
    staging.prepare(&manifest)?;
    let bytes = manifest.files.iter().map(|file| file.bytes).sum();
    let mut transfer = Transfer::new("restore", bytes, per_second_max);
    let mut differing = Vec::new();
    for file in &manifest.files {
        if staging.has(file)? {
            continue;
        }
        copy(disk, &from.join(&file.name), file, staging, &mut transfer)?;
        if staging.end()? != (file.bytes, file.sha256.clone()) {
            differing.push(file.name.clone());
        }
    }
    transfer.finish();
    Ok(Received { manifest, differing })
}

fn copy(
    disk: &dyn Disk,
    from: &Path,
    file: &BackupFile,
    staging: &mut Staging,
    transfer: &mut Transfer,
) -> Result<(), CliError> {
    let source = disk.open(from, Access::Read).map_err(|error| failed("open", from, &error))?;
    staging.begin(file)?;
    let (mut at, mut buffer) = (0, vec![0; BACKUP_CHUNK_BYTES]);
    loop {
        let read = source.read_at(&mut buffer, at).map_err(|error| failed("read", from, &error))?;
        if read == 0 {
            return Ok(());
        }
        staging.data(&buffer[..read])?;
        transfer.passed(read);
        at += read as u64;
    }
}

/// Takes a stream in; it must end as it should.
pub fn from_stream(staging: &mut Staging, per_second_max: Option<u64>) -> Result<Received, CliError> {
    let mut frames = FrameReader::standard()?;
    let damaged = |what: &str| CliError::failed(format!("standard input is damaged: {what}"));
    let Some(Piece::Cut(cut)) = frames.message()?.piece else {
        return Err(damaged("it does not begin with what the backup holds"));
    };
    let manifest = BackupManifest::of(&cut)?;
    if cut.files.iter().any(|file| file.skipped) {
        return Err(damaged("files are left out"));
    }
    staging.prepare(&manifest)?;
    let bytes = manifest.files.iter().map(|file| file.bytes).sum();
    let mut transfer = Transfer::new("restore", bytes, per_second_max);
    let mut differing = Vec::new();
    let mut missing: Vec<&BackupFile> = manifest.files.iter().rev().collect();
    let mut writing: Option<&BackupFile> = None;
    loop {
        match frames.message()?.piece {
            Some(Piece::File(name)) => {
                let file = missing.pop().filter(|file| file.name == name && writing.is_none());
                writing = file;
                staging.begin(file.ok_or_else(|| damaged("a file that does not belong there"))?)?;
            }
            Some(Piece::Data(data)) => {
                staging.data(&data)?;
                transfer.passed(data.len());
            }
            Some(Piece::FileEnd(end)) => {
                let file = writing.take().ok_or_else(|| damaged("a file ends that did not begin"))?;
                if staging.end()? != (file.bytes, hex(&end.sha256)) {
                    differing.push(file.name.clone());
                }
            }
            Some(Piece::End(_)) if missing.is_empty() && writing.is_none() => break,
            _ => return Err(damaged("a piece that does not belong there")),
        }
    }
    transfer.finish();
    Ok(Received { manifest: manifest.clone(), differing })
}
