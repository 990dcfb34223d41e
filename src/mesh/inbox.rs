//! The inbox of an import: takes another node's export over into this node's log, in the owner's order.
//!
//! Reads the owner's stream from its own place on the bus (no state on the broker), holds what comes against order,
//! chain and signature (`pending`), maps it and appends it with its cursor (`apply`), and asks the owner for what the bus
//! does not give (`ask`). Invariants: what is appended continues, without gap, what was appended before, under a
//! signature of the owner; the cursor is durable with the events; a place on the bus is a hint and never trusted. A stop
//! that the owner's log can set right repairs itself; the others stand until somebody acts. Does not know what its events mean.

mod apply;
mod ask;
mod bulk;
mod decide;
mod late;
mod pending;
mod read;
mod shown;

use std::{collections::VecDeque, sync::Arc};

use super::{
    bus::{BusEvent, Kept, Ticket},
    decisions::ImportDecisions,
    definition::Import,
    envelope::{Place, Received, from_message},
    io::{Io, Next, Rate, Route},
    quarantine::Quarantine,
    state::{RepairStatus, Stop, StopReason},
};
use crate::{
    append::Request,
    event::{ImportCursor, Position},
    events::EventsError,
    kv::KvError,
    limits::{BUS_RETRY, IMPORT_PROBE},
};
use apply::{Appending, Draft};
use ask::Asking;
use bulk::Bulk;
use late::Late;
use pending::{Pending, Trouble};

/// One import.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says one thing of the bus that no other follows from"
)]
pub struct Inbox {
    route: Route,
    import: Arc<Import>,
    pub(super) decisions: ImportDecisions,
    /// What it has set aside.
    pub(super) quarantine: Quarantine,
    late: Late,
    phase: Phase,
    /// How far it has come, durably.
    durable: Option<ImportCursor>,
    /// How far it has taken over; appends up to here may be under way.
    accepted: Place,
    definition: Option<[u8; 32]>,
    /// What the newest append stores as its place.
    tracked: u64,
    pending: Pending,
    draft: Draft,
    appending: VecDeque<Appending>,
    held_back: Option<Request>,
    /// From this number on ids are those of this generation.
    parted_at: Option<u64>,
    listening: Option<Ticket>,
    fetching: Option<Ticket>,
    bus_after: u64,
    is_at_end: bool,
    has_heard: bool,
    look_at: i64,
    /// When the owner last showed, under its signature, that it has the import's place.
    heard_at: i64,
    kept_read: u64,
    asking: Option<Asking>,
    bulk: Bulk,
    ask_at: i64,
    failed_asks: u32,
    /// The owner does not answer: the stream is looked at again from its beginning.
    is_rescanning: bool,
    /// The last place that both have, where the owner no longer has this import's.
    pub(super) matched: Option<Place>,
    stop: Option<Stop>,
    /// The owner's log, of the event at which it stopped.
    stopped_log: Option<uuid::Uuid>,
    is_connected: bool,
    retry_at: i64,
    last_error: Option<String>,
    owner_seq: u64,
    appended: u64,
    rate: Rate,
    repair: RepairStatus,
    /// Stops since the node started, for whoever counts them.
    pub(super) stops: Vec<StopReason>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It reads its place from the log.
    Loading,
    /// It takes over what was parked and may leave; nothing else is under way.
    Late,
    /// It takes over.
    Running,
}

/// Why an import cannot go on for now.
#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    /// The log could not be read.
    #[error(transparent)]
    Events(#[from] EventsError),
    /// `mesh.redb` could not be read or written.
    #[error("mesh.redb: {0}")]
    Store(#[from] KvError),
}

impl Inbox {
    /// An inbox that has not started.
    pub fn new(number: usize, import: Arc<Import>) -> Self {
        Self {
            route: Route::Import(number),
            import,
            decisions: ImportDecisions::default(),
            quarantine: Quarantine::default(),
            late: Late::default(),
            phase: Phase::Loading,
            durable: None,
            accepted: Place::start(uuid::Uuid::nil(), 0),
            definition: None,
            tracked: 0,
            pending: Pending::default(),
            draft: Draft::default(),
            appending: VecDeque::new(),
            held_back: None,
            parted_at: None,
            listening: None,
            fetching: None,
            bus_after: 0,
            is_at_end: false,
            has_heard: false,
            look_at: 0,
            heard_at: 0,
            kept_read: 0,
            asking: None,
            bulk: Bulk::default(),
            ask_at: 0,
            failed_asks: 0,
            is_rescanning: false,
            matched: None,
            stop: None,
            stopped_log: None,
            is_connected: false,
            retry_at: 0,
            last_error: None,
            owner_seq: 0,
            appended: 0,
            rate: Rate::default(),
            repair: RepairStatus::default(),
            stops: Vec::new(),
        }
    }

    /// The definition.
    pub const fn import(&self) -> &Arc<Import> {
        &self.import
    }

    /// Why it does not go on.
    pub const fn stopped(&self) -> Option<&Stop> {
        self.stop.as_ref()
    }

    /// How far it has come, durably.
    pub const fn durable(&self) -> Option<&ImportCursor> {
        self.durable.as_ref()
    }

    /// Its listener on the bus.
    pub(super) const fn listening(&self) -> Option<Ticket> {
        self.listening
    }

    /// The owner's log, as far as it is known: the stopped event's, or that of its place.
    pub(super) const fn owner_log(&self) -> Option<uuid::Uuid> {
        self.stopped_log
    }

    /// Forgets why it stands still and reads decisions and place again: somebody acted.
    pub fn restart(&mut self) {
        self.stop = None;
        self.phase = Phase::Loading;
        self.retry_at = 0;
        self.failed_asks = 0;
    }

    /// What comes of its operations, and what the bus says to all.
    pub fn on_event(&mut self, event: &BusEvent, io: &mut Io<'_>) {
        match event {
            BusEvent::Connected => {
                self.is_connected = true;
                (self.look_at, self.has_heard) = (0, true);
            }
            BusEvent::Disconnected { reason } => {
                self.is_connected = false;
                self.last_error = Some(reason.clone());
            }
            BusEvent::Heard { .. } | BusEvent::Listening { .. } => self.has_heard = true,
            BusEvent::Forgotten { ticket } if self.listening == Some(*ticket) => self.listening = None,
            BusEvent::Fetched { ticket, messages, last_sequence } if self.fetching == Some(*ticket) => {
                (self.fetching, self.is_connected) = (None, true);
                self.fetched(messages, *last_sequence, io);
            }
            BusEvent::Answered { ticket, message, last } => self.answered(*ticket, message, *last, io),
            BusEvent::Failed { ticket, error } => {
                if self.fetching == Some(*ticket) {
                    self.fetching = None;
                    self.look_at = io.after(BUS_RETRY);
                    self.last_error = Some(error.to_string());
                } else if self.listening == Some(*ticket) {
                    self.listening = None;
                }
                self.unanswered(*ticket, &error.to_string(), io);
            }
            _ => {}
        }
    }

    fn fetched(&mut self, messages: &[Kept], last_sequence: u64, io: &mut Io<'_>) {
        if self.phase != Phase::Running {
            return;
        }
        if last_sequence < self.bus_after {
            // A broker that lost its store begins again: everything is looked at anew.
            self.bus_after = 0;
            self.look_at = io.now_unix_nanos;
            return;
        }
        let (mut trouble, before) = (None, self.accepted.seq);
        for kept in messages {
            if !self.pending.has_room() {
                break;
            }
            self.bus_after = self.bus_after.max(kept.sequence);
            trouble = self.received(&kept.message, io).or(trouble);
        }
        self.is_at_end = messages.is_empty() || self.bus_after >= last_sequence;
        let trouble = self.take_over(io).or(trouble).or_else(|| self.missing());
        if self.accepted.seq > before {
            self.heard_at = io.now_unix_nanos;
        }
        match (trouble, &self.stop) {
            (Some(trouble), None) => self.stop(trouble.reason, trouble.message, &trouble.place, io),
            // The bus had it after all.
            (None, Some(stop)) if stop.reason.is_repairable() && self.accepted.seq >= stop.seq => {
                self.recovered(io);
            }
            _ => {}
        }
        self.is_rescanning &= !self.is_at_end;
        self.consider_bulk(last_sequence, io);
    }

    /// Takes one message in; nothing of it is believed yet.
    fn received(&mut self, message: &super::bus::Message, io: &Io<'_>) -> Option<Trouble> {
        match from_message(message) {
            Ok(Received::Event(envelope)) if envelope.name == *self.import.from() => {
                let signed = envelope.signature.is_some();
                let (place, definition) = (envelope.place.clone(), envelope.definition);
                let signature = envelope.signature.clone();
                let trouble = self.pending.add(&self.accepted, *envelope, io.sabotage)?;
                // A contradiction counts only under the owner's signature; repeats of damaged messages do not.
                let holds = signed
                    && signature.is_some_and(|signature| {
                        io.verify(self.import.from(), &definition, &place, &signature).is_ok()
                    });
                holds.then_some(trouble)
            }
            Ok(Received::Head(head)) if head.name == *self.import.from() => {
                let verified = io.verify(&head.name, &head.definition, &head.place, &head.signature);
                match verified {
                    Ok(()) => {
                        self.owner_seq = self.owner_seq.max(head.place.seq);
                        // A mark below the import's place may be a late one, or a restored owner's: it is asked in time.
                        if head.place.seq >= self.accepted.seq {
                            self.heard_at = io.now_unix_nanos;
                        }
                        self.pending.add_head(&self.accepted, &head)
                    }
                    Err(error) => {
                        self.last_error = Some(format!("a head mark is passed over: {error}"));
                        None
                    }
                }
            }
            Ok(_) => None,
            Err(error) => {
                self.last_error = Some(format!("a message is passed over: {error}"));
                None
            }
        }
    }

    /// Takes over what can be; what keeps the rest from it.
    fn take_over(&mut self, io: &Io<'_>) -> Option<Trouble> {
        while self.stop.as_ref().is_none_or(|stop| stop.reason.is_repairable())
            && self.phase == Phase::Running
        {
            let from = self.import.from().clone();
            let verify = |definition: &[u8; 32], place: &Place, signature: &super::envelope::Signature| {
                io.verify(&from, definition, place, signature).map_err(|error| {
                    let signer = io.trust.signer_of(&from, definition, place, signature);
                    (error, signer.map(str::to_owned))
                })
            };
            let taken = self.pending.advance(&self.accepted, self.definition.as_ref(), &verify, io.sabotage);
            match taken {
                Ok(envelopes) if envelopes.is_empty() => return None,
                Ok(envelopes) => self.apply(envelopes, io),
                Err(trouble) if trouble.reason.is_repairable() => return Some(trouble),
                Err(trouble) => {
                    self.stop(trouble.reason, trouble.message.clone(), &trouble.place, io);
                    return Some(trouble);
                }
            }
        }
        None
    }

    /// What is missing, once everything on the bus was looked at.
    fn missing(&self) -> Option<Trouble> {
        let at = &self.accepted;
        if !self.is_at_end && self.pending.has_room() {
            return None;
        }
        let gap = |place: &Place, message: String| {
            Some(Trouble { reason: StopReason::Gap, message, place: place.clone() })
        };
        if let Some(first) = self.pending.first()
            && first.seq > at.seq + 1
        {
            return gap(first, format!("events {} to {} are missing on the bus", at.seq + 1, first.seq - 1));
        }
        let highest = self.pending.highest_signed()?;
        (highest.seq > at.seq).then_some(())?;
        gap(
            highest,
            format!(
                "the owner has signed for event {}, and the bus has no more than {}",
                highest.seq, at.seq
            ),
        )
    }

    fn stop(&mut self, reason: StopReason, message: String, place: &Place, io: &Io<'_>) {
        let import = self.import.name();
        tracing::error!(import, reason = reason.as_str(), seq = place.seq, position = %place.position, %message, "an import stops");
        self.stops.push(reason);
        self.last_error = Some(message.clone());
        let (seq, position) = (place.seq, place.position);
        let since_unix_nanos = io.now_unix_nanos;
        self.stopped_log = Some(place.log_id);
        self.stop = Some(Stop { reason, message, seq, position, since_unix_nanos, divergence: None });
        self.ask_at = io.now_unix_nanos;
    }

    /// What the owner could set right is right.
    fn recovered(&mut self, io: &Io<'_>) {
        if let Some(stop) = self.stop.take() {
            tracing::info!(import = self.import.name(), reason = stop.reason.as_str(), "an import goes on");
        }
        (self.look_at, self.ask_at) = (io.now_unix_nanos, io.now_unix_nanos);
        self.is_rescanning = false;
    }

    /// Goes on as far as it can without waiting.
    pub fn step(&mut self, io: &mut Io<'_>) -> Result<Next, InboxError> {
        self.settle(io);
        if io.now_unix_nanos < self.retry_at {
            return Ok(Next::At(self.retry_at));
        }
        if self.phase == Phase::Loading && !self.load(io)? {
            return Ok(Next::At(i64::MAX));
        }
        let stands = self.stop.as_ref().is_some_and(|stop| !stop.reason.is_repairable());
        self.submit_due(io);
        if self.decisions.is_paused || (stands && !self.may_be_mended(io)) {
            return Ok(Next::At(io.after(IMPORT_PROBE)));
        }
        if self.phase == Phase::Late && !self.apply_late(io)? {
            return Ok(Next::At(i64::MAX));
        }
        self.listen(io);
        if self.stop.is_some()
            || io.now_unix_nanos > self.heard_at.saturating_add(IMPORT_PROBE.as_nanos() as i64)
        {
            if self.asking.is_none() && io.now_unix_nanos >= self.ask_at {
                self.ask(io)?;
            }
            if self.stop.is_some() && (self.asking.is_some() || !self.is_rescanning) {
                return Ok(Next::At(self.ask_at.max(io.now_unix_nanos + 1)));
            }
        }
        if self.wants_bulk() {
            self.ask_bulk(io);
            return Ok(Next::At(self.ask_at.max(io.now_unix_nanos + 1)));
        }
        self.fetch(io);
        self.keep_read(io)?;
        let due = self.draft_due_at().unwrap_or(i64::MAX).min(self.look_at);
        Ok(Next::At(due.max(io.now_unix_nanos + 1)))
    }

    /// Reads decisions and place from the log, once nothing is under way any more.
    fn load(&mut self, io: &Io<'_>) -> Result<bool, InboxError> {
        if !self.appending.is_empty() || !self.late.is_over() {
            return Ok(false);
        }
        self.quarantine.forget_unsettled();
        self.quarantine.refresh(io.events, self.import.name())?;
        self.decisions.refresh(io.events, self.import.name())?;
        let stored = io.events.import_cursors(&self.source(), Position::new(u64::MAX), 1)?;
        self.durable = stored.into_iter().next().map(|(cursor, _)| cursor);
        let start = || Place::start(uuid::Uuid::nil(), 0);
        let begins_at = || self.decisions.begins_at.clone().unwrap_or_else(start);
        self.accepted = self.durable.as_ref().map_or_else(begins_at, place_of);
        self.definition = self.durable.as_ref().map(|cursor| cursor.definition);
        self.tracked = self.durable.as_ref().map_or(0, |cursor| cursor.seq);
        self.pending.begin_anew();
        (self.draft, self.held_back, self.fetching) = (Draft::default(), None, None);
        let (sequence, seq) = io.store.read(self.import.name())?;
        self.bus_after = if seq <= self.accepted.seq { sequence } else { 0 };
        self.kept_read = seq;
        (self.is_at_end, self.look_at, self.heard_at) = (false, 0, io.now_unix_nanos);
        if self.durable.is_none() && self.decisions.generation > 0 {
            // A resync: the bus is read from where it was left, and what lies before it is asked for.
            (self.heard_at, self.ask_at) = (i64::MIN, io.now_unix_nanos);
        }
        self.phase = Phase::Late;
        Ok(true)
    }

    /// Whether the reason of a standing stop may be gone: keys may have been added since.
    fn may_be_mended(&mut self, io: &Io<'_>) -> bool {
        let owner = &self.import.from().owner;
        let is_known = !io.trust.keys_of(owner).is_empty();
        let is_unknown_owner = self.stop.as_ref().is_some_and(|stop| stop.reason == StopReason::UnknownOwner);
        if is_unknown_owner && is_known {
            self.restart();
            return true;
        }
        false
    }
}

/// The place that a cursor names.
fn place_of(cursor: &ImportCursor) -> Place {
    let ImportCursor { log_id, epoch, seq, position, chain, .. } = cursor;
    Place { log_id: *log_id, epoch: *epoch, seq: *seq, position: *position, chain: *chain }
}
