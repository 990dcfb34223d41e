//! How a runner goes on that is far behind: with several threads, and where it builds, when it is its turn.
//!
//! Does not know how a stretch is worked through.

use super::{
    IDLE_WAIT, Runner, Trouble, Undurable,
    pipeline::{Pipeline, Prepared},
};
use crate::{
    event::Position,
    follower::Step,
    kv::Persistence,
    limits::{
        BATCH_BYTES_MAX, BATCH_EVENTS_MAX, BUILD_BATCH_EVENTS_MAX, PIPELINE_CHUNKS_MAX, PIPELINE_EVENTS_MAX,
        PIPELINE_EVENTS_MIN,
    },
    projection::{batch::Batch, builds::Builds},
};

impl Runner {
    /// The same, building only when it is its turn; `answers`: before those that do not.
    #[must_use]
    pub fn taking_turns(self, builds: &Builds, answers: bool) -> Self {
        Self { build: builds.place(answers), ..self }
    }

    /// Whether a first build may go on now; if not, the runner is woken when it may.
    fn has_turn(&mut self) -> bool {
        let has_turn = self.status.progress().built || self.build.take(&self.head, &self.stop);
        self.status.queued(!has_turn);
        has_turn
    }

    pub(super) fn is_far_behind(&self, batch: &Batch, upto: Position) -> bool {
        let cursor = batch.cursor();
        cursor >= self.careful_upto && upto.get().saturating_sub(cursor.get()) >= PIPELINE_EVENTS_MIN
    }

    /// A long stretch, with all full batches written; the next step writes the rest. A first build waits for its turn.
    pub(super) fn advance_far(&mut self, batch: &mut Batch, upto: Position) -> Result<Step, Trouble> {
        if !self.has_turn() {
            if batch.events() > 0 {
                // It has given way, and may wait for long.
                let turns = self.turns.clone();
                let _turn = turns.durable();
                self.commit(batch, false, Persistence::Durable)?;
            }
            batch.rest();
            return Ok(Step::Held(IDLE_WAIT));
        }
        let upto = upto.min(batch.cursor().plus(PIPELINE_EVENTS_MAX));
        self.refresh_decisions()?;
        let memory = self.store.memory();
        let built = self.status.progress().built;
        let pipeline = Pipeline {
            reader: &self.reader,
            definition: self.store.definition(),
            status: &self.status,
            turns: &self.turns,
            stop: &self.stop,
            batch_events_max: if built { BATCH_EVENTS_MAX } else { BUILD_BATCH_EVENTS_MAX },
            batch_bytes_max: memory.documents_bytes().min(BATCH_BYTES_MAX),
            chunk_bytes_max: memory.events_bytes() / PIPELINE_CHUNKS_MAX,
        };
        let (events, cursor) = (batch.events(), batch.cursor());
        let worked = pipeline
            .run(batch, upto, &mut |batch, Prepared { event, data }| self.take(batch, &event, Some(data)));
        let applied = batch.cursor().get() - cursor.get();
        if batch.events() < events + applied {
            // Batches were written, and they were durable.
            self.undurable = Undurable::default();
        }
        match worked {
            // It is met again, on its own, and what follows from it is decided then.
            Err(Trouble::Event(_)) => self.careful_upto = batch.cursor().next(),
            Err(trouble) => return Err(trouble),
            Ok(()) => {}
        }
        self.status.troubled(None);
        Ok(Step::More)
    }
}
