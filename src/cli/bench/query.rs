//! `outrigger bench query`: callers that get documents, or list them by index, one call after the other.
//!
//! Works on any collection that a node serves. In the same run a bare gRPC server is called with messages of the same
//! sizes, by as many callers: what a query costs beside that is ours.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use bytes::Bytes;
use clap::Args;
use prost::Message as _;
use tonic::client::Grpc;

use super::{
    Load,
    append::call,
    baseline::{EchoProcess, call_again},
    echo,
    random::Random,
    report::Report,
    run::{Course, Tally, Worker, run},
    wire::Fields,
};
use crate::{
    api::proto::v1::{
        Document, GetRequest, GetResponse, IndexRange, ListRequest, ListStreamRequest,
        list_request::Selection, query_client::QueryClient,
    },
    cli::{
        Session,
        error::{CliError, reason},
    },
    limits::{MESSAGE_BYTES_MAX, PAGE_SIZE_MAX},
};

const GET_PATH: &str = "/outrigger.v1.Query/Get";
const LIST_PATH: &str = "/outrigger.v1.Query/List";

/// What `bench query` takes.
#[derive(Debug, Args)]
pub struct BenchQueryArgs {
    /// The projection
    pub projection: String,
    /// One of its collections
    pub collection: String,
    /// List through this index instead of getting documents by key
    #[arg(long, value_name = "NAME")]
    pub index: Option<String>,
    /// Documents of a list
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=PAGE_SIZE_MAX as i64))]
    pub page_size: u32,
    /// Callers; each has one call at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub callers: u32,
    /// Documents that are got at random, the first ones of the collection
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub documents: u64,
    /// How long, and on what
    #[command(flatten)]
    pub load: Load,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
Gets random documents by key, or lists all of them through an index, page after page. Every answer is checked. A bare gRPC \
server is called before that, by as many callers, with messages as large as the answers.

Examples:
  outrigger bench query departures flights
  outrigger bench query departures flights --callers 64 --output json
  outrigger bench query departures flights --index by_departure --callers 4";

/// Runs `bench query`.
pub async fn bench(session: &Session, args: &BenchQueryArgs) -> Result<(), CliError> {
    let documents = documents(session, args).await?;
    let Some(first) = documents.first() else {
        return Err(CliError::failed(format!("collection {} has no document to ask for", args.collection)));
    };
    let crew = args.load.crew(session, args.callers as usize);
    let mut settings = BTreeMap::from([
        ("callers", args.callers.into()),
        ("threads", crew.threads.into()),
        ("connections", crew.connections.into()),
    ]);
    let baseline = echo_as_large(args, session, first).await?;
    settings.insert("projection", args.projection.as_str().into());
    settings.insert("collection", args.collection.as_str().into());
    let seed = args.load.seed();
    let report = match &args.index {
        None => {
            settings.insert("documents", documents.len().into());
            let questions = Arc::new(questions(args, documents));
            let work = move |worker: Worker| get(worker, Arc::clone(&questions), seed);
            Report::new("query_get", settings, run(crew, work).await?)
        }
        Some(index) => {
            settings.insert("index", index.as_str().into());
            settings.insert("page_size", args.page_size.into());
            let request = Arc::new(list_request(args, index));
            let work = move |worker: Worker| list(worker, Arc::clone(&request));
            Report::new("query_list", settings, run(crew, work).await?)
        }
    };
    Report::print(&[baseline, report], session.output)
}

/// The documents that are asked for.
async fn documents(session: &Session, args: &BenchQueryArgs) -> Result<Vec<Document>, CliError> {
    let connection = session.node.connect().await?;
    let mut client = QueryClient::new(connection).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let list = ListRequest {
        projection: args.projection.clone(),
        collection: args.collection.clone(),
        ..ListRequest::default()
    };
    let request = ListStreamRequest { request: Some(list), limit: Some(args.documents) };
    let mut pages = client.list_stream(request).await?.into_inner();
    let mut documents = Vec::new();
    while let Some(page) = pages.message().await? {
        documents.extend(page.documents);
    }
    Ok(documents)
}

/// The bare server with answers as large as those of the query.
async fn echo_as_large(
    args: &BenchQueryArgs,
    session: &Session,
    document: &Document,
) -> Result<Report, CliError> {
    let each = GetResponse { document: Some(document.clone()), context: None }.encoded_len() + 40;
    let count = if args.index.is_some() { args.page_size as usize } else { 1 };
    let mut message = vec![0; each * count];
    Random::new(1, 0).fill_base64(&mut message);
    let bytes = message.len() as u32;
    echo::set_answer_bytes(&mut message, bytes);
    let echo = EchoProcess::start()?;
    let mut crew = args.load.crew(session, args.callers as usize);
    crew.server = echo.server.clone();
    let settings = BTreeMap::from([("callers", args.callers.into()), ("bytes", bytes.into())]);
    let message = Arc::new(message);
    let work = move |worker: Worker| call_again(worker, Arc::clone(&message), 1);
    Ok(Report::new("baseline_unary", settings, run(crew, work).await?))
}

/// A request, and the bytes of the key that its answer must have.
type Question = (Bytes, Vec<u8>);

fn questions(args: &BenchQueryArgs, documents: Vec<Document>) -> Vec<Question> {
    let question = |document: Document| {
        let key = document.key.unwrap_or_default();
        let encoded = key.encode_to_vec();
        let request = GetRequest {
            projection: args.projection.clone(),
            collection: args.collection.clone(),
            key: Some(key),
            ..GetRequest::default()
        };
        (request.encode_to_vec().into(), encoded)
    };
    documents.into_iter().map(question).collect()
}

/// One caller that gets documents.
async fn get(worker: Worker, questions: Arc<Vec<Question>>, seed: u64) -> Tally {
    let Worker { number, connection, course } = worker;
    let mut grpc = Grpc::new(connection).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let (mut tally, mut random) = (Tally::default(), Random::new(seed, number as u64));
    while !course.stopped() {
        let (request, key) = &questions[random.below(questions.len() as u64) as usize];
        let started = Instant::now();
        let answer = call(&mut grpc, GET_PATH, request.clone()).await;
        let checked = answer.map_err(|status| reason(&status)).and_then(|answer| check_get(&answer, key));
        if !count(&mut tally, &course, started, checked.map(|()| 1)) {
            break;
        }
    }
    tally
}

fn list_request(args: &BenchQueryArgs, index: &str) -> ListRequest {
    let range = IndexRange { index: index.to_owned(), ..IndexRange::default() };
    ListRequest {
        projection: args.projection.clone(),
        collection: args.collection.clone(),
        selection: Some(Selection::Index(range)),
        page_size: Some(args.page_size),
        ..ListRequest::default()
    }
}

/// One caller that lists page after page, and begins anew at the end.
async fn list(worker: Worker, request: Arc<ListRequest>) -> Tally {
    let Worker { connection, course, .. } = worker;
    let mut grpc = Grpc::new(connection).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let (mut tally, mut request) = (Tally::default(), ListRequest::clone(&request));
    while !course.stopped() {
        let message = request.encode_to_vec();
        let started = Instant::now();
        let answer = call(&mut grpc, LIST_PATH, message.into()).await;
        let checked = answer.map_err(|status| reason(&status)).and_then(|answer| check_list(&answer));
        let checked = checked.map(|(documents, next)| {
            request.page_token = next;
            documents
        });
        if !count(&mut tally, &course, started, checked) {
            break;
        }
    }
    tally
}

/// Counts an answer; false when the worker is to give up.
fn count(tally: &mut Tally, course: &Course, started: Instant, checked: Result<u64, String>) -> bool {
    match checked {
        Ok(documents) => {
            tally.answered(course, started, documents);
            true
        }
        Err(reason) => tally.failed(&reason),
    }
}

/// Whether a `GetResponse` has a document with this key.
fn check_get(answer: &[u8], key: &[u8]) -> Result<(), String> {
    let document = Fields::of(answer).find(|(field, _)| *field == 1).map(|(_, value)| value.bytes());
    match document.map(read_document) {
        Some(Some(found)) if found == key => Ok(()),
        Some(Some(_)) => Err("BENCH_OTHER_DOCUMENT".into()),
        _ => Err("BENCH_BROKEN_ANSWER".into()),
    }
}

/// The key of a document that has all of its parts.
fn read_document(document: &[u8]) -> Option<&[u8]> {
    let (mut key, mut value, mut position) = (None, None, 0);
    let mut fields = Fields::of(document);
    for (field, found) in &mut fields {
        match field {
            1 => key = Some(found.bytes()),
            2 => value = Some(found.bytes()),
            3 => position = found.number(),
            _ => {}
        }
    }
    let whole = fields.is_whole() && position > 0 && value.is_some_and(|value| value.starts_with(b"{"));
    key.filter(|_| whole)
}

/// How many documents a `ListResponse` has, and its next page token.
fn check_list(answer: &[u8]) -> Result<(u64, Option<String>), String> {
    let (mut documents, mut next) = (0, None);
    let mut fields = Fields::of(answer);
    for (field, value) in &mut fields {
        match field {
            1 if read_document(value.bytes()).is_some() => documents += 1,
            1 => return Err("BENCH_BROKEN_ANSWER".into()),
            2 => next = String::from_utf8(value.bytes().to_vec()).ok(),
            _ => {}
        }
    }
    if fields.is_whole() && documents > 0 { Ok((documents, next)) } else { Err("BENCH_BROKEN_ANSWER".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::proto::v1::ListResponse, cli::text::parse_key};

    fn document(key: &str) -> Document {
        Document { key: Some(parse_key(key).unwrap()), value: Bytes::from_static(b"{}"), position: 1 }
    }

    #[test]
    fn a_document_must_be_the_one_that_was_asked_for() {
        let answer = |document| GetResponse { document, context: None }.encode_to_vec();
        let key = parse_key("k").unwrap().encode_to_vec();
        assert_eq!(check_get(&answer(Some(document("k"))), &key), Ok(()));
        assert_eq!(check_get(&answer(Some(document("l"))), &key), Err("BENCH_OTHER_DOCUMENT".into()));
        let empty = Document { position: 0, ..document("k") };
        for broken in [None, Some(empty)] {
            assert_eq!(check_get(&answer(broken), &key), Err("BENCH_BROKEN_ANSWER".into()));
        }
    }

    #[test]
    fn a_list_is_counted_and_gives_its_token() {
        let page = ListResponse {
            documents: vec![document("k"), document("l")],
            next_page_token: Some("00".into()),
            ..ListResponse::default()
        };
        assert_eq!(check_list(&page.encode_to_vec()), Ok((2, Some("00".into()))));
        assert!(check_list(&ListResponse::default().encode_to_vec()).is_err());
    }
}
