//! What is different between two definitions of one version, in words.

use crate::{
    json::Json,
    projection::definition::{Collection, Definition},
};

/// What is told at most.
const WORDS_MAX: usize = 12;
/// Characters of a value that are told.
const VALUE_CHARS_MAX: usize = 60;

/// What `new` says otherwise than `old`, each with the text of its file; never empty.
pub(super) fn in_words((old, old_text): (&Definition, &str), (new, new_text): (&Definition, &str)) -> String {
    let mut words = Vec::new();
    for collection in old.collections() {
        match find(new, &collection.name) {
            None => words.push(format!("collection {} is gone", collection.name)),
            Some(changed) => index_changes(collection, changed, &mut words),
        }
    }
    for collection in new.collections() {
        if find(old, &collection.name).is_none() {
            words.push(format!("collection {} is new", collection.name));
        }
    }
    let (before, after) = (old.event_types(), new.event_types());
    let gone = before.iter().filter(|event_type| !after.contains(event_type));
    words.extend(gone.map(|event_type| format!("event type {event_type} is gone")));
    let come = after.iter().filter(|event_type| !before.contains(event_type));
    words.extend(come.map(|event_type| format!("event type {event_type} is new")));
    if old.on_error() != new.on_error() {
        words.push(format!("on_error is {}, it was {}", new.on_error(), old.on_error()));
    }
    let events = |text| Definition::content(text).and_then(|content| field(&content, "events").cloned());
    if let (Some(Json::Object(old)), Some(Json::Object(new))) = (events(old_text), events(new_text)) {
        for (event_type, steps) in old.iter() {
            if let Some(changed) = new.get(event_type) {
                differences(&format!("events.{event_type}"), steps, changed, &mut words);
            }
        }
    }
    if words.is_empty() {
        words.push("its steps are different".to_owned());
    }
    let more = words.len().saturating_sub(WORDS_MAX);
    words.truncate(WORDS_MAX);
    if more > 0 {
        words.push(format!("and {more} more"));
    }
    words.join(", ")
}

/// Where two values differ, and how.
fn differences(path: &str, old: &Json, new: &Json, words: &mut Vec<String>) {
    match (old, new) {
        (Json::Object(before), Json::Object(after)) => {
            for (name, value) in before.iter() {
                match after.get(name) {
                    Some(other) => differences(&format!("{path}.{name}"), value, other, words),
                    None => words.push(format!("{path}.{name} is gone")),
                }
            }
            let come = after.iter().filter(|(name, _)| before.get(name).is_none());
            words.extend(come.map(|(name, value)| format!("{path}.{name} is new: {}", shortened(value))));
        }
        (Json::Array(before), Json::Array(after)) if before.len() == after.len() => {
            for (at, (value, other)) in before.iter().zip(after).enumerate() {
                differences(&format!("{path}[{at}]"), value, other, words);
            }
        }
        (Json::Array(before), Json::Array(after)) => {
            words.push(format!("{path} has {} steps, it had {}", after.len(), before.len()));
        }
        _ if old != new => words.push(format!("{path} is {}, it was {}", shortened(new), shortened(old))),
        _ => {}
    }
}

fn field<'a>(value: &'a Json, name: &str) -> Option<&'a Json> {
    match value {
        Json::Object(object) => object.get(name),
        _ => None,
    }
}

fn shortened(value: &Json) -> String {
    let text = value.to_string();
    let cut = if text.chars().count() > VALUE_CHARS_MAX { "..." } else { "" };
    text.chars().take(VALUE_CHARS_MAX).chain(cut.chars()).collect()
}

fn find<'a>(definition: &'a Definition, name: &str) -> Option<&'a Collection> {
    definition.collection(name).map(|at| &definition.collections()[at])
}

fn index_changes(old: &Collection, new: &Collection, words: &mut Vec<String>) {
    let name = |index: &str| format!("index {index} of collection {}", old.name);
    for index in &old.indexes {
        match new.indexes.iter().find(|other| other.name == index.name) {
            None => words.push(format!("{} is gone", name(&index.name))),
            Some(other) if other != index => words.push(format!("{} has other fields", name(&index.name))),
            Some(_) => {}
        }
    }
    for index in &new.indexes {
        if !old.indexes.iter().any(|other| other.name == index.name) {
            words.push(format!("{} is new", name(&index.name)));
        }
    }
}
