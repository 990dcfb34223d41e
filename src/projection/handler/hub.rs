//! Where the calls of workers and the runner of their version meet.
//!
//! Owns the queues between them. Invariants: all queues are bounded, and a call that brings more than the runner takes
//! waits; a call that ends is noticed by the runner, whatever waits; what comes wakes the runner. Does not know what a
//! runner does, or gRPC.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{
    dispatch::{RunId, Violation, WorkerId},
    transaction::Answer,
};
use crate::{
    event::{Position, RecordedEvent},
    follower::{Head, Stop},
    limits::{HANDLER_INBOX_MESSAGES_MAX, HANDLER_OUTBOX_MESSAGES_MAX, HANDLER_READS_MAX},
    projection::key::Key,
};

/// What a worker says.
#[derive(Debug)]
pub enum Message {
    /// It is there.
    Attach(Attach),
    /// It has handled events, in order.
    Answers(Vec<WorkerAnswer>),
    /// It wants to see documents.
    Read(Read),
    /// It takes so many events at a time from now on.
    Credits(usize),
}

/// A worker that is there.
#[derive(Debug)]
pub struct Attach {
    /// Its own name; a newer one of the same name takes its place.
    pub name: String,
    /// How many events it may have unanswered.
    pub credits: usize,
    /// How long it may be silent with events unanswered.
    pub deadline: Duration,
    /// Where it is told what to do.
    outbox: mpsc::Sender<ToWorker>,
}

/// What a worker says to one event.
#[derive(Debug)]
pub struct WorkerAnswer {
    /// The run.
    pub run: RunId,
    /// The event.
    pub position: Position,
    /// What it says.
    pub answer: Answer,
    /// What it takes in memory, about.
    pub bytes: usize,
}

/// Documents that a worker wants to see.
#[derive(Debug)]
pub struct Read {
    /// The worker's number for it.
    pub request: u64,
    /// Collections, by their places in `Definition::collections`, and keys.
    pub documents: Vec<(usize, Key)>,
    /// Given back when the answer has left.
    permit: OwnedSemaphorePermit,
}

/// What a worker is told.
#[derive(Debug)]
pub enum ToWorker {
    /// It is known now.
    Attached {
        /// All events up to this position are applied.
        applied: Position,
        /// The log's head.
        head: Position,
    },
    /// Events to handle.
    Run {
        /// The run.
        run: RunId,
        /// All events up to this position are applied.
        applied: Position,
        /// The event was parked and is applied late, at the decision at this position.
        late_at: Option<Position>,
        /// In order; those of the types that the definition lists.
        events: Vec<RecordedEvent>,
    },
    /// The documents it wanted to see.
    Documents {
        /// The worker's number for it.
        request: u64,
        /// They are as this event left them.
        as_of: Position,
        /// In the order of the request: position and canonical text, or that there is none.
        documents: Vec<Option<(Position, Bytes)>>,
        /// Given back when the answer has left.
        permit: OwnedSemaphorePermit,
    },
    /// All that it was given and that is not applied is taken back; what it remembers of documents may be wrong.
    Cancelled {
        /// The first event that was taken back.
        from: Position,
        /// Why.
        reason: String,
    },
    /// Nothing more will come.
    End(Ended),
}

/// Why a worker is not wanted any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// Another one has its name.
    #[error("another worker attached under the same name")]
    Replaced,
    /// It was not heard of for too long.
    #[error("nothing was heard of the worker for {0:?} while it had events to answer")]
    Silent(Duration),
    /// It does not take what it is told.
    #[error("the worker takes no messages")]
    TakesNothing,
    /// There are too many.
    #[error("the version has {0} workers, and no more may attach")]
    TooMany(usize),
    /// It did something against the protocol.
    #[error("{0}")]
    Violation(#[from] Violation),
    /// It wanted to see too much at once.
    #[error("documents: the answer would be larger than {0} bytes; read fewer documents at a time")]
    ReadTooLarge(usize),
    /// The version's documents went back: what it holds and remembers is void.
    #[error("the version's documents went back to an earlier position")]
    Rewound,
    /// The version does not go on.
    #[error("{0}")]
    Stopped(String),
}

/// The meeting place of one version.
#[derive(Debug)]
pub struct Hub {
    inbox: mpsc::Sender<(WorkerId, Message)>,
    gone: Mutex<Vec<WorkerId>>,
    next_worker: AtomicU64,
    head: Head,
    stop: Stop,
    pub(crate) counts: Counts,
}

/// What a version's handler has done and does.
#[derive(Debug, Default)]
pub struct Counts {
    /// Workers that are attached.
    pub workers: AtomicU64,
    /// Runs that are out.
    pub runs: AtomicU64,
    /// How often events were taken back because an answer was stale.
    pub cancellations: AtomicU64,
    /// How often a worker lost its events because it was silent or gone.
    pub losses: AtomicU64,
    /// Causes whose emitted events were not what the log has of them.
    pub emission_differences: AtomicU64,
}

/// The runner's end.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) hub: Arc<Hub>,
    messages: mpsc::Receiver<(WorkerId, Message)>,
}

impl Hub {
    /// A place that wakes the follower under this stop.
    pub(crate) fn new(head: Head, stop: Stop) -> (Arc<Self>, Inbox) {
        let (inbox, messages) = mpsc::channel(HANDLER_INBOX_MESSAGES_MAX);
        let hub = Arc::new(Self {
            inbox,
            gone: Mutex::default(),
            next_worker: AtomicU64::new(1),
            head,
            stop,
            counts: Counts::default(),
        });
        (Arc::clone(&hub), Inbox { hub, messages })
    }

    /// A worker attaches. Gives its end and what it is told; nothing if the version does not run any more.
    pub async fn attach(
        self: &Arc<Self>,
        name: String,
        credits: usize,
        deadline: Duration,
    ) -> Option<(Session, mpsc::Receiver<ToWorker>)> {
        let id = self.next_worker.fetch_add(1, Ordering::Relaxed);
        let (outbox, told) = mpsc::channel(HANDLER_OUTBOX_MESSAGES_MAX);
        let reads = Arc::new(Semaphore::new(HANDLER_READS_MAX));
        let session = Session { hub: Arc::clone(self), id, reads };
        let attached = session.send(Message::Attach(Attach { name, credits, deadline, outbox })).await;
        attached.then_some((session, told))
    }

    fn wake(&self) {
        self.head.nudge(&self.stop);
    }
}

/// An attached worker's end. Dropped, the worker is gone.
pub struct Session {
    hub: Arc<Hub>,
    id: WorkerId,
    reads: Arc<Semaphore>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Session").field(&self.id).finish()
    }
}

impl Session {
    /// Hands over what the worker says, as soon as there is room. `false`: the version does not run any more.
    pub async fn send(&self, message: Message) -> bool {
        let sent = self.hub.inbox.send((self.id, message)).await.is_ok();
        self.hub.wake();
        sent
    }

    /// Hands over a read, as soon as few enough are unanswered.
    pub async fn read(&self, request: u64, documents: Vec<(usize, Key)>) -> bool {
        let permit = Arc::clone(&self.reads).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        self.send(Message::Read(Read { request, documents, permit })).await
    }

    /// Resolves when the version does not run any more.
    pub async fn stopped(&self) {
        self.hub.inbox.closed().await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.hub.gone.lock().unwrap_or_else(PoisonError::into_inner).push(self.id);
        self.hub.wake();
    }
}

impl Inbox {
    /// The next message, if there is one.
    pub(crate) fn next(&mut self) -> Option<(WorkerId, Message)> {
        self.messages.try_recv().ok()
    }

    /// The workers that have gone since the last call. Their messages may still come.
    pub(crate) fn gone(&self) -> Vec<WorkerId> {
        std::mem::take(&mut *self.hub.gone.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Attach {
    /// What the runner needs to know of it: name, and where it is told.
    pub(crate) fn into_parts(self) -> (String, mpsc::Sender<ToWorker>) {
        (self.name, self.outbox)
    }
}

impl Read {
    /// The answer to it.
    pub(crate) fn answer(self, as_of: Position, documents: Vec<Option<(Position, Bytes)>>) -> ToWorker {
        ToWorker::Documents { request: self.request, as_of, documents, permit: self.permit }
    }
}
