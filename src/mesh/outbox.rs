//! The outbox of one version of an export: a follower of the log that publishes what its definition says.
//!
//! There is no outbox table: the log is the outbox, and the cursor is what the bus holds. At its start it reads back its
//! newest signed message and finds that place again in its own log (`start`); then it publishes through a bounded window
//! (`window`), the last message of each batch signed. What became of a publish is asked of the bus where its answer was
//! lost (`look_for`), and sent again only where it is absent. Invariants: numbers are published in order for the first
//! time; nothing is published that is not durable, and nothing before the place on the bus is understood. Does not
//! know importers beyond hints and head marks.

mod shown;
mod start;
mod window;

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{
    bus::{BusError, BusEvent, Kept, Message, Operation, Ticket},
    decisions::{ExportDecisions, GivenUp},
    definition::Export,
    envelope::{ExportName, Place, Received, from_message, head_to_message, hex},
    io::{Io, Next, Rate, Route},
    pipeline::{Pipeline, PipelineError},
    state::{ExportState, Rewound},
    traced,
};
use crate::{
    append::Answer,
    event::Position,
    kv::Persistence,
    limits::{
        BUS_RETRY, CHECKPOINT_INTERVAL, FETCH_BYTES_MAX, FETCH_MESSAGES_MAX, HEAD_MARK_AFTER_CHANGE,
        HEAD_MARK_IDLE, PUBLISH_BATCH_MESSAGES, REPUBLISH_EVENTS_MAX,
    },
    log::LogReader,
    sabotage::Sabotage,
};
use start::Start;
use window::{Slot, Window};

/// One version of an export on its way to the bus.
#[derive(Debug)]
pub struct Outbox {
    route: Route,
    pipeline: Pipeline,
    phase: Phase,
    window: Window,
    /// The last place that the bus has acknowledged with all before it.
    acknowledged: Place,
    /// The highest sequence of an acknowledgement.
    sequence: u64,
    /// The lookup of messages whose publish came to an unknown end.
    lookup: Option<Ticket>,
    /// How far it has come.
    looked_upto: Option<u64>,
    /// Where the newest message is read back.
    check: Option<Ticket>,
    check_at: i64,
    /// The head mark that is under way, and what the bus had acknowledged when it was sent.
    mark: Option<(Ticket, u64)>,
    marked: Option<Place>,
    mark_at: i64,
    retry_at: i64,
    kept_at: i64,
    hinted: u64,
    is_connected: bool,
    last_error: Option<String>,
    resent: u64,
    found_again: u64,
    pub(super) repairs_served: u64,
    rate: Rate,
    /// The append that records the definition under which this version is published.
    publishing: Option<oneshot::Receiver<Answer>>,
    /// What it has met that concerns the node as a whole; taken by the node.
    pub(super) met: Option<Met>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// It looks for its place.
    Starting(Start),
    /// It publishes.
    Running,
    /// It stands still until somebody acts.
    Standing(ExportState),
}

/// What the outbox has met that concerns the node as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Met {
    /// Its own past, above its log.
    Rewound(Rewound, GivenUp),
    /// Another log under its name.
    NameTaken(GivenUp),
}

impl Outbox {
    /// An outbox that has not started.
    pub fn new(
        number: usize,
        export: Arc<Export>,
        node: &str,
        log: &LogReader,
        sabotage: Option<Sabotage>,
    ) -> Self {
        let pipeline = Pipeline::new(export, node, log, sabotage);
        let acknowledged = pipeline.place().clone();
        Self {
            route: Route::Export(number),
            pipeline,
            phase: Phase::Starting(Start::default()),
            window: Window::default(),
            acknowledged,
            sequence: 0,
            lookup: None,
            looked_upto: None,
            check: None,
            check_at: 0,
            mark: None,
            marked: None,
            mark_at: 0,
            retry_at: 0,
            kept_at: 0,
            hinted: 0,
            is_connected: false,
            last_error: None,
            resent: 0,
            found_again: 0,
            repairs_served: 0,
            rate: Rate::default(),
            publishing: None,
            met: None,
        }
    }

    /// Whose sequence it is.
    pub fn name(&self) -> &ExportName {
        self.pipeline.name()
    }

    /// The definition.
    pub fn export(&self) -> &Arc<Export> {
        self.pipeline.export()
    }

    /// Begins anew: looks for its place.
    pub fn restart(&mut self) {
        self.phase = Phase::Starting(Start::default());
        self.window.clear();
        (self.lookup, self.check, self.mark) = (None, None, None);
        self.retry_at = 0;
    }

    /// Whether everything that is durable is published and acknowledged.
    pub fn is_drained(&self, head: Position) -> bool {
        match self.phase {
            Phase::Running => self.window.is_empty() && self.pipeline.position() >= head,
            Phase::Standing(_) => true,
            Phase::Starting(_) => false,
        }
    }

    /// What comes of its operations, and what the bus says to all.
    pub fn on_event(&mut self, event: &BusEvent, io: &Io<'_>) {
        match event {
            BusEvent::Connected => {
                self.is_connected = true;
                self.retry_at = 0;
            }
            BusEvent::Disconnected { .. } => self.is_connected = false,
            BusEvent::Published { ticket, sequence, duplicate } => {
                self.is_connected = true;
                self.published(*ticket, *sequence, *duplicate, io);
            }
            BusEvent::Fetched { ticket, messages, last_sequence } => {
                self.is_connected = true;
                self.fetched(*ticket, messages, *last_sequence, io);
            }
            BusEvent::Failed { ticket, error } => self.failed(*ticket, error, io),
            _ => {}
        }
    }

    fn published(&mut self, ticket: Ticket, sequence: u64, duplicate: bool, io: &Io<'_>) {
        if let Some((_, floor)) = self.mark.filter(|(mark, _)| *mark == ticket) {
            self.mark = None;
            if sequence <= floor && !duplicate {
                self.lost_tail(io);
            }
            return;
        }
        let Some(sending) = self.window.settle(ticket) else { return };
        sending.slot = Slot::Acknowledged;
        traced::published(io, &sending.message, &sending.message_id, sending.sent_unix_nanos);
        if sequence <= sending.floor.unwrap_or(0) && !duplicate {
            // A broker that begins again has lost what it had acknowledged before.
            return self.lost_tail(io);
        }
        self.sequence = self.sequence.max(sequence);
        self.rate.add(1);
    }

    /// The bus has begun again: what it may have lost is published once more, as far as that is bounded.
    fn lost_tail(&mut self, io: &Io<'_>) {
        tracing::warn!(export = %self.name(), "the bus has lost messages that it had acknowledged; they are published again");
        self.go_back(self.acknowledged.seq.saturating_sub(REPUBLISH_EVENTS_MAX), io);
    }

    fn go_back(&mut self, seq: u64, io: &Io<'_>) {
        self.window.clear();
        self.lookup = None;
        self.sequence = 0;
        self.marked = None;
        self.phase = Phase::Starting(Start::at(seq));
        self.retry_at = io.now_unix_nanos;
    }

    fn failed(&mut self, ticket: Ticket, error: &BusError, io: &Io<'_>) {
        let is_refusal =
            matches!(error, BusError::Refused(_) | BusError::TooLarge { .. } | BusError::NotFound(_));
        if is_refusal || self.last_error.is_none() {
            self.last_error = Some(error.to_string());
        }
        if self.mark.is_some_and(|(mark, _)| mark == ticket) {
            (self.mark, self.marked) = (None, None);
            self.mark_at = io.after(BUS_RETRY);
            return;
        }
        for own in [&mut self.lookup, &mut self.check] {
            if *own == Some(ticket) {
                *own = None;
                self.retry_at = io.after(BUS_RETRY);
                return;
            }
        }
        if let Phase::Starting(start) = &mut self.phase
            && start.failed(ticket)
        {
            self.retry_at = io.after(BUS_RETRY);
        }
        if let Some(sending) = self.window.settle(ticket) {
            let is_unknown = matches!(error, BusError::Unknown(_));
            sending.slot = match (is_unknown, io.sabotage) {
                (true, Some(Sabotage::ForgetUnknown)) => Slot::Acknowledged,
                (true, Some(Sabotage::ResendBlindly)) | (false, _) => Slot::Waiting,
                (true, _) => Slot::Unknown,
            };
            if !is_unknown {
                self.retry_at = io.after(BUS_RETRY);
            }
        }
    }

    fn fetched(&mut self, ticket: Ticket, messages: &[Kept], last_sequence: u64, io: &Io<'_>) {
        if self.lookup == Some(ticket) {
            self.lookup = None;
            self.looked(messages, last_sequence);
        } else if self.check == Some(ticket) {
            self.check = None;
            self.checked(messages, io);
        } else {
            self.read_back(ticket, messages, io);
        }
    }

    /// Compares what the bus holds with what came to an unknown end.
    fn looked(&mut self, messages: &[Kept], last_sequence: u64) {
        for kept in messages {
            self.looked_upto = Some(kept.sequence);
            let Ok(Received::Event(envelope)) = from_message(&kept.message) else { continue };
            let Some(sending) = self.window.of(envelope.place.seq) else { continue };
            if sending.slot == Slot::Unknown && sending.place == envelope.place {
                sending.slot = Slot::Acknowledged;
                self.found_again += 1;
                self.rate.add(1);
            }
        }
        if messages.is_empty() || self.looked_upto.is_some_and(|upto| upto >= last_sequence) {
            self.looked_upto = None;
            self.resent += self.window.send_unknown_again();
        }
    }

    /// What the newest message on the bus says of this node, while it runs.
    fn checked(&mut self, messages: &[Kept], io: &Io<'_>) {
        let Some(kept) = messages.first() else {
            if self.acknowledged.seq > 0 && self.window.is_empty() {
                self.lost_tail(io);
            }
            return;
        };
        let found = start::place_in(&kept.message, self.name(), io).filter(|found| found.is_signed);
        let Some(place) = found.map(|found| found.place) else { return };
        if place.log_id != self.acknowledged.log_id && !io.has(Sabotage::IgnoreNameTaken) {
            self.met_other_log(&place);
        } else if place.log_id == self.acknowledged.log_id
            && place.seq < self.acknowledged.seq
            && self.window.is_empty()
            && self.mark.is_none()
            && self.marked.as_ref() == Some(&self.acknowledged)
        {
            let from = place.seq.max(self.acknowledged.seq.saturating_sub(REPUBLISH_EVENTS_MAX));
            tracing::warn!(export = %self.name(), from, "the bus has lost its newest messages; they are published again");
            self.go_back(from, io);
        }
    }

    fn met_other_log(&mut self, place: &Place) {
        self.phase = Phase::Standing(ExportState::NameTaken);
        self.window.clear();
        self.last_error = Some(format!(
            "log {} publishes as this node, whose log is {}: two nodes run under one name, or this one began anew; \
             stop one of them, or let this log count with `outrigger mesh resync --node`",
            place.log_id, self.acknowledged.log_id
        ));
        self.met = Some(Met::NameTaken(self.given_up(place)));
    }

    fn given_up(&self, place: &Place) -> GivenUp {
        let ExportName { export, version, .. } = self.name().clone();
        GivenUp { export, version, place: place.into() }
    }

    /// Goes on as far as it can without waiting.
    pub fn step(&mut self, io: &mut Io<'_>, decisions: &ExportDecisions) -> Result<Next, PipelineError> {
        if io.now_unix_nanos < self.retry_at {
            return Ok(Next::At(self.retry_at));
        }
        match &self.phase {
            Phase::Standing(_) => return Ok(Next::At(i64::MAX)),
            Phase::Starting(_) => return self.start(io, decisions),
            Phase::Running => {}
        }
        if let Some(place) = self.window.take_acknowledged() {
            self.acknowledged = place;
            self.last_error = None;
            self.keep(io, Persistence::Buffered)?;
        }
        self.look_for(io);
        let more = self.fill(io)?;
        self.send(io);
        self.tell(io);
        self.read_newest_back(io);
        let due = self.mark_at.min(self.check_at).max(io.now_unix_nanos + 1);
        Ok(if more { Next::Now } else { Next::At(due) })
    }

    /// Asks the bus for what came to an unknown end.
    fn look_for(&mut self, io: &mut Io<'_>) {
        if self.lookup.is_some() || !self.window.is_to_be_looked_for() {
            return;
        }
        let operation = Operation::Fetch {
            stream: io.node.to_owned(),
            filter: self.name().filter(),
            after: self.looked_upto.unwrap_or_else(|| self.window.floor_of_unknown()),
            messages_max: FETCH_MESSAGES_MAX,
            bytes_max: FETCH_BYTES_MAX,
        };
        self.lookup = io.submit(self.route, operation).ok();
    }

    /// Reads the log into the window; whether there is more to read that would fit.
    fn fill(&mut self, io: &Io<'_>) -> Result<bool, PipelineError> {
        let head = io.events.head().get();
        if !self.window.has_room() || self.pipeline.position() >= head {
            return Ok(false);
        }
        let run = self.pipeline.run(io.events.log(), head, PUBLISH_BATCH_MESSAGES, u64::MAX);
        let mut batch = match run {
            Ok(batch) => batch,
            Err(error @ PipelineError::Mapping { .. }) => {
                tracing::error!(export = %self.name(), %error, "an export cannot go on");
                self.last_error = Some(error.to_string());
                self.phase = Phase::Standing(ExportState::Failed);
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        if let Some(last) = batch.last_mut() {
            last.signature = Some(io.key.sign(&last.name, &last.definition, &last.place));
        }
        for envelope in &batch {
            self.window.push(envelope);
        }
        Ok(self.window.has_room() && self.pipeline.position() < head)
    }

    fn send(&mut self, io: &mut Io<'_>) {
        let mut sent = Vec::new();
        for sending in self.window.waiting() {
            let operation = Operation::Publish {
                stream: io.node.to_owned(),
                message: sending.message.clone(),
                message_id: sending.message_id.clone(),
            };
            let Ok(ticket) = io.submit(self.route, operation) else { break };
            sending.slot = Slot::InFlight;
            sending.sent_unix_nanos = io.now_unix_nanos;
            sending.floor.get_or_insert(self.sequence);
            sent.push((ticket, sending.place.seq));
        }
        for (ticket, seq) in sent {
            self.window.sent(ticket, seq);
        }
    }

    /// Hints at what is acknowledged, and a head mark where one is due.
    fn tell(&mut self, io: &mut Io<'_>) {
        if self.hinted < self.acknowledged.seq {
            let message = Message {
                subject: hint_subject(self.name()),
                headers: Vec::new(),
                payload: self.acknowledged.seq.to_string().into(),
            };
            if io.submit(self.route, Operation::Announce { message }).is_ok() {
                self.hinted = self.acknowledged.seq;
            }
        }
        let is_changed = self.marked.as_ref() != Some(&self.acknowledged);
        if is_changed && self.mark_at > io.after(HEAD_MARK_AFTER_CHANGE) {
            self.mark_at = io.after(HEAD_MARK_AFTER_CHANGE);
        }
        if self.mark.is_some() || io.now_unix_nanos < self.mark_at {
            return;
        }
        let definition = *self.export().hash();
        let head = io.key.head_mark(self.name(), &definition, &self.acknowledged);
        let Place { log_id, epoch, seq, .. } = &self.acknowledged;
        let ExportName { export, version, .. } = self.name();
        let message_id = format!("{log_id}/{export}/v{version}/{epoch}/{seq}/head/{}", io.now_unix_nanos);
        let operation =
            Operation::Publish { stream: io.node.to_owned(), message: head_to_message(&head), message_id };
        if let Ok(ticket) = io.submit(self.route, operation) {
            self.mark = Some((ticket, self.sequence));
            self.marked = Some(self.acknowledged.clone());
            self.mark_at = io.after(HEAD_MARK_IDLE);
        }
    }

    /// Reads the newest message back, now and then.
    fn read_newest_back(&mut self, io: &mut Io<'_>) {
        if self.check.is_some() || io.now_unix_nanos < self.check_at {
            return;
        }
        let operation = Operation::Last { stream: io.node.to_owned(), filter: self.name().filter() };
        self.check = io.submit(self.route, operation).ok();
        self.check_at = io.after(HEAD_MARK_IDLE);
    }

    fn keep(&mut self, io: &Io<'_>, least: Persistence) -> Result<(), PipelineError> {
        let is_due = io.now_unix_nanos >= self.kept_at;
        let persistence = if is_due { Persistence::Durable } else { least };
        let checkpoints = self.pipeline.take_checkpoints();
        if checkpoints.is_empty() && !is_due {
            return Ok(());
        }
        if is_due {
            self.kept_at = io.after(CHECKPOINT_INTERVAL);
        }
        let ExportName { export, version, .. } = self.pipeline.name();
        Ok(io.store.keep((export, *version), &checkpoints, self.acknowledged.seq, persistence)?)
    }
}

/// Where importers hear that there is more.
pub fn hint_subject(name: &ExportName) -> String {
    let ExportName { owner, export, version } = name;
    format!("outrigger.hint.{owner}.{export}.v{version}")
}

/// Whether a place was given up by a decision.
fn is_given_up(decisions: &ExportDecisions, place: &Place) -> bool {
    decisions.given_up.contains(&hex(&place.chain))
}
