//! The broker itself: who is connected, what is on its way, what time it is.
//!
//! Invariants: everything on its way comes in order of the time it is due, then of its making; what was addressed to a
//! connection that is gone is discarded. Does not know what an operation does: `operations` has that.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    fault::{Fault, Faults},
    stream::{Stream, StreamLimits},
};
use crate::{
    clock::{Clock as _, SimClock},
    limits::BUS_ASKED_TIME_MAX,
    mesh::bus::{
        BusError, BusEvent, Message, Ticket,
        mailbox::{Listener, Mailbox, Wake},
    },
};

/// Names a connection; rises.
pub(super) type MemberId = u64;

/// One connection.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) node: String,
    pub(super) mailbox: Mailbox,
    /// When a lost connection is back; none: when somebody heals it.
    back_at: Option<i64>,
    /// Nothing comes before what came earlier.
    last_due: i64,
}

#[derive(Debug)]
pub(super) struct Broker {
    pub(super) faults: Faults,
    pub(super) counts: BTreeMap<Fault, u64>,
    pub(super) streams: BTreeMap<String, Stream>,
    pub(super) members: BTreeMap<MemberId, Member>,
    pub(super) questions: BTreeMap<Ticket, Question>,
    pub(super) now: i64,
    deliveries: BTreeMap<(i64, u64), Delivery>,
    /// No pending operation ends before.
    deadline: i64,
    random: SimClock,
    /// The last number given: to a ticket, a connection, a delivery, the creation of a stream.
    last_number: u64,
}

/// Something on its way.
#[derive(Debug, Clone)]
pub(super) enum Delivery {
    Finish { to: MemberId, ticket: Ticket, event: BusEvent },
    Hear { to: MemberId, listener: Ticket, message: Message },
    Ask { to: MemberId, service: Ticket, asked: Ticket, message: Message },
    Answer { to: MemberId, ask: Ticket, message: Message, last: bool },
    Land { stream: String, message: Message, message_id: String },
}

/// What somebody was asked and has not fully answered.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) asker: MemberId,
    pub(super) ask: Ticket,
    pub(super) answerer: MemberId,
    pub(super) expires: i64,
}

impl Broker {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        Self {
            faults,
            counts: BTreeMap::new(),
            streams: BTreeMap::new(),
            members: BTreeMap::new(),
            questions: BTreeMap::new(),
            now: 0,
            deliveries: BTreeMap::new(),
            deadline: i64::MAX,
            random: SimClock::new(seed),
            last_number: 0,
        }
    }

    pub(super) fn connect(&mut self, node: &str) -> MemberId {
        self.create_stream(node);
        let id = self.number();
        self.members.insert(id, Member::new(node));
        id
    }

    pub(super) fn leave(&mut self, member: MemberId) {
        self.members.remove(&member);
        self.questions.retain(|_, question| question.answerer != member);
    }

    pub(super) fn set_wake(&mut self, member: MemberId, wake: Wake) {
        if let Some(member) = self.members.get_mut(&member) {
            member.mailbox.wake = Some(wake);
        }
    }

    /// The wakes of all for whom there is something new.
    pub(super) fn take_wakes(&mut self) -> Vec<Wake> {
        let wakes = self.members.values_mut().filter_map(|member| {
            let woken = std::mem::take(&mut member.mailbox.woken);
            member.mailbox.wake.clone().filter(|_| woken)
        });
        wakes.collect()
    }

    pub(super) fn poll(&mut self, member: MemberId, now: i64) -> Vec<BusEvent> {
        self.now = self.now.max(now);
        self.reconnect();
        self.deliver();
        self.expire();
        let member = self.members.get_mut(&member);
        member.map(|member| member.mailbox.drain()).unwrap_or_default()
    }

    pub(super) fn next_due(&self) -> Option<i64> {
        let back = self.members.values().filter_map(|member| member.back_at);
        let deadlines = self.members.values().filter_map(|member| member.mailbox.first_deadline());
        let deliveries = self.deliveries.keys().next().map(|(due, _)| *due);
        back.chain(deadlines).chain(deliveries).min()
    }

    pub(super) fn cut(&mut self, node: &str, back_at: Option<i64>) {
        for member in self.members.values_mut().filter(|member| member.node == node) {
            member.lose("the connection was cut", back_at);
        }
    }

    pub(super) fn heal(&mut self, node: &str) {
        self.members.values_mut().filter(|member| member.node == node).for_each(Member::come_back);
    }

    pub(super) fn create_stream(&mut self, name: &str) -> &mut Stream {
        let created = self.number();
        self.streams.entry(name.to_owned()).or_insert_with(|| Stream::new(created, StreamLimits::default()))
    }

    pub(super) fn wipe(&mut self, name: &str) {
        let created = self.number();
        if let Some(stream) = self.streams.get_mut(name) {
            stream.wipe(created);
        }
    }

    pub(super) fn corrupt_nth(&mut self, name: &str, n: usize) -> bool {
        let bits = self.bits();
        let kept = self.streams.get_mut(name).and_then(|stream| stream.nth_mut(n));
        kept.is_some_and(|kept| flip(&mut kept.message, bits))
    }

    pub(super) fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    pub(super) fn bits(&self) -> u64 {
        self.random.random() as u64
    }

    /// A number below `end`; 0 if that is 0.
    pub(super) fn below(&self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.bits() % end }
    }

    pub(super) fn duration_below(&self, max: Duration) -> i64 {
        self.below(max.as_nanos() as u64) as i64
    }

    /// Whether a fault comes now. It is counted by whoever sees it take effect.
    pub(super) fn roll(&self, fault: Fault) -> bool {
        let rate = self.faults.rate_per_million(fault);
        rate > 0 && self.below(1_000_000) < u64::from(rate)
    }

    pub(super) fn count(&mut self, fault: Fault) {
        *self.counts.entry(fault).or_default() += 1;
    }

    /// An operation of a connection ends by itself then.
    pub(super) fn ends_by(&mut self, deadline: i64) {
        self.deadline = self.deadline.min(deadline);
    }

    /// Sends something on its way to a connection: behind what is on its way, unless a fault has it otherwise.
    pub(super) fn send(&mut self, to: MemberId, delivery: Delivery) {
        let latency = self.duration_below(self.faults.latency_max);
        let Some(member) = self.members.get_mut(&to) else { return };
        let mut due = member.last_due.max(self.now + latency);
        member.last_due = due;
        if self.roll(Fault::Delay) {
            due += 1 + self.duration_below(self.faults.delay_max);
            self.count(Fault::Delay);
        }
        let earlier = if delivery.may_overtake() && self.roll(Fault::Reorder) {
            let mut on_their_way = self.deliveries.iter().rev();
            on_their_way
                .find(|(_, other)| other.may_overtake() && other.to() == Some(to))
                .map(|(key, _)| *key)
        } else {
            None
        };
        let overtaken = earlier.and_then(|key| self.deliveries.insert(key, delivery.clone()));
        if overtaken.is_some() {
            self.count(Fault::Reorder);
        }
        self.send_at(due, overtaken.unwrap_or(delivery));
    }

    pub(super) fn send_at(&mut self, due: i64, delivery: Delivery) {
        let order = self.number();
        self.deliveries.insert((due, order), delivery);
    }

    /// Brings about everything that is due.
    pub(super) fn deliver(&mut self) {
        while let Some(first) = self.deliveries.first_entry()
            && first.key().0 <= self.now
        {
            let delivery = first.remove();
            self.arrive(delivery);
        }
    }

    fn arrive(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Finish { to, ticket, event } => {
                if let Some(member) = self.members.get_mut(&to) {
                    member.mailbox.finish(ticket, event);
                }
            }
            Delivery::Hear { to, listener, message } => {
                let bytes = message.bytes();
                if let Some(member) = self.members.get_mut(&to)
                    && member.mailbox.connected
                    && member.mailbox.listeners.contains_key(&listener)
                {
                    member.mailbox.hand(BusEvent::Heard { ticket: listener, message }, bytes, None);
                }
            }
            Delivery::Ask { to, service, asked, message } => {
                self.arrive_question(to, service, asked, message);
            }
            Delivery::Answer { to, ask, message, last } => self.arrive_answer(to, ask, message, last),
            Delivery::Land { stream, message, message_id } => {
                let now = self.now;
                let landed =
                    self.streams.get_mut(&stream).map(|stream| stream.land(message, &message_id, now));
                if matches!(landed, Some(Ok(landed)) if !landed.duplicate) {
                    self.count(Fault::Late);
                }
            }
        }
    }

    fn arrive_question(&mut self, to: MemberId, service: Ticket, asked: Ticket, message: Message) {
        let bytes = message.bytes();
        let heard = self.members.get_mut(&to).is_some_and(|member| {
            let serves = member.mailbox.connected && member.mailbox.listeners.contains_key(&service);
            let takes = serves && member.mailbox.take_question();
            let heard = takes
                && member.mailbox.hand(BusEvent::Asked { ticket: service, asked, message }, bytes, None);
            if takes && !heard {
                member.mailbox.close_question();
            }
            heard
        });
        if !heard {
            self.questions.remove(&asked);
        }
    }

    fn arrive_answer(&mut self, to: MemberId, ask: Ticket, message: Message, last: bool) {
        let now = self.now;
        let Some(member) = self.members.get_mut(&to).filter(|member| member.mailbox.is_pending(ask)) else {
            return;
        };
        let bytes = message.bytes();
        let event = BusEvent::Answered { ticket: ask, message, last };
        if member.mailbox.hand(event, bytes, last.then_some(ask)) {
            member.mailbox.restart(ask, now);
        } else {
            let error = BusError::Unknown("the answer has more parts than were polled".to_owned());
            member.mailbox.finish(ask, BusEvent::Failed { ticket: ask, error });
        }
    }

    fn reconnect(&mut self) {
        let now = self.now;
        let back = self.members.values_mut().filter(|member| member.back_at.is_some_and(|at| at <= now));
        back.for_each(Member::come_back);
    }

    /// Ends what had its time.
    fn expire(&mut self) {
        let now = self.now;
        if self.deadline > now {
            return;
        }
        for member in self.members.values_mut() {
            for (ticket, waited) in member.mailbox.overdue(now) {
                let error = BusError::Unknown(format!("none within {} ms", waited / 1_000_000));
                member.mailbox.finish(ticket, BusEvent::Failed { ticket, error });
            }
        }
        let over: BTreeSet<Ticket> = self
            .questions
            .iter()
            .filter(|(_, question)| question.expires <= now)
            .map(|(asked, _)| *asked)
            .collect();
        for asked in over {
            self.end_question(asked);
        }
        let deadlines = self.members.values().filter_map(|member| member.mailbox.first_deadline());
        let expiries = self.questions.values().map(|question| question.expires);
        self.deadline = deadlines.chain(expiries).min().unwrap_or(i64::MAX);
    }

    pub(super) fn open_question(&mut self, asker: MemberId, ask: Ticket, answerer: MemberId) -> Ticket {
        let asked = Ticket(self.number());
        let expires = self.now + BUS_ASKED_TIME_MAX.as_nanos() as i64;
        self.ends_by(expires);
        self.questions.insert(asked, Question { asker, ask, answerer, expires });
        asked
    }

    pub(super) fn end_question(&mut self, asked: Ticket) {
        if let Some(question) = self.questions.remove(&asked)
            && let Some(member) = self.members.get_mut(&question.answerer)
        {
            member.mailbox.close_question();
        }
    }
}

impl Member {
    fn new(node: &str) -> Self {
        let mut mailbox = Mailbox::new();
        mailbox.come_back();
        Self { node: node.to_owned(), mailbox, back_at: None, last_due: 0 }
    }

    pub(super) fn lose(&mut self, reason: &str, back_at: Option<i64>) {
        self.back_at = back_at;
        self.mailbox.lose(reason);
    }

    fn come_back(&mut self) {
        self.back_at = None;
        self.mailbox.come_back();
        let tickets: Vec<_> = self.mailbox.listeners.keys().copied().collect();
        for ticket in tickets {
            self.mailbox.listen(ticket);
        }
    }

    pub(super) fn hear(&mut self, ticket: Ticket, listener: Listener) {
        self.mailbox.listeners.insert(ticket, listener);
        if self.mailbox.connected {
            self.mailbox.listen(ticket);
        }
    }
}

impl Delivery {
    fn to(&self) -> Option<MemberId> {
        match self {
            Self::Finish { to, .. }
            | Self::Hear { to, .. }
            | Self::Ask { to, .. }
            | Self::Answer { to, .. } => Some(*to),
            Self::Land { .. } => None,
        }
    }

    fn may_overtake(&self) -> bool {
        matches!(self, Self::Hear { .. } | Self::Answer { .. })
    }
}

/// Flips one bit of the payload or of a header's value; false if there is neither.
pub(super) fn flip(message: &mut Message, bits: u64) -> bool {
    let values: usize = message.headers.iter().map(|(_, value)| value.len()).sum();
    let total = values + message.payload.len();
    if total == 0 {
        return false;
    }
    let mut place = (bits >> 8) as usize % total;
    for (_, value) in &mut message.headers {
        if place < value.len() {
            let mut bytes = std::mem::take(value).into_bytes();
            // Of a text in ASCII any of the lower seven bits may flip, and it stays a text.
            bytes[place] ^= 1 << (bits % 7);
            *value = String::from_utf8_lossy(&bytes).into_owned();
            return true;
        }
        place -= value.len();
    }
    let mut payload = message.payload.to_vec();
    payload[place] ^= 1 << (bits % 8);
    message.payload = payload.into();
    true
}
