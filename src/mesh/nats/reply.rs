//! What came back over a NATS connection: acknowledgements, parts of a read, refusals.
//!
//! Pure. Invariants: a read of which a part was lost is no read; headers of the broker are not the message's. Does not
//! know which operation waits for it.

use async_nats::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::request::LAST_PART;
use crate::mesh::bus::{BusError, Kept, Message, StreamState};

/// A part of the answer to a read.
#[derive(Debug)]
pub(super) enum ReadPart {
    /// A message, with the sequence of the one before in the same read, and how many follow, where it is one of several.
    Message { kept: Kept, before: Option<u64>, pending: Option<u64> },
    /// There is no more in this read.
    End { last: u64 },
    /// There is nothing at all.
    Nothing,
}

/// What JetStream says of a published message.
#[derive(Debug, Deserialize)]
struct Acknowledgement {
    stream: Option<String>,
    seq: Option<u64>,
    #[serde(default)]
    duplicate: bool,
    error: Option<ApiError>,
}

/// What JetStream says of a stream.
#[derive(Debug, Deserialize)]
struct Info {
    created: Option<String>,
    state: Option<Counts>,
    error: Option<ApiError>,
}

#[derive(Debug, Deserialize)]
struct Counts {
    messages: u64,
    first_seq: u64,
    last_seq: u64,
}

/// A refusal of JetStream.
#[derive(Debug, Deserialize)]
struct ApiError {
    code: u32,
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

/// Where a published message landed, and whether it was there before.
pub(super) fn published(reply: &async_nats::Message, stream: &str) -> Result<(u64, bool), BusError> {
    if reply.status == Some(StatusCode::NO_RESPONDERS) {
        return Err(BusError::NotFound(format!(
            "no stream takes it: {stream} is not there, or not for this node"
        )));
    }
    let text = String::from_utf8_lossy(&reply.payload);
    let unreadable = || BusError::Refused(format!("the answer is no acknowledgement: {text:?}"));
    let answer: Acknowledgement = serde_json::from_str(&text).map_err(|_| unreadable())?;
    if let Some(error) = answer.error {
        let ApiError { description, code, err_code } = error;
        return Err(BusError::Refused(format!("{description} ({code}, {err_code})")));
    }
    match (answer.stream, answer.seq) {
        (Some(name), Some(sequence)) if name == stream => Ok((sequence, answer.duplicate)),
        (Some(name), Some(_)) => {
            Err(BusError::Refused(format!("it landed in the stream {name}, expected {stream}")))
        }
        _ => Err(unreadable()),
    }
}

/// The state of a stream.
pub(super) fn state(reply: &async_nats::Message) -> Result<StreamState, BusError> {
    let text = String::from_utf8_lossy(&reply.payload);
    match serde_json::from_str(&text) {
        Ok(Info { error: Some(error), .. }) => {
            let ApiError { description, code, err_code } = error;
            let words = format!("{description} ({code}, {err_code})");
            Err(if code == 404 { BusError::NotFound(words) } else { BusError::Refused(words) })
        }
        Ok(Info { created: Some(created), state: Some(counts), .. }) => {
            let Counts { messages, first_seq, last_seq } = counts;
            let first_sequence = if messages == 0 { last_seq + 1 } else { first_seq };
            Ok(StreamState { first_sequence, last_sequence: last_seq, created })
        }
        _ => Err(BusError::Refused(format!("the answer is no state of a stream: {text:?}"))),
    }
}

/// A part of the answer to a read of a stream.
pub(super) fn read(reply: &async_nats::Message, stream: &str) -> Result<ReadPart, BusError> {
    match reply.status.map(|status| status.as_u16()) {
        Some(503) => {
            Err(BusError::NotFound(format!("there is no {stream}, or it is not for this node to read")))
        }
        Some(404) => Ok(ReadPart::Nothing),
        Some(204) => {
            Ok(ReadPart::End { last: number(reply.headers.as_ref(), "Nats-Last-Sequence").unwrap_or(0) })
        }
        Some(code) if code != 200 => {
            let words = reply.description.as_deref().unwrap_or("no reason given");
            Err(BusError::Refused(format!("{words} ({code})")))
        }
        _ => {
            let headers = reply.headers.as_ref();
            let (Some(sequence), Some(subject)) =
                (number(headers, "Nats-Sequence"), text(headers, "Nats-Subject"))
            else {
                return Err(BusError::Refused("a message came without its sequence or subject".to_owned()));
            };
            let message = Message { subject, headers: own(headers), payload: reply.payload.clone() };
            let before = number(headers, "Nats-Last-Sequence");
            let pending = number(headers, "Nats-Num-Pending");
            Ok(ReadPart::Message { kept: Kept { sequence, message }, before, pending })
        }
    }
}

/// A message that was announced, asked or answered.
pub(super) fn message(received: &async_nats::Message) -> Message {
    let mut headers = own(received.headers.as_ref());
    // Which account asked is the broker's word, and worth to be known.
    headers.extend(
        text(received.headers.as_ref(), "Nats-Request-Info").map(|info| ("nats-request-info".into(), info)),
    );
    Message { subject: received.subject.to_string(), headers, payload: received.payload.clone() }
}

/// A part of an answer, and whether it is the last.
pub(super) fn answer(received: &async_nats::Message) -> (Message, bool) {
    let mut message = message(received);
    let before = message.headers.len();
    message.headers.retain(|(name, _)| !name.eq_ignore_ascii_case(LAST_PART));
    let last = message.headers.len() < before;
    (message, last)
}

/// The headers that are not the broker's, by name.
fn own(headers: Option<&HeaderMap>) -> Vec<(String, String)> {
    let all = headers.into_iter().flat_map(HeaderMap::iter).flat_map(|(name, values)| {
        let name: &str = name.as_ref();
        values.iter().map(move |value| (name.to_owned(), value.as_str().to_owned()))
    });
    let is_brokers = |name: &str| name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("nats-"));
    let mut own: Vec<_> = all.filter(|(name, _)| !is_brokers(name)).collect();
    own.sort();
    own
}

fn text(headers: Option<&HeaderMap>, name: &str) -> Option<String> {
    // The last one: a publisher may have sent one of the same name, which the broker writes behind or in place of.
    headers?.get_all(name).last().map(|value| value.as_str().to_owned())
}

fn number(headers: Option<&HeaderMap>, name: &str) -> Option<u64> {
    text(headers, name)?.parse().ok()
}
