//! Releases: labels that name one version of each of several projections, as the decisions in the log have it: a pure fold.
//!
//! Owns the forms of these decisions (system events `$release.*` in the stream `$releases`) and what they add up to.
//! Invariants: the fold depends on the log alone; an event is folded once, in order of revision; types that a newer program
//! wrote are passed over. Which versions are active is said by the decisions of their projections, which a release's
//! promotion is appended with, in one request. Does not know which versions are deployed.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::{
    event::{Event, EventId, EventType, Invalid, Position, RecordedEvent, Revision, StreamId},
    events::{Events, EventsError},
    json::{Json, Object},
    limits::{RELEASE_NAME_BYTES_MAX, RELEASE_TURNS_MAX},
};

#[cfg(test)]
mod model;
pub(crate) mod plan;
#[cfg(test)]
mod tests;

const APPLIED: &str = "$release.applied";
const PROMOTED: &str = "$release.promoted";
const ROLLED_BACK: &str = "$release.rolled_back";
const REMOVED: &str = "$release.removed";
const STREAM: &str = "$releases";

/// Versions by the names of their projections.
pub type Bound = BTreeMap<String, u32>;

/// What happened to a release.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// It names these versions from now on.
    Applied(Bound),
    /// Its versions became active.
    Promoted {
        /// Those that were not active before.
        versions: Bound,
        /// Those that were active before, of the same projections.
        from: Bound,
    },
    /// The versions that its promotion had put away became active again.
    RolledBack(Bound),
    /// It names nothing any more.
    Removed,
}

/// One decision about one release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseDecision {
    /// The release.
    pub release: String,
    /// What happens to it.
    pub step: Step,
    /// Why, in a person's words; may be empty.
    pub reason: String,
}

/// One release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Release {
    /// What it names.
    pub versions: Bound,
    /// Where it was decided that it names that.
    pub applied_at: Position,
    /// Its last promotion, unless that was taken back.
    pub promotion: Option<Promotion>,
}

/// What a release's promotion did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promotion {
    /// Where it was decided.
    pub at: Position,
    /// The versions that became active.
    pub versions: Bound,
    /// The versions that were active before, of the same projections.
    pub from: Bound,
}

/// All releases, as far as the log was looked through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Releases {
    revision: Revision,
    upto: Position,
    by_name: BTreeMap<String, Release>,
    /// First and last of the decisions about projections that a promotion or its taking back was appended with; the newest.
    turns: VecDeque<(Position, Position)>,
}

impl Releases {
    /// By name.
    pub const fn all(&self) -> &BTreeMap<String, Release> {
        &self.by_name
    }

    /// One of them.
    pub fn get(&self, release: &str) -> Option<&Release> {
        self.by_name.get(release)
    }

    /// A release that names this version.
    pub fn naming(&self, projection: &str, version: u32) -> Option<&str> {
        let names = |release: &Release| release.versions.get(projection) == Some(&version);
        self.by_name.iter().find(|(_, release)| names(release)).map(|(name, _)| name.as_str())
    }

    /// The last of the decisions that were appended with this one, which stands at the position: together they are one step.
    pub fn step_of(&self, position: Position) -> Option<Position> {
        let within = |(first, last): &&(Position, Position)| (*first..=*last).contains(&position);
        self.turns.iter().find(within).map(|(_, last)| *last)
    }

    /// What the next decision expects of the stream.
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// Learns of what the log holds up to `upto`, which the index must have.
    pub fn refresh(&mut self, events: &Events, upto: Position) -> Result<(), EventsError> {
        events.each_of_stream(stream(), self.upto, upto, |event| self.fold(event))?;
        self.upto = self.upto.max(upto);
        Ok(())
    }

    /// Learns of the next event of the stream.
    pub fn fold(&mut self, event: &RecordedEvent) -> Result<(), Invalid> {
        if event.revision <= self.revision {
            return Ok(());
        }
        self.revision = event.revision;
        if let Some(ReleaseDecision { release, step, .. }) = ReleaseDecision::read(&event.event)? {
            self.take(event.position, release, step);
        }
        Ok(())
    }

    fn take(&mut self, at: Position, name: String, step: Step) {
        if let Step::Promoted { versions, .. } | Step::RolledBack(versions) = &step {
            let first = at.get().saturating_sub(versions.len() as u64);
            self.turns.push_back((Position::new(first), Position::new(at.get().saturating_sub(1))));
            if self.turns.len() > RELEASE_TURNS_MAX {
                self.turns.pop_front();
            }
        }
        if step == Step::Removed {
            self.by_name.remove(&name);
            return;
        }
        let release = self.by_name.entry(name).or_default();
        match step {
            Step::Applied(versions) => {
                release.versions = versions;
                release.applied_at = at;
            }
            Step::Promoted { versions, from } => release.promotion = Some(Promotion { at, versions, from }),
            Step::RolledBack(_) => release.promotion = None,
            Step::Removed => {}
        }
    }
}

impl ReleaseDecision {
    /// What an event says; `None` if it is no decision that this program knows.
    pub fn read(event: &Event) -> Result<Option<Self>, Invalid> {
        let event_type = event.event_type.as_str();
        if !matches!(event_type, APPLIED | PROMOTED | ROLLED_BACK | REMOVED) {
            return Ok(None);
        }
        let invalid = |what: &str| Invalid(format!("the data of {event_type}: expected {what}"));
        let Json::Object(data) = Json::parse(&event.data)? else {
            return Err(invalid("an object"));
        };
        let text = |field: &str| match data.get(field) {
            Some(Json::Text(text)) => Some(text.to_string()),
            _ => None,
        };
        let bound = |field: &str| bound(&data, field).ok_or_else(|| invalid(field));
        let step = match event_type {
            APPLIED => Step::Applied(bound("versions")?),
            PROMOTED => Step::Promoted { versions: bound("versions")?, from: bound("from")? },
            ROLLED_BACK => Step::RolledBack(bound("versions")?),
            _ => Step::Removed,
        };
        let release = text("release").ok_or_else(|| invalid("release"))?;
        Ok(Some(Self { release, step, reason: text("reason").unwrap_or_default() }))
    }

    /// The event that says so.
    pub fn to_event(&self, id: EventId) -> Event {
        let mut data = Object::new();
        data.insert("release", Json::Text(self.release.as_str().into()));
        if !self.reason.is_empty() {
            data.insert("reason", Json::Text(self.reason.as_str().into()));
        }
        let event_type = match &self.step {
            Step::Applied(versions) => {
                data.insert("versions", object(versions));
                APPLIED
            }
            Step::Promoted { versions, from } => {
                data.insert("versions", object(versions));
                data.insert("from", object(from));
                PROMOTED
            }
            Step::RolledBack(versions) => {
                data.insert("versions", object(versions));
                ROLLED_BACK
            }
            Step::Removed => REMOVED,
        };
        Event {
            id,
            event_type: EventType::parse_any(event_type).expect("the types of decisions are valid"),
            stream: stream(),
            tags: Vec::new(),
            data: Bytes::from(Json::Object(data).to_string()),
            metadata: None,
            time_unix_nanos: None,
        }
    }
}

/// The stream that holds the decisions about releases.
pub fn stream() -> StreamId {
    StreamId::parse_any(STREAM).expect("the name is plain")
}

/// Whether a text can name a release: a DNS label, as a Kubernetes label value may hold it.
pub fn check_name(name: &str) -> Result<(), Invalid> {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_label = (1..=RELEASE_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(inside)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if is_label {
        return Ok(());
    }
    Err(Invalid(format!(
        "expected 1 to {RELEASE_NAME_BYTES_MAX} of a-z, 0-9 and -, not - first or last, found {name:?}"
    )))
}

fn object(bound: &Bound) -> Json {
    let fields = bound.iter().map(|(name, version)| (name.as_str().into(), Json::Int(i64::from(*version))));
    Json::Object(fields.collect())
}

fn bound(data: &Object, field: &str) -> Option<Bound> {
    let Some(Json::Object(fields)) = data.get(field) else {
        return None;
    };
    let each = fields.iter().map(|(name, version)| match version {
        Json::Int(version) => Some((name.to_owned(), u32::try_from(*version).ok()?)),
        _ => None,
    });
    each.collect()
}
