//! Envelopes and head marks as messages.

use bytes::Bytes;

use super::{
    ENVELOPE_FORMAT, Envelope, HeadMark, Place, Signature,
    text::{hex, percent_encoded, tags_text},
};
use crate::{mapping::about::time_text, mesh::bus::Message};

/// Names of headers, in the order in which they are written.
pub(super) mod names {
    pub(in crate::mesh::envelope) const SPECVERSION: &str = "ce-specversion";
    pub(in crate::mesh::envelope) const ID: &str = "ce-id";
    pub(in crate::mesh::envelope) const SOURCE: &str = "ce-source";
    pub(in crate::mesh::envelope) const TYPE: &str = "ce-type";
    pub(in crate::mesh::envelope) const TIME: &str = "ce-time";
    pub(in crate::mesh::envelope) const SUBJECT: &str = "ce-subject";
    pub(in crate::mesh::envelope) const TRACE: &str = "ce-traceparent";
    pub(in crate::mesh::envelope) const DATA_CONTENT_TYPE: &str = "ce-datacontenttype";
    pub(in crate::mesh::envelope) const CONTENT_TYPE: &str = "content-type";
    pub(in crate::mesh::envelope) const FORMAT: &str = "outrigger-format";
    pub(in crate::mesh::envelope) const LOG: &str = "outrigger-log";
    pub(in crate::mesh::envelope) const EPOCH: &str = "outrigger-epoch";
    pub(in crate::mesh::envelope) const SEQ: &str = "outrigger-seq";
    pub(in crate::mesh::envelope) const POSITION: &str = "outrigger-position";
    pub(in crate::mesh::envelope) const CHAIN: &str = "outrigger-chain";
    pub(in crate::mesh::envelope) const DEFINITION: &str = "outrigger-definition";
    pub(in crate::mesh::envelope) const TAGS: &str = "outrigger-tags";
    pub(in crate::mesh::envelope) const SIGNATURE: &str = "outrigger-signature";
    pub(in crate::mesh::envelope) const KEY: &str = "outrigger-key";
}

pub(super) const SPECVERSION: &str = "1.0";
pub(super) const CONTENT_TYPE: &str = "application/json";

/// The message that carries an event.
pub fn to_message(envelope: &Envelope) -> Message {
    let Envelope { name, definition, place, event, signature } = envelope;
    let mut headers = vec![
        header(names::SPECVERSION, SPECVERSION),
        header(names::ID, event.id.to_string()),
        header(names::SOURCE, name.source()),
        header(names::TYPE, event.event_type.as_str()),
        header(names::TIME, time_text(event.time_unix_nanos)),
        header(names::SUBJECT, percent_encoded(event.stream.as_str())),
    ];
    headers.extend(event.trace.as_ref().map(|trace| header(names::TRACE, trace.as_str())));
    headers.push(header(names::DATA_CONTENT_TYPE, CONTENT_TYPE));
    // Where it is no type of CloudEvents, their binding to NATS takes the message as one in binary mode.
    headers.push(header(names::CONTENT_TYPE, CONTENT_TYPE));
    put_place(&mut headers, definition, place);
    if !event.tags.is_empty() {
        headers.push(header(names::TAGS, tags_text(&event.tags)));
    }
    if let Some(signature) = signature {
        put_signature(&mut headers, signature);
    }
    Message { subject: name.subject(&event.event_type), headers, payload: event.data.clone() }
}

/// The message that carries a head mark.
pub fn head_to_message(head: &HeadMark) -> Message {
    let HeadMark { name, definition, place, signature } = head;
    let mut headers = Vec::new();
    put_place(&mut headers, definition, place);
    put_signature(&mut headers, signature);
    Message { subject: name.head_subject(), headers, payload: Bytes::new() }
}

fn put_place(headers: &mut Vec<(String, String)>, definition: &[u8; 32], place: &Place) {
    headers.extend([
        header(names::FORMAT, ENVELOPE_FORMAT.to_string()),
        header(names::LOG, place.log_id.to_string()),
        header(names::EPOCH, place.epoch.to_string()),
        header(names::SEQ, place.seq.to_string()),
        header(names::POSITION, place.position.to_string()),
        header(names::CHAIN, hex(&place.chain)),
        header(names::DEFINITION, hex(definition)),
    ]);
}

fn put_signature(headers: &mut Vec<(String, String)>, signature: &Signature) {
    headers.push(header(names::SIGNATURE, hex(&signature.bytes)));
    headers.push(header(names::KEY, signature.key.as_str()));
}

fn header(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}
