//! One stream of the bus in memory: messages by sequence, ids within a window, limits.
//!
//! Invariants: sequences rise; what limits remove is the oldest. Does not know faults, members or time's source.

use std::{
    collections::{HashMap, VecDeque},
    mem,
};

use crate::{
    limits::{BUS_DUPLICATE_WINDOW, MEMORY_STREAM_BYTES_MAX},
    mesh::bus::{BusError, Kept, Message, StreamState, subject_matches},
};

/// What a stream may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// Messages at the most.
    pub messages_max: usize,
    /// Bytes at the most.
    pub bytes_max: usize,
    /// Whether a full stream refuses new messages instead of dropping its oldest.
    pub refuse_new: bool,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self { messages_max: usize::MAX, bytes_max: MEMORY_STREAM_BYTES_MAX, refuse_new: false }
    }
}

/// A stream.
#[derive(Debug)]
pub(super) struct Stream {
    messages: VecDeque<Kept>,
    bytes: usize,
    last_sequence: u64,
    created: u64,
    /// The sequence and time of each id that is still known.
    ids: HashMap<String, u64>,
    ids_by_age: VecDeque<(i64, String)>,
    limits: StreamLimits,
}

/// Where a message landed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Landed {
    pub(super) sequence: u64,
    pub(super) duplicate: bool,
    /// Old messages that made room.
    pub(super) dropped: u64,
}

impl Stream {
    pub(super) fn new(created: u64, limits: StreamLimits) -> Self {
        Self {
            messages: VecDeque::new(),
            bytes: 0,
            last_sequence: 0,
            created,
            ids: HashMap::new(),
            ids_by_age: VecDeque::new(),
            limits,
        }
    }

    pub(super) fn set_limits(&mut self, limits: StreamLimits) {
        self.limits = limits;
    }

    /// Keeps a message, unless its id is known.
    pub(super) fn land(&mut self, message: Message, id: &str, now: i64) -> Result<Landed, BusError> {
        self.forget_ids(now);
        if let Some(sequence) = self.ids.get(id) {
            return Ok(Landed { sequence: *sequence, duplicate: true, dropped: 0 });
        }
        let bytes = message.bytes();
        let full =
            self.messages.len() >= self.limits.messages_max || self.bytes + bytes > self.limits.bytes_max;
        if full && self.limits.refuse_new || bytes > self.limits.bytes_max || self.limits.messages_max == 0 {
            let limits = self.limits;
            return Err(BusError::Refused(format!(
                "the stream is full: {} messages and {} bytes of at most {} and {}",
                self.messages.len(),
                self.bytes,
                limits.messages_max,
                limits.bytes_max
            )));
        }
        self.last_sequence += 1;
        self.bytes += bytes;
        self.messages.push_back(Kept { sequence: self.last_sequence, message });
        self.ids.insert(id.to_owned(), self.last_sequence);
        self.ids_by_age.push_back((now, id.to_owned()));
        Ok(Landed { sequence: self.last_sequence, duplicate: false, dropped: self.drop_oldest() })
    }

    /// Keeps a message once more, as if its id had been forgotten.
    pub(super) fn land_again(&mut self, message: Message) {
        self.last_sequence += 1;
        self.bytes += message.bytes();
        self.messages.push_back(Kept { sequence: self.last_sequence, message });
        self.drop_oldest();
    }

    /// Messages above `after` under the filter, up to `upto`, within the bounds; the first one comes in any case.
    pub(super) fn read(
        &self,
        filter: &str,
        after: u64,
        upto: u64,
        messages_max: usize,
        bytes_max: usize,
    ) -> Vec<Kept> {
        let start = self.messages.partition_point(|kept| kept.sequence <= after);
        let mut bytes = 0;
        let mut read = Vec::new();
        for kept in self.messages.range(start..).take_while(|kept| kept.sequence <= upto) {
            if !subject_matches(filter, &kept.message.subject) {
                continue;
            }
            bytes += kept.message.bytes();
            if read.len() >= messages_max || bytes > bytes_max && !read.is_empty() {
                break;
            }
            read.push(kept.clone());
        }
        read
    }

    /// The newest message under the filter, up to `upto`.
    pub(super) fn newest(&self, filter: &str, upto: u64) -> Option<Kept> {
        let mut newest_first = self.messages.iter().rev().filter(|kept| kept.sequence <= upto);
        newest_first.find(|kept| subject_matches(filter, &kept.message.subject)).cloned()
    }

    pub(super) fn state(&self) -> StreamState {
        StreamState {
            first_sequence: self.messages.front().map_or(self.last_sequence + 1, |kept| kept.sequence),
            last_sequence: self.last_sequence,
            created: self.created.to_string(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Kept> {
        self.messages.iter()
    }

    /// The n-th oldest message.
    pub(super) fn nth_mut(&mut self, n: usize) -> Option<&mut Kept> {
        self.messages.get_mut(n)
    }

    /// Loses the newer half, and the memory of having given its sequences.
    pub(super) fn halve(&mut self) {
        let lost = self.messages.split_off(self.messages.len() / 2);
        self.bytes -= lost.iter().map(|kept| kept.message.bytes()).sum::<usize>();
        if let Some(first) = lost.front() {
            self.last_sequence = first.sequence - 1;
        }
        let last = self.last_sequence;
        self.ids.retain(|_, sequence| *sequence <= last);
    }

    /// Begins anew, empty.
    pub(super) fn wipe(&mut self, created: u64) {
        *self = Self::new(created, self.limits);
    }

    /// Removes one message, as an operator can.
    pub(super) fn remove(&mut self, sequence: u64) -> bool {
        let place = self.messages.iter().position(|kept| kept.sequence == sequence);
        let removed = place.and_then(|place| self.messages.remove(place));
        self.bytes -= removed.as_ref().map_or(0, |kept| kept.message.bytes());
        removed.is_some()
    }

    fn drop_oldest(&mut self) -> u64 {
        let mut dropped = 0;
        while self.messages.len() > self.limits.messages_max || self.bytes > self.limits.bytes_max {
            let Some(oldest) = self.messages.pop_front() else { break };
            self.bytes -= oldest.message.bytes();
            dropped += 1;
        }
        dropped
    }

    fn forget_ids(&mut self, now: i64) {
        let window = BUS_DUPLICATE_WINDOW.as_nanos() as i64;
        while let Some((at, id)) = self.ids_by_age.front_mut()
            && *at + window < now
        {
            self.ids.remove(&mem::take(id));
            self.ids_by_age.pop_front();
        }
    }
}
