//! The messages of appends as the server reads them: texts are slices of the message that they came in.
//!
//! Invariant: on the wire these are the messages of `proto/`, field for field (a test holds that); what the generated
//! types would refuse as broken UTF-8 is refused by `convert`, with the field's name. Does not know what the fields
//! mean.

use bytes::Bytes;

use super::proto::v1;

/// `outrigger.v1.AppendStreamRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AppendStreamRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) request: Option<AppendRequest>,
}

/// `outrigger.v1.AppendRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AppendRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) events: Vec<NewEvent>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) expected_revisions: Vec<v1::ExpectedRevision>,
    #[prost(bool, tag = "3")]
    pub(crate) skip_existing: bool,
    #[prost(message, repeated, tag = "4")]
    pub(crate) fail_if_events_match: Vec<v1::FailIfEventsMatch>,
    #[prost(message, optional, tag = "5")]
    pub(crate) tracking: Option<v1::Tracking>,
}

/// `outrigger.v1.NewEvent`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct NewEvent {
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(crate) id: Option<Bytes>,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) r#type: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) stream: Bytes,
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub(crate) tags: Vec<Bytes>,
    #[prost(bytes = "bytes", tag = "5")]
    pub(crate) data: Bytes,
    #[prost(bytes = "bytes", optional, tag = "6")]
    pub(crate) metadata: Option<Bytes>,
    #[prost(message, optional, tag = "7")]
    pub(crate) time: Option<prost_types::Timestamp>,
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;
    use crate::api::proto::DESCRIPTORS;

    fn check_fields(message: &str, expected: &[&str]) {
        let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
        let messages = files.iter().flat_map(|file| &file.message_type);
        let found = messages.into_iter().find(|found| found.name() == message).unwrap();
        let fields: Vec<_> =
            found.field.iter().map(|field| format!("{} {}", field.number(), field.name())).collect();
        assert_eq!(fields, expected, "{message} has other fields than the server reads");
    }

    #[test]
    fn the_protos_have_the_fields_that_are_read_here() {
        check_fields("AppendStreamRequest", &["1 request"]);
        let request =
            ["1 events", "2 expected_revisions", "3 skip_existing", "4 fail_if_events_match", "5 tracking"];
        check_fields("AppendRequest", &request);
        let event = ["1 id", "2 type", "3 stream", "4 tags", "5 data", "6 metadata", "7 time"];
        check_fields("NewEvent", &event);
    }

    #[test]
    fn a_message_reads_as_it_was_written() {
        let event = v1::NewEvent {
            id: Some(Bytes::from_static(&[7; 16])),
            r#type: "t".into(),
            stream: "s\u{e4}".into(),
            tags: vec!["a".into(), String::new(), "b".into()],
            data: Bytes::from_static(b"{}"),
            metadata: Some(Bytes::new()),
            time: Some(prost_types::Timestamp { seconds: -1, nanos: 5 }),
        };
        let query =
            v1::EventQuery { items: vec![v1::EventQueryItem { types: vec!["t".into()], tags: Vec::new() }] };
        let request = v1::AppendRequest {
            events: vec![event, v1::NewEvent::default()],
            expected_revisions: vec![v1::ExpectedRevision { stream: "s".into(), expected: None }],
            skip_existing: true,
            fail_if_events_match: vec![v1::FailIfEventsMatch { query: Some(query), after: Some(0) }],
            tracking: Some(v1::Tracking { source: "x".into(), position: 3 }),
        };
        let written = v1::AppendStreamRequest { request: Some(request.clone()) }.encode_to_vec();
        let read = AppendStreamRequest::decode(&*written).unwrap();
        assert_eq!(read.encode_to_vec(), written);
        let read = read.request.unwrap();
        assert_eq!(read.events[0].tags[2], "b");
        assert_eq!((read.expected_revisions, read.tracking), (request.expected_revisions, request.tracking));
    }
}
