//! Follows the log for one version: reads events, applies them in batches, commits, publishes.
//!
//! Invariants: what is published is committed; a batch ends at the head it began with, so a version at the head shows
//! an event at once and one behind it works in large batches, one far behind with several threads (`pipeline`); visible
//! changes are durable within a quarter of a second, 50,000 events or 32 MiB, one file at a time over all versions; a first
//! build, which is not ready before its end, gathers what its memory holds. An event that cannot be applied concerns this
//! version only; where it stands still before one (`settle`), everything before it is durable. A file that fails is closed and opened again; one that is damaged is set aside and
//! built anew. Does not know other versions, queries, or when it is driven.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    event::Position,
    events::Events,
    follower::{Follower, Head, Step, Stop},
    kv::{KvError, Persistence},
    limits::{
        BATCH_BYTES_MAX, BATCH_EVENTS_MAX, DURABLE_INTERVAL_MAX, FOLLOW_SCAN_BYTES_MAX,
        FOLLOW_SCAN_EVENTS_MAX, FOLLOWER_RETRY_MAX,
    },
    log::LogReader,
    projection::{
        batch::Batch,
        builds::{BuildTurn, Builds},
        decisions::Decisions,
        failure::Pause,
        handler::feed::Feed,
        hold::Bound,
        state::State,
        status::Status,
        store::{LogFacts, Store},
    },
};

mod bounds;
mod far;
mod fed;
mod pipeline;
mod rest;
mod settle;
mod traced;
mod turns;

pub use turns::Turns;

/// How long a follower without work waits when nothing but the head can wake it.
const IDLE_WAIT: Duration = Duration::from_secs(3_600);
/// How long it waits for its turn to commit durably.
const TURN_WAIT: Duration = Duration::from_millis(20);
/// The first wait after an I/O error; it doubles up to `FOLLOWER_RETRY_MAX`.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// How often a runner builds anew because its file is damaged, before it gives up.
const REBUILDS_MAX: u32 = 2;

/// The follower of one version.
#[derive(Debug)]
pub struct Runner {
    store: Arc<Store>,
    status: Arc<Status>,
    reader: LogReader,
    head: Head,
    /// Where it ends for good, however far the log goes.
    until: Option<Position>,
    events: Events,
    /// About its projection, as far as it has seen the log, and at least up to the head at which it was opened.
    decisions: Decisions,
    /// The event before which it stands still.
    paused: Option<Position>,
    /// The try that is under way.
    trying: Option<u64>,
    /// This step of a version that stands still is a try too.
    stepping: bool,
    turns: Turns,
    build: BuildTurn,
    stop: Stop,
    /// Where a service says what events do.
    feed: Option<Feed>,
    /// `None` while the file is closed.
    batch: Option<Batch>,
    undurable: Undurable,
    /// Up to here events are applied one by one: an event there could not be applied.
    careful_upto: Position,
    retry: Duration,
    rebuilds: u32,
    traced: traced::Traced,
    rest: rest::Rest,
}

/// What is visible and not durable.
#[derive(Debug, Default)]
struct Undurable {
    events: u64,
    bytes: usize,
    since: Option<Instant>,
}

/// Why a step did not do its work.
#[derive(Debug)]
enum Trouble {
    /// It cannot get past this event; all before it are in the batch.
    Event(Box<Pause>),
    File(KvError),
    Log(String),
}

impl Trouble {
    fn missing(after: Position, upto: Position) -> Self {
        Self::Log(format!("the log has no record behind position {after}, although its head is {upto}"))
    }
}

impl From<Box<Pause>> for Trouble {
    fn from(pause: Box<Pause>) -> Self {
        Self::Event(pause)
    }
}

impl From<KvError> for Trouble {
    fn from(error: KvError) -> Self {
        Self::File(error)
    }
}

impl Runner {
    /// A runner over a closed store.
    pub fn new(store: Arc<Store>, status: Arc<Status>, events: &Events, turns: Turns, stop: Stop) -> Self {
        let decisions = Decisions::new(store.definition().name());
        Self {
            store,
            status,
            decisions,
            events: events.clone(),
            paused: None,
            trying: None,
            stepping: false,
            reader: events.log().clone(),
            head: events.head().clone(),
            until: None,
            turns,
            build: Builds::default().place(true),
            stop,
            feed: None,
            batch: None,
            undurable: Undurable::default(),
            careful_upto: Position::ZERO,
            retry: RETRY_MIN,
            rebuilds: 0,
            traced: traced::Traced::default(),
            rest: rest::Rest::default(),
        }
    }

    /// The same, up to another head, which is not above the log's.
    #[must_use]
    pub fn upto(self, head: Head) -> Self {
        Self { head, ..self }
    }

    /// Opens the file where it is closed, then applies what is there.
    fn work(&mut self) -> Result<Step, Trouble> {
        let mut batch = match self.batch.take() {
            Some(batch) => batch,
            None => self.open()?,
        };
        let bound = self.status.holds().bound();
        let began_at = batch.cursor();
        let worked = self.go_on(&mut batch, bound);
        if batch.cursor() != began_at {
            self.rest = rest::Rest::default();
        }
        if !matches!(worked, Err(Trouble::File(_))) {
            if batch.events() == 0 && !self.is_late() {
                self.status.holds().arrived(bound, batch.cursor());
            }
            self.batch = Some(batch);
        }
        worked
    }

    /// Advances, unless it stands still and nothing has changed that.
    fn go_on(&mut self, batch: &mut Batch, bound: Bound) -> Result<Step, Trouble> {
        if let Some(paused_at) = self.paused.filter(|paused_at| batch.cursor() < *paused_at) {
            if bound.is_reached(batch.cursor()) {
                return Ok(Step::Held(IDLE_WAIT));
            }
            let seen = self.head.get();
            if !self.resume(batch, paused_at)? {
                self.turn_away();
                return Ok(Step::Paused(seen, IDLE_WAIT));
            }
            self.look_again(batch.cursor());
        }
        self.advance(batch, bound)
    }

    fn open(&mut self) -> Result<Batch, Trouble> {
        let facts = LogFacts {
            log_id: self.reader.log_id(),
            head: self.reader.head(),
            epoch_at: &|position| self.reader.epoch_at(position),
        };
        let (state, _) = self.store.open(&facts)?;
        self.undurable = Undurable::default();
        self.refresh_decisions()?;
        if self.paused.is_some_and(|paused_at| paused_at != state.cursor.next()) {
            self.paused = None;
            self.status.unpaused();
        }
        let ledger = self.store.snapshot()?.ledger()?;
        self.status.opened(state.cursor, state.built);
        if let Some(feed) = &mut self.feed {
            feed.begin(state.cursor);
        }
        Ok(Batch::new(Arc::clone(&self.store), state).with_ledger(ledger))
    }

    /// One batch, its commit, and a durable commit where one is due.
    fn advance(&mut self, batch: &mut Batch, bound: Bound) -> Result<Step, Trouble> {
        let end = self.end();
        let upto = bound.limit(batch.cursor(), end);
        if self.feed.is_none() && self.is_far_behind(batch, upto) {
            return self.advance_far(batch, upto);
        }
        let turns = self.turns.clone();
        // A service's answers are not waited for in turn.
        let following = self.feed.is_none().then(|| turns.following());
        let filled = if self.feed.is_some() {
            self.fill_fed(batch, upto, bound)
        } else {
            self.fill(batch, upto).map(|()| self.next_step(batch, bound, IDLE_WAIT))
        };
        if let Err(trouble @ (Trouble::File(_) | Trouble::Log(_))) = filled {
            return Err(trouble);
        }
        if self.is_late() {
            self.paused = None;
            self.status.troubled(None);
            return filled;
        }
        let failed = filled.is_err();
        let caught_up = batch.cursor() >= end;
        let first_build = caught_up && !self.status.progress().built;
        if failed || first_build || self.is_due_by_size(batch) || self.stands_at_decision(batch) {
            drop(following);
            if first_build && !failed && self.store.is_large()? {
                self.compact(batch)?;
            }
            let _turn = turns.durable();
            self.commit(batch, caught_up, Persistence::Durable)?;
        } else {
            if batch.events() > 0 {
                self.commit(batch, caught_up, Persistence::Buffered)?;
            }
            drop(following);
        }
        let next = filled?;
        self.paused = None;
        self.status.troubled(None);
        if self.is_due_by_time() {
            let Some(_turn) = turns.try_durable() else {
                return Ok(next.within(TURN_WAIT));
            };
            self.commit(batch, caught_up, Persistence::Durable)?;
        }
        let wait = match self.undurable.since {
            _ if next == Step::More => return Ok(next),
            Some(since) => DURABLE_INTERVAL_MAX.saturating_sub(since.elapsed()),
            None => self.rest(batch)?,
        };
        Ok(next.within(wait))
    }

    /// Applies events up to `upto`, or until the batch is full or the stop is requested.
    fn fill(&mut self, batch: &mut Batch, upto: Position) -> Result<(), Trouble> {
        let batch_bytes_max = self.store.memory().documents_bytes().min(BATCH_BYTES_MAX);
        let scan_bytes_max = self.store.memory().events_bytes().min(FOLLOW_SCAN_BYTES_MAX);
        while batch.cursor() < upto
            && batch.events() < BATCH_EVENTS_MAX
            && batch.bytes() < batch_bytes_max
            && !batch.is_full()
            && !self.stop.is_requested()
        {
            let after = batch.cursor();
            let records = self
                .reader
                .scan(after, upto, scan_bytes_max, FOLLOW_SCAN_EVENTS_MAX)
                .map_err(|error| Trouble::Log(format!("reading the log behind position {after}: {error}")))?;
            if records.is_empty() {
                return Err(Trouble::missing(after, upto));
            }
            for (position, payload) in records {
                if self.status.holds().forbid(position) {
                    return Ok(());
                }
                self.take_record(batch, position, payload)?;
            }
        }
        Ok(())
    }

    /// Compacts the file that a first build leaves. What it writes before is shown by the next commit: whoever waits for
    /// the head finds the file open.
    fn compact(&mut self, batch: &mut Batch) -> Result<(), KvError> {
        self.write(batch, false, Persistence::Durable)?;
        let shown = self.status.progress().as_of;
        self.status.closed("its file is being compacted after its first build");
        self.store.compact()?;
        self.status.opened(shown, false);
        Ok(())
    }

    fn commit(
        &mut self,
        batch: &mut Batch,
        caught_up: bool,
        persistence: Persistence,
    ) -> Result<(), KvError> {
        let events = batch.events();
        let State { cursor, built, .. } = self.write(batch, caught_up, persistence)?;
        self.status.advanced(cursor, built, events);
        self.tell_committed(cursor, events);
        Ok(())
    }

    /// Commits without showing it.
    fn write(
        &mut self,
        batch: &mut Batch,
        caught_up: bool,
        persistence: Persistence,
    ) -> Result<State, KvError> {
        let (events, bytes) = (batch.events(), batch.bytes());
        let epoch = match batch.cursor() {
            Position::ZERO => 0,
            cursor => self.reader.epoch_at(cursor),
        };
        let state = batch.commit(epoch, caught_up, persistence)?;
        self.undurable = match persistence {
            Persistence::Durable => Undurable::default(),
            Persistence::Buffered => Undurable {
                events: self.undurable.events + events,
                bytes: self.undurable.bytes + bytes,
                since: self.undurable.since.or_else(|| Some(Instant::now())),
            },
        };
        self.retry = RETRY_MIN;
        Ok(state)
    }

    fn is_due_by_size(&self, batch: &Batch) -> bool {
        self.undurable.events + batch.events() >= BATCH_EVENTS_MAX
            || self.undurable.bytes + batch.bytes() >= BATCH_BYTES_MAX
    }

    fn is_due_by_time(&self) -> bool {
        let since = self.undurable.since;
        since.is_some_and(|since| since.elapsed() >= DURABLE_INTERVAL_MAX)
    }

    /// What follows from a step that did not do its work.
    fn recover(&mut self, trouble: Trouble) -> Step {
        match trouble {
            Trouble::Event(pause) => {
                self.pause(*pause);
                Step::More
            }
            Trouble::Log(trouble) => {
                tracing::warn!(file = %self.store.path().display(), %trouble, "a projection waits");
                self.status.troubled(Some(&trouble));
                self.back_off()
            }
            Trouble::File(KvError::Damaged(reason)) => self.rebuild(reason),
            Trouble::File(error) => {
                let trouble = format!("{}: {error}", self.store.path().display());
                tracing::warn!(%trouble, "a projection's file is opened again");
                self.close(&trouble);
                self.back_off()
            }
        }
    }

    fn rebuild(&mut self, reason: String) -> Step {
        self.close(&reason);
        if self.rebuilds == REBUILDS_MAX {
            return self.fail(&format!(
                "{} was damaged {} times since the start, at last: {reason}; check the disk and restart",
                self.store.path().display(),
                REBUILDS_MAX + 1
            ));
        }
        self.rebuilds += 1;
        match self.store.discard(reason) {
            Ok(_) => Step::More,
            Err(error) => {
                self.close(&error.to_string());
                self.back_off()
            }
        }
    }

    fn close(&mut self, trouble: &str) {
        self.batch = None;
        self.undurable = Undurable::default();
        self.status.closed(trouble);
        self.store.close();
    }

    fn fail(&mut self, failure: &str) -> Step {
        tracing::error!(%failure, "a projection stopped");
        self.status.failed(failure);
        if let Some(feed) = &mut self.feed {
            feed.stop(failure);
        }
        Step::Over
    }

    fn back_off(&mut self) -> Step {
        let wait = self.retry;
        self.retry = (2 * self.retry).min(FOLLOWER_RETRY_MAX);
        Step::Retry(wait)
    }
}

impl Follower for Runner {
    fn step(&mut self) -> Step {
        // redb checks invariants by panics; on a damaged file they must stop this version and no other.
        let worked = catch_unwind(AssertUnwindSafe(|| self.work())).unwrap_or_else(|_| {
            Err(Trouble::File(KvError::Damaged(
                "working on it failed an internal check, see the log output".into(),
            )))
        });
        // A try that met trouble of another kind goes on when that is over.
        let has_tried = matches!(worked, Ok(_) | Err(Trouble::Event(_)));
        let step = worked.unwrap_or_else(|trouble| self.recover(trouble));
        if step != Step::More {
            self.build.give_back();
        }
        if let Some(number) = self.trying.take_if(|_| has_tried) {
            self.status.tried(number);
        } else if std::mem::take(&mut self.stepping) && self.trying.is_none() {
            self.status.control().end_try();
        }
        step
    }

    fn finish(&mut self) {
        let Some(mut batch) = self.batch.take() else {
            return;
        };
        if batch.events() == 0 && self.undurable.events == 0 || !self.is_settled() {
            return;
        }
        let turns = self.turns.clone();
        let _turn = turns.durable();
        if let Err(error) = self.commit(&mut batch, false, Persistence::Durable) {
            let trouble = format!("{}: {error}", self.store.path().display());
            tracing::warn!(%trouble, "the last changes of a projection are not durable and will be applied again");
            self.status.closed(&trouble);
        }
    }
}

#[cfg(test)]
mod tests;
