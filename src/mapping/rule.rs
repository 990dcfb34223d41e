//! One rule: when an event passes, and which type, stream, tags and data it has then.
//!
//! Invariants: what comes out is valid as an event that a client appends (alphabets, sizes, depth), or the rule fails and
//! names the part that is to blame. What a rule does not name is as it came. How rules are read is in `rule_read`.

use bytes::Bytes;

use super::{MappedEvent, MappingError, keep::Keep, render::RenderFault, template::Template};
use crate::{
    event::{EventType, Invalid, StreamId, Tag},
    expression::{Arena, Described, Environment, Expression, Uses, Value},
    json::{Json, Object},
    limits::{EVENT_BYTES_MAX, EVENT_STEPS_MAX, EVENT_TAGS_MAX, JSON_DEPTH_MAX},
};

/// Numbers of the variables.
pub(crate) const EVENT: usize = 0;
pub(crate) const DATA: usize = 1;

/// How an event is made of another one.
#[derive(Debug)]
pub(crate) struct Rule {
    /// In the file, from 1.
    pub(crate) line: usize,
    pub(crate) when: Option<Expression>,
    /// None: as it came.
    pub(crate) event_type: Option<EventType>,
    /// None: as it came, or as the caller has it.
    pub(crate) stream: Option<Template>,
    /// None: as they came, or none, as the caller has it.
    pub(crate) tags: Option<Vec<Template>>,
    pub(crate) data: DataRule,
}

/// What the data of the event is.
#[derive(Debug)]
pub(crate) enum DataRule {
    /// The same bytes.
    All,
    /// These fields of it.
    Keep(Keep),
    /// Made anew.
    Made(Template),
}

/// The event that rules are applied to.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) event_type: &'a EventType,
    /// The stream of what is made, where the rule has none.
    pub(crate) stream: &'a StreamId,
    /// The tags of what is made, where the rule has none.
    pub(crate) tags: &'a [Tag],
    pub(crate) bytes: &'a Bytes,
    pub(crate) time_unix_nanos: i64,
    /// The variable `event`.
    pub(crate) about: &'a Object,
    /// The variable `data`; null where no rule needs it.
    pub(crate) data: &'a Json,
}

/// The steps that all rules of an event may take together.
#[derive(Debug)]
pub(crate) struct Budget(u64);

impl Default for Budget {
    fn default() -> Self {
        Self(EVENT_STEPS_MAX)
    }
}

impl Rule {
    /// Whether `data` must be read as JSON for it.
    pub(crate) fn needs_data(&self) -> bool {
        let mut needed = matches!(self.data, DataRule::Keep(_));
        self.for_each_expression(&mut |expression| needed |= uses_data(expression));
        needed
    }

    /// Visits the expressions inside.
    pub(crate) fn for_each_expression(&self, visit: &mut dyn FnMut(&Expression)) {
        self.when.iter().for_each(&mut *visit);
        self.stream.iter().for_each(|template| template.for_each_expression(visit));
        self.tags.iter().flatten().for_each(|template| template.for_each_expression(visit));
        if let DataRule::Made(template) = &self.data {
            template.for_each_expression(visit);
        }
    }

    /// What the rule makes of an event; none if its `when` does not hold.
    pub(crate) fn apply(
        &self,
        subject: &Subject<'_>,
        budget: &mut Budget,
    ) -> Result<Option<MappedEvent>, MappingError> {
        let arena = Arena::default();
        let values = [Value::from(subject.about), Value::from(subject.data)];
        let mut environment = Environment { arena: &arena, lookup: None, steps_left: budget.0 };
        let made = self.make(subject, &values, &mut environment);
        budget.0 = environment.steps_left;
        made.map_err(|fault| error(subject, self.line, fault))
    }

    fn make<'a>(
        &'a self,
        subject: &Subject<'a>,
        values: &[Value<'a>],
        environment: &mut Environment<'a, '_>,
    ) -> Result<Option<MappedEvent>, RenderFault> {
        if let Some(when) = &self.when {
            let wanted = when.run_bool(values, environment);
            if !wanted.map_err(|error| RenderFault::of(when, error).inside("when"))? {
                return Ok(None);
            }
        }
        let stream = match &self.stream {
            None => subject.stream.clone(),
            Some(template) => text_of(template, values, environment, StreamId::parse)
                .map_err(|fault| fault.inside("stream"))?,
        };
        let mut tags = match &self.tags {
            None => subject.tags.to_vec(),
            Some(templates) => templates
                .iter()
                .enumerate()
                .map(|(at, template)| {
                    let tag = text_of(template, values, environment, Tag::parse);
                    tag.map_err(|fault| fault.inside(&at.to_string()).inside("tags"))
                })
                .collect::<Result<_, _>>()?,
        };
        tags.sort();
        tags.dedup();
        let event = MappedEvent {
            event_type: self.event_type.as_ref().unwrap_or(subject.event_type).clone(),
            stream,
            tags,
            data: self.data(subject, values, environment)?,
            time_unix_nanos: subject.time_unix_nanos,
        };
        check_size(&event)?;
        Ok(Some(event))
    }

    fn data<'a>(
        &'a self,
        subject: &Subject<'a>,
        values: &[Value<'a>],
        environment: &mut Environment<'a, '_>,
    ) -> Result<Bytes, RenderFault> {
        let data = match &self.data {
            DataRule::All => return Ok(subject.bytes.clone()),
            DataRule::Keep(keep) => match subject.data {
                Json::Object(object) => Json::Object(keep.of(object)),
                other => {
                    let found = Described(&Value::from(other)).to_string();
                    return Err(fault("keep", format!("expected data that is a map, found {found}")));
                }
            },
            DataRule::Made(template) => {
                template.render(values, environment).map_err(|fault| fault.inside("data"))?
            }
        };
        let depth = data.depth();
        if depth > JSON_DEPTH_MAX {
            let message =
                format!("the data nests {depth} lists and maps deep, {JSON_DEPTH_MAX} are the most");
            return Err(fault("data", message));
        }
        Ok(data.to_string().into())
    }
}

/// Whether an expression needs the variable `data`.
pub(crate) fn uses_data(expression: &Expression) -> bool {
    match expression.uses(DATA) {
        Uses::Whole => true,
        Uses::Fields(fields) => !fields.is_empty(),
    }
}

/// Whether a condition over the event holds; `line` is its place in the file.
pub(crate) fn holds(
    when: &Expression,
    line: usize,
    subject: &Subject<'_>,
    budget: &mut Budget,
) -> Result<bool, MappingError> {
    let arena = Arena::default();
    let values = [Value::from(subject.about), Value::from(subject.data)];
    let mut environment = Environment { arena: &arena, lookup: None, steps_left: budget.0 };
    let held = when.run_bool(&values, &mut environment);
    budget.0 = environment.steps_left;
    held.map_err(|reason| error(subject, line, RenderFault::of(when, reason).inside("when")))
}

fn error(subject: &Subject<'_>, line: usize, fault: RenderFault) -> MappingError {
    let RenderFault { part, expression, message } = fault;
    MappingError { event_type: subject.event_type.as_str().to_owned(), line, part, expression, message }
}

fn fault(part: &str, message: String) -> RenderFault {
    RenderFault { part: part.to_owned(), message, ..RenderFault::default() }
}

/// The text that a template makes, checked.
fn text_of<'a, T>(
    template: &'a Template,
    values: &[Value<'a>],
    environment: &mut Environment<'a, '_>,
    check: impl FnOnce(&str) -> Result<T, Invalid>,
) -> Result<T, RenderFault> {
    let made = template.render(values, environment)?;
    let Json::Text(text) = &made else {
        let found = Described(&Value::from(&made)).to_string();
        return Err(fault("", format!("expected a text, found {found}")));
    };
    check(text).map_err(|invalid| fault("", invalid.0))
}

fn check_size(event: &MappedEvent) -> Result<(), RenderFault> {
    let MappedEvent { event_type, stream, tags, data, .. } = event;
    if tags.len() > EVENT_TAGS_MAX {
        let found = tags.len();
        return Err(fault("tags", format!("expected at most {EVENT_TAGS_MAX} tags, found {found}")));
    }
    let tags: usize = tags.iter().map(|tag| tag.as_str().len()).sum();
    let bytes = event_type.as_str().len() + stream.as_str().len() + tags + data.len();
    if bytes > EVENT_BYTES_MAX {
        let message = format!("the event has {bytes} bytes, {EVENT_BYTES_MAX} are the most");
        return Err(fault("", message));
    }
    Ok(())
}
