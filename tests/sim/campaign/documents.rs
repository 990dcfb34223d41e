//! What the campaign's projection must hold: a replay in a few lines, without the engine's parts.

use std::collections::BTreeMap;

use outrigger::{
    event::Event,
    projection::{content_hash::ContentHash, key::Key},
};

use super::model::Entry;

/// The projection of every story. `documents` says the same in its own words.
pub(crate) const DEFINITION: &str = r#"
projection: p
version: 1
collections:
  docs:
    indexes:
      by_n: [n]
  sums: {}
events:
  doc.put:
    - put: docs
      key: data.key
      value: { n: "${data.n}" }
    - add: sums
      key: data.key
      value: { count: 1, total: "${data.n}" }
  doc.deleted:
    - delete: docs
      key: data.key
"#;

/// The documents.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    docs: BTreeMap<String, String>,
    sums: BTreeMap<String, (i64, i64)>,
    hash: ContentHash,
    /// The hash behind each event so far.
    hashes: Vec<ContentHash>,
}

impl Documents {
    /// The hash over all documents behind the first `upto` of these events. Events that were seen before are the same.
    pub(crate) fn hash_at(&mut self, upto: usize, entries: &[Entry]) -> ContentHash {
        for entry in entries[..upto].iter().skip(self.hashes.len()) {
            self.add(&entry.event);
            self.hashes.push(self.hash);
        }
        upto.checked_sub(1).map_or_else(ContentHash::default, |at| self.hashes[at])
    }

    /// Events behind the first `count` did not happen.
    pub(crate) fn truncate(&mut self, count: usize) {
        if self.hashes.len() > count {
            *self = Self::default();
        }
    }

    fn add(&mut self, event: &Event) {
        let data: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
        let (key, n) = (data["key"].as_str().unwrap(), data["n"].as_i64().unwrap());
        let encoded = Key::text(key).unwrap().encode();
        match event.event_type.as_str() {
            "doc.put" => {
                let text = format!(r#"{{"n":{n}}}"#);
                if let Some(before) = self.docs.insert(key.to_owned(), text.clone()) {
                    self.hash.take("docs", &encoded, before.as_bytes());
                }
                self.hash.add("docs", &encoded, text.as_bytes());
                let of = |(count, total): (i64, i64)| format!(r#"{{"count":{count},"total":{total}}}"#);
                let before = self.sums.get(key).copied();
                if let Some(before) = before {
                    self.hash.take("sums", &encoded, of(before).as_bytes());
                }
                let (count, total) = before.unwrap_or_default();
                let sum = (count + 1, total + n);
                self.sums.insert(key.to_owned(), sum);
                self.hash.add("sums", &encoded, of(sum).as_bytes());
            }
            "doc.deleted" => {
                if let Some(before) = self.docs.remove(key) {
                    self.hash.take("docs", &encoded, before.as_bytes());
                }
            }
            _ => {}
        }
    }
}
