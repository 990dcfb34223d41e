//! What a watcher is told, as JSON lines: one line a document, one for the end of a snapshot or of a group of changes.

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Document, document_line};
use crate::{
    api::proto::v1::{self, document_change::Change, watch_response::Content},
    cli::text::{key_json, to_line},
};

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    Put(Document),
    Deleted(Deleted),
    SnapshotComplete(At),
    ChangesComplete(At),
    Reset { reason: &'a str },
}

#[derive(Debug, Serialize)]
struct Deleted {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Box<RawValue>>,
    position: u64,
}

#[derive(Debug, Serialize)]
struct At {
    position: u64,
}

/// A line that completes something.
#[derive(Debug, Serialize)]
struct Complete<'a> {
    #[serde(flatten)]
    line: Line<'a>,
    resume_token: Option<&'a str>,
}

/// The lines of one message.
pub fn told(response: &v1::WatchResponse) -> Vec<String> {
    let resume_token = response.resume_token.as_deref();
    let complete = |line| to_line(&Complete { line, resume_token });
    match &response.content {
        Some(Content::Documents(batch)) => {
            batch.documents.iter().map(|put| to_line(&Line::Put(document_line(put)))).collect()
        }
        Some(Content::SnapshotComplete(at)) => {
            vec![complete(Line::SnapshotComplete(At { position: at.position }))]
        }
        Some(Content::Changes(batch)) => {
            let mut lines: Vec<String> = batch.changes.iter().filter_map(change).collect();
            lines.extend(batch.position.map(|position| complete(Line::ChangesComplete(At { position }))));
            lines
        }
        Some(Content::Reset(reset)) => vec![to_line(&Line::Reset { reason: &reset.reason })],
        None => Vec::new(),
    }
}

fn change(change: &v1::DocumentChange) -> Option<String> {
    Some(to_line(&match change.change.as_ref()? {
        Change::Put(put) => Line::Put(document_line(put)),
        Change::Deleted(deleted) => {
            let key = deleted.key.as_ref().map(key_json);
            Line::Deleted(Deleted { key, position: deleted.position })
        }
    }))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_message_is_a_line_for_each_document_and_one_for_its_end() {
        let key = Some(crate::cli::text::parse_key("k").unwrap());
        let put = v1::Document { key: key.clone(), value: Bytes::from_static(b"{\"n\":1}"), position: 7 };
        let deleted = v1::DocumentDeleted { key, position: 8 };
        let changes = [Change::Put(put), Change::Deleted(deleted)];
        let changes = changes.map(|change| v1::DocumentChange { change: Some(change) }).to_vec();
        let response = v1::WatchResponse {
            content: Some(Content::Changes(v1::WatchChanges { changes, position: Some(9) })),
            resume_token: Some("00ff".into()),
        };
        let expected = [
            r#"{"put":{"key":"k","value":{"n":1},"position":7}}"#,
            r#"{"deleted":{"key":"k","position":8}}"#,
            r#"{"changes_complete":{"position":9},"resume_token":"00ff"}"#,
        ];
        assert_eq!(told(&response), expected);
        let reset = v1::WatchReset { reason: "REBUILT".into() };
        let response = v1::WatchResponse { content: Some(Content::Reset(reset)), resume_token: None };
        assert_eq!(told(&response), [r#"{"reset":{"reason":"REBUILT"}}"#]);
    }
}
