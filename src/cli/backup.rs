//! `outrigger backup`: one cut through a running node, kept in a directory or written as one stream.
//!
//! Invariants: what a directory had stays whole until the new backup is; the node notes a backup only when it is durable. Does not know
//! how a cut is made.

use std::{path::Path, sync::Arc};

use clap::Args;
use serde::Serialize;
use tonic::Streaming;

use super::{
    Session,
    error::CliError,
    load::progress::say,
    output::{Format, print_lines},
    text::{grouped, hex, to_line},
};
use crate::{
    api::proto::v1::{self, backup_response::Piece},
    config::value,
    disk::{Disk, real::RealDisk},
    event::Invalid,
};

pub mod directory;
pub mod frames;
pub mod manifest;
pub mod transfer;

use directory::Directory;
use frames::FrameWriter;
use manifest::BackupManifest;
use transfer::Transfer;

/// What `backup` takes.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// A directory that keeps the newest backup, or - for one stream on standard output
    #[arg(long, value_name = "DIR|-")]
    pub to: String,
    /// Go on where an interrupted backup into this directory ended
    #[arg(long)]
    pub resume: bool,
    /// At most so many bytes a second, such as 20MiB
    #[arg(long, value_name = "BYTES")]
    pub bandwidth: Option<String>,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
The node goes on meanwhile. A second backup into the same directory sends only segments of the log that are new. A backup that \
is killed leaves the one before it whole. The node's keys and tokens are not part of it, nor is what follows from the log.

Examples:
  outrigger backup --to /backup
  outrigger backup --to /backup --resume --bandwidth 20MiB --token \"$ADMIN_TOKEN\"
  outrigger backup --to - | zstd > flights.backup.zst";

/// What was done, for programs.
#[derive(Debug, Serialize)]
struct Done<'a> {
    node: &'a str,
    log_id: &'a str,
    head: u64,
    epoch: u64,
    chain: &'a str,
    time: &'a str,
    files: usize,
    bytes: u64,
    files_sent: usize,
    bytes_sent: u64,
}

/// Runs `backup`.
pub async fn run(session: &Session, args: &BackupArgs) -> Result<(), CliError> {
    let bandwidth = bandwidth(args.bandwidth.as_deref())?;
    let mut client = session.node.admin().await?;
    let request = |have| v1::BackupRequest { have, bytes_per_second_max: bandwidth };
    let (manifest, sent) = if args.to == "-" {
        let mut pieces = client.backup(request(Vec::new())).await?.into_inner();
        to_stream(&mut pieces).await?
    } else {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let mut directory = Directory::open(disk, Path::new(&args.to), args.resume)?;
        let mut pieces = client.backup(request(directory.have())).await?.into_inner();
        to_directory(&mut pieces, &mut directory).await?
    };
    if let Err(status) = client.finish_backup(v1::FinishBackupRequest { head: manifest.head }).await {
        say(&format!(
            "warning: the backup is whole, but the node could not note its time: {}",
            CliError::from(status)
        ));
    }
    // The stream has standard output to itself.
    if args.to == "-" { Ok(()) } else { tell(session.output, &manifest, &args.to, sent) }
}

/// A rate as `--bandwidth` names it.
pub fn bandwidth(text: Option<&str>) -> Result<Option<u64>, CliError> {
    let rate = text.map(|text| match value::bytes(text) {
        Ok(0) => Err(Invalid(format!("expected more than 0 bytes a second, found {text:?}"))),
        other => other,
    });
    rate.transpose().map_err(|invalid| CliError::usage("--bandwidth", &invalid))
}

/// Files and bytes that were sent.
type Sent = (usize, u64);

fn tell(
    output: Format,
    manifest: &BackupManifest,
    to: &str,
    (files_sent, bytes_sent): Sent,
) -> Result<(), CliError> {
    let bytes = manifest.files.iter().map(|file| file.bytes).sum();
    print_lines(&[match output {
        Format::Table => format!(
            "backed up {} up to position {} into {to}: {} files, {} bytes; sent {} files, {} bytes",
            manifest.node,
            manifest.head,
            manifest.files.len(),
            grouped(bytes),
            files_sent,
            grouped(bytes_sent)
        ),
        Format::Json => to_line(&Done {
            node: &manifest.node,
            log_id: &manifest.log_id,
            head: manifest.head,
            epoch: manifest.epoch,
            chain: &manifest.chain,
            time: &manifest.time,
            files: manifest.files.len(),
            bytes,
            files_sent,
            bytes_sent,
        }),
    }])
}

/// The next piece of a backup; its end is a message too.
async fn next(pieces: &mut Streaming<v1::BackupResponse>) -> Result<v1::BackupResponse, CliError> {
    let missing =
        || CliError::failed("the node ended the backup before it was whole; repeat it with --resume");
    pieces.message().await?.ok_or_else(missing)
}

async fn cut(
    pieces: &mut Streaming<v1::BackupResponse>,
) -> Result<(v1::BackupResponse, BackupManifest), CliError> {
    let message = next(pieces).await?;
    match &message.piece {
        Some(Piece::Cut(cut)) => {
            let manifest = BackupManifest::of(cut)?;
            Ok((message, manifest))
        }
        _ => Err(unexpected()),
    }
}

fn unexpected() -> CliError {
    CliError::failed(
        "the node sent a piece of a backup that does not belong there; it may be newer than this program",
    )
}

async fn to_directory(
    pieces: &mut Streaming<v1::BackupResponse>,
    directory: &mut Directory,
) -> Result<(BackupManifest, Sent), CliError> {
    let (_, manifest) = cut(pieces).await?;
    directory.begin(manifest)?;
    let mut transfer = Transfer::new("backup", directory.bytes_to_come(), None);
    let mut sent = (0, 0);
    loop {
        match next(pieces).await?.piece {
            Some(Piece::File(name)) => directory.file(&name)?,
            Some(Piece::Data(data)) => {
                directory.data(&data)?;
                sent.1 += data.len() as u64;
                transfer.passed(data.len());
            }
            Some(Piece::FileEnd(end)) => {
                directory.file_end(&hex(&end.sha256))?;
                sent.0 += 1;
            }
            Some(Piece::End(_)) => break,
            _ => return Err(unexpected()),
        }
    }
    transfer.finish();
    Ok((directory.commit()?, sent))
}

async fn to_stream(pieces: &mut Streaming<v1::BackupResponse>) -> Result<(BackupManifest, Sent), CliError> {
    let (message, manifest) = cut(pieces).await?;
    let bytes = manifest.files.iter().map(|file| file.bytes).sum();
    let mut transfer = Transfer::new("backup", bytes, None);
    let mut out = FrameWriter::standard()?;
    out.write(&message)?;
    let mut sent = (0, 0);
    loop {
        let message = next(pieces).await?;
        match &message.piece {
            Some(Piece::Data(data)) => {
                sent.1 += data.len() as u64;
                transfer.passed(data.len());
            }
            Some(Piece::FileEnd(_)) => sent.0 += 1,
            _ => {}
        }
        out.write(&message)?;
        if matches!(message.piece, Some(Piece::End(_))) {
            break;
        }
    }
    out.flush()?;
    transfer.finish();
    Ok((manifest, sent))
}
