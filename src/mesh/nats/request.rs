//! What of an operation goes over a NATS connection: names of streams and subjects, headers, the questions to JetStream.
//!
//! Pure. Invariants: a header that would not survive the wire is refused; a stream's name follows from its node's.

use std::str::FromStr as _;

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;
use serde_json::json;

use crate::{
    limits::{BUS_FETCH_BYTES_MAX, BUS_FETCH_MESSAGES_MAX},
    mesh::bus::{BusError, Message},
};

/// What goes out for an operation.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    pub(super) subject: String,
    pub(super) headers: Option<HeaderMap>,
    pub(super) payload: Bytes,
}

/// The header under which a stream knows a message again.
pub(super) const MESSAGE_ID: &str = "Nats-Msg-Id";
/// On the last part of an answer.
pub(super) const LAST_PART: &str = "outrigger-last";

/// The stream of a node.
pub fn stream_name(node: &str) -> String {
    format!("OUTRIGGER_{node}")
}

/// The subjects that the stream of a node keeps.
pub fn stream_subjects(node: &str) -> String {
    format!("outrigger.v1.{node}.>")
}

/// Where messages of a node's stream are read.
pub fn direct_get(node: &str) -> String {
    format!("$JS.API.DIRECT.GET.{}", stream_name(node))
}

pub(super) fn publish(message: &Message, message_id: &str) -> Result<Outgoing, BusError> {
    let mut outgoing = plain(message)?;
    let mut headers = outgoing.headers.take().unwrap_or_default();
    headers.insert(MESSAGE_ID, value(MESSAGE_ID, message_id)?);
    Ok(Outgoing { headers: Some(headers), ..outgoing })
}

pub(super) fn plain(message: &Message) -> Result<Outgoing, BusError> {
    let mut headers = HeaderMap::new();
    for (name, text) in &message.headers {
        let wire_name = HeaderName::from_str(name)
            .map_err(|_| BusError::Refused(format!("'{name}' is no name of a header")))?;
        headers.append(wire_name, value(name, text)?);
    }
    let headers = (!headers.is_empty()).then_some(headers);
    Ok(Outgoing { subject: message.subject.clone(), headers, payload: message.payload.clone() })
}

pub(super) fn fetch(node: &str, filter: &str, after: u64, messages_max: usize, bytes_max: usize) -> Outgoing {
    let question = json!({
        "seq": after.saturating_add(1),
        "next_by_subj": filter,
        "batch": messages_max.clamp(1, BUS_FETCH_MESSAGES_MAX),
        "max_bytes": bytes_max.clamp(1, BUS_FETCH_BYTES_MAX),
    });
    api(direct_get(node), &question)
}

pub(super) fn last(node: &str, filter: &str) -> Outgoing {
    api(direct_get(node), &json!({ "last_by_subj": filter }))
}

/// Asks for the state of a stream, where this node may.
pub(super) fn info(node: &str) -> Outgoing {
    let subject = format!("$JS.API.STREAM.INFO.{}", stream_name(node));
    Outgoing { subject, headers: None, payload: Bytes::new() }
}

/// Bytes of headers and payload on the wire.
pub(super) fn wire_bytes(outgoing: &Outgoing) -> usize {
    let headers = outgoing.headers.as_ref().map_or(0, |headers| {
        let lines = headers.iter().flat_map(|(name, values)| {
            let name: &str = name.as_ref();
            values.iter().map(move |value| name.len() + value.as_str().len() + ": \r\n".len())
        });
        "NATS/1.0\r\n\r\n".len() + lines.sum::<usize>()
    });
    headers + outgoing.payload.len()
}

fn api(subject: String, question: &serde_json::Value) -> Outgoing {
    Outgoing { subject, headers: None, payload: question.to_string().into() }
}

fn value(name: &str, text: &str) -> Result<HeaderValue, BusError> {
    let refused = |_| BusError::Refused(format!("the header {name} holds what no header can: {text:?}"));
    HeaderValue::from_str(text).map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str, text: &str) -> Message {
        let headers = vec![(name.to_owned(), text.to_owned())];
        Message { subject: "a.b".to_owned(), headers, payload: Bytes::from_static(b"12345") }
    }

    #[test]
    fn what_no_header_can_hold_is_refused() {
        let check = |name: &str, text: &str, fine: bool| {
            assert_eq!(plain(&message(name, text)).is_ok(), fine, "{name:?} {text:?}");
        };
        check("ce-id", "7", true);
        check("ce-id", "7\r\nNats-Rollup: all", false);
        check("ce id:", "7", false);
    }

    #[test]
    fn the_size_is_that_on_the_wire() {
        let outgoing = publish(&message("ce-id", "77"), "1").unwrap();
        let wire = "NATS/1.0\r\nce-id: 77\r\nNats-Msg-Id: 1\r\n\r\n12345";
        assert_eq!(wire_bytes(&outgoing), wire.len());
    }
}
