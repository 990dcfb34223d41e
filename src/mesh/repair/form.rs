//! How a repair is asked for and how its answer ends: JSON, and a signature over everything that is believed of it.
//!
//! Invariant: an end is believed only if its signature covers the nonce of the question that it answers.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    event::Invalid,
    limits::REPAIR_POINTS_MAX,
    mesh::{
        bus::Message,
        decisions::{StoredPlace, unhex},
        envelope::{ExportName, Place, Signature, hex},
        trust::SigningKey,
    },
};

/// A number of an export and the chain there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// The number; 0 is before all.
    pub seq: u64,
    /// The chain.
    pub chain: [u8; 32],
}

/// What an importer asks: for events behind a place, if the owner has that place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The export.
    pub export: String,
    /// Its version.
    pub version: u32,
    /// Who asks.
    pub importer: String,
    /// Never used twice.
    pub nonce: u128,
    /// The owner's log, as far as the importer knows one.
    pub log_id: Option<Uuid>,
    /// Events behind this number.
    pub after_seq: u64,
    /// The chain there.
    pub chain: [u8; 32],
    /// At most so many.
    pub events_max: usize,
    /// Earlier places, in case the owner does not have that one.
    pub points: Vec<Point>,
}

#[derive(Debug, Serialize, Deserialize)]
struct QuestionText {
    export: String,
    version: u32,
    importer: String,
    nonce: String,
    log: Option<String>,
    after_seq: u64,
    chain: String,
    events_max: usize,
    points: Vec<(u64, String)>,
}

/// Says which part of an answer a message is.
const HEADER: &str = "outrigger-repair";
const END: &str = "end";
const EVENTS: &str = "events";

fn part(importer: &str, what: &str, payload: Bytes) -> Message {
    let headers = vec![(HEADER.to_owned(), what.to_owned())];
    Message { subject: format!("outrigger.repaired.{importer}"), headers, payload }
}

/// A part of an answer that carries events (`pack`).
pub(super) fn events_message(importer: &str, pack: Bytes) -> Message {
    part(importer, EVENTS, pack)
}

/// Where questions to a node go.
pub fn ask_subject(owner: &str) -> String {
    format!("outrigger.repair.{owner}")
}

/// Under which a node hears them.
pub fn serve_filter(node: &str) -> String {
    ask_subject(node)
}

impl Question {
    /// As a message.
    pub fn message(&self, owner: &str) -> Message {
        let text = QuestionText {
            export: self.export.clone(),
            version: self.version,
            importer: self.importer.clone(),
            nonce: self.nonce.to_string(),
            log: self.log_id.map(|log_id| log_id.to_string()),
            after_seq: self.after_seq,
            chain: hex(&self.chain),
            events_max: self.events_max,
            points: self.points.iter().map(|point| (point.seq, hex(&point.chain))).collect(),
        };
        let payload = serde_json::to_vec(&text).expect("a question is plain values");
        Message { subject: ask_subject(owner), headers: Vec::new(), payload: payload.into() }
    }

    /// From the payload of a message.
    pub fn read(payload: &[u8]) -> Result<Self, Invalid> {
        let text: QuestionText = serde_json::from_slice(payload)
            .map_err(|error| Invalid(format!("expected a question: {error}")))?;
        if text.points.len() > REPAIR_POINTS_MAX {
            return Err(Invalid(format!(
                "expected at most {REPAIR_POINTS_MAX} points, found {}",
                text.points.len()
            )));
        }
        let chain =
            |text: &str| unhex(text).ok_or_else(|| Invalid(format!("expected a chain, found {text:?}")));
        let point = |(seq, text): (u64, String)| Ok(Point { seq, chain: chain(&text)? });
        Ok(Self {
            nonce: text
                .nonce
                .parse()
                .map_err(|_| Invalid(format!("expected a nonce, found {:?}", text.nonce)))?,
            log_id: text.log.and_then(|log_id| Uuid::parse_str(&log_id).ok()),
            chain: chain(&text.chain)?,
            points: text.points.into_iter().map(point).collect::<Result<_, Invalid>>()?,
            export: text.export,
            version: text.version,
            importer: text.importer,
            after_seq: text.after_seq,
            events_max: text.events_max,
        })
    }
}

/// The definition and signature that the end of an answer names.
pub(crate) type SignedUnder = ([u8; 32], Signature);

/// What an owner makes of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is in its history; the events behind it came with the answer.
    Continues,
    /// It is not.
    Parts,
    /// It says nothing to this importer.
    Refused,
}

/// The last part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// What the owner makes of the place.
    pub outcome: Outcome,
    /// How far the answer has come; where the histories part, how far the owner looked.
    pub place: Place,
    /// The owner has no more.
    pub is_all: bool,
    /// The highest of the importer's points that the owner has.
    pub matched: Option<Place>,
    /// Why it was refused.
    pub reason: Option<String>,
    /// How far the owner has published, so that who has caught up goes on from there on the bus.
    pub published: Option<Published>,
}

/// How far an owner has published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The bus has acknowledged everything up to this number.
    pub seq: u64,
    /// The highest sequence of the owner's stream so far, as the bus says: a hint.
    pub sequence: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct EndText {
    outcome: Outcome,
    place: Option<StoredPlace>,
    is_all: bool,
    matched: Option<StoredPlace>,
    reason: Option<String>,
    published: Option<Published>,
    definition: Option<String>,
    key: Option<String>,
    signature: Option<String>,
}

impl End {
    /// A refusal. Unsigned: it is believed by nobody and only shown.
    pub fn refused(reason: &str) -> Self {
        let place = Place::start(Uuid::nil(), 0);
        Self {
            outcome: Outcome::Refused,
            place,
            is_all: false,
            matched: None,
            reason: Some(reason.into()),
            published: None,
        }
    }

    /// As an unsigned message.
    pub fn message(&self, question: &Question) -> Message {
        self.write(&question.importer, None, None)
    }

    /// As a message with the owner's signature.
    pub fn signed(
        &self,
        key: &SigningKey,
        name: &ExportName,
        definition: &[u8; 32],
        question: &Question,
    ) -> Message {
        let covered = self.covered(definition, question);
        let signature = key.sign(name, &covered, &self.place);
        self.write(&question.importer, Some(definition), Some(signature))
    }

    fn write(&self, importer: &str, definition: Option<&[u8; 32]>, signature: Option<Signature>) -> Message {
        let text = EndText {
            outcome: self.outcome,
            place: (self.outcome != Outcome::Refused).then(|| (&self.place).into()),
            is_all: self.is_all,
            matched: self.matched.as_ref().map(Into::into),
            reason: self.reason.clone(),
            published: self.published,
            definition: definition.map(|definition| hex(definition)),
            key: signature.as_ref().map(|signature| signature.key.clone()),
            signature: signature.map(|signature| hex(&signature.bytes)),
        };
        let payload = serde_json::to_vec(&text).expect("an end is plain values");
        part(importer, END, payload.into())
    }

    /// Whether a message is an end.
    pub fn is_end(message: &Message) -> bool {
        let is_end = |(name, value): &(String, String)| name.eq_ignore_ascii_case(HEADER) && value == END;
        message.headers.iter().any(is_end)
    }

    /// From a message, with the definition and signature that it names.
    pub fn read(payload: &[u8]) -> Result<(Self, Option<SignedUnder>), Invalid> {
        let invalid = |what: &str| Invalid(format!("expected the end of an answer: {what}"));
        let text: EndText = serde_json::from_slice(payload).map_err(|error| invalid(&error.to_string()))?;
        let place_of = |place: StoredPlace| place.place().ok_or_else(|| invalid("a place that is none"));
        let place = text.place.map(place_of).transpose()?.unwrap_or(Place::start(Uuid::nil(), 0));
        let matched = text.matched.map(place_of).transpose()?;
        let signature = match (text.definition, text.key, text.signature) {
            (Some(definition), Some(key), Some(signature)) => {
                let definition = unhex(&definition).ok_or_else(|| invalid("a definition that is no hash"))?;
                let bytes = unhex_any(&signature).ok_or_else(|| invalid("a signature that is none"))?;
                Some((definition, Signature { key, bytes }))
            }
            _ => None,
        };
        let EndText { outcome, is_all, reason, published, .. } = text;
        Ok((Self { outcome, place, is_all, matched, reason, published }, signature))
    }

    /// What stands where a definition stands in a signature of a place: so a signed end is no signed place.
    pub fn covered(&self, definition: &[u8; 32], question: &Question) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"outrigger repair end 1");
        hash.update(definition);
        hash.update(question.nonce.to_be_bytes());
        hash.update((question.importer.len() as u64).to_be_bytes());
        hash.update(question.importer.as_bytes());
        hash.update(question.after_seq.to_be_bytes());
        hash.update(question.chain);
        hash.update([self.outcome as u8, u8::from(self.is_all), u8::from(self.matched.is_some())]);
        let Published { seq, sequence } = self.published.unwrap_or(Published { seq: 0, sequence: 0 });
        hash.update(seq.to_be_bytes());
        hash.update(sequence.to_be_bytes());
        if let Some(Place { log_id, epoch, seq, position, chain }) = &self.matched {
            hash.update(log_id.as_bytes());
            hash.update(epoch.to_be_bytes());
            hash.update(seq.to_be_bytes());
            hash.update(position.get().to_be_bytes());
            hash.update(chain);
        }
        hash.finalize().into()
    }
}

fn unhex_any(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || text.len() > 512 {
        return None;
    }
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    text.as_bytes().chunks(2).map(byte).collect()
}
