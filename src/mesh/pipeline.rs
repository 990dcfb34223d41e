//! From the log to what is published of it: numbers, positions and chain of one export, the same whenever it is read.
//!
//! Invariants: only durable events of the node's own are published, in order of position; numbers are dense from 1; what
//! a pipeline gives depends on the log and the definition alone. Does not know buses or signatures.

use std::sync::Arc;

use super::{
    definition::Export,
    envelope::{Envelope, ExportName, Place, chain_after},
    store::{Checkpoint, Store},
};
use crate::{
    event::{Position, RecordedEvent},
    events::EventsError,
    kv::KvError,
    limits::{CHECKPOINT_EVENTS, EXPORT_CHUNK_BYTES, EXPORT_CHUNK_RECORDS},
    log::{Buffer, LogError, LogReader},
    sabotage::Sabotage,
};

/// Why an export cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The log could not be read.
    #[error(transparent)]
    Events(#[from] EventsError),
    /// The checkpoints could not be read or written.
    #[error("mesh.redb: {0}")]
    Store(#[from] KvError),
    /// The definition does not say what to publish of an event.
    #[error(
        "the event at position {position} cannot be published: {reason}; publish a new version of the export that \
         can, and remove this one"
    )]
    Mapping {
        /// Of the event.
        position: Position,
        /// What the mapping says.
        reason: String,
    },
}

/// One reading of the log for one export.
#[derive(Debug)]
pub struct Pipeline {
    export: Arc<Export>,
    name: ExportName,
    /// After the last published event.
    place: Place,
    /// The log is read up to here.
    position: Position,
    /// Places that are worth keeping.
    checkpoints: Vec<Checkpoint>,
    buffer: Buffer,
    sabotage: Option<Sabotage>,
}

/// Why a visit of the log ended before its end.
enum Halt {
    Enough,
    Failed(PipelineError),
}

impl From<LogError> for Halt {
    fn from(error: LogError) -> Self {
        Self::Failed(PipelineError::Events(error.into()))
    }
}

impl Pipeline {
    /// From the beginning of the log.
    pub fn new(export: Arc<Export>, node: &str, log: &LogReader, sabotage: Option<Sabotage>) -> Self {
        let name = ExportName {
            owner: node.to_owned(),
            export: export.name().to_owned(),
            version: export.version(),
        };
        let place = Place::start(log.log_id(), log.epoch_at(Position::ZERO));
        let (checkpoints, buffer) = (Vec::new(), Buffer::default());
        Self { export, name, place, position: Position::ZERO, checkpoints, buffer, sabotage }
    }

    /// The same at the newest checkpoint at or below a number.
    pub fn seek(&mut self, store: &Store, log: &LogReader, seq: u64) -> Result<(), PipelineError> {
        let key = (self.name.export.as_str(), self.name.version);
        let found = store.checkpoint(key, seq, |checkpoint| is_of(checkpoint, log))?;
        self.begin(found, log);
        Ok(())
    }

    /// The same at the newest checkpoint at or below a position.
    pub fn seek_position(
        &mut self,
        store: &Store,
        log: &LogReader,
        position: Position,
    ) -> Result<(), PipelineError> {
        let key = (self.name.export.as_str(), self.name.version);
        let found = store.checkpoint_below(key, position, |checkpoint| is_of(checkpoint, log))?;
        self.begin(found, log);
        Ok(())
    }

    fn begin(&mut self, checkpoint: Option<Checkpoint>, log: &LogReader) {
        let start = || Place::start(log.log_id(), log.epoch_at(Position::ZERO));
        self.place = checkpoint.map_or_else(start, |checkpoint| checkpoint.place);
        self.position = self.place.position;
        self.checkpoints.clear();
    }

    /// Whose sequence it is.
    pub const fn name(&self) -> &ExportName {
        &self.name
    }

    /// The definition.
    pub const fn export(&self) -> &Arc<Export> {
        &self.export
    }

    /// After the last published event.
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// The log is read up to here.
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Checkpoints since the last call.
    pub fn take_checkpoints(&mut self) -> Vec<Checkpoint> {
        std::mem::take(&mut self.checkpoints)
    }

    /// Reads on, a bounded stretch up to `upto`, until `messages_max` events are published or the place of `stop_at` is
    /// reached. Unsigned.
    pub fn run(
        &mut self,
        log: &LogReader,
        upto: Position,
        messages_max: usize,
        stop_at: u64,
    ) -> Result<Vec<Envelope>, PipelineError> {
        let mut out = Vec::new();
        if self.place.seq >= stop_at || self.position >= upto {
            return Ok(out);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let limits = (EXPORT_CHUNK_BYTES, EXPORT_CHUNK_RECORDS);
        let visited = log.visit((self.position, upto), limits, &mut buffer, |position, payload| {
            if out.len() >= messages_max || self.place.seq >= stop_at {
                return Err(Halt::Enough);
            }
            out.extend(self.publish(log, position, payload).map_err(Halt::Failed)?);
            self.position = position;
            Ok(())
        });
        self.buffer = buffer;
        match visited {
            Ok(()) | Err(Halt::Enough) => Ok(out),
            // What was published before the event that fails counts.
            Err(Halt::Failed(PipelineError::Mapping { .. })) if !out.is_empty() => Ok(out),
            Err(Halt::Failed(error)) => Err(error),
        }
    }

    fn publish(
        &mut self,
        log: &LogReader,
        position: Position,
        payload: &[u8],
    ) -> Result<Option<Envelope>, PipelineError> {
        let payload = bytes::Bytes::copy_from_slice(payload);
        let recorded = RecordedEvent::decode(position, payload).map_err(EventsError::from)?;
        let is_own = recorded.origin.is_none() || self.sabotage == Some(Sabotage::ReexportImport);
        let is_system = recorded.event.event_type.is_system() || recorded.event.stream.is_system();
        if !is_own || is_system {
            return Ok(None);
        }
        let mapped = self.export.publish(&recorded);
        let Some(event) =
            mapped.map_err(|error| PipelineError::Mapping { position, reason: error.to_string() })?
        else {
            return Ok(None);
        };
        let place = Place {
            log_id: self.place.log_id,
            epoch: log.epoch_at(position),
            seq: self.place.seq + 1,
            position,
            chain: self.place.chain,
        };
        let (name, definition) = (self.name.clone(), *self.export.hash());
        let mut envelope = Envelope { name, definition, place, event, signature: None };
        envelope.place.chain = chain_after(&self.place.chain, &envelope);
        self.place = envelope.place.clone();
        if self.place.seq.is_multiple_of(CHECKPOINT_EVENTS) {
            self.checkpoints.push(Checkpoint { place: self.place.clone(), id: recorded.event.id });
        }
        Ok(Some(envelope))
    }
}

/// Whether the log has a checkpoint's event where it says.
fn is_of(checkpoint: &Checkpoint, log: &LogReader) -> bool {
    let Place { epoch, position, .. } = checkpoint.place;
    if position > log.head() || log.epoch_at(position) != epoch {
        return false;
    }
    let Ok(Some(payload)) = log.read(position) else { return false };
    RecordedEvent::decode(position, payload).is_ok_and(|recorded| recorded.event.id == checkpoint.id)
}
