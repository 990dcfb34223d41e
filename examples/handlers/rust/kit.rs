//! A worker in a hundred lines: attaches, keeps what it has seen of documents, answers runs of events.
//!
//! Owns the protocol of `Projections.Process` from the worker's side: documents that events need are read for a whole
//! run at once; what the worker wrote itself lies over what it has read; what is taken back is forgotten. Does not know
//! what events do: that is a `Projector`.

use std::collections::{HashMap, HashSet, VecDeque};

use outrigger::api::proto::v1::{
    self, process_request::Content as Say, process_response::Content as Told,
    projections_client::ProjectionsClient, transaction_step::Operation,
};
use prost::Message as _;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

/// A document's fields.
pub(crate) type Document = Map<String, Value>;
/// A collection and the key of a document in it.
pub(crate) type Name = (&'static str, v1::Key);

/// What events do. Both must give the same for the same event and documents.
pub(crate) trait Projector {
    /// The documents that `handle` wants to look at.
    fn reads(&self, event: &v1::Event, data: &Value) -> Vec<Name>;
    /// What the event does, given the documents of `reads` in their order.
    fn handle(
        &mut self,
        event: &v1::Event,
        data: &Value,
        documents: &[Option<&Document>],
    ) -> Result<Changes, String>;
}

/// What one event does.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Documents that change, in order.
    pub(crate) steps: Vec<v1::TransactionStep>,
    /// Events to append, without ids.
    pub(crate) emits: Vec<v1::NewEvent>,
}

impl Changes {
    /// The object becomes the document.
    pub(crate) fn put(&mut self, (collection, key): Name, value: &Value) {
        self.step(collection, key, Operation::Put(value.to_string().into()));
    }

    /// The object's fields are set in the document.
    pub(crate) fn merge(&mut self, (collection, key): Name, fields: &Value) {
        let merge = v1::MergeFields { fields: fields.to_string().into(), unset: Vec::new() };
        self.step(collection, key, Operation::Merge(merge));
    }

    /// The object's numbers are added to the document's fields.
    pub(crate) fn add(&mut self, (collection, key): Name, fields: &Value) {
        self.step(collection, key, Operation::Add(fields.to_string().into()));
    }

    /// The document is removed.
    #[allow(dead_code, reason = "flights are never forgotten, other things are")]
    pub(crate) fn delete(&mut self, (collection, key): Name) {
        self.step(collection, key, Operation::Delete(v1::DeleteDocument {}));
    }

    fn step(&mut self, collection: &str, key: v1::Key, operation: Operation) {
        let collection = collection.to_owned();
        self.steps.push(v1::TransactionStep { collection, key: Some(key), operation: Some(operation) });
    }
}

/// The same, as it is remembered.
type Place = (String, Vec<u8>);

/// Documents in one read.
const READ_DOCUMENTS_MAX: usize = 1_000;

/// A document as the worker last saw or wrote it.
#[derive(Debug, Clone, Default)]
struct Seen {
    position: Option<u64>,
    document: Option<Document>,
}

/// Documents that are remembered; beyond it all are forgotten.
const REMEMBERED_MAX: usize = 200_000;

/// An attached worker.
#[derive(Debug)]
pub(crate) struct Worker {
    say: mpsc::Sender<v1::ProcessRequest>,
    told: Streaming<v1::ProcessResponse>,
    runs: VecDeque<v1::EventRun>,
    seen: HashMap<Place, Seen>,
    request: u64,
    /// How often what it was given was taken back.
    pub(crate) cancelled: u64,
    /// Events answered so far.
    pub(crate) answered: u64,
}

impl Worker {
    /// Attaches.
    pub(crate) async fn attach(channel: Channel, attach: v1::AttachWorker) -> Result<Self, Status> {
        let (say, said) = mpsc::channel(16);
        let worker = v1::ProcessRequest { content: Some(Say::Attach(attach)) };
        drop(say.send(worker).await);
        let told = ProjectionsClient::new(channel).process(ReceiverStream::new(said)).await?.into_inner();
        let (runs, seen) = (VecDeque::new(), HashMap::new());
        let mut worker = Self { say, told, runs, seen, request: 0, cancelled: 0, answered: 0 };
        match worker.told().await? {
            Some(Told::Attached(_)) => Ok(worker),
            other => Err(Status::internal(format!("expected to be attached, found {other:?}"))),
        }
    }

    /// Handles runs until the node ends the call.
    pub(crate) async fn work(&mut self, projector: &mut impl Projector) -> Result<(), Status> {
        while self.work_once(projector).await? {}
        Ok(())
    }

    /// Handles one run. `false`: the node has ended the call.
    pub(crate) async fn work_once(&mut self, projector: &mut impl Projector) -> Result<bool, Status> {
        let run = loop {
            if let Some(run) = self.runs.pop_front() {
                break run;
            }
            match self.told().await? {
                None => return Ok(false),
                Some(told) => self.take(told),
            }
        };
        let parse = |event: &v1::Event| serde_json::from_slice(&event.data);
        let data: Vec<Value> = run
            .events
            .iter()
            .map(parse)
            .collect::<Result<_, _>>()
            .map_err(|e| Status::internal(e.to_string()))?;
        let needs: Vec<Vec<Name>> =
            run.events.iter().zip(&data).map(|(event, data)| projector.reads(event, data)).collect();
        if !self.read(&needs).await? {
            return Ok(true);
        }
        let mut transactions = Vec::with_capacity(run.events.len());
        for ((event, data), needs) in run.events.iter().zip(&data).zip(needs) {
            transactions.push(self.handle(run.run, event, data, needs, projector)?);
        }
        self.answered += transactions.len() as u64;
        self.say(Say::Transactions(v1::Transactions { transactions })).await?;
        Ok(true)
    }

    fn handle(
        &mut self,
        run: u64,
        event: &v1::Event,
        data: &Value,
        needs: Vec<Name>,
        projector: &mut impl Projector,
    ) -> Result<v1::Transaction, Status> {
        let seen: Vec<&Seen> = needs.iter().filter_map(|name| self.seen.get(&place(name))).collect();
        let documents: Vec<_> = seen.iter().map(|seen| seen.document.as_ref()).collect();
        let reads = needs.iter().zip(&seen).map(|((collection, key), seen)| v1::DocumentRead {
            collection: (*collection).to_owned(),
            key: Some(key.clone()),
            position: seen.position,
        });
        let mut answer =
            v1::Transaction { run, position: event.position, reads: reads.collect(), ..Default::default() };
        match projector.handle(event, data, &documents) {
            Err(failure) => answer.failure = Some(failure),
            Ok(Changes { steps, emits }) => {
                for step in &steps {
                    self.remember_own(event.position, step)?;
                }
                (answer.steps, answer.emits) = (steps, emits);
            }
        }
        Ok(answer)
    }

    /// Reads what is needed and not remembered. `false`: the run was taken back meanwhile.
    async fn read(&mut self, needs: &[Vec<Name>]) -> Result<bool, Status> {
        if self.seen.len() > REMEMBERED_MAX {
            self.seen.clear();
        }
        let mut asked = HashSet::new();
        let is_missing = |name: &&Name| {
            let place = place(name);
            !self.seen.contains_key(&place) && asked.insert(place)
        };
        let missing: Vec<&Name> = needs.iter().flatten().filter(is_missing).collect();
        for names in missing.chunks(READ_DOCUMENTS_MAX) {
            self.request += 1;
            let name = |(collection, key): &&Name| v1::DocumentName {
                collection: (*collection).to_owned(),
                key: Some(key.clone()),
            };
            let documents = names.iter().map(name).collect();
            self.say(Say::Read(v1::ReadDocuments { request: self.request, documents })).await?;
            let found = loop {
                match self.told().await? {
                    None => return Err(Status::unavailable("the call has ended")),
                    Some(Told::Documents(found)) if found.request == self.request => break found.documents,
                    Some(Told::Cancelled(_)) => {
                        self.forget();
                        return Ok(false);
                    }
                    Some(told) => self.take(told),
                }
            };
            for (name, found) in names.iter().zip(found) {
                let document = found.value.map(|value| serde_json::from_slice(&value)).transpose();
                let document = document.map_err(|error| Status::internal(error.to_string()))?;
                let position = document.is_some().then_some(found.position);
                self.seen.insert(place(name), Seen { position, document });
            }
        }
        Ok(true)
    }

    /// What the node says when it was not asked.
    fn take(&mut self, told: Told) {
        match told {
            Told::Run(run) => self.runs.push_back(run),
            Told::Cancelled(_) => self.forget(),
            // The answer to a read of a run that was taken back.
            Told::Documents(_) | Told::Attached(_) => {}
        }
    }

    /// What was given so far was taken back, and what is remembered may be wrong.
    fn forget(&mut self) {
        self.runs.clear();
        self.seen.clear();
        self.cancelled += 1;
    }

    /// What the worker writes lies over what it has read.
    fn remember_own(&mut self, position: u64, step: &v1::TransactionStep) -> Result<(), Status> {
        let key = step.key.as_ref().map(v1::Key::encode_to_vec).unwrap_or_default();
        let place = (step.collection.clone(), key);
        let Some(seen) = self.seen.get_mut(&place) else {
            return Ok(());
        };
        let parse = |text: &[u8]| {
            serde_json::from_slice::<Document>(text).map_err(|error| Status::internal(error.to_string()))
        };
        seen.document = match &step.operation {
            None | Some(Operation::Delete(_)) => None,
            Some(Operation::Put(document)) => Some(parse(document)?),
            Some(Operation::Merge(merge)) => {
                let mut document = seen.document.take().unwrap_or_default();
                merge.unset.iter().for_each(|name| drop(document.remove(name)));
                document.extend(parse(&merge.fields)?);
                Some(document)
            }
            Some(Operation::Add(fields)) => {
                let mut document = seen.document.take().unwrap_or_default();
                for (name, increment) in parse(fields)? {
                    let total = sum(document.get(&name), &increment);
                    document.insert(name, total);
                }
                Some(document)
            }
        };
        seen.position = seen.document.is_some().then_some(position);
        Ok(())
    }

    async fn say(&mut self, content: Say) -> Result<(), Status> {
        let gone = |_| Status::unavailable("the call has ended");
        self.say.send(v1::ProcessRequest { content: Some(content) }).await.map_err(gone)
    }

    async fn told(&mut self) -> Result<Option<Told>, Status> {
        Ok(self.told.message().await?.and_then(|response| response.content))
    }
}

fn place((collection, key): &Name) -> Place {
    ((*collection).to_owned(), key.encode_to_vec())
}

/// The sum as the node computes it: integers stay integers as long as they fit.
fn sum(counted: Option<&Value>, increment: &Value) -> Value {
    let counted = counted.unwrap_or(&Value::Null);
    let integers = counted.as_i64().or(counted.is_null().then_some(0)).zip(increment.as_i64());
    if let Some(total) = integers.and_then(|(a, b)| a.checked_add(b)) {
        return total.into();
    }
    (counted.as_f64().unwrap_or_default() + increment.as_f64().unwrap_or_default()).into()
}
