//! Runs the steps of one event.
//!
//! The order within a step: `for_each`, then for each item `when`, the key, `doc`, the value; where `when` needs
//! `doc`, the key and `doc` come before it. A name of `let` is evaluated when the first part needs it.

use std::sync::Arc;

use super::{document, overlay::Store};
use crate::{
    expression::{Arena, Described, Environment, EvaluateError, Expression, Value, sum},
    json::{Json, Object},
    limits::EVENT_CHANGES_MAX,
    mapping::{render::RenderFault, template::Template},
    projection::{
        definition::{DATA, DOC, EVENT, ITEM, KeyTemplate, LETS, Operation, Step},
        key::Key,
    },
};

/// What failed in a step.
#[derive(Debug, Default)]
pub(super) struct Fault {
    pub(super) key: Option<Key>,
    pub(super) part: String,
    pub(super) expression: Option<String>,
    pub(super) message: String,
}

impl Fault {
    fn new(part: &str, message: String) -> Self {
        Self { part: part.to_owned(), message, ..Self::default() }
    }

    fn of(expression: &Expression, error: EvaluateError) -> Self {
        Self { expression: Some(expression.source().to_owned()), message: error.message, ..Self::default() }
    }

    /// Names the part of the step, from the inside out.
    fn inside(mut self, part: &str) -> Self {
        if !self.part.is_empty() {
            self.part.insert(0, '.');
        }
        self.part.insert_str(0, part);
        self
    }
}

impl From<RenderFault> for Fault {
    fn from(fault: RenderFault) -> Self {
        let RenderFault { part, expression, message } = fault;
        Self { key: None, part, expression, message }
    }
}

type Outcome<T> = Result<T, Fault>;

/// One event.
pub(super) struct Run<'a, 'd> {
    pub(super) store: Store<'d>,
    arena: &'a Arena,
    event: Value<'a>,
    data: Value<'a>,
    /// Room for the values of the next item.
    values: Vec<Value<'a>>,
    steps_left: u64,
}

/// One item of one step.
struct Frame<'a> {
    step: &'a Step,
    /// Values by the numbers of the variables.
    values: Vec<Value<'a>>,
    /// Names of `let` that have their value, as bits.
    known: u64,
    key: Option<Key>,
    document: Before,
}

/// The document as it was before the step.
enum Before {
    Unread,
    Read(Option<Arc<Object>>),
}

impl<'a, 'd> Run<'a, 'd> {
    pub(super) fn new(
        store: Store<'d>,
        arena: &'a Arena,
        event: &'a Object,
        data: &'a Json,
        steps_left: u64,
    ) -> Self {
        Self { store, arena, event: event.into(), data: data.into(), values: Vec::new(), steps_left }
    }

    pub(super) fn step(&mut self, step: &'a Step) -> Outcome<()> {
        let Some(for_each) = &step.for_each else {
            return self.item(step, Value::Null);
        };
        let values = [self.event.clone(), self.data.clone(), Value::Null, Value::Null];
        let items = self.value(for_each, &values).map_err(|fault| fault.inside("for_each"))?;
        let Some(items) = items.to_items() else {
            let message = format!("expected a list, found {}", Described(&items));
            return Err(Fault {
                expression: Some(for_each.source().into()),
                ..Fault::new("for_each", message)
            });
        };
        items.into_iter().try_for_each(|item| self.item(step, item))
    }

    fn item(&mut self, step: &'a Step, item: Value<'a>) -> Outcome<()> {
        let mut values = std::mem::take(&mut self.values);
        values.clear();
        values.resize(LETS + step.lets.len(), Value::Null);
        values[EVENT] = self.event.clone();
        values[DATA] = self.data.clone();
        values[ITEM] = item;
        let mut frame = Frame { step, values, known: 0, key: None, document: Before::Unread };
        let result = self.run_frame(&mut frame);
        self.values = frame.values;
        result.map_err(|fault| Fault { key: frame.key, ..fault })
    }

    fn run_frame(&mut self, frame: &mut Frame<'a>) -> Outcome<()> {
        let step = frame.step;
        if step.plan.when_needs_doc {
            self.read_key(frame)?;
            self.read_doc(frame)?;
        }
        if !self.wanted(frame)? {
            return Ok(());
        }
        if frame.key.is_none() {
            self.read_key(frame)?;
        }
        if step.plan.value_needs_doc && matches!(frame.document, Before::Unread) {
            self.read_doc(frame)?;
        }
        self.know(frame, step.plan.value)?;
        let document = match &step.operation {
            Operation::Put(template) => Some(self.whole(frame, template)?),
            Operation::Merge(template) => Some(self.merged(frame, template)?),
            Operation::Add(increments) => Some(self.added(frame, increments)?),
            Operation::Delete => None,
        };
        if let Some(document) = &document {
            document::check(document).map_err(|message| Fault::new("value", message))?;
        }
        let key = frame.key.clone().expect("the key was read before the value");
        self.store.overlay.set(step.collection, key, document.map(Arc::new));
        if self.store.overlay.len() > EVENT_CHANGES_MAX {
            let message = format!("one event may change at most {EVENT_CHANGES_MAX} documents");
            return Err(Fault::new("for_each", message));
        }
        Ok(())
    }

    fn wanted(&mut self, frame: &mut Frame<'a>) -> Outcome<bool> {
        let step = frame.step;
        let Some(when) = &step.when else {
            return Ok(true);
        };
        self.know(frame, step.plan.when)?;
        self.evaluate(|environment| when.run_bool(&frame.values, environment))
            .map_err(|error| Fault::of(when, error).inside("when"))
    }

    fn read_key(&mut self, frame: &mut Frame<'a>) -> Outcome<()> {
        self.know(frame, frame.step.plan.key)?;
        let key = match &frame.step.key {
            KeyTemplate::One(key) => self.value(key, &frame.values).map(|value| match value {
                Value::Text(text) => Key::text(text.as_str()),
                value => Key::from_json(&value.to_json()),
            }),
            KeyTemplate::Parts(parts) => {
                let parts =
                    parts.iter().map(|part| self.value(part, &frame.values).map(|value| value.to_json()));
                parts.collect::<Outcome<_>>().map(|parts| Key::from_json(&Json::Array(parts)))
            }
        };
        let key = key.and_then(|key| key.map_err(|invalid| Fault::new("", invalid.0)));
        frame.key = Some(key.map_err(|fault| fault.inside("key"))?);
        Ok(())
    }

    /// Reads the document that `doc` is.
    fn read_doc(&mut self, frame: &mut Frame<'a>) -> Outcome<()> {
        if let Some(document) = self.current(frame)? {
            frame.values[DOC] = Value::Object(self.arena.keep(document));
        }
        Ok(())
    }

    /// The document as it is before this step's write.
    fn current(&mut self, frame: &mut Frame<'a>) -> Outcome<Option<Arc<Object>>> {
        if let Before::Read(document) = &frame.document {
            return Ok(document.clone());
        }
        let key = frame.key.as_ref().expect("the key is read before the document");
        let document = self.store.get(frame.step.collection, key);
        let document = document.map_err(|error| Fault::new("doc", error.message))?;
        frame.document = Before::Read(document.clone());
        Ok(document)
    }

    /// Evaluates the names of `let` among `wanted` that have no value yet.
    fn know(&mut self, frame: &mut Frame<'a>, wanted: u64) -> Outcome<()> {
        let missing = wanted & !frame.known;
        if missing == 0 {
            return Ok(());
        }
        for (at, (name, expression)) in frame.step.lets.iter().enumerate() {
            if missing >> at & 1 == 1 {
                let value = self.value(expression, &frame.values);
                frame.values[LETS + at] = value.map_err(|fault| fault.inside(name).inside("let"))?;
            }
        }
        frame.known |= missing;
        Ok(())
    }

    fn whole(&mut self, frame: &Frame<'a>, template: &'a Template) -> Outcome<Object> {
        match self.render(frame, template) {
            Ok(Json::Object(object)) => Ok(object),
            Ok(other) => Err(not_a_map(template, &other)),
            Err(fault) => Err(fault.inside("value")),
        }
    }

    fn merged(&mut self, frame: &mut Frame<'a>, template: &'a Template) -> Outcome<Object> {
        let mut document = self.current(frame)?.map(Arc::unwrap_or_clone).unwrap_or_default();
        let Template::Object(fields) = template else {
            for (name, value) in self.whole(frame, template)?.iter() {
                document.insert(name, value.clone());
            }
            return Ok(document);
        };
        for (name, field) in fields {
            if matches!(field, Template::Unset) {
                document.remove(name);
            } else {
                let value = self.render(frame, field).map_err(|fault| fault.inside(name).inside("value"))?;
                document.set(name, value);
            }
        }
        Ok(document)
    }

    fn added(&mut self, frame: &mut Frame<'a>, increments: &'a [(Arc<str>, Template)]) -> Outcome<Object> {
        let mut document = self.current(frame)?.map(Arc::unwrap_or_clone).unwrap_or_default();
        for (name, increment) in increments {
            let inside = |fault: Fault| fault.inside(name).inside("value");
            let increment = self.render(frame, increment).map_err(inside)?;
            let counted = document.get(name).unwrap_or(&Json::Int(0));
            let total = match sum(counted, &increment) {
                Some(Ok(total)) => total.normalized(),
                Some(Err(message)) => {
                    return Err(inside(Fault::new("", format!("{counted} + {increment}: {message}"))));
                }
                None => {
                    let number = |value: &Json| matches!(value, Json::Int(_) | Json::Double(_));
                    let (what, found) = match counted {
                        counted if number(counted) => {
                            ("an increment", Described(&Value::from(&increment)).to_string())
                        }
                        counted => ("the field", Described(&Value::from(counted)).to_string()),
                    };
                    return Err(inside(Fault::new(
                        "",
                        format!("expected {what} that is a number, found {found}"),
                    )));
                }
            };
            document.set(name, total);
        }
        Ok(document)
    }

    /// The value of a template, normalized.
    fn render(&mut self, frame: &Frame<'a>, template: &'a Template) -> Outcome<Json> {
        self.evaluate(|environment| template.render(&frame.values, environment)).map_err(Fault::from)
    }

    fn value(&mut self, expression: &'a Expression, values: &[Value<'a>]) -> Outcome<Value<'a>> {
        let value = self.evaluate(|environment| expression.run(values, environment));
        value.map_err(|error| Fault::of(expression, error))
    }

    fn evaluate<T, E>(
        &mut self,
        evaluate: impl FnOnce(&mut Environment<'a, '_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let (arena, lookup, steps_left) = (self.arena, Some(&mut self.store as _), self.steps_left);
        let mut environment = Environment { arena, lookup, steps_left };
        let result = evaluate(&mut environment);
        self.steps_left = environment.steps_left;
        result
    }
}

fn not_a_map(template: &Template, found: &Json) -> Fault {
    let message = format!("expected a map of fields, found {}", Described(&Value::from(found)));
    let expression = match template {
        Template::Expression(expression) => Some(expression.source().to_owned()),
        _ => None,
    };
    Fault { expression, ..Fault::new("value", message) }
}
