//! Works through a long stretch of the log: one thread reads and decodes events, one applies them, a third writes what a
//! batch came to while the next one is gathered. All give way to whoever answers calls.
//!
//! Invariants: events are applied in log order on one thread, so that nothing depends on timing; a batch is taken out only
//! when the one before is written; whatever ends the stretch, the batch holds all events up to its cursor, and all that was
//! taken out is written or the file is given up. Queues are bounded. Does not know what follows from an error.

use std::{
    panic::resume_unwind,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{Builder, Scope, ScopedJoinHandle, scope},
};

use super::{Trouble, Turns};
use crate::{
    event::{Invalid, Position, RecordedEvent},
    follower::Stop,
    json::Json,
    kv::{KvError, Persistence},
    limits::{PIPELINE_CHUNK_BYTES_MAX, PIPELINE_CHUNK_EVENTS_MAX, PIPELINE_CHUNKS_MAX},
    log::LogReader,
    process,
    projection::{
        batch::{Batch, Outgoing},
        content_hash::ContentHash,
        declarative::parse_data,
        definition::Definition,
        state::State,
        status::Status,
    },
};

/// An event and its data, read.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) event: RecordedEvent,
    pub(super) data: Result<Json, Invalid>,
}

/// What a stretch needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pipeline<'r> {
    pub(super) reader: &'r LogReader,
    pub(super) definition: &'r Definition,
    pub(super) status: &'r Status,
    pub(super) turns: &'r Turns,
    pub(super) stop: &'r Stop,
    /// Events of a batch.
    pub(super) batch_events_max: u64,
    /// Bytes of changed documents of a batch, as estimated.
    pub(super) batch_bytes_max: usize,
    /// Bytes of events that may be read at a time.
    pub(super) chunk_bytes_max: usize,
}

/// Events in a row, and why there are no more if that is not the end.
type Chunk = (Vec<Prepared>, Result<(), Trouble>);

impl Pipeline<'_> {
    /// Applies events up to `upto`, or until the stop is requested or a hold forbids more; writes all full batches.
    pub(super) fn run(
        &self,
        batch: &mut Batch,
        upto: Position,
        apply: &mut (dyn FnMut(&mut Batch, Prepared) -> Result<(), Trouble> + Send),
    ) -> Result<(), Trouble> {
        scope(|scope| {
            let (chunks, prepared) = sync_channel(PIPELINE_CHUNKS_MAX);
            let after = batch.cursor();
            spawn(scope, "prepare", move || self.prepare(after, upto, &chunks))?;
            let mut writer = Writer::start(scope, *self, batch.content_hash())?;
            // Not on this thread, which follows the log afterwards: who has given way cannot take it back.
            let applying = spawn(scope, "apply", move || {
                let applied = self.apply(batch, &prepared, &mut writer, apply);
                // The thread that prepares ends when nobody takes its chunks.
                drop(prepared);
                let written = writer.finish(batch);
                applied.and(written)
            })?;
            applying.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Reads and decodes.
    fn prepare(&self, mut after: Position, upto: Position, chunks: &SyncSender<Chunk>) {
        while after < upto && !self.stop.is_requested() {
            let (events, end) = match self.chunk(after, upto) {
                Ok(chunk) => chunk,
                Err(trouble) => (Vec::new(), Err(trouble)),
            };
            let last = events.last().map(|prepared| prepared.event.position);
            let over = end.is_err();
            if chunks.send((events, end)).is_err() || over {
                return;
            }
            after = last.unwrap_or(upto);
        }
    }

    fn chunk(&self, after: Position, upto: Position) -> Result<Chunk, Trouble> {
        let bytes = self.chunk_bytes_max.min(PIPELINE_CHUNK_BYTES_MAX);
        let records = self
            .reader
            .scan(after, upto, bytes, PIPELINE_CHUNK_EVENTS_MAX)
            .map_err(|error| Trouble::Log(format!("reading the log behind position {after}: {error}")))?;
        if records.is_empty() {
            return Err(Trouble::missing(after, upto));
        }
        let mut events = Vec::with_capacity(records.len());
        for (position, payload) in records {
            match RecordedEvent::decode(position, payload) {
                Ok(event) => events.push(Prepared { data: parse_data(self.definition, &event), event }),
                Err(invalid) => return Ok((events, Err(Trouble::undecodable(position, &invalid)))),
            }
        }
        Ok((events, Ok(())))
    }

    fn apply(
        &self,
        batch: &mut Batch,
        prepared: &Receiver<Chunk>,
        writer: &mut Writer<'_>,
        apply: &mut (dyn FnMut(&mut Batch, Prepared) -> Result<(), Trouble> + Send),
    ) -> Result<(), Trouble> {
        for (events, end) in prepared {
            for event in events {
                if self.status.holds().forbid(event.event.position) {
                    return Ok(());
                }
                apply(batch, event)?;
                if self.is_full(batch) {
                    writer.write(batch, self.reader.epoch_at(batch.cursor()))?;
                }
            }
            end?;
            if self.stop.is_requested() {
                break;
            }
        }
        Ok(())
    }

    fn is_full(&self, batch: &Batch) -> bool {
        batch.events() >= self.batch_events_max || batch.bytes() >= self.batch_bytes_max || batch.is_full()
    }

    fn write_all(
        &self,
        outgoing: &Receiver<Outgoing>,
        written: &SyncSender<Result<State, KvError>>,
        mut hash: ContentHash,
    ) {
        for outgoing in outgoing {
            let events = outgoing.events;
            let turn = self.turns.durable();
            let state = outgoing.write(hash, Persistence::Durable);
            drop(turn);
            if let Ok(State { cursor, built, content_hash, .. }) = &state {
                hash = *content_hash;
                self.status.advanced(*cursor, *built, events);
            }
            if written.send(state).is_err() {
                return;
            }
        }
    }
}

/// The thread that writes, seen from the one that applies.
struct Writer<'scope> {
    outgoing: SyncSender<Outgoing>,
    written: Receiver<Result<State, KvError>>,
    thread: ScopedJoinHandle<'scope, ()>,
    busy: bool,
}

impl<'scope> Writer<'scope> {
    fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        pipeline: Pipeline<'env>,
        hash: ContentHash,
    ) -> Result<Self, Trouble> {
        // One batch is on its way at the most.
        let (outgoing, to_write) = sync_channel(1);
        let (tell, written) = sync_channel(1);
        let thread = spawn(scope, "write", move || pipeline.write_all(&to_write, &tell, hash))?;
        Ok(Self { outgoing, written, thread, busy: false })
    }

    /// Hands over what the batch holds, once what was handed over before is written.
    fn write(&mut self, batch: &mut Batch, epoch: u64) -> Result<(), Trouble> {
        self.wait(batch)?;
        // A thread that is gone has panicked; `finish` passes that on.
        self.busy = self.outgoing.send(batch.take_out(epoch, false)).is_ok();
        Ok(())
    }

    fn wait(&mut self, batch: &mut Batch) -> Result<(), Trouble> {
        if std::mem::take(&mut self.busy)
            && let Ok(written) = self.written.recv()
        {
            batch.written(written?.content_hash);
        }
        Ok(())
    }

    fn finish(mut self, batch: &mut Batch) -> Result<(), Trouble> {
        let waited = self.wait(batch);
        let Self { outgoing, written, thread, .. } = self;
        drop((outgoing, written));
        match thread.join() {
            Ok(()) => waited,
            Err(panic) => resume_unwind(panic),
        }
    }
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>, Trouble> {
    let gives_way = move || {
        process::give_way(process::Work::CatchingUp);
        work()
    };
    let spawned = Builder::new().name(format!("projection-{name}")).spawn_scoped(scope, gives_way);
    spawned.map_err(|error| Trouble::Log(format!("starting a thread: {error}")))
}
