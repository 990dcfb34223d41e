//! The answers of reads and subscriptions as the server sends them: events as bytes that are ready to go.
//!
//! On the wire they are `v1::ReadResponse` and `v1::SubscribeResponse`, and clients have these; here the events are the
//! bytes that `events::wire` made of stored ones, so that nothing is decoded and encoded again. They are only ever
//! encoded. Does not know where the bytes come from.

use prost::{
    Message,
    bytes::BufMut,
    encoding::{self, WireType},
};

use super::proto::v1::{self, subscribe_response};
use crate::events::wire::WireEvents;

/// The half of `prost::Message` that a message which is only ever encoded does not need.
macro_rules! only_encoded {
    () => {
        fn merge_field(
            &mut self,
            tag: u32,
            wire_type: prost::encoding::WireType,
            buf: &mut impl prost::bytes::Buf,
            ctx: prost::encoding::DecodeContext,
        ) -> Result<(), prost::DecodeError> {
            prost::encoding::skip_field(wire_type, tag, buf, ctx)
        }

        fn clear(&mut self) {
            *self = Self::default();
        }
    };
}
pub(super) use only_encoded;

/// A batch of events: `v1::ReadResponse`.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReadResponse {
    pub(crate) events: WireEvents,
    pub(crate) head: u64,
}

/// What a subscription yields: `v1::SubscribeResponse`.
#[derive(Debug, Clone)]
pub(crate) enum SubscribeResponse {
    /// A batch of events.
    Events(WireEvents),
    /// Anything else.
    Other(v1::SubscribeResponse),
}

/// The number of the field `head` in `v1::ReadResponse`.
const HEAD: u32 = 2;
/// The number of the field `events` in `v1::SubscribeResponse`.
const EVENTS: u32 = 1;

impl Message for ReadResponse {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.events.bytes);
        if self.head != 0 {
            encoding::uint64::encode(HEAD, &self.head, buf);
        }
    }

    only_encoded!();

    fn encoded_len(&self) -> usize {
        let head = if self.head == 0 { 0 } else { encoding::uint64::encoded_len(HEAD, &self.head) };
        self.events.bytes.len() + head
    }
}

impl SubscribeResponse {
    /// A message that is no batch of events.
    pub(crate) fn other(content: subscribe_response::Content) -> Self {
        Self::Other(v1::SubscribeResponse { content: Some(content) })
    }
}

impl Default for SubscribeResponse {
    fn default() -> Self {
        Self::Other(v1::SubscribeResponse::default())
    }
}

impl Message for SubscribeResponse {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        match self {
            Self::Events(events) => {
                encoding::encode_key(EVENTS, WireType::LengthDelimited, buf);
                encoding::encode_varint(events.bytes.len() as u64, buf);
                buf.put_slice(&events.bytes);
            }
            Self::Other(other) => other.encode_raw(buf),
        }
    }

    only_encoded!();

    fn encoded_len(&self) -> usize {
        match self {
            Self::Events(events) => {
                let len = events.bytes.len();
                encoding::key_len(EVENTS) + encoding::encoded_len_varint(len as u64) + len
            }
            Self::Other(other) => other.encoded_len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::{collection::vec, option, prelude::*};

    use super::*;
    use crate::{
        api::convert,
        event::{
            Event, EventId, EventType, Position, RecordedEvent, Revision, Source, StreamId, Tag, Tracking,
            samples::{cursor, origin},
        },
        events::wire,
    };

    fn recorded() -> impl Strategy<Value = RecordedEvent> {
        let names = ("[$]?[a-z]{1,9}(\\.[a-z]{1,9})?", "\\PC{1,40}", vec("\\PC{1,40}", 0..4));
        let bytes = || vec(any::<u8>(), 0..300).prop_map(Bytes::from);
        let times = (option::of(any::<i64>()), prop_oneof![Just(0), any::<i64>(), 0..2_000_000_000_i64]);
        let tracking = option::of(("[a-z]{1,9}", any::<u64>()));
        let numbers = (1..=u64::MAX, 1..=u64::MAX, 1..=u128::MAX);
        let imported = (option::of(origin()), option::of(cursor()));
        (names, bytes(), option::of(bytes()), times, tracking, numbers, imported).prop_map(
            |((event_type, stream, tags), data, metadata, times, tracking, numbers, imported)| {
                RecordedEvent {
                    origin: imported.0.map(Box::new),
                    cursor: imported.1.map(Box::new),
                    position: Position::new(numbers.0),
                    revision: Revision::new(numbers.1),
                    recorded_at_unix_nanos: times.1,
                    tracking: tracking
                        .map(|(name, position)| Tracking { source: Source::parse(&name).unwrap(), position }),
                    event: Event {
                        id: EventId::from_slice(&numbers.2.to_be_bytes()).unwrap(),
                        event_type: EventType::parse_any(&event_type).unwrap(),
                        stream: StreamId::parse_any(&stream).unwrap(),
                        tags: tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect(),
                        data,
                        metadata,
                        time_unix_nanos: times.0,
                    },
                }
            },
        )
    }

    fn framed(events: &[RecordedEvent]) -> WireEvents {
        let mut bytes = Vec::new();
        for event in events {
            wire::frame(event.position, &event.encode(), &mut bytes).unwrap();
        }
        WireEvents { bytes: bytes.into(), count: events.len() }
    }

    /// What a client decodes of a message whose length is what it says.
    fn decoded<T: Message + Default>(message: &impl Message) -> T {
        let bytes = message.encode_to_vec();
        assert_eq!(bytes.len(), message.encoded_len());
        T::decode(&*bytes).unwrap()
    }

    proptest! {
        #[test]
        fn events_arrive_as_they_would_if_they_were_converted(events in vec(recorded(), 0..4), head in any::<u64>()) {
            let expected: Vec<v1::Event> = events.iter().cloned().map(convert::event).collect();
            let read: v1::ReadResponse = decoded(&ReadResponse { events: framed(&events), head });
            prop_assert_eq!(&read, &v1::ReadResponse { events: expected.clone(), head });
            let batch: v1::SubscribeResponse = decoded(&SubscribeResponse::Events(framed(&events)));
            let content = subscribe_response::Content::Events(v1::EventBatch { events: expected });
            prop_assert_eq!(batch, v1::SubscribeResponse { content: Some(content) });
        }

        #[test]
        fn no_bytes_are_taken_for_an_event_that_prost_refuses(payload in vec(any::<u8>(), 0..40)) {
            let mut bytes = Vec::new();
            if wire::frame(Position::new(1), &payload, &mut bytes).is_ok() {
                let stored = crate::event::generated::StoredEvent::decode(&*payload);
                let read = v1::ReadResponse::decode(&*bytes);
                prop_assert_eq!(stored.is_ok(), read.is_ok(), "{:?} {:?}", stored, read);
            }
        }

        #[test]
        fn a_message_inside_that_prost_refuses_is_refused(inner in vec(any::<u8>(), 0..12), field in 10_u8..=12) {
            let payload = [&[field << 3 | 2, inner.len() as u8], &*inner].concat();
            let is_framed = wire::frame(Position::new(1), &payload, &mut Vec::new()).is_ok();
            let stored = crate::event::generated::StoredEvent::decode(&*payload);
            prop_assert!(!is_framed || stored.is_ok(), "{:?}", stored);
        }
    }

    #[test]
    fn other_messages_pass_as_they_are() {
        let content = subscribe_response::Content::CaughtUp(v1::CaughtUp { position: 7 });
        let message: v1::SubscribeResponse = decoded(&SubscribeResponse::other(content));
        assert_eq!(message.content, Some(content_of(7)));
    }

    fn content_of(position: u64) -> subscribe_response::Content {
        subscribe_response::Content::CaughtUp(v1::CaughtUp { position })
    }
}
