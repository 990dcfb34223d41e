//! Seam: the bus between nodes. Sans-I/O: operations are submitted, outcomes are polled, nothing here waits.
//!
//! Two transports stand behind it: NATS JetStream (`nats`) and a bus in memory with faults by seed (`memory`); one
//! conformance suite holds both to this page. A stream of the bus belongs to one node and keeps that node's published
//! messages in an order of its own; its sequence numbers are hints and never trusted, since a broker that lost its store
//! begins again at 1. Does not know envelopes, signatures, exports or logs.

pub(in crate::mesh) mod mailbox;

use std::fmt;

use bytes::Bytes;

/// Names an operation, a listener or a request in what comes of it. Never used twice in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A bus as one node sees it. Bounded: it holds no more than a fixed number of operations and bytes, however long the
/// other side is away.
pub trait Bus: Send + Sync + fmt::Debug {
    /// Takes an operation. What comes of it is said by `poll`, under this ticket: exactly one final event for each
    /// operation, also when the connection is lost (`Failed`).
    fn submit(&self, operation: Operation) -> Result<Ticket, BusFull>;
    /// What happened since the last call, oldest first. Never waits.
    fn poll(&self, now_unix_nanos: i64) -> Vec<BusEvent>;
    /// Has `wake` called, from any thread, whenever `poll` may have something to say. The last one given counts.
    fn on_event(&self, wake: Box<dyn Fn() + Send + Sync>);
}

/// So much is in flight that no more is taken; poll, and submit again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bus has as many operations in flight as it takes")]
pub struct BusFull;

/// What travels: names and values are texts, the payload is bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it goes, or came from: tokens joined by dots.
    pub subject: String,
    /// Written in lower case; read in any case. A transport may give them back in another order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub payload: Bytes,
}

impl Message {
    /// Bytes of subject, headers and payload.
    pub fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len());
        self.subject.len() + self.payload.len() + headers.sum::<usize>()
    }
}

/// Whether a subject is under a filter: token by token, `*` for any one, `>` at the end for one or more.
pub fn subject_matches(filter: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in filter.split('.') {
        match (wanted, tokens.next()) {
            (">", found) => return found.is_some(),
            ("*", Some(_)) => {}
            (wanted, Some(found)) if wanted == found => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

/// A message as a stream keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its number in the stream: from 1, rising, with gaps where messages were removed.
    pub sequence: u64,
    /// The message.
    pub message: Message,
}

/// What a bus can be asked to do. A stream is named by the node that owns it; `filter` is a subject in which the last
/// token may be `>`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the line of a variant says what its fields are")]
pub enum Operation {
    /// Put a message into the stream of this node. Final: `Published`, or `Failed`, after which it may have landed
    /// where the failure is `Unknown`. `message_id` makes repeats within the broker's window land once.
    Publish { stream: String, message: Message, message_id: String },
    /// Messages of a stream above a sequence, in its order; bounded, but the first one comes however large it is.
    /// Final: `Fetched`. At the end an empty one.
    Fetch { stream: String, filter: String, after: u64, messages_max: usize, bytes_max: usize },
    /// The newest message of a stream under a filter. Final: `Fetched` with at most one message.
    Last { stream: String, filter: String },
    /// The state of a stream. Final: `State`.
    State { stream: String },
    /// Tell whoever listens now; nobody keeps it. Final: `Announced`, which promises nothing.
    Announce { message: Message },
    /// Hear what is announced under a filter, until `Forget`: `Heard` for each, some of which may be lost when more
    /// come than are polled. No final event before `Forget`, but `Listening` once it is in force.
    Listen { filter: String },
    /// End a listener or a service. Final for both: `Forgotten` under the ticket of the listener; where there is no such
    /// listener, `Failed` under the ticket of this operation.
    Forget { ticket: Ticket },
    /// Ask one of those who serve a subject. `Answered` for each part, the last of which is final; or `Failed`. The time
    /// begins again with each part.
    Ask { message: Message, timeout_nanos: u64 },
    /// Answer what is asked under a filter, until `Forget`: `Asked` for each.
    Serve { filter: String },
    /// A part of the answer to what was `Asked`. Final: `Announced`.
    Answer { asked: Ticket, message: Message, last: bool },
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the line of a variant says what its fields are")]
pub enum BusEvent {
    /// There is a connection, for the first time or again.
    Connected,
    /// The connection is gone; operations in flight fail, listeners and services go on once there is one again.
    Disconnected { reason: String },
    /// It is in the stream at this sequence. `duplicate`: it was there before, by its message id.
    Published { ticket: Ticket, sequence: u64, duplicate: bool },
    /// What was asked for, and where the stream ends now as far as the broker says: the last of these messages or above,
    /// and above it where more are behind it under the filter; of an empty answer the end of the whole stream, 0 if it is
    /// empty.
    Fetched { ticket: Ticket, messages: Vec<Kept>, last_sequence: u64 },
    /// The state of a stream.
    State { ticket: Ticket, state: StreamState },
    /// It was given to the connection.
    Announced { ticket: Ticket },
    /// A listener or service is in force.
    Listening { ticket: Ticket },
    /// A listener heard this.
    Heard { ticket: Ticket, message: Message },
    /// A service was asked this; answer to `asked`.
    Asked { ticket: Ticket, asked: Ticket, message: Message },
    /// A part of an answer.
    Answered { ticket: Ticket, message: Message, last: bool },
    /// A listener or service has ended.
    Forgotten { ticket: Ticket },
    /// The operation came to nothing.
    Failed { ticket: Ticket, error: BusError },
}

/// The state of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamState {
    /// The lowest sequence kept; above `last_sequence` when there is none.
    pub first_sequence: u64,
    /// The highest sequence ever given.
    pub last_sequence: u64,
    /// Tells this stream from another of the same name: changes when it is created anew. Empty where the broker does not
    /// let this node see it.
    pub created: String,
}

/// Why an operation came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the line of a variant says what its fields are")]
pub enum BusError {
    /// Nobody knows whether it took effect: no answer in time, or the connection was lost meanwhile.
    #[error("no answer: {0}; it may have taken effect")]
    Unknown(String),
    /// There is no connection; it did not take effect.
    #[error("not connected: {0}")]
    NotConnected(String),
    /// There is no such stream, or nobody serves the subject.
    #[error("{0}")]
    NotFound(String),
    /// The broker refuses: permissions, limits, flags of the stream.
    #[error("refused: {0}")]
    Refused(String),
    /// It is larger than the broker takes, in bytes.
    #[error("{bytes} bytes are more than the {bytes_max} that the broker takes")]
    TooLarge { bytes: usize, bytes_max: usize },
}

#[cfg(test)]
mod tests {
    use super::subject_matches;

    #[test]
    fn filters_match_token_by_token() {
        let check = |filter: &str, subject: &str, expected: bool| {
            assert_eq!(subject_matches(filter, subject), expected, "{filter} {subject}");
        };
        check("a.b", "a.b", true);
        check("a.b", "a.b.c", false);
        check("a.b.c", "a.b", false);
        check("a.>", "a.b.c", true);
        check("a.>", "a", false);
        check("a.*.c", "a.b.c", true);
        check("a.*", "a.b.c", false);
        check(">", "a", true);
        check("a.b", "a.bb", false);
    }
}
