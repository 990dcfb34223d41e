//! The variable `event`: which fields of it expressions use, and their values for a recorded event.
//!
//! Only fields that are used are made. Does not know how definitions are read.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::source::{Source, Yaml};
use crate::{
    event::{Invalid, RecordedEvent},
    expression::{Uses, nearest},
    json::{Json, Object},
};

/// The fields of `event` where it stands for an event of the node's own log.
pub(crate) const EVENT_FIELDS: [&str; 9] =
    ["id", "type", "stream", "revision", "position", "tags", "time", "recorded_at", "metadata"];

/// Which fields of `event` expressions use.
#[derive(Debug, Default)]
pub(crate) struct UsedFields {
    whole: bool,
    fields: BTreeSet<Box<str>>,
}

impl UsedFields {
    /// Whether a field is used.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.whole || self.fields.contains(name)
    }

    /// Adds what an expression of this node uses; refuses fields that are not among the known ones.
    pub(crate) fn note(&mut self, source: &mut Source<'_>, node: &Yaml, uses: Uses, known: &[&str]) {
        let fields = match uses {
            Uses::Whole => {
                self.whole = true;
                return;
            }
            Uses::Fields(fields) => fields,
        };
        for field in fields {
            if !known.contains(&&*field) {
                let hint = match nearest(&field, known.iter().copied()) {
                    Some(near) => format!("did you mean `event.{near}`?"),
                    None => format!("it has {}", known.join(", ")),
                };
                source.refuse(&node.referenced, format!("`event` has no field `{field}`: {hint}"));
            }
            self.fields.insert(field);
        }
    }
}

/// A point in time as RFC 3339 text, from nanoseconds since 1970.
pub(crate) fn time_text(unix_nanos: i64) -> String {
    let time = Timestamp::from_nanosecond(i128::from(unix_nanos));
    time.expect("64-bit nanoseconds lie in the years 1677 to 2262").to_string()
}

/// The variable `event`, with these fields; all of them where it is used as a whole.
pub(crate) fn event_object(recorded: &RecordedEvent, used: &UsedFields) -> Result<Object, Invalid> {
    let mut object = Object::new();
    for name in EVENT_FIELDS.into_iter().filter(|name| used.contains(name)) {
        object.insert(name, event_field(recorded, name)?);
    }
    Ok(object)
}

fn event_field(recorded: &RecordedEvent, name: &str) -> Result<Json, Invalid> {
    let event = &recorded.event;
    let text = |text: &str| Json::Text(text.into());
    let time = |nanos: i64| text(&time_text(nanos));
    Ok(match name {
        "id" => text(&event.id.to_string()),
        "type" => text(event.event_type.as_str()),
        "stream" => text(event.stream.as_str()),
        "revision" => Json::Int(recorded.revision.get() as i64),
        "position" => Json::Int(recorded.position.get() as i64),
        "tags" => Json::Array(event.tags.iter().map(|tag| text(tag.as_str())).collect()),
        "time" => time(recorded.time_unix_nanos()),
        "recorded_at" => time(recorded.recorded_at_unix_nanos),
        _ => match &event.metadata {
            Some(metadata) => Json::parse(metadata)?,
            None => Json::Null,
        },
    })
}
