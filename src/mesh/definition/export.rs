//! An export: a version of a node's public contract of events.
//!
//! Invariants: what is published of an event depends on nothing but the event and the definition, byte for byte, so that
//! old events can be published again; nothing leaves but what the definition names. The hash does not cover who may ask
//! for a repair, since nothing that is published depends on it.

use super::{ByType, read_types};
use crate::{
    event::{EventType, RecordedEvent},
    json::Json,
    mapping::{
        DefinitionError, MappingError,
        about::{EVENT_FIELDS, UsedFields, event_object},
        check_length, content_hash,
        head::{read_name, read_version},
        rule::{Budget, Rule, Subject},
        rule_read::RuleReader,
        source::{Content, Fields, Source, Yaml},
    },
    mesh::envelope::PublicEvent,
    trace::traceparent_of,
};

const IMPORTERS: &str = "importers";

/// One version of an export.
#[derive(Debug)]
pub struct Export {
    name: Box<str>,
    version: u32,
    hash: [u8; 32],
    importers: Option<Vec<Box<str>>>,
    events: ByType<Exported>,
}

#[derive(Debug)]
struct Exported {
    rule: Rule,
    used_fields: UsedFields,
    needs_data: bool,
}

impl Export {
    /// Reads and checks the text of an export file. `file` is named in errors.
    pub fn parse(source: &str, file: &str) -> Result<Self, DefinitionError> {
        check_length(source, file)?;
        let mut source = Source::new(source, file);
        let export = source.read().and_then(|tree| read_export(&mut source, &tree));
        source.finish()?;
        Ok(export.expect("an export without problems is complete"))
    }

    /// The export's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// From 1 to 2^31.
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// SHA-256 over what the file says of what is published, and the version of the expression language.
    pub const fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// The nodes that may ask for a repair; none: every node that is trusted.
    pub fn importers(&self) -> Option<impl Iterator<Item = &str>> {
        self.importers.as_ref().map(|names| names.iter().map(|name| &**name))
    }

    /// Whether a node may ask for a repair.
    pub fn allows(&self, importer: &str) -> bool {
        self.importers.as_ref().is_none_or(|names| names.iter().any(|name| **name == *importer))
    }

    /// The event types of the node that are published, in order.
    pub fn event_types(&self) -> Vec<&str> {
        let mut types: Vec<&str> = self.events.keys().map(|name| &**name).collect();
        types.sort_unstable();
        types
    }

    /// The types under which they are published, in order, without repeats.
    pub fn public_types(&self) -> Vec<&str> {
        let mut types: Vec<&str> = (self.events.iter())
            .map(|(name, exported)| exported.rule.event_type.as_ref().map_or(&**name, EventType::as_str))
            .collect();
        types.sort_unstable();
        types.dedup();
        types
    }

    /// What is published of an event: nothing if the export does not name its type, or its `when` does not hold. Whether
    /// the event is the node's own to publish is not asked here.
    pub fn publish(&self, event: &RecordedEvent) -> Result<Option<PublicEvent>, MappingError> {
        let content = &event.event;
        let Some(Exported { rule, used_fields, needs_data }) = self.events.get(content.event_type.as_str())
        else {
            return Ok(None);
        };
        let unreadable = |part: &str, message: String| MappingError {
            event_type: content.event_type.as_str().to_owned(),
            line: rule.line,
            part: part.to_owned(),
            expression: None,
            message,
        };
        let about = event_object(event, used_fields).map_err(|invalid| unreadable("event", invalid.0))?;
        let data = if *needs_data {
            Json::parse(&content.data).map_err(|invalid| unreadable("data", invalid.0))?
        } else {
            Json::Null
        };
        let subject = Subject {
            event_type: &content.event_type,
            stream: &content.stream,
            tags: &[],
            bytes: &content.data,
            time_unix_nanos: event.time_unix_nanos(),
            about: &about,
            data: &data,
        };
        let Some(made) = rule.apply(&subject, &mut Budget::default())? else {
            return Ok(None);
        };
        Ok(Some(PublicEvent {
            id: content.id,
            event_type: made.event_type,
            stream: made.stream,
            tags: made.tags,
            time_unix_nanos: made.time_unix_nanos,
            data: made.data,
            trace: content.metadata.as_deref().and_then(traceparent_of),
        }))
    }
}

fn read_export(source: &mut Source<'_>, tree: &Yaml) -> Option<Export> {
    let allowed = ["export", "version", IMPORTERS, "events"];
    let fields = Fields::of(source, tree, "an export file", &allowed)?;
    let name = fields.require(source, "export", "the export's name");
    let name = name.and_then(|node| read_name(source, node));
    let version = fields.require(source, "version", "a whole number from 1");
    let version = version.and_then(|node| read_version(source, node));
    let importers = fields.get(IMPORTERS).map(|node| read_importers(source, node).ok_or(()));
    let events = fields.require(source, "events", "event types, each with what of it goes out");
    let events = events.and_then(|node| read_types(source, node, "what of them goes out", read_exported));
    let mut content = tree.value.to_json();
    if let Json::Object(content) = &mut content {
        content.remove(IMPORTERS);
    }
    Some(Export {
        name: name?,
        version: version?,
        hash: content_hash(content),
        importers: importers.transpose().ok()?,
        events: events?,
    })
}

fn read_importers(source: &mut Source<'_>, node: &Yaml) -> Option<Vec<Box<str>>> {
    let Content::List(items) = &node.value else {
        source.refuse(&node.referenced, format!("expected a list of nodes, found {}", node.value));
        return None;
    };
    let names: Vec<_> = items.iter().map(|item| read_name(source, item)).collect();
    names.into_iter().collect()
}

fn read_exported(source: &mut Source<'_>, node: &Yaml) -> Option<Exported> {
    let allowed = ["as", "when", "stream", "tags", "data", "keep"];
    let fields = Fields::of(source, node, "an exported event type", &allowed)?;
    let mut reader = RuleReader { source, known_fields: &EVENT_FIELDS, used_fields: UsedFields::default() };
    let rule = reader.rule(node, &fields, "as", true)?;
    let needs_data = rule.needs_data();
    Some(Exported { rule, used_fields: reader.used_fields, needs_data })
}
