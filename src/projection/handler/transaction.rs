//! What a handler answers to an event, and what that leaves of the documents. Pure but for the documents it reads.
//!
//! Invariants: steps mean what they mean in a projection file (`put`, `merge`, `add`, `delete`), byte for byte; a
//! transaction is applied whole or not at all. Does not know where documents are kept, or whether reads still hold.

use std::{collections::HashMap, sync::Arc};

use crate::{
    event::{Event, Position},
    expression::sum,
    json::{Json, Object},
    projection::{
        declarative::{Change, Documents, StoreFailure, check_document},
        key::Key,
    },
};

/// What a worker says to an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// What it does.
    Transaction(Transaction),
    /// It cannot be handled, and why; or the transaction was not valid.
    Failure(String),
}

/// What an event does, according to its handler.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Transaction {
    /// The documents that the handler looked at; all must be as it saw them.
    pub reads: Vec<ReadDocument>,
    /// In order; each sees what the former ones wrote.
    pub steps: Vec<TransactionStep>,
    /// Events to append, in order. Their ids are not theirs yet: they follow from the event that is answered.
    pub emits: Vec<Event>,
}

/// A document that a handler looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadDocument {
    /// Its place in `Definition::collections`.
    pub collection: usize,
    /// Its key.
    pub key: Key,
    /// The event that last changed it; none if there was no such document.
    pub position: Option<Position>,
}

/// A change of one document.
#[derive(Debug, Clone, PartialEq)]
pub struct TransactionStep {
    /// The document's collection: its place in `Definition::collections`.
    pub collection: usize,
    /// The document's key.
    pub key: Key,
    /// What is done to it.
    pub operation: StepOperation,
}

/// What is done to a document.
#[derive(Debug, Clone, PartialEq)]
pub enum StepOperation {
    /// This becomes the document.
    Put(Object),
    /// The fields are set in the document, others removed; it is created if it is missing.
    Merge {
        /// Fields to set.
        fields: Object,
        /// Fields to remove.
        unset: Vec<Box<str>>,
    },
    /// The numbers are added to the document's fields; what is missing counts as 0.
    Add(Object),
    /// The document is removed, if it is there.
    Delete,
}

/// Why a transaction has no changes.
#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    /// A step cannot be done: a repetition fails in the same way.
    #[error("{0}")]
    Fault(String),
    /// The documents could not be read.
    #[error("the documents could not be read: {0}")]
    Store(StoreFailure),
}

/// The final writes of a transaction: at most one change for each document, in order of first touch.
pub fn changes(
    steps: Vec<TransactionStep>,
    documents: &mut dyn Documents,
) -> Result<Vec<Change>, TransactionError> {
    let mut changes: Vec<Change> = Vec::with_capacity(steps.len());
    let mut places: HashMap<(usize, Key), usize> = HashMap::new();
    for (at, TransactionStep { collection, key, operation }) in steps.into_iter().enumerate() {
        let place = places.get(&(collection, key.clone())).copied();
        let mut current = || match place {
            Some(place) => Ok(changes[place].document.clone()),
            None => documents.get(collection, &key).map_err(TransactionError::Store),
        };
        let fault = |message: String| TransactionError::Fault(format!("steps[{at}], key {key}: {message}"));
        let document = match operation {
            StepOperation::Put(document) => Some(document),
            StepOperation::Merge { fields, unset } => Some(merged(owned(current()?), &fields, &unset)),
            StepOperation::Add(fields) => Some(added(owned(current()?), &fields).map_err(fault)?),
            StepOperation::Delete => None,
        };
        if let Some(document) = &document {
            check_document(document).map_err(fault)?;
        }
        let document = document.map(Arc::new);
        if let Some(place) = place {
            changes[place].document = document;
        } else {
            places.insert((collection, key.clone()), changes.len());
            changes.push(Change { collection, key, document });
        }
    }
    Ok(changes)
}

fn owned(document: Option<Arc<Object>>) -> Object {
    document.map(Arc::unwrap_or_clone).unwrap_or_default()
}

fn merged(mut document: Object, fields: &Object, unset: &[Box<str>]) -> Object {
    for name in unset {
        document.remove(name);
    }
    for (name, value) in fields.iter() {
        document.insert(name, value.clone());
    }
    document
}

fn added(mut document: Object, fields: &Object) -> Result<Object, String> {
    for (name, increment) in fields.iter() {
        let counted = document.get(name).unwrap_or(&Json::Int(0));
        let total = match sum(counted, increment) {
            Some(total) => total.map_err(|message| format!("{name}: {counted} + {increment}: {message}"))?,
            None => {
                return Err(format!("{name}: expected two numbers to add, found {counted} and {increment}"));
            }
        };
        document.insert(name, total.normalized());
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::projection::{declarative::apply, definition::Definition, offline::Memory, testing::event};

    /// One step of a projection file and the same as a handler says it.
    fn any_step() -> impl Strategy<Value = (String, StepOperation)> {
        let object = |text: &str| match Json::parse(text.as_bytes()).unwrap().normalized() {
            Json::Object(object) => object,
            other => panic!("{other} is no object"),
        };
        let value = prop_oneof!["null", "-?[1-9][0-9]{0,2}", "[0-9]\\.[05]", "\"[a-c]\"", "\\[1\\.0\\]"];
        let number = prop_oneof!["-?[1-9][0-9]{0,2}", "[0-9]\\.[05]", "9223372036854775807"];
        let key = "[a-c]";
        prop_oneof![
            (key, value.clone(), value.clone()).prop_map(move |(key, a, b)| {
                let text = format!(r#"{{"a":{a},"b":{b}}}"#);
                (
                    format!("put: docs\n      key: \"'{key}'\"\n      value: {text}"),
                    StepOperation::Put(object(&text)),
                )
            }),
            (key, value).prop_map(move |(key, a)| {
                let yaml = format!(
                    "merge: docs\n      key: \"'{key}'\"\n      value: {{\"a\": {a}, \"b\": $unset}}"
                );
                let fields = object(&format!(r#"{{"a":{a}}}"#));
                (yaml, StepOperation::Merge { fields, unset: vec!["b".into()] })
            }),
            (key, number).prop_map(move |(key, n)| {
                let yaml =
                    format!("add: docs\n      key: \"'{key}'\"\n      value: {{\"n\": {n}, \"b\": 1}}");
                (yaml, StepOperation::Add(object(&format!(r#"{{"n":{n},"b":1}}"#))))
            }),
            key.prop_map(|key| (format!("delete: docs\n      key: \"'{key}'\""), StepOperation::Delete)),
        ]
    }

    proptest! {
        #[test]
        fn steps_do_what_they_do_in_a_projection_file(steps in prop::collection::vec(any_step(), 1..8)) {
            let lines: Vec<String> = steps.iter().map(|(yaml, _)| format!("    - {yaml}\n")).collect();
            let yaml = lines.concat();
            let text = format!("projection: p\nversion: 1\ncollections: {{ docs: {{}} }}\nevents:\n  t:\n{yaml}");
            let definition = Definition::parse(&text, "p.yaml").unwrap();
            let key_of = |yaml: &str| yaml.split('\'').nth(1).map(|key| Key::text(key).unwrap()).unwrap();
            let as_steps = |(yaml, operation): &(String, StepOperation)| TransactionStep {
                collection: 0,
                key: key_of(yaml),
                operation: operation.clone(),
            };
            let mut memory = Memory::new(&definition);
            let answered = changes(steps.iter().map(as_steps).collect(), &mut memory);
            let declared = apply(&definition, &event(Position::new(1), "t", "{}"), &mut memory);
            match (answered, declared) {
                (Ok(answered), Ok(declared)) => prop_assert_eq!(answered, declared),
                (Err(_), Err(_)) => {}
                (answered, declared) => prop_assert!(false, "{:?} and {:?}", answered, declared),
            }
        }
    }
}
