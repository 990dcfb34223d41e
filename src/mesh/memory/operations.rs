//! What each operation does to the broker in memory, and which faults can befall it.
//!
//! Invariant: an operation that takes effect does so in the call of `submit`, but for one that a fault makes late; its
//! outcome is sent on its way. Does not know how things travel.

use super::{
    broker::{Broker, Delivery, MemberId, flip},
    fault::Fault,
};
use crate::{
    limits::{
        BUS_ASKED_TIME_MAX, BUS_FETCH_BYTES_MAX, BUS_FETCH_MESSAGES_MAX, BUS_MESSAGE_BYTES_MAX, BUS_TIMEOUT,
    },
    mesh::bus::{
        BusError, BusEvent, BusFull, Kept, Message, Operation, Ticket,
        mailbox::{Listener, cost},
        subject_matches,
    },
};

/// Messages that a broker which lags may lack at most.
const STALE_MESSAGES_MAX: u64 = 8;

impl Broker {
    pub(super) fn submit(&mut self, member: MemberId, operation: Operation) -> Result<Ticket, BusFull> {
        if self.roll(Fault::Disconnect) {
            self.lose(member);
        }
        let bytes = cost(&operation);
        let listens = matches!(operation, Operation::Listen { .. } | Operation::Serve { .. });
        let ticket = Ticket(self.number());
        let now = self.now;
        let (timeout, doubtful) = match &operation {
            Operation::Ask { timeout_nanos, .. } => (i64::try_from(*timeout_nanos).unwrap_or(i64::MAX), true),
            Operation::Publish { .. } => (BUS_TIMEOUT.as_nanos() as i64, true),
            _ => (BUS_TIMEOUT.as_nanos() as i64, false),
        };
        let state = self.members.get_mut(&member).ok_or(BusFull)?;
        state.mailbox.admit(bytes, listens)?;
        if !listens {
            state.mailbox.begin(ticket, bytes, now, timeout, doubtful);
            self.ends_by(now.saturating_add(timeout));
        }
        self.act(member, ticket, operation);
        self.deliver();
        Ok(ticket)
    }

    fn act(&mut self, member: MemberId, ticket: Ticket, operation: Operation) {
        let Some(state) = self.members.get_mut(&member) else { return };
        match operation {
            Operation::Listen { filter } => return state.hear(ticket, Listener::new(filter, false)),
            Operation::Serve { filter } => return state.hear(ticket, Listener::new(filter, true)),
            Operation::Forget { ticket: listener } => {
                let event = if state.mailbox.listeners.remove(&listener).is_some() {
                    BusEvent::Forgotten { ticket: listener }
                } else {
                    let error = BusError::NotFound(format!("there is no listener {}", listener.0));
                    BusEvent::Failed { ticket, error }
                };
                state.mailbox.finish(ticket, event);
                return;
            }
            _ if !state.mailbox.connected => {
                let error = BusError::NotConnected("there is no connection".to_owned());
                state.mailbox.finish(ticket, BusEvent::Failed { ticket, error });
                return;
            }
            _ => {}
        }
        let outcome = match operation {
            Operation::Publish { stream, message, message_id } => {
                self.publish(member, ticket, &stream, message, &message_id)
            }
            Operation::Fetch { stream, filter, after, messages_max, bytes_max } => {
                let bounds = (messages_max.min(BUS_FETCH_MESSAGES_MAX), bytes_max.min(BUS_FETCH_BYTES_MAX));
                self.fetch(ticket, &stream, &filter, after, bounds)
            }
            Operation::Last { stream, filter } => self.last(ticket, &stream, &filter),
            Operation::State { stream } => self
                .find(&stream)
                .map(|()| Some(BusEvent::State { ticket, state: self.streams[&stream].state() })),
            Operation::Announce { message } => self.announce(ticket, &message),
            Operation::Ask { message, .. } => self.ask(member, ticket, message),
            Operation::Answer { asked, message, last } => self.answer(member, ticket, asked, message, last),
            Operation::Listen { .. } | Operation::Serve { .. } | Operation::Forget { .. } => Ok(None),
        };
        let event = outcome.unwrap_or_else(|error| Some(BusEvent::Failed { ticket, error }));
        if let Some(event) = event {
            self.send(member, Delivery::Finish { to: member, ticket, event });
        }
    }

    fn lose(&mut self, member: MemberId) {
        let back_at = self.now + 1 + self.duration_below(self.faults.outage_max);
        if let Some(state) = self.members.get_mut(&member).filter(|state| state.mailbox.connected) {
            state.lose("the connection was lost", Some(back_at));
            self.count(Fault::Disconnect);
        }
    }

    fn publish(
        &mut self,
        member: MemberId,
        ticket: Ticket,
        name: &str,
        message: Message,
        id: &str,
    ) -> Outcome {
        if self.members[&member].node != name {
            return Err(BusError::Refused(format!("the stream of {name} is not this node's")));
        }
        check_size(&message)?;
        self.find(name)?;
        if !subject_matches(&format!("outrigger.v1.{name}.>"), &message.subject) {
            return Err(BusError::NotFound(format!("the stream of {name} takes no {}", message.subject)));
        }
        self.age(name);
        if self.roll(Fault::Drop) {
            self.count(Fault::Drop);
            return Ok(None);
        }
        if self.roll(Fault::Late) {
            let due = self.now + BUS_TIMEOUT.as_nanos() as i64 + self.duration_below(self.faults.delay_max);
            let (stream, message_id) = (name.to_owned(), id.to_owned());
            self.send_at(due, Delivery::Land { stream, message, message_id });
            return Ok(None);
        }
        let now = self.now;
        let stream = self.create_stream(name);
        let landed = stream.land(message.clone(), id, now)?;
        (0..landed.dropped).for_each(|_| self.count(Fault::Limit));
        if !landed.duplicate {
            self.befall(name, message);
        }
        if self.roll(Fault::Unanswered) {
            self.count(Fault::Unanswered);
            return Ok(None);
        }
        Ok(Some(BusEvent::Published { ticket, sequence: landed.sequence, duplicate: landed.duplicate }))
    }

    /// What can happen to a message that has just landed.
    fn befall(&mut self, name: &str, message: Message) {
        if self.roll(Fault::RepeatKept) {
            self.create_stream(name).land_again(message);
            self.count(Fault::RepeatKept);
        }
        if self.roll(Fault::CorruptKept) {
            let newest = self.create_stream(name).len().saturating_sub(1);
            if self.corrupt_nth(name, newest) {
                self.count(Fault::CorruptKept);
            }
        }
    }

    /// What can happen to a stream at any time.
    fn age(&mut self, name: &str) {
        if self.create_stream(name).len() == 0 {
            return;
        }
        if self.roll(Fault::Wipe) {
            self.wipe(name);
            self.count(Fault::Wipe);
        } else if self.roll(Fault::Halve) {
            self.create_stream(name).halve();
            self.count(Fault::Halve);
        }
    }

    fn fetch(
        &mut self,
        ticket: Ticket,
        name: &str,
        filter: &str,
        after: u64,
        (messages_max, bytes_max): (usize, usize),
    ) -> Outcome {
        self.find(name)?;
        self.age(name);
        let (upto, last) = self.upto(name);
        let stream = self.create_stream(name);
        let messages = stream.read(filter, after, upto, messages_max, bytes_max);
        if upto < last && stream.read(filter, after, last, messages_max, bytes_max) != messages {
            self.count(Fault::Stale);
        }
        Ok(self.fetched(ticket, messages, upto))
    }

    fn last(&mut self, ticket: Ticket, name: &str, filter: &str) -> Outcome {
        self.find(name)?;
        let (upto, last) = self.upto(name);
        let stream = self.create_stream(name);
        let newest = stream.newest(filter, upto);
        if upto < last && stream.newest(filter, last) != newest {
            self.count(Fault::Stale);
        }
        Ok(self.fetched(ticket, newest.into_iter().collect(), upto))
    }

    /// How far the broker sees that is asked, and how far the stream goes.
    fn upto(&mut self, name: &str) -> (u64, u64) {
        let last = self.create_stream(name).state().last_sequence;
        let lag = if self.roll(Fault::Stale) { 1 + self.below(STALE_MESSAGES_MAX) } else { 0 };
        (last.saturating_sub(lag), last)
    }

    fn fetched(&mut self, ticket: Ticket, mut messages: Vec<Kept>, last_sequence: u64) -> Option<BusEvent> {
        if self.roll(Fault::Lose) {
            self.count(Fault::Lose);
            return None;
        }
        if !messages.is_empty() && self.roll(Fault::CorruptRead) {
            let (n, bits) = (self.below(messages.len() as u64) as usize, self.bits());
            if flip(&mut messages[n].message, bits) {
                self.count(Fault::CorruptRead);
            }
        }
        Some(BusEvent::Fetched { ticket, messages, last_sequence })
    }

    fn announce(&mut self, ticket: Ticket, message: &Message) -> Outcome {
        check_size(message)?;
        let ears: Vec<_> = self.ears(message, false);
        for (to, listener) in ears {
            if self.roll(Fault::Lose) {
                self.count(Fault::Lose);
                continue;
            }
            let delivery = Delivery::Hear { to, listener, message: message.clone() };
            if self.roll(Fault::RepeatHeard) {
                self.count(Fault::RepeatHeard);
                self.send(to, delivery.clone());
            }
            self.send(to, delivery);
        }
        Ok(Some(BusEvent::Announced { ticket }))
    }

    fn ask(&mut self, asker: MemberId, ask: Ticket, message: Message) -> Outcome {
        check_size(&message)?;
        let ears = self.ears(&message, true);
        let Some((to, service)) = ears.get(self.below(ears.len() as u64) as usize).copied() else {
            return Err(BusError::NotFound(format!("nobody serves {}", message.subject)));
        };
        if self.roll(Fault::Lose) {
            self.count(Fault::Lose);
            return Ok(None);
        }
        let asked = self.open_question(asker, ask, to);
        self.send(to, Delivery::Ask { to, service, asked, message });
        Ok(None)
    }

    fn answer(
        &mut self,
        answerer: MemberId,
        ticket: Ticket,
        asked: Ticket,
        message: Message,
        last: bool,
    ) -> Outcome {
        check_size(&message)?;
        let expires = self.now + BUS_ASKED_TIME_MAX.as_nanos() as i64;
        let question = self.questions.get_mut(&asked).filter(|question| question.answerer == answerer);
        let Some(question) = question else {
            return Err(BusError::NotFound(format!("question {} is answered, or too old", asked.0)));
        };
        question.expires = expires;
        let (to, ask) = (question.asker, question.ask);
        if last {
            self.end_question(asked);
        }
        if self.roll(Fault::Lose) {
            self.count(Fault::Lose);
        } else {
            self.send(to, Delivery::Answer { to, ask, message, last });
        }
        Ok(Some(BusEvent::Announced { ticket }))
    }

    fn ears(&self, message: &Message, serving: bool) -> Vec<(MemberId, Ticket)> {
        let ears = |(id, member): (&MemberId, &super::broker::Member)| {
            let id = *id;
            member.mailbox.ears(message, serving).map(move |ticket| (id, ticket)).collect::<Vec<_>>()
        };
        self.members.iter().flat_map(ears).collect()
    }

    fn find(&self, name: &str) -> Result<(), BusError> {
        let none = || BusError::NotFound(format!("there is no stream of {name}"));
        self.streams.get(name).map(|_| ()).ok_or_else(none)
    }
}

/// What an operation came to at once; none: nothing comes, or something else ends it.
type Outcome = Result<Option<BusEvent>, BusError>;

fn check_size(message: &Message) -> Result<(), BusError> {
    let bytes = message.bytes() - message.subject.len();
    if bytes > BUS_MESSAGE_BYTES_MAX {
        return Err(BusError::TooLarge { bytes, bytes_max: BUS_MESSAGE_BYTES_MAX });
    }
    Ok(())
}
