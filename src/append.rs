//! Appending events: the way from a checked request to a durable, indexed, visible group.
//!
//! Owns the queue in front of the committer and the words in which appends succeed or fail. Invariants: the queue is
//! bounded in bytes and requests, and full means refused at once; every submitted request gets exactly one answer;
//! an answer that depends on state is given only when the state it was judged against is durable. Reading order:
//! here, `decide` (pure), `committer` (the thread). Does not know gRPC, segments or projections.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{
    event::{Event, EventId, Position, Revision, StreamId},
    limits::{APPEND_QUEUE_BYTES_MAX, APPEND_QUEUE_BYTES_MIN, APPEND_QUEUE_REQUESTS_MAX, GROUP_BYTES_MAX},
};

pub mod committer;
pub mod decide;

/// Events to append, all or none; checked, ids unique within the request.
#[derive(Debug, Clone)]
pub struct Request {
    /// 1 to 1,000 events.
    pub events: Vec<Event>,
    /// All of these must hold; at most one for each stream.
    pub expectations: Vec<Expectation>,
    /// Append the events that are not known yet instead of refusing a partly known request.
    pub skip_existing: bool,
}

/// What must hold of one stream before the request's own events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// The stream.
    pub stream: StreamId,
    /// What is expected of it.
    pub expected: Expected,
}

/// What is expected of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Its last revision is this one.
    Revision(Revision),
    /// It has no event.
    NoStream,
    /// It has at least one event.
    Exists,
    /// Nothing.
    Any,
}

/// The request's events are durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// One for each event of the request, in its order.
    pub events: Vec<AppendedEvent>,
    /// The highest of their positions.
    pub position: Position,
}

impl Appended {
    /// Whether nothing was appended because every event was known.
    pub fn already_applied(&self) -> bool {
        self.events.iter().all(|event| event.already_existed)
    }
}

/// Where one event of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendedEvent {
    /// Its id.
    pub id: EventId,
    /// Its position.
    pub position: Position,
    /// Its revision in its stream.
    pub revision: Revision,
    /// It was in the log before this request.
    pub already_existed: bool,
}

/// A condition that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedExpectation {
    /// What was expected.
    pub expectation: Expectation,
    /// The stream's last revision; `Revision::NONE` if it has no event.
    pub actual: Revision,
    /// The position of its last event; `Position::ZERO` if it has none.
    pub position: Position,
}

/// Why an append did not happen, or may not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// An id is known with other content.
    #[error("event {index} has the id {id} of the event at position {position}, which has another {field}")]
    IdReused {
        /// The event's index in the request.
        index: usize,
        /// Its id.
        id: EventId,
        /// Where the id is.
        position: Position,
        /// What differs first: type, stream, tags, data or time.
        field: &'static str,
    },
    /// Some events are known, and the request does not say to skip them.
    #[error("{} of the request's events are in the log already, the first is event {} at position {}",
        known.len(), known[0].0, known[0].1.position)]
    PartlyApplied {
        /// The known ones with their index in the request; at least one.
        known: Vec<(usize, AppendedEvent)>,
    },
    /// Conditions do not hold.
    #[error("{} of the request's conditions do not hold", .0.len())]
    ConditionsFailed(Vec<FailedExpectation>),
    /// Too much waits for the committer.
    #[error("{queued_bytes} bytes of appends wait for the disk; at most {bytes_max} may")]
    QueueFull {
        /// Bytes that may wait.
        bytes_max: usize,
        /// Bytes that wait.
        queued_bytes: usize,
    },
    /// There is no room for more events; reads go on.
    #[error("the disk is full: {0}")]
    DiskFull(String),
    /// The group may or may not be durable.
    #[error("the append may or may not have happened: {0}")]
    OutcomeUnknown(String),
    /// State that the request depends on cannot be read.
    #[error("the log could not be read to judge the append: {0}")]
    Unreadable(String),
    /// The node stops.
    #[error("the node is stopping")]
    Stopping,
}

/// The answer to one request.
pub type Answer = Result<Appended, AppendError>;

/// Takes requests for the committer. Clones share one queue.
#[derive(Debug, Clone)]
pub struct Appender(Arc<Queue>);

impl Appender {
    /// An empty queue for at most so many bytes of requests, and the end from which its committer takes.
    pub fn new(bytes_max: usize) -> (Self, Intake) {
        let bytes_max = bytes_max.clamp(APPEND_QUEUE_BYTES_MIN, APPEND_QUEUE_BYTES_MAX);
        let queue = Arc::new(Queue { bytes_max, state: Mutex::default(), changed: Condvar::new() });
        (Self(Arc::clone(&queue)), Intake(queue))
    }

    /// Queues a request. The answer comes when it is durable or refused; a dropped receiver changes nothing.
    pub fn submit(&self, request: Request) -> Result<oneshot::Receiver<Answer>, AppendError> {
        let bytes = request_bytes(&request);
        let (reply, answer) = oneshot::channel();
        let mut state = self.0.lock();
        if state.closed {
            return Err(AppendError::Stopping);
        }
        if state.bytes + bytes > self.0.bytes_max || state.waiting.len() >= APPEND_QUEUE_REQUESTS_MAX {
            return Err(AppendError::QueueFull { bytes_max: self.0.bytes_max, queued_bytes: state.bytes });
        }
        state.bytes += bytes;
        state.waiting.push_back(Pending { request, bytes, reply });
        let was_empty = state.waiting.len() == 1;
        drop(state);
        if was_empty {
            self.0.changed.notify_one();
        }
        Ok(answer)
    }

    /// Queues a request and waits for its answer.
    pub async fn append(&self, request: Request) -> Answer {
        let unanswered = || AppendError::OutcomeUnknown("the committer stopped".into());
        self.submit(request)?.await.unwrap_or_else(|_| Err(unanswered()))
    }

    /// Refuses further requests; the committer answers those that wait and ends.
    pub fn close(&self) {
        self.0.lock().closed = true;
        self.0.changed.notify_all();
    }

    /// Bytes of requests that wait.
    pub fn queued_bytes(&self) -> usize {
        self.0.lock().bytes
    }
}

/// The committer's end of the queue.
#[derive(Debug)]
pub struct Intake(Arc<Queue>);

/// What the committer finds in the queue.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Requests that fit one group, in order; at least one.
    Batch(Vec<Pending>),
    /// Nothing came in time.
    Idle,
    /// Nothing waits and nothing will come.
    Closed,
}

impl Intake {
    /// Waits for requests, at most `timeout` if there is one, and takes what fits one group.
    pub(crate) fn take(&self, timeout: Option<Duration>) -> Taken {
        let mut state = self.0.lock();
        while state.waiting.is_empty() {
            if state.closed {
                return Taken::Closed;
            }
            match timeout {
                None => state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(timeout) => {
                    let waited = self.0.changed.wait_timeout(state, timeout);
                    let (after, result) = waited.unwrap_or_else(PoisonError::into_inner);
                    state = after;
                    if result.timed_out() && state.waiting.is_empty() {
                        return if state.closed { Taken::Closed } else { Taken::Idle };
                    }
                }
            }
        }
        let mut taken_bytes = 0;
        let fits = |pending: &&Pending| {
            taken_bytes += pending.bytes;
            taken_bytes <= GROUP_BYTES_MAX
        };
        let count = state.waiting.iter().take_while(fits).count().max(1);
        let batch: Vec<_> = state.waiting.drain(..count).collect();
        state.bytes -= batch.iter().map(|pending| pending.bytes).sum::<usize>();
        Taken::Batch(batch)
    }
}

impl Drop for Intake {
    /// Whoever still waits learns that no one will answer.
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.waiting.clear();
    }
}

/// A request that waits for its group.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) request: Request,
    bytes: usize,
    pub(crate) reply: oneshot::Sender<Answer>,
}

#[derive(Debug)]
struct Queue {
    bytes_max: usize,
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    waiting: VecDeque<Pending>,
    bytes: usize,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a request costs in the queue and at the most in a group: its texts and what framing adds to them.
fn request_bytes(request: &Request) -> usize {
    const EVENT_FRAMING_BYTES: usize = 128;
    const TAG_FRAMING_BYTES: usize = 4;
    let event_bytes =
        |event: &Event| event.size_bytes() + EVENT_FRAMING_BYTES + event.tags.len() * TAG_FRAMING_BYTES;
    request.events.iter().map(event_bytes).sum()
}
