//! Steps: what one event type does to documents, compiled, and in which order its parts are evaluated.
//!
//! A name of `let` is evaluated when a part first needs it. `doc` needs the key, so there is no plan for a key that
//! needs `doc`. How steps are read is in `read_step`.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    expression::{Expression, Uses},
    mapping::{about::UsedFields, template::Template},
};

/// Numbers of the variables; names of `let` follow.
pub(crate) const EVENT: usize = 0;
pub(crate) const DATA: usize = 1;
pub(crate) const ITEM: usize = 2;
pub(crate) const DOC: usize = 3;
pub(crate) const LETS: usize = 4;

/// What an event type does.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    pub(crate) steps: Vec<Step>,
    /// The fields of `event` that they use.
    pub(crate) event_fields: UsedFields,
}

#[derive(Debug)]
pub(crate) struct Step {
    /// Among the steps of its event type, from 1.
    pub(crate) number: usize,
    /// In the file, from 1.
    pub(crate) line: usize,
    pub(crate) operation: Operation,
    pub(crate) collection: usize,
    pub(crate) for_each: Option<Expression>,
    pub(crate) lets: Vec<(Box<str>, Expression)>,
    pub(crate) when: Option<Expression>,
    pub(crate) key: KeyTemplate,
    pub(crate) plan: Plan,
}

#[derive(Debug)]
pub(crate) enum Operation {
    Put(Template),
    /// Either fields, or one expression that gives a map.
    Merge(Template),
    /// Each an expression or a number.
    Add(Vec<(Arc<str>, Template)>),
    Delete,
}

#[derive(Debug)]
pub(crate) enum KeyTemplate {
    One(Expression),
    Parts(Vec<Expression>),
}

/// Which names of `let` each part needs (bit n is name n), and when `doc` is read.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) when: u64,
    pub(crate) key: u64,
    pub(crate) value: u64,
    /// `when` needs `doc`: the key is evaluated before it.
    pub(crate) when_needs_doc: bool,
    /// `value` needs `doc`.
    pub(crate) value_needs_doc: bool,
}

impl Plan {
    /// None if the key needs `doc`.
    pub(super) fn of(
        lets: &[(Box<str>, Expression)],
        when: Option<&Expression>,
        key: &KeyTemplate,
        operation: &Operation,
    ) -> Option<Self> {
        let mut known: Vec<Needs> = Vec::with_capacity(lets.len());
        for (at, (_, expression)) in lets.iter().enumerate() {
            let needs = needs_of(expression, &known);
            known.push(Needs { lets: needs.lets | 1 << at, ..needs });
        }
        let when = when.map(|when| needs_of(when, &known)).unwrap_or_default();
        let key = match key {
            KeyTemplate::One(key) => needs_of(key, &known),
            KeyTemplate::Parts(parts) => {
                parts.iter().map(|part| needs_of(part, &known)).fold(Needs::default(), Needs::and)
            }
        };
        let mut value = Needs::default();
        let mut visit = |expression: &Expression| value = value.and(needs_of(expression, &known));
        match operation {
            Operation::Put(template) | Operation::Merge(template) => template.for_each_expression(&mut visit),
            Operation::Add(fields) => {
                for (_, field) in fields {
                    field.for_each_expression(&mut visit);
                }
            }
            Operation::Delete => {}
        }
        (!key.doc).then_some(Self {
            when: when.lets,
            key: key.lets,
            value: value.lets,
            when_needs_doc: when.doc,
            value_needs_doc: value.doc,
        })
    }
}

/// What a part needs, through names of `let` too.
#[derive(Debug, Clone, Copy, Default)]
struct Needs {
    lets: u64,
    doc: bool,
}

impl Needs {
    fn and(self, other: Self) -> Self {
        Self { lets: self.lets | other.lets, doc: self.doc || other.doc }
    }
}

fn needs_of(expression: &Expression, known: &[Needs]) -> Needs {
    let used = |variable: usize| expression.uses(variable) != Uses::Fields(BTreeSet::new());
    let own = Needs { lets: 0, doc: used(DOC) };
    let through = known.iter().enumerate().filter(|(at, _)| used(LETS + at)).map(|(_, needs)| *needs);
    through.fold(own, Needs::and)
}
