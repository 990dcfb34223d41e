//! The workers of a feed: how they come and go, what they say and are told.
//!
//! Invariant: a worker that is let go is told why, and what it holds waits for others. Does not know what answers do.

use std::{sync::atomic::Ordering, time::Duration};

use super::{Attached, Feed};
use crate::{
    event::Position,
    limits::{HANDLER_STEP_MESSAGES_MAX, HANDLER_WORKERS_MAX},
    projection::handler::{
        dispatch::WorkerId,
        hub::{Attach, Ended, Message, ToWorker, WorkerAnswer},
    },
};

impl Feed {
    /// Whether there may be more messages.
    pub(super) fn take_messages(&mut self, applied: Position, head: Position) -> bool {
        self.gone.extend(self.inbox.gone());
        let mut taken = 0;
        while let Some((worker, message)) = self.inbox.next() {
            self.take(worker, message, applied, head);
            taken += 1;
            if taken == HANDLER_STEP_MESSAGES_MAX {
                return true;
            }
        }
        // What they had to say has been taken in.
        for worker in std::mem::take(&mut self.gone) {
            self.lose(worker);
        }
        false
    }

    fn take(&mut self, worker: WorkerId, message: Message, applied: Position, head: Position) {
        let now = self.now();
        match message {
            Message::Attach(attach) => self.attach(worker, attach, applied, head),
            Message::Credits(credits) => self.dispatch.credits(worker, credits, now),
            Message::Answers(answers) => {
                self.dispatch.heard(worker, now);
                for WorkerAnswer { run, position, answer, bytes } in answers {
                    if let Err(violation) = self.dispatch.answer(worker, run, position, answer, bytes) {
                        return self.end(worker, violation.into());
                    }
                }
            }
            Message::Read(read) => {
                self.dispatch.heard(worker, now);
                self.reads.push_back((worker, read));
            }
        }
    }

    fn attach(&mut self, worker: WorkerId, attach: Attach, applied: Position, head: Position) {
        let now = self.now();
        let (credits, deadline) = (attach.credits, attach.deadline);
        let (name, outbox) = attach.into_parts();
        let same = self.workers.iter().find(|(_, other)| other.name == name).map(|(id, _)| *id);
        if let Some(older) = same {
            self.end(older, Ended::Replaced);
        }
        let is_full = self.workers.len() >= HANDLER_WORKERS_MAX;
        tracing::info!(worker = %name, credits, "a worker attaches");
        self.workers.insert(worker, Attached { name, deadline, outbox, remembers: false });
        if is_full {
            return self.end(worker, Ended::TooMany(HANDLER_WORKERS_MAX));
        }
        self.dispatch.attach(worker, credits, deadline, now);
        self.count();
        self.tell(worker, ToWorker::Attached { applied, head });
    }

    pub(super) fn end_silent(&mut self) {
        for worker in self.dispatch.silent(self.now()) {
            let deadline = self.workers.get(&worker).map_or(Duration::ZERO, |worker| worker.deadline);
            self.end(worker, Ended::Silent(deadline));
        }
    }

    /// A worker is told that nothing more will come, and what it holds waits for others.
    pub(super) fn end(&mut self, worker: WorkerId, why: Ended) {
        if let Some(Attached { name, outbox, .. }) = self.workers.get(&worker) {
            tracing::info!(worker = %name, reason = %why, "a worker is let go");
            // One that takes nothing learns it from the end of the call.
            drop(outbox.try_send(ToWorker::End(why)));
        }
        self.lose(worker);
    }

    pub(super) fn lose(&mut self, worker: WorkerId) {
        let Some(Attached { name, .. }) = self.workers.remove(&worker) else {
            return;
        };
        if self.dispatch.detach(worker) {
            tracing::info!(worker = %name, "the events of a worker go to others");
            self.inbox.hub.counts.losses.fetch_add(1, Ordering::Relaxed);
        }
        self.reads.retain(|(by, _)| *by != worker);
        self.count();
    }

    pub(super) fn tell(&mut self, worker: WorkerId, message: ToWorker) {
        let Some(Attached { outbox, remembers, .. }) = self.workers.get_mut(&worker) else {
            return;
        };
        *remembers = match &message {
            ToWorker::Run { .. } | ToWorker::Documents { .. } => true,
            ToWorker::Cancelled { .. } => false,
            ToWorker::Attached { .. } | ToWorker::End(_) => *remembers,
        };
        if outbox.try_send(message).is_err() {
            self.end(worker, Ended::TakesNothing);
        }
    }
}
