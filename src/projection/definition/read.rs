//! Reads a projection file: its head, its collections and indexes, and for each event type its steps.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::{
    AUTO_PROMOTE, Collection, Definition, DefinitionError, FieldPath, IndexDefinition, hash,
    read_step::read_steps, step::Steps,
};
use crate::{
    event::EventType,
    json::Json,
    limits::{COLLECTIONS_MAX, INDEXES_MAX, KEY_PARTS_MAX, NAME_BYTES_MAX},
    mapping::{
        OnError,
        head::{read_name, read_on_error, read_version},
        source::{Content, Fields, Source, Yaml},
    },
};

pub(super) fn read(text: &str, file: &str) -> Result<Definition, DefinitionError> {
    let mut source = Source::new(text, file);
    let definition = source.read().and_then(|tree| read_tree(&mut source, &tree));
    source.finish()?;
    Ok(definition.expect("a definition without problems is complete"))
}

pub(super) fn content(text: &str) -> Option<Json> {
    Source::new(text, "").read().map(|tree| tree.value.to_json())
}

fn read_tree(source: &mut Source<'_>, tree: &Yaml) -> Option<Definition> {
    let allowed = ["projection", "version", "handler", "on_error", AUTO_PROMOTE, "collections", "events"];
    let fields = Fields::of(source, tree, "a projection file", &allowed)?;
    let name = fields.require(source, "projection", "the projection's name");
    let name = name.and_then(|node| read_name(source, node));
    let version = fields.require(source, "version", "a whole number from 1");
    let version = version.and_then(|node| read_version(source, node));
    let on_error =
        fields.get("on_error").map_or(Some(OnError::default()), |node| read_on_error(source, node));
    let auto_promote = fields.get(AUTO_PROMOTE).map_or(Some(false), |node| read_auto_promote(source, node));
    let collections =
        fields.require(source, "collections", "names of collections, each with its indexes or {}");
    let collections = collections.and_then(|node| read_collections(source, node));
    let service = fields.get("handler").map(|node| read_handler(source, node));
    let is_service = service.is_some();
    let expected =
        if is_service { "a list of event types" } else { "event types, each with a list of steps" };
    let events = fields.require(source, "events", expected)?;
    let events = if is_service {
        Some(read_event_types(source, events))
    } else {
        // Steps are checked even where the collections are refused, but not against them.
        collections.as_ref().map(|collections| read_events(source, events, collections))
    };
    Some(Definition {
        name: name?,
        version: version?,
        hash: hash(tree.value.to_json()),
        on_error: on_error?,
        collections: collections?,
        events: events?,
        service: is_service,
        auto_promote: auto_promote?,
    })
}

/// Whether the version becomes active when it is ready.
fn read_auto_promote(source: &mut Source<'_>, node: &Yaml) -> Option<bool> {
    match &node.value {
        Content::Text(word) if word == "when_ready" => Some(true),
        Content::Text(word) if word == "never" => Some(false),
        found => {
            source.refuse(&node.referenced, format!("expected when_ready or never, found {found}"));
            None
        }
    }
}

fn read_collections(source: &mut Source<'_>, node: &Yaml) -> Option<Vec<Collection>> {
    let Content::Map(entries) = &node.value else {
        source
            .refuse(&node.referenced, format!("expected names of collections, a map, found {}", node.value));
        return None;
    };
    if entries.is_empty() || entries.len() > COLLECTIONS_MAX {
        let message = format!("expected 1 to {COLLECTIONS_MAX} collections, found {}", entries.len());
        source.refuse(&node.referenced, message);
    }
    let mut collections = Vec::with_capacity(entries.len());
    for (name, node) in entries {
        check_word(source, name, "a collection");
        let indexes = match node.value {
            // A name with nothing behind it is a collection without indexes.
            Content::Null => Vec::new(),
            _ => Fields::of(source, node, "a collection", &["indexes"])
                .and_then(|fields| fields.get("indexes").map(|node| read_indexes(source, node)))
                .unwrap_or_default(),
        };
        collections.push(Collection { name: name.value.as_str().into(), indexes });
    }
    collections.sort_by(|a, b| a.name.cmp(&b.name));
    Some(collections)
}

fn read_indexes(source: &mut Source<'_>, node: &Yaml) -> Vec<IndexDefinition> {
    let Content::Map(entries) = &node.value else {
        source.refuse(&node.referenced, format!("expected names of indexes, a map, found {}", node.value));
        return Vec::new();
    };
    if entries.len() > INDEXES_MAX {
        let message = format!("expected at most {INDEXES_MAX} indexes, found {}", entries.len());
        source.refuse(&node.referenced, message);
    }
    let mut indexes = Vec::with_capacity(entries.len());
    for (name, node) in entries {
        check_word(source, name, "an index");
        let paths = match &node.value {
            Content::List(paths) if (1..=KEY_PARTS_MAX).contains(&paths.len()) => paths.as_slice(),
            found => {
                let message = format!("expected a list of 1 to {KEY_PARTS_MAX} field paths, found {found}");
                source.refuse(&node.referenced, message);
                &[]
            }
        };
        let paths = paths.iter().filter_map(|path| read_path(source, path)).collect();
        indexes.push(IndexDefinition { name: name.value.as_str().into(), paths });
    }
    indexes.sort_by(|a, b| a.name.cmp(&b.name));
    indexes
}

fn read_path(source: &mut Source<'_>, node: &Yaml) -> Option<FieldPath> {
    match &node.value {
        Content::Text(path) if path.split('.').all(|name| !name.is_empty() && name.trim() == name) => {
            Some(FieldPath(path.split('.').map(Box::from).collect()))
        }
        found => {
            source.refuse(
                &node.referenced,
                format!("expected a field path such as origin or address.city, found {found}"),
            );
            None
        }
    }
}

fn check_word(source: &mut Source<'_>, name: &serde_saphyr::Spanned<String>, what: &str) {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let text = &name.value;
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    if !first || text.len() > NAME_BYTES_MAX || !text.bytes().all(word) {
        let message = format!(
            "expected the name of {what}: a letter, then A-Z a-z 0-9 _ -, at most {NAME_BYTES_MAX} bytes, found {text:?}"
        );
        source.refuse(&name.referenced, message);
    }
}

/// What is done with events of each type.
type Events = HashMap<Box<str>, Steps, RandomState>;

fn read_handler(source: &mut Source<'_>, node: &Yaml) {
    if !matches!(&node.value, Content::Text(handler) if handler == "service") {
        source.refuse(&node.referenced, format!("expected service, found {}", node.value));
    }
}

/// The event types that a service handles.
fn read_event_types(source: &mut Source<'_>, node: &Yaml) -> Events {
    let types = match &node.value {
        Content::List(types) if !types.is_empty() => types.as_slice(),
        found => {
            let message =
                format!("expected a list of event types, since a service handles them, found {found}");
            source.refuse(&node.referenced, message);
            &[]
        }
    };
    let mut events = Events::with_capacity_and_hasher(types.len(), RandomState::default());
    for node in types {
        let refused = match &node.value {
            Content::Text(name) => match EventType::parse(name) {
                Ok(_) if events.insert(name.as_str().into(), Steps::default()).is_some() => {
                    Some(format!("the event type {name} is repeated"))
                }
                Ok(_) => None,
                Err(invalid) => Some(format!("not an event type: {invalid}")),
            },
            found => Some(format!("expected an event type, found {found}")),
        };
        if let Some(message) = refused {
            source.refuse(&node.referenced, message);
        }
    }
    events
}

fn read_events(source: &mut Source<'_>, node: &Yaml, collections: &[Collection]) -> Events {
    let Content::Map(entries) = &node.value else {
        source.refuse(
            &node.referenced,
            format!("expected event types with their steps, a map, found {}", node.value),
        );
        return Events::default();
    };
    if entries.is_empty() {
        source.refuse(&node.referenced, "expected at least one event type with its steps");
    }
    let mut events = Events::with_capacity_and_hasher(entries.len(), RandomState::default());
    for (name, node) in entries {
        if let Err(invalid) = EventType::parse(&name.value) {
            source.refuse(&name.referenced, format!("not an event type: {invalid}"));
        }
        events.insert(name.value.as_str().into(), read_steps(source, node, collections));
    }
    events
}
