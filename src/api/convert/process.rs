//! What workers of handlers say on its way in, and what they are told on its way out.
//!
//! Invariant: a transaction that says something which cannot be done is a failure of its event, not of the call: it
//! would say the same again.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use prost::Message as _;
use uuid::Uuid;

use super::{event, new_event, query::key, raw_append};
use crate::{
    api::{proto::v1, status::Refusal},
    clock::Clock,
    event::{Event, Position},
    json::{Json, Object},
    limits::{
        HANDLER_CREDITS_MAX, HANDLER_DEADLINE_DEFAULT, HANDLER_DEADLINE_MAX, HANDLER_DEADLINE_MIN,
        HANDLER_FAILURE_BYTES_MAX, HANDLER_READ_KEYS_MAX, REQUEST_BYTES_MAX, REQUEST_EVENTS_MAX,
        SOURCE_BYTES_MAX, TRANSACTION_READS_MAX, TRANSACTION_STEPS_MAX,
    },
    projection::{
        definition::Definition,
        handler::{
            emit::emitted_id,
            hub::{ToWorker, WorkerAnswer},
            transaction::{Answer, ReadDocument, StepOperation, Transaction, TransactionStep},
        },
        key::Key,
        page::hex,
    },
};

/// A worker that attaches.
#[derive(Debug)]
pub(crate) struct Attach {
    pub(crate) projection: String,
    pub(crate) version: u32,
    pub(crate) worker: String,
    pub(crate) credits: usize,
    pub(crate) deadline: Duration,
    pub(crate) definition: Option<String>,
}

/// How a worker attaches.
pub(crate) fn attach(attach: v1::AttachWorker) -> Result<Attach, Refusal> {
    if attach.version == 0 {
        return Err(Refusal::field(
            "INVALID_ARGUMENT",
            "attach.version",
            "expected a version from 1, found 0",
        ));
    }
    let worker = attach.worker;
    if worker.is_empty() || worker.len() > SOURCE_BYTES_MAX || worker.chars().any(char::is_control) {
        let what = format!(
            "expected a name of 1 to {SOURCE_BYTES_MAX} bytes without control characters, found {worker:?}"
        );
        return Err(Refusal::field("INVALID_ARGUMENT", "attach.worker", what));
    }
    if attach.credits == 0 {
        return Err(Refusal::field("INVALID_LIMIT", "attach.credits", "expected at least 1, found 0"));
    }
    let deadline = match attach.deadline {
        None => HANDLER_DEADLINE_DEFAULT,
        Some(deadline) => {
            let allowed = HANDLER_DEADLINE_MIN..=HANDLER_DEADLINE_MAX;
            let deadline = Duration::try_from(deadline).ok().filter(|deadline| allowed.contains(deadline));
            deadline.ok_or_else(|| {
                let what = format!("expected {HANDLER_DEADLINE_MIN:?} to {HANDLER_DEADLINE_MAX:?}");
                Refusal::field("INVALID_ARGUMENT", "attach.deadline", what)
            })?
        }
    };
    Ok(Attach {
        projection: attach.projection,
        version: attach.version,
        worker,
        credits: credits(attach.credits, "attach.credits")?,
        deadline,
        definition: attach.definition,
    })
}

/// How many events a worker takes at a time.
pub(crate) fn credits(credits: u32, field: &str) -> Result<usize, Refusal> {
    if credits > HANDLER_CREDITS_MAX {
        return Err(Refusal::limit(field, HANDLER_CREDITS_MAX, credits, "events"));
    }
    Ok(credits as usize)
}

/// What the messages of one call are held against.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    pub(crate) definition: Arc<Definition>,
    pub(crate) log_id: Uuid,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Scope {
    /// The answer to one event.
    pub(crate) fn answer(&self, transaction: v1::Transaction) -> WorkerAnswer {
        let (run, position) = (transaction.run, Position::new(transaction.position));
        let bytes = transaction.encoded_len();
        let answer = match transaction.failure {
            Some(failure) => Answer::Failure(shortened(failure)),
            None => match self.transaction(transaction) {
                Ok(transaction) => Answer::Transaction(transaction),
                Err(invalid) => Answer::Failure(format!("the worker's transaction is not valid: {invalid}")),
            },
        };
        WorkerAnswer { run, position, answer, bytes }
    }

    /// The documents that a worker wants to see.
    pub(crate) fn read(&self, documents: Vec<v1::DocumentName>) -> Result<Vec<(usize, Key)>, Refusal> {
        if documents.is_empty() || documents.len() > HANDLER_READ_KEYS_MAX {
            return Err(Refusal::limit(
                "read.documents",
                HANDLER_READ_KEYS_MAX,
                documents.len(),
                "documents, and one at least",
            ));
        }
        let document = |(at, name): (usize, v1::DocumentName)| {
            let named = self.document(&name.collection, name.key);
            named.map_err(|what| Refusal::field("INVALID_ARGUMENT", format!("read.documents[{at}]"), what))
        };
        documents.into_iter().enumerate().map(document).collect()
    }

    fn transaction(&self, transaction: v1::Transaction) -> Result<Transaction, String> {
        let counts = [
            ("reads", transaction.reads.len(), TRANSACTION_READS_MAX),
            ("steps", transaction.steps.len(), TRANSACTION_STEPS_MAX),
            ("emits", transaction.emits.len(), REQUEST_EVENTS_MAX),
        ];
        if let Some((what, found, max)) = counts.into_iter().find(|(_, found, max)| found > max) {
            return Err(format!("{what}: expected at most {max}, found {found}"));
        }
        let mut reads = Vec::with_capacity(transaction.reads.len());
        for (at, read) in transaction.reads.into_iter().enumerate() {
            let named = self.document(&read.collection, read.key);
            let (collection, key) = named.map_err(|what| format!("reads[{at}]: {what}"))?;
            reads.push(ReadDocument { collection, key, position: read.position.map(Position::new) });
        }
        let mut steps = Vec::with_capacity(transaction.steps.len());
        for (at, step) in transaction.steps.into_iter().enumerate() {
            steps.push(self.step(step).map_err(|what| format!("steps[{at}]: {what}"))?);
        }
        let emits = self.emits(transaction.position, transaction.emits)?;
        Ok(Transaction { reads, steps, emits })
    }

    fn step(&self, step: v1::TransactionStep) -> Result<TransactionStep, String> {
        use v1::transaction_step::Operation;
        let (collection, key) = self.document(&step.collection, step.key)?;
        let operation = match step.operation {
            Some(Operation::Put(text)) => StepOperation::Put(object(&text, "put")?),
            Some(Operation::Add(text)) => StepOperation::Add(object(&text, "add")?),
            Some(Operation::Merge(merge)) => StepOperation::Merge {
                fields: match &merge.fields[..] {
                    [] => Object::new(),
                    text => object(text, "merge.fields")?,
                },
                unset: merge.unset.into_iter().map(String::into_boxed_str).collect(),
            },
            Some(Operation::Delete(v1::DeleteDocument {})) => StepOperation::Delete,
            None => return Err("expected put, merge, add or delete, found nothing".into()),
        };
        Ok(TransactionStep { collection, key, operation })
    }

    fn emits(&self, cause: u64, emits: Vec<v1::NewEvent>) -> Result<Vec<Event>, String> {
        let mut events = Vec::with_capacity(emits.len());
        let mut bytes = 0;
        for (at, emitted) in emits.into_iter().enumerate() {
            if emitted.id.is_some() {
                return Err(format!(
                    "emits[{at}].id: expected none, since it follows from the event that is answered"
                ));
            }
            let id = emitted_id(self.log_id, self.definition.name(), Position::new(cause), at);
            let emitted = raw_append::NewEvent {
                id: Some(Bytes::copy_from_slice(id.as_bytes())),
                r#type: emitted.r#type.into(),
                stream: emitted.stream.into(),
                tags: emitted.tags.into_iter().map(Bytes::from).collect(),
                data: emitted.data,
                metadata: emitted.metadata,
                time: emitted.time,
            };
            let event = new_event(emitted, at, &*self.clock)
                .map_err(|refusal| format!("emits: {}", refusal.message()))?;
            bytes += event.size_bytes();
            events.push(event);
        }
        if bytes > REQUEST_BYTES_MAX {
            return Err(format!("emits: expected at most {REQUEST_BYTES_MAX} bytes in all, found {bytes}"));
        }
        Ok(events)
    }

    fn document(&self, collection: &str, name: Option<v1::Key>) -> Result<(usize, Key), String> {
        let at = self.definition.collection(collection).ok_or_else(|| {
            let known: Vec<_> = self.definition.collections().iter().map(|known| &*known.name).collect();
            format!("there is no collection {collection:?}; there are {}", known.join(", "))
        })?;
        let key = key(name, "key").map_err(|refusal| refusal.message().to_owned())?;
        Ok((at, key))
    }
}

fn object(text: &[u8], field: &str) -> Result<Object, String> {
    match Json::parse(text).map(Json::normalized) {
        Ok(Json::Object(object)) => Ok(object),
        Ok(other) => Err(format!("{field}: expected a JSON object, found {}", shortened(other.to_string()))),
        Err(invalid) => Err(format!("{field}: {invalid}")),
    }
}

/// What a worker says of itself is kept and shown; it should not be a book.
fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().find(|(at, _)| *at >= HANDLER_FAILURE_BYTES_MAX) {
        text.truncate(end);
        text.push_str(" ...");
    }
    text
}

/// The first message that a worker is told, and how long it may be silent.
pub(crate) fn attached(
    (applied, head): (Position, Position),
    deadline: Duration,
    definition: &Definition,
) -> v1::WorkerAttached {
    v1::WorkerAttached {
        applied: applied.get(),
        head: head.get(),
        // Within the bounds of `attach`, so it always fits.
        deadline: prost_types::Duration::try_from(deadline).ok(),
        definition_hash: hex(definition.hash()),
    }
}

/// What a worker is told, but for the first message and the last.
pub(crate) fn told(message: ToWorker) -> Option<v1::process_response::Content> {
    use v1::process_response::Content;
    Some(match message {
        ToWorker::Run { run, applied, late_at, events } => Content::Run(v1::EventRun {
            run,
            applied: applied.get(),
            late_at: late_at.map(Position::get),
            events: events.into_iter().map(event).collect(),
        }),
        ToWorker::Documents { request, as_of, documents, permit: _ } => {
            let found = |document: Option<(Position, Bytes)>| match document {
                Some((position, value)) => v1::DocumentFound { value: Some(value), position: position.get() },
                None => v1::DocumentFound { value: None, position: 0 },
            };
            let documents = documents.into_iter().map(found).collect();
            Content::Documents(v1::DocumentsRead { request, as_of: as_of.get(), documents })
        }
        ToWorker::Cancelled { from, reason } => {
            Content::Cancelled(v1::RunsCancelled { from_position: from.get(), reason })
        }
        ToWorker::Attached { .. } | ToWorker::End(_) => return None,
    })
}
