//! The queue in front of the committer: many callers put requests in, one committer takes groups out.
//!
//! Invariants: bounded in bytes and requests, and full means refused at once; every request that was let in is
//! answered, or its caller learns that nobody will. Does not judge anything.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{Answer, AppendError, Request};
use crate::{
    event::Event,
    limits::{APPEND_QUEUE_BYTES_MAX, APPEND_QUEUE_BYTES_MIN, APPEND_QUEUE_REQUESTS_MAX, GROUP_BYTES_MAX},
};

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
        let (reply, answer) = oneshot::channel();
        self.put(vec![request], Reply::One(reply))?;
        Ok(answer)
    }

    /// Queues requests that are taken together, in order, and judged one by one: as `submit` for each, with less ado.
    /// Together they must fit one group.
    pub fn submit_all(&self, requests: Vec<Request>) -> Result<oneshot::Receiver<Vec<Answer>>, AppendError> {
        let (reply, answers) = oneshot::channel();
        self.put(requests, Reply::All(reply))?;
        Ok(answers)
    }

    fn put(&self, requests: Vec<Request>, reply: Reply) -> Result<(), AppendError> {
        let bytes = requests.iter().map(request_bytes).sum();
        let count = requests.len();
        let mut state = self.0.lock();
        if state.closed {
            return Err(AppendError::Stopping);
        }
        if let Some(reason) = &state.refused {
            let is_system = |event: &Event| event.event_type.is_system();
            if !requests.iter().all(|request| request.events.iter().all(is_system)) {
                return Err(AppendError::LogRewound(reason.clone()));
            }
        }
        if state.bytes + bytes > self.0.bytes_max || state.requests + count > APPEND_QUEUE_REQUESTS_MAX {
            return Err(AppendError::QueueFull { bytes_max: self.0.bytes_max, queued_bytes: state.bytes });
        }
        state.bytes += bytes;
        state.requests += count;
        state.waiting.push_back(Pending { requests, bytes, reply });
        let was_empty = state.waiting.len() == 1;
        drop(state);
        if was_empty {
            self.0.changed.notify_one();
        }
        Ok(())
    }

    /// Refuses all events but the system's own from now on, with this reason; `None` takes them again.
    pub fn refuse(&self, reason: Option<String>) {
        self.0.lock().refused = reason;
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
        // What is too large for a group of its own (requests queued together, at most) is refused by the log.
        let mut taken_bytes = 0;
        let fits = |pending: &&Pending| {
            taken_bytes += pending.bytes;
            taken_bytes <= GROUP_BYTES_MAX
        };
        let count = state.waiting.iter().take_while(fits).count().max(1);
        let batch: Vec<_> = state.waiting.drain(..count).collect();
        state.bytes -= batch.iter().map(|pending| pending.bytes).sum::<usize>();
        state.requests -= batch.iter().map(|pending| pending.requests.len()).sum::<usize>();
        Taken::Batch(batch)
    }
}

impl Drop for Intake {
    /// Whoever still waits learns that no one will answer.
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.waiting.clear();
        (state.bytes, state.requests) = (0, 0);
    }
}

/// Requests that wait for their group.
#[derive(Debug)]
pub(crate) struct Pending {
    /// In order; at least one.
    pub(crate) requests: Vec<Request>,
    bytes: usize,
    pub(crate) reply: Reply,
}

/// Who waits for the answers.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The caller of one request.
    One(oneshot::Sender<Answer>),
    /// The caller of several.
    All(oneshot::Sender<Vec<Answer>>),
}

impl Reply {
    /// Hands the answers over. The receiver may be gone: its client gave up, and the events are durable all the same.
    pub(crate) fn send(self, mut answers: Vec<Answer>) {
        match self {
            Self::One(reply) => drop(answers.pop().map(|answer| reply.send(answer))),
            Self::All(reply) => drop(reply.send(answers)),
        }
    }
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
    requests: usize,
    closed: bool,
    /// Why only the system's own events are taken.
    refused: Option<String>,
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
    const IMPORT_BYTES: usize = 256;
    let event_bytes =
        |event: &Event| event.size_bytes() + EVENT_FRAMING_BYTES + event.tags.len() * TAG_FRAMING_BYTES;
    let import_bytes = (request.origins.len() + usize::from(request.cursor.is_some())) * IMPORT_BYTES;
    request.events.iter().map(event_bytes).sum::<usize>() + import_bytes
}
