//! What is different between two definitions of one version, in words.

use crate::projection::definition::{Collection, Definition};

/// What `new` says otherwise than `old`; never empty.
pub(super) fn in_words(old: &Definition, new: &Definition) -> String {
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
    if words.is_empty() {
        words.push("its steps are different".to_owned());
    }
    words.join(", ")
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
