//! An import: what a node takes of another node's export, and what it makes of it.
//!
//! Invariants: every event that comes out lies in a stream of the import, since clients may not append there; what comes
//! out depends on nothing but the public event and the definition. Does not know where events come from, or cursors.

use super::{ByType, read_types};
use crate::{
    event::{EventType, Invalid, StreamId},
    expression::Expression,
    json::{self, Json, Object},
    limits::{MAPPED_BYTES_MAX, MAPPED_EVENTS_MAX},
    mapping::{
        DefinitionError, MappedEvent, MappingError, OnError,
        about::{UsedFields, time_text},
        check_length, content_hash,
        head::{read_name, read_on_error, read_text, read_version},
        rule::{Budget, DataRule, Rule, Subject, holds, uses_data},
        rule_read::RuleReader,
        source::{Content, Fields, Source, Yaml},
    },
    mesh::envelope::{ExportName, PublicEvent},
    ownership::Pattern,
};

/// The fields of `event` where it stands for an event of another node.
const PUBLIC_FIELDS: [&str; 5] = ["id", "type", "stream", "tags", "time"];

/// One import.
#[derive(Debug)]
pub struct Import {
    name: Box<str>,
    hash: [u8; 32],
    from: ExportName,
    streams: Pattern,
    on_error: OnError,
    /// None: all types, as they come.
    events: Option<ByType<Imported>>,
    as_it_comes: Imported,
}

/// What becomes of one public type.
#[derive(Debug)]
struct Imported {
    /// In the file, from 1.
    line: usize,
    when: Option<Expression>,
    rules: Vec<Rule>,
    used_fields: UsedFields,
    needs_data: bool,
}

impl Import {
    /// Reads and checks the text of an import file. `file` is named in errors.
    pub fn parse(source: &str, file: &str) -> Result<Self, DefinitionError> {
        check_length(source, file)?;
        let mut source = Source::new(source, file);
        let import = source.read().and_then(|tree| read_import(&mut source, &tree));
        source.finish()?;
        Ok(import.expect("an import without problems is complete"))
    }

    /// The import's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 over what the file says, and the version of the expression language.
    pub const fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// Whose export it takes, and which version of it.
    pub const fn from(&self) -> &ExportName {
        &self.from
    }

    /// The streams that its events go to, and that nobody else may append to.
    pub const fn streams(&self) -> &Pattern {
        &self.streams
    }

    /// What becomes of an event that cannot be mapped.
    pub const fn on_error(&self) -> OnError {
        self.on_error
    }

    /// The public types that it takes, in order; none: all.
    pub fn event_types(&self) -> Option<Vec<&str>> {
        let mut types: Vec<&str> = self.events.as_ref()?.keys().map(|name| &**name).collect();
        types.sort_unstable();
        Some(types)
    }

    /// Whether it makes something of a public type, or might.
    pub fn takes(&self, event_type: &EventType) -> bool {
        self.events.as_ref().is_none_or(|events| events.contains_key(event_type.as_str()))
    }

    /// What is appended for a public event: nothing, one event or many. Their ids are those of `derived_id`, by their
    /// place in the answer.
    pub fn map(&self, event: &PublicEvent) -> Result<Vec<MappedEvent>, MappingError> {
        let imported = match &self.events {
            None => &self.as_it_comes,
            Some(events) => match events.get(event.event_type.as_str()) {
                Some(imported) => imported,
                None => return Ok(Vec::new()),
            },
        };
        let fail = |part: &str, message: String| MappingError {
            event_type: event.event_type.as_str().to_owned(),
            line: imported.line,
            part: part.to_owned(),
            expression: None,
            message,
        };
        let data = if imported.needs_data {
            Json::parse(&event.data)
        } else {
            json::check(&event.data).map(|()| Json::Null)
        };
        let data = data.map_err(|invalid| fail("data", invalid.0))?;
        let stream = self.stream_of(event).map_err(|invalid| fail("stream", invalid.0))?;
        let about = public_object(event, &imported.used_fields);
        let subject = Subject {
            event_type: &event.event_type,
            stream: &stream,
            tags: &event.tags,
            bytes: &event.data,
            time_unix_nanos: event.time_unix_nanos,
            about: &about,
            data: &data,
        };
        let mut budget = Budget::default();
        if let Some(when) = &imported.when
            && !holds(when, imported.line, &subject, &mut budget)?
        {
            return Ok(Vec::new());
        }
        let mut events = Vec::with_capacity(imported.rules.len());
        for rule in &imported.rules {
            let Some(made) = rule.apply(&subject, &mut budget)? else {
                continue;
            };
            if !self.streams.matches(made.stream.as_str()) {
                let message = format!(
                    "expected a stream that fits `streams: {}`, found {:?}",
                    self.streams,
                    made.stream.as_str()
                );
                return Err(MappingError { line: rule.line.max(imported.line), ..fail("stream", message) });
            }
            events.push(made);
        }
        check_total(&events).map_err(|message| fail("append", message))?;
        Ok(events)
    }

    /// Where an event goes if no rule says otherwise.
    fn stream_of(&self, event: &PublicEvent) -> Result<StreamId, Invalid> {
        match &self.streams {
            Pattern::Exact(stream) => StreamId::parse(stream),
            Pattern::Prefix(start) => StreamId::parse(&format!("{start}{}", event.stream)),
        }
    }
}

/// All events of one public event go into one append.
fn check_total(events: &[MappedEvent]) -> Result<(), String> {
    let size = |event: &MappedEvent| {
        let tags: usize = event.tags.iter().map(|tag| tag.as_str().len()).sum();
        event.event_type.as_str().len() + event.stream.as_str().len() + tags + event.data.len()
    };
    let bytes: usize = events.iter().map(size).sum();
    if bytes > MAPPED_BYTES_MAX {
        return Err(format!("the events have {bytes} bytes together, {MAPPED_BYTES_MAX} are the most"));
    }
    Ok(())
}

/// The variable `event`, with the fields that are used.
fn public_object(event: &PublicEvent, used: &UsedFields) -> Object {
    let text = |text: &str| Json::Text(text.into());
    let mut object = Object::new();
    for name in PUBLIC_FIELDS.into_iter().filter(|name| used.contains(name)) {
        let value = match name {
            "id" => text(&event.id.to_string()),
            "type" => text(event.event_type.as_str()),
            "stream" => text(event.stream.as_str()),
            "tags" => Json::Array(event.tags.iter().map(|tag| text(tag.as_str())).collect()),
            _ => text(&time_text(event.time_unix_nanos)),
        };
        object.insert(name, value);
    }
    object
}

fn read_import(source: &mut Source<'_>, tree: &Yaml) -> Option<Import> {
    let allowed = ["import", "from", "streams", "on_error", "events"];
    let fields = Fields::of(source, tree, "an import file", &allowed)?;
    let name = fields.require(source, "import", "the import's name");
    let name = name.and_then(|node| read_name(source, node));
    let from = fields.require(source, "from", "{node: ..., export: ..., version: ...}");
    let from = from.and_then(|node| read_from(source, node));
    let streams = fields.require(source, "streams", "the streams that its events go to, such as 'flights/*'");
    let streams = streams.and_then(|node| read_streams(source, node));
    let on_error =
        fields.get("on_error").map_or(Some(OnError::default()), |node| read_on_error(source, node));
    let events = fields
        .get("events")
        .map(|node| read_types(source, node, "what becomes of them", read_imported).ok_or(()));
    Some(Import {
        name: name?,
        hash: content_hash(tree.value.to_json()),
        from: from?,
        streams: streams?,
        on_error: on_error?,
        events: events.transpose().ok()?,
        as_it_comes: Imported::of(0, None, vec![as_it_comes(0)], UsedFields::default()),
    })
}

fn read_from(source: &mut Source<'_>, node: &Yaml) -> Option<ExportName> {
    let fields = Fields::of(source, node, "`from`", &["node", "export", "version"])?;
    let owner = fields.require(source, "node", "the name of the node that owns the events");
    let owner = owner.and_then(|node| read_name(source, node));
    let export = fields.require(source, "export", "the name of its export");
    let export = export.and_then(|node| read_name(source, node));
    let version = fields.require(source, "version", "a whole number from 1");
    let version = version.and_then(|node| read_version(source, node))?;
    Some(ExportName { owner: owner?.into(), export: export?.into(), version })
}

fn read_streams(source: &mut Source<'_>, node: &Yaml) -> Option<Pattern> {
    let expected = "a stream, or the beginning of streams and a `*`";
    read_text(source, node, expected, |text| {
        let pattern = Pattern::parse(text)?;
        if pattern.start().is_empty() {
            let message = "an import does not take all streams: put something before the `*`";
            return Err(Invalid(message.to_owned()));
        }
        StreamId::parse(pattern.start())?;
        Ok(pattern)
    })
}

fn read_imported(source: &mut Source<'_>, node: &Yaml) -> Option<Imported> {
    let line = node.referenced.line() as usize;
    if matches!(node.value, Content::Null) {
        // A type with nothing behind it is taken as it comes.
        return Some(Imported::of(line, None, vec![as_it_comes(line)], UsedFields::default()));
    }
    let fields = Fields::of(source, node, "an imported event type", &["when", "append"])?;
    let mut reader = RuleReader { source, known_fields: &PUBLIC_FIELDS, used_fields: UsedFields::default() };
    let when = fields.get("when").map(|node| reader.bare(node).ok_or(()));
    let rules = match fields.get("append") {
        None => Some(vec![as_it_comes(line)]),
        Some(node) => read_append(&mut reader, node),
    };
    Some(Imported::of(line, when.transpose().ok()?, rules?, reader.used_fields))
}

fn read_append(reader: &mut RuleReader<'_, '_>, node: &Yaml) -> Option<Vec<Rule>> {
    let items = match &node.value {
        Content::List(items) if items.len() <= MAPPED_EVENTS_MAX => items,
        found => {
            let message =
                format!("expected a list of at most {MAPPED_EVENTS_MAX} events, found {}", found.counted());
            reader.source.refuse(&node.referenced, message);
            return None;
        }
    };
    let rule = |node: &Yaml| {
        let allowed = ["type", "when", "stream", "tags", "data", "keep"];
        let fields = Fields::of(reader.source, node, "an event to append", &allowed)?;
        reader.rule(node, &fields, "type", false)
    };
    let rules: Vec<_> = items.iter().map(rule).collect();
    rules.into_iter().collect()
}

const fn as_it_comes(line: usize) -> Rule {
    Rule { line, when: None, event_type: None, stream: None, tags: None, data: DataRule::All }
}

impl Imported {
    fn of(line: usize, when: Option<Expression>, rules: Vec<Rule>, used_fields: UsedFields) -> Self {
        let of_when = when.as_ref().is_some_and(uses_data);
        let needs_data = of_when || rules.iter().any(Rule::needs_data);
        Self { line, when, rules, used_fields, needs_data }
    }
}
