//! Messages that are published and not acknowledged: bounded, in order of their numbers.
//!
//! Invariants: numbers in the window are dense; a message leaves only when it and all before it are acknowledged. Does
//! not know the bus.

use std::collections::{HashMap, VecDeque};

use crate::{
    limits::{PUBLISH_WINDOW_BYTES, PUBLISH_WINDOW_MESSAGES},
    mesh::{
        bus::{Message, Ticket},
        envelope::{Envelope, Place, to_message},
    },
};

/// What is known of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// It is to be sent.
    Waiting,
    /// It was sent.
    InFlight,
    /// Nobody knows whether it landed.
    Unknown,
    /// It landed.
    Acknowledged,
}

/// A message on its way.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) place: Place,
    pub(super) message: Message,
    pub(super) message_id: String,
    pub(super) slot: Slot,
    /// The highest sequence that the bus had acknowledged when it was sent first.
    pub(super) floor: Option<u64>,
    /// When it was sent last, in nanoseconds since 1970.
    pub(super) sent_unix_nanos: i64,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Window {
    sending: VecDeque<Sending>,
    bytes: usize,
    tickets: HashMap<Ticket, u64>,
}

impl Window {
    pub(super) fn has_room(&self) -> bool {
        self.sending.len() < PUBLISH_WINDOW_MESSAGES && self.bytes < PUBLISH_WINDOW_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sending.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.sending.len()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn push(&mut self, envelope: &Envelope) {
        let message = to_message(envelope);
        self.bytes += size(&message);
        let (place, message_id) = (envelope.place.clone(), envelope.message_id());
        let (slot, floor) = (Slot::Waiting, None);
        self.sending.push_back(Sending { place, message, message_id, slot, floor, sent_unix_nanos: 0 });
    }

    /// The messages that are to be sent, in order.
    pub(super) fn waiting(&mut self) -> impl Iterator<Item = &mut Sending> {
        self.sending.iter_mut().filter(|sending| sending.slot == Slot::Waiting)
    }

    pub(super) fn sent(&mut self, ticket: Ticket, seq: u64) {
        self.tickets.insert(ticket, seq);
    }

    /// The message that a ticket is about; its operation is over.
    pub(super) fn settle(&mut self, ticket: Ticket) -> Option<&mut Sending> {
        let seq = self.tickets.remove(&ticket)?;
        self.of(seq)
    }

    pub(super) fn of(&mut self, seq: u64) -> Option<&mut Sending> {
        let first = self.sending.front()?.place.seq;
        self.sending.get_mut(usize::try_from(seq.checked_sub(first)?).ok()?)
    }

    /// Takes out what is acknowledged with all before it; gives the last place.
    pub(super) fn take_acknowledged(&mut self) -> Option<Place> {
        let mut last = None;
        while self.sending.front().is_some_and(|sending| sending.slot == Slot::Acknowledged) {
            let sending = self.sending.pop_front().expect("there is a front");
            self.bytes -= size(&sending.message);
            last = Some(sending.place);
        }
        last
    }

    /// Whether some came to an unknown end while none is under way any more.
    pub(super) fn is_to_be_looked_for(&self) -> bool {
        self.tickets.is_empty() && self.sending.iter().any(|sending| sending.slot == Slot::Unknown)
    }

    /// What came to an unknown end lies behind this sequence, if it landed.
    pub(super) fn floor_of_unknown(&self) -> u64 {
        let unknown = self.sending.iter().filter(|sending| sending.slot == Slot::Unknown);
        unknown.filter_map(|sending| sending.floor).min().unwrap_or(0)
    }

    /// Everything that came to an unknown end is to be sent again; gives how many.
    pub(super) fn send_unknown_again(&mut self) -> u64 {
        let mut count = 0;
        for sending in self.sending.iter_mut().filter(|sending| sending.slot == Slot::Unknown) {
            sending.slot = Slot::Waiting;
            count += 1;
        }
        count
    }
}

fn size(message: &Message) -> usize {
    let headers: usize = message.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    message.payload.len() + message.subject.len() + headers
}
