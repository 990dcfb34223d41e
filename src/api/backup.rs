//! Backups while the node runs: one cut through log and local state, and the files of it as a stream of bytes.
//!
//! Invariants: nothing above the durable head of the cut is sent; a sealed segment is checked, from its first byte to the hash that the
//! next one continues, before it is sent, so that a backup of a damaged log does not pass for one; one backup at a time. Appends go
//! on. Does not know where a backup is kept.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use prost_types::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Code;

use super::{
    long_work::blocking,
    outbox::{NotSent, Outbox, Responses, outbox},
    proto::v1::{self, backup_response::Piece},
    status::Refusal,
    subscribe::stopping,
};
use crate::{
    clock::Clock,
    event::Position,
    events::{Events, EventsError},
    lifecycle::Lifecycle,
    limits::{BACKUP_CHUNK_BYTES, BACKUP_CUTS_MAX, BACKUP_HAVE_MAX},
    log::{LogCut, LogReader, SegmentCut},
    meta::backup::MetaSnapshot,
    metrics::Metrics,
    projection::registry::Registry,
};

const NANOS_A_SECOND: i64 = 1_000_000_000;

/// What backups are made of.
#[derive(Debug, Clone)]
pub(crate) struct Backups {
    pub(crate) node: Arc<str>,
    pub(crate) events: Events,
    pub(crate) projections: Arc<Registry>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) reader_stall: Duration,
    /// Held while a backup is under way.
    pub(crate) running: Arc<Semaphore>,
}

/// A file that is to be sent.
enum Source {
    Segment(SegmentCut),
    Bytes(Bytes),
}

impl Backups {
    /// Makes the cut and begins to send it.
    pub(super) async fn start(
        &self,
        request: v1::BackupRequest,
    ) -> Result<Responses<v1::BackupResponse>, Refusal> {
        if request.have.len() > BACKUP_HAVE_MAX {
            return Err(Refusal::limit("have", BACKUP_HAVE_MAX, request.have.len(), "names"));
        }
        if request.bytes_per_second_max == Some(0) {
            let what = "expected at least 1 byte a second, found 0";
            return Err(Refusal::field("INVALID_RATE", "bytes_per_second_max", what));
        }
        let Ok(permit) = Arc::clone(&self.running).try_acquire_owned() else {
            let message = "another backup is under way; wait until it has ended, or end it";
            return Err(Refusal::new(Code::ResourceExhausted, "BACKUP_RUNNING", message));
        };
        let service = self.clone();
        let (cut, meta) = blocking(move || service.cut()).await??;
        let (message, sources) = self.files(&cut, &meta, &request);
        let sending = Sending {
            log: self.events.log().clone(),
            pace: Pace { began: Instant::now(), sent: 0, per_second: request.bytes_per_second_max },
            _permit: permit,
        };
        let (outbox, responses) = outbox(self.reader_stall);
        let stop = self.lifecycle.stop().clone();
        self.lifecycle.tasks().spawn(async move {
            let sent = tokio::select! {
                sent = sending.all(sources, &outbox) => sent,
                () = outbox.closed() => Ok(()),
                () = stop.cancelled() => Err(stopping()),
            };
            if let Err(refusal) = sent {
                outbox.fail(refusal.into());
            }
        });
        Ok(responses.behind(message))
    }

    /// The caller keeps a backup.
    pub(super) async fn finish(
        &self,
        request: v1::FinishBackupRequest,
    ) -> Result<v1::FinishBackupResponse, Refusal> {
        let head = self.events.head().get();
        if request.head > head.get() {
            let what = format!("expected at most the head {head}, found {}", request.head);
            let refusal = Refusal::field("HEAD_NOT_REACHED", "head", what).code(Code::OutOfRange);
            return Err(refusal.with("head", head).with("actual", request.head));
        }
        let seconds = self.clock.now_unix_nanos() / NANOS_A_SECOND;
        let projections = Arc::clone(&self.projections);
        let noted = blocking(move || projections.note_backup(seconds as u64, Position::new(request.head)));
        noted.await?.map_err(|error| local_state(&error))?;
        self.metrics.last_backup.set(seconds);
        tracing::info!(head = request.head, "a backup is finished");
        Ok(v1::FinishBackupResponse { time: Some(Timestamp { seconds, nanos: 0 }) })
    }

    /// Log and local state at one moment: the same local state is found before and behind the log's cut.
    fn cut(&self) -> Result<(LogCut, MetaSnapshot), Refusal> {
        let snapshot = || self.projections.snapshot().map_err(|error| local_state(&error));
        let mut before = snapshot()?;
        for _ in 0..BACKUP_CUTS_MAX {
            let cut = self.events.log().cut(&self.node).map_err(EventsError::from)?;
            let behind = snapshot()?;
            if before == behind {
                return Ok((cut, behind));
            }
            before = behind;
        }
        let message = "definitions are being deployed all the time; back up again in a moment";
        Err(Refusal::new(Code::Unavailable, "NO_QUIET_MOMENT", message).retry_after(Duration::from_secs(5)))
    }

    /// The first message, and what is to be sent behind it.
    fn files(
        &self,
        cut: &LogCut,
        meta: &MetaSnapshot,
        request: &v1::BackupRequest,
    ) -> (v1::BackupResponse, Vec<(String, Source)>) {
        let now = self.clock.now_unix_nanos();
        let (head, millis) = (cut.head.get(), now / 1_000_000);
        let have: std::collections::HashSet<&str> = request.have.iter().map(String::as_str).collect();
        let (mut files, mut sources) = (Vec::new(), Vec::new());
        for segment in &cut.segments {
            let name = segment.name();
            let skipped = have.contains(name.as_str());
            files.push(v1::BackupFile {
                name: name.clone(),
                kind: v1::BackupKind::Segment.into(),
                bytes: segment.bytes,
                skipped,
                first_position: segment.first.get(),
            });
            if !skipped {
                sources.push((name, Source::Segment(segment.clone())));
            }
        }
        let small = [
            (format!("manifest-{head:020}-{millis}"), v1::BackupKind::LogManifest, cut.manifest.clone()),
            (format!("meta-{head:020}-{millis}.json"), v1::BackupKind::Meta, meta.to_json()),
        ];
        for (name, kind, bytes) in small {
            files.push(v1::BackupFile {
                name: name.clone(),
                kind: kind.into(),
                bytes: bytes.len() as u64,
                skipped: false,
                first_position: 0,
            });
            sources.push((name, Source::Bytes(bytes.into())));
        }
        let epochs = cut
            .epochs
            .iter()
            .map(|start| v1::BackupEpoch { epoch: start.epoch.counter, first_position: start.first.get() });
        let message = v1::BackupCut {
            node: self.node.to_string(),
            log_id: Bytes::copy_from_slice(cut.log_id.as_bytes()),
            head,
            epoch: self.events.log().epoch_at(cut.head),
            chain: Bytes::copy_from_slice(&cut.chain),
            time: Some(Timestamp { seconds: now / NANOS_A_SECOND, nanos: (now % NANOS_A_SECOND) as i32 }),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            files,
            first_position: cut.first.get(),
            epochs: epochs.collect(),
        };
        (piece(Piece::Cut(message)), sources)
    }
}

fn piece(piece: Piece) -> v1::BackupResponse {
    v1::BackupResponse { piece: Some(piece) }
}

fn local_state(error: &dyn std::error::Error) -> Refusal {
    tracing::error!(%error, "local state could not be read or written");
    Refusal::new(Code::Internal, "LOCAL_STATE_UNREADABLE", format!("local state: {error}"))
}

/// A backup on its way.
struct Sending {
    log: LogReader,
    pace: Pace,
    _permit: OwnedSemaphorePermit,
}

impl Sending {
    async fn all(
        mut self,
        sources: Vec<(String, Source)>,
        outbox: &Outbox<v1::BackupResponse>,
    ) -> Result<(), Refusal> {
        for (name, source) in sources {
            let sent = match source {
                Source::Bytes(bytes) => self.bytes(name, bytes, outbox).await,
                Source::Segment(cut) => self.segment(name, cut, outbox).await,
            };
            match sent? {
                Ok(()) => {}
                Err(NotSent::ClientGone) => return Ok(()),
                Err(NotSent::Stalled) => {
                    let message =
                        "the backup was ended because its bytes were not taken; repeat it with --resume";
                    return Err(Refusal::new(Code::ResourceExhausted, "READER_TOO_SLOW", message));
                }
            }
        }
        let end = Piece::End(v1::BackupEnd { bytes: self.pace.sent });
        drop(outbox.send(piece(end)).await);
        Ok(())
    }

    async fn bytes(
        &mut self,
        name: String,
        bytes: Bytes,
        outbox: &Outbox<v1::BackupResponse>,
    ) -> Result<Result<(), NotSent>, Refusal> {
        let sha256 = Sha256::digest(&bytes);
        let mut pieces = vec![Piece::File(name)];
        let chunks = (0..bytes.len()).step_by(BACKUP_CHUNK_BYTES);
        pieces
            .extend(chunks.map(|at| Piece::Data(bytes.slice(at..bytes.len().min(at + BACKUP_CHUNK_BYTES)))));
        pieces.push(Piece::FileEnd(v1::BackupFileEnd { sha256: Bytes::copy_from_slice(&sha256) }));
        self.pace.spend(bytes.len()).await;
        for one in pieces {
            if let Err(not_sent) = outbox.send(piece(one)).await {
                return Ok(Err(not_sent));
            }
        }
        Ok(Ok(()))
    }

    async fn segment(
        &mut self,
        name: String,
        cut: SegmentCut,
        outbox: &Outbox<v1::BackupResponse>,
    ) -> Result<Result<(), NotSent>, Refusal> {
        let log = self.log.clone();
        let opened = blocking(move || {
            if log.sealed_segments().contains(&cut.first) {
                log.verify_sealed(cut.first, &mut |_| true)?;
            }
            log.open_cut(&cut)
        });
        let mut file = opened.await?.map_err(EventsError::from)?;
        if let Err(not_sent) = outbox.send(piece(Piece::File(name))).await {
            return Ok(Err(not_sent));
        }
        let (mut digest, mut offset) = (Sha256::new(), 0);
        loop {
            let read = blocking(move || {
                let mut buffer = Vec::new();
                let read = file.read(offset, &mut buffer, BACKUP_CHUNK_BYTES);
                digest.update(&buffer);
                read.map(|()| (file, digest, Bytes::from(buffer)))
            });
            let data;
            (file, digest, data) = read.await?.map_err(EventsError::from)?;
            if data.is_empty() {
                break;
            }
            offset += data.len() as u64;
            self.pace.spend(data.len()).await;
            if let Err(not_sent) = outbox.send(piece(Piece::Data(data))).await {
                return Ok(Err(not_sent));
            }
        }
        let sha256 = Bytes::copy_from_slice(&digest.finalize());
        let end = Piece::FileEnd(v1::BackupFileEnd { sha256 });
        Ok(outbox.send(piece(end)).await)
    }
}

/// Keeps to a rate.
struct Pace {
    began: Instant,
    sent: u64,
    per_second: Option<u64>,
}

impl Pace {
    /// Waits until so many bytes may be sent.
    async fn spend(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        let Some(per_second) = self.per_second else { return };
        let due = Duration::from_secs_f64(self.sent as f64 / per_second as f64);
        if let Some(wait) = due.checked_sub(self.began.elapsed()) {
            tokio::time::sleep(wait).await;
        }
    }
}
