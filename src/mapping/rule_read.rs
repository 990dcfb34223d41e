//! Reads rules: the parts of one that a file names, compiled with `event` and `data` in scope.

use super::{
    about::UsedFields,
    head::read_text,
    keep::Keep,
    rule::{DataRule, EVENT, Rule},
    source::{Content, Fields, Source, Yaml},
    template::{Template, compile_bare},
};
use crate::{
    event::{EventType, Invalid, StreamId, Tag},
    expression::{Expression, Scope},
    json::Json,
    limits::EVENT_TAGS_MAX,
};

/// Reads the rules of one event type, all of which share the variable `event`.
pub(crate) struct RuleReader<'r, 's> {
    pub(crate) source: &'r mut Source<'s>,
    /// The fields that `event` has.
    pub(crate) known_fields: &'static [&'static str],
    /// The fields of it that are used.
    pub(crate) used_fields: UsedFields,
}

impl RuleReader<'_, '_> {
    /// Reads a rule. `type_key` is the key that names its type; `data_required` where the file must say what of the data
    /// goes on. None if something was refused.
    pub(crate) fn rule(
        &mut self,
        node: &Yaml,
        fields: &Fields<'_>,
        type_key: &str,
        data_required: bool,
    ) -> Option<Rule> {
        let event_type = fields
            .get(type_key)
            .map(|node| read_text(self.source, node, "an event type", EventType::parse).ok_or(()));
        let when = fields.get("when").map(|node| self.bare(node).ok_or(()));
        let stream = fields.get("stream").map(|node| self.text(node, "a stream", check_stream).ok_or(()));
        let tags = fields.get("tags").map(|node| self.tags(node).ok_or(()));
        let data = self.data(node, fields, data_required);
        Some(Rule {
            line: node.referenced.line() as usize,
            when: when.transpose().ok()?,
            event_type: event_type.transpose().ok()?,
            stream: stream.transpose().ok()?,
            tags: tags.transpose().ok()?,
            data: data?,
        })
    }

    /// The scalar that is an expression as a whole.
    pub(crate) fn bare(&mut self, node: &Yaml) -> Option<Expression> {
        let expression = compile_bare(self.source, node, &SCOPE)?;
        self.note(node, &expression);
        Some(expression)
    }

    fn data(&mut self, node: &Yaml, fields: &Fields<'_>, required: bool) -> Option<DataRule> {
        match (fields.entry("data"), fields.entry("keep")) {
            (Some(_), Some((key, _))) => {
                let message = "expected one of `data` and `keep`, found both";
                self.source.refuse(&key.referenced, message);
                None
            }
            (None, None) if required => {
                let message = "expected what of the data goes out: `data: all`, `data: {...}` or `keep: [...]`, \
                               found none";
                self.source.refuse(&node.referenced, message);
                None
            }
            (None, None) => Some(DataRule::All),
            (None, Some((_, node))) => Keep::read(self.source, node).map(DataRule::Keep),
            (Some((_, node)), None) => match &node.value {
                Content::Text(word) if word == "all" => Some(DataRule::All),
                Content::Map(_) => self.template(node).map(DataRule::Made),
                Content::Text(text) if text.contains("${") => self.template(node).map(DataRule::Made),
                found => {
                    let message = format!("expected `all`, a map of fields or one ${{...}}, found {found}");
                    self.source.refuse(&node.referenced, message);
                    None
                }
            },
        }
    }

    fn tags(&mut self, node: &Yaml) -> Option<Vec<Template>> {
        let Content::List(items) = &node.value else {
            let message = format!("expected a list of tags, found {}", node.value);
            self.source.refuse(&node.referenced, message);
            return None;
        };
        if items.len() > EVENT_TAGS_MAX {
            let message = format!("expected at most {EVENT_TAGS_MAX} tags, found {}", items.len());
            self.source.refuse(&node.referenced, message);
            return None;
        }
        let check = |text: &str| Tag::parse(text).map(drop);
        let tags: Vec<_> = items.iter().map(|item| self.text(item, "a tag", check)).collect();
        tags.into_iter().collect()
    }

    /// A template that makes a text; where it is fixed, the text is checked now.
    fn text(
        &mut self,
        node: &Yaml,
        what: &str,
        check: impl FnOnce(&str) -> Result<(), Invalid>,
    ) -> Option<Template> {
        let template = match &node.value {
            Content::Text(_) => self.template(node)?,
            found => {
                let message = format!("expected {what}, a text that may hold ${{...}}, found {found}");
                self.source.refuse(&node.referenced, message);
                return None;
            }
        };
        if let Template::Constant(Json::Text(text)) = &template
            && let Err(invalid) = check(text)
        {
            self.source.refuse(&node.referenced, format!("{what}: {invalid}"));
            return None;
        }
        Some(template)
    }

    fn template(&mut self, node: &Yaml) -> Option<Template> {
        let template = Template::compile(self.source, node, &SCOPE)?;
        template.for_each_expression(&mut |expression| self.note(node, expression));
        Some(template)
    }

    fn note(&mut self, node: &Yaml, expression: &Expression) {
        self.used_fields.note(self.source, node, expression.uses(EVENT), self.known_fields);
    }
}

const SCOPE: Scope<'static> = Scope {
    variables: &["event", "data"],
    optional_from: usize::MAX,
    hidden: &[
        ("doc", "in steps of projections only"),
        ("item", "in steps of projections only"),
        ("key", "in filters of queries only"),
    ],
    collections: None,
};

fn check_stream(text: &str) -> Result<(), Invalid> {
    StreamId::parse(text).map(drop)
}
