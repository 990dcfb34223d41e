//! How an import reads the owner's stream on the bus: when it looks, and which place it keeps.
//!
//! Invariants: one fetch at a time, and none while as many appends are unanswered as may be; the place on the bus is a hint.

use super::{Inbox, InboxError};
use crate::{
    kv::Persistence,
    limits::{FETCH_BYTES_MAX, FETCH_MESSAGES_MAX, IMPORT_LOOK},
    mesh::{bus::Operation, io::Io, outbox::hint_subject},
};

impl Inbox {
    pub(super) fn listen(&mut self, io: &mut Io<'_>) {
        if self.listening.is_none() {
            let filter = hint_subject(self.import.from());
            self.listening = io.submit(self.route, Operation::Listen { filter }).ok();
        }
    }

    pub(super) fn fetch(&mut self, io: &mut Io<'_>) {
        let is_due = self.has_heard || !self.is_at_end || io.now_unix_nanos >= self.look_at;
        if self.fetching.is_some() || !is_due || !self.may_append() {
            return;
        }
        let from = self.import.from();
        let operation = Operation::Fetch {
            stream: from.owner.clone(),
            filter: from.filter(),
            after: self.bus_after,
            messages_max: FETCH_MESSAGES_MAX,
            bytes_max: FETCH_BYTES_MAX,
        };
        if let Ok(ticket) = io.submit(self.route, operation) {
            self.fetching = Some(ticket);
            self.has_heard = false;
        }
        self.look_at = io.after(IMPORT_LOOK);
    }

    /// Keeps the place on the bus, so that a restart need not read all of the stream.
    pub(super) fn keep_read(&mut self, io: &Io<'_>) -> Result<(), InboxError> {
        const EVERY: u64 = 1_024;
        let durable = self.durable.as_ref().map_or(0, |cursor| cursor.seq);
        let is_settled = self.pending.is_empty() && self.appending.is_empty() && durable == self.accepted.seq;
        if is_settled && durable >= self.kept_read + EVERY {
            io.store.keep_read(self.import.name(), self.bus_after, durable, Persistence::Buffered)?;
            self.kept_read = durable;
        }
        Ok(())
    }
}
