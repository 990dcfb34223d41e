//! Events of an answer, many in one message.
//!
//! What an importer is given for a repair, or to catch up, is for it alone, so it need not be what a plain reader of the bus
//! understands: one message of CloudEvents an event costs the broker and both nodes several times what the event itself does.
//! The events are the same in all that the chain covers. Invariant: what is read here has passed the same checks as an event
//! that came over the bus by itself. Does not know questions.

use bytes::Bytes;
use prost::Message as _;
use uuid::Uuid;

use crate::{
    event::{EventId, EventType, Invalid, Position, StreamId, Tag},
    json,
    limits::{EVENT_BYTES_MAX, EVENT_TAGS_MAX, REPAIR_EVENTS_MAX, REPAIR_PACK_BYTES},
    mesh::envelope::{Envelope, ExportName, Place, PublicEvent, Signature},
    trace::is_traceparent,
};

/// Events in a row. Numbers of fields are never used for anything else.
#[derive(Clone, PartialEq, prost::Message)]
struct Pack {
    #[prost(bytes = "bytes", tag = "1")]
    definition: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    log_id: Bytes,
    /// The number of the first one.
    #[prost(uint64, tag = "3")]
    first_seq: u64,
    #[prost(message, repeated, tag = "4")]
    events: Vec<PackedEvent>,
    /// Of the last one, if it is signed.
    #[prost(string, optional, tag = "5")]
    key: Option<String>,
    #[prost(bytes = "vec", tag = "6")]
    signature: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PackedEvent {
    #[prost(bytes = "bytes", tag = "1")]
    id: Bytes,
    #[prost(string, tag = "2")]
    event_type: String,
    #[prost(string, tag = "3")]
    stream: String,
    #[prost(string, repeated, tag = "4")]
    tags: Vec<String>,
    #[prost(sfixed64, tag = "5")]
    time_unix_nanos: i64,
    #[prost(string, optional, tag = "6")]
    trace: Option<String>,
    #[prost(bytes = "bytes", tag = "7")]
    data: Bytes,
    #[prost(uint64, tag = "8")]
    epoch: u64,
    #[prost(uint64, tag = "9")]
    position: u64,
    #[prost(bytes = "bytes", tag = "10")]
    chain: Bytes,
}

/// Payloads that carry these events, which continue one another: each of about `REPAIR_PACK_BYTES`, or of one event that is
/// larger. Signatures stay only on the last of each.
pub(crate) fn pack(envelopes: Vec<Envelope>) -> Vec<Bytes> {
    let mut payloads = Vec::new();
    let mut open: Option<(Pack, usize)> = None;
    for envelope in envelopes {
        let bytes = envelope.event.data.len();
        if let Some((pack, held)) = open.take_if(|(_, held)| *held + bytes > REPAIR_PACK_BYTES) {
            tracing::trace!(events = pack.events.len(), bytes = held, "a pack is full");
            payloads.push(pack.encode_to_vec().into());
        }
        let (pack, held) = open.get_or_insert_with(|| (first_of(&envelope), 0));
        *held += bytes;
        if let Some(Signature { key, bytes }) = envelope.signature {
            (pack.key, pack.signature) = (Some(key), bytes);
        }
        pack.events.push(packed(envelope.place, envelope.event));
    }
    payloads.extend(open.map(|(pack, _)| pack.encode_to_vec().into()));
    payloads
}

fn first_of(envelope: &Envelope) -> Pack {
    Pack {
        definition: Bytes::copy_from_slice(&envelope.definition),
        log_id: Bytes::copy_from_slice(envelope.place.log_id.as_bytes()),
        first_seq: envelope.place.seq,
        events: Vec::new(),
        key: None,
        signature: Vec::new(),
    }
}

fn packed(place: Place, event: PublicEvent) -> PackedEvent {
    PackedEvent {
        id: Bytes::copy_from_slice(event.id.as_bytes()),
        event_type: event.event_type.as_str().to_owned(),
        stream: event.stream.as_str().to_owned(),
        tags: event.tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
        time_unix_nanos: event.time_unix_nanos,
        trace: event.trace,
        data: event.data,
        epoch: place.epoch,
        position: place.position.get(),
        chain: Bytes::copy_from_slice(&place.chain),
    }
}

/// The events of a payload, as those of this export.
pub(crate) fn unpack(name: &ExportName, payload: Bytes) -> Result<Vec<Envelope>, Invalid> {
    let invalid = |what: String| Invalid(format!("expected events of {name}: {what}"));
    let pack = Pack::decode(payload).map_err(|error| invalid(error.to_string()))?;
    if pack.events.len() > REPAIR_EVENTS_MAX {
        return Err(invalid(format!("{} of them, at most {REPAIR_EVENTS_MAX}", pack.events.len())));
    }
    let definition = hash(&pack.definition).ok_or_else(|| invalid("a definition that is no hash".into()))?;
    let log_id = Uuid::from_slice(&pack.log_id).map_err(|error| invalid(format!("log: {error}")))?;
    let numbers = pack.first_seq..=u64::MAX;
    let mut envelopes = Vec::with_capacity(pack.events.len());
    for (seq, event) in numbers.zip(pack.events) {
        let place = Place {
            log_id,
            epoch: event.epoch,
            seq,
            position: Position::new(event.position),
            chain: hash(&event.chain).ok_or_else(|| invalid(format!("event {seq}: a chain that is none")))?,
        };
        if seq == 0 || event.position < seq {
            return Err(invalid(format!("event {seq} at position {}", event.position)));
        }
        let event = event.read().map_err(|Invalid(why)| invalid(format!("event {seq}: {why}")))?;
        envelopes.push(Envelope { name: name.clone(), definition, place, event, signature: None });
    }
    if let (Some(last), Some(key)) = (envelopes.last_mut(), pack.key) {
        last.signature = Some(Signature { key, bytes: pack.signature });
    }
    Ok(envelopes)
}

impl PackedEvent {
    fn read(self) -> Result<PublicEvent, Invalid> {
        if self.tags.len() > EVENT_TAGS_MAX {
            return Err(Invalid(format!("{} tags, at most {EVENT_TAGS_MAX}", self.tags.len())));
        }
        if self.data.len() > EVENT_BYTES_MAX {
            return Err(Invalid(format!("{} bytes, at most {EVENT_BYTES_MAX}", self.data.len())));
        }
        let tags = self.tags.iter().map(|tag| Tag::parse(tag)).collect::<Result<Vec<Tag>, Invalid>>()?;
        if !tags.is_sorted_by(|one, next| one.as_str() < next.as_str()) {
            return Err(Invalid("tags that are not sorted, or repeat".into()));
        }
        if let Some(trace) = self.trace.as_ref().filter(|trace| !is_traceparent(trace)) {
            return Err(Invalid(format!("a trace {trace:?}")));
        }
        json::check(&self.data).map_err(|error| Invalid(format!("data: {error}")))?;
        let id = Uuid::from_slice(&self.id).map_err(|error| Invalid(format!("id: {error}")))?;
        Ok(PublicEvent {
            id: EventId::from_uuid(id)?,
            event_type: EventType::parse(&self.event_type)?,
            stream: StreamId::parse(&self.stream)?,
            tags,
            time_unix_nanos: self.time_unix_nanos,
            data: self.data,
            trace: self.trace,
        })
    }
}

fn hash(bytes: &[u8]) -> Option<[u8; 32]> {
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::envelope::chain_after;

    fn name() -> ExportName {
        ExportName { owner: "flights".into(), export: "board".into(), version: 3 }
    }

    fn envelopes(count: u64, bytes: usize) -> Vec<Envelope> {
        let mut place = Place::start(Uuid::from_u128(7), 2);
        let made = (1..=count).map(|seq| {
            let event = PublicEvent {
                id: EventId::from_uuid(Uuid::from_u128(u128::from(seq))).unwrap(),
                event_type: EventType::parse("flight.departed").unwrap(),
                stream: StreamId::parse(&format!("flight/{seq}")).unwrap(),
                tags: vec![Tag::parse("a").unwrap(), Tag::parse("b").unwrap()],
                time_unix_nanos: -5,
                data: format!("  {{\"n\": \"{}\"}} ", "x".repeat(bytes)).into(),
                trace: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            };
            let mut envelope = Envelope {
                name: name(),
                definition: [9; 32],
                place: Place { seq, position: Position::new(2 * seq), ..place.clone() },
                event,
                signature: None,
            };
            envelope.place.chain = chain_after(&place.chain, &envelope);
            place = envelope.place.clone();
            envelope
        });
        let mut made: Vec<Envelope> = made.collect();
        let signature = Signature { key: "UKEY".into(), bytes: vec![1; 64] };
        made.last_mut().unwrap().signature = Some(signature);
        made
    }

    #[test]
    fn what_is_packed_is_unpacked_in_bounded_messages() {
        for (count, bytes) in [(1, 0), (500, 10), (40, 100_000), (3, EVENT_BYTES_MAX - 100)] {
            let sent = envelopes(count, bytes);
            let payloads = pack(sent.clone());
            let over = REPAIR_PACK_BYTES + EVENT_BYTES_MAX;
            assert!(payloads.iter().all(|payload| payload.len() < over), "{count} of {bytes}");
            let found: Vec<Envelope> =
                payloads.into_iter().flat_map(|payload| unpack(&name(), payload).unwrap()).collect();
            assert_eq!(found, sent, "{count} of {bytes}");
        }
        assert_eq!(pack(Vec::new()), Vec::<Bytes>::new());
    }

    #[test]
    fn what_is_damaged_is_refused_or_differs() {
        let sent = envelopes(2, 20);
        let payload = pack(sent.clone()).remove(0);
        for at in 0..payload.len() {
            for bit in [1, 128] {
                let mut damaged = payload.to_vec();
                damaged[at] ^= bit;
                // Whatever is read is not what was sent: chain or signature will not hold.
                if let Ok(found) = unpack(&name(), damaged.into()) {
                    assert_ne!(found, sent, "byte {at}");
                }
            }
        }
    }
}
