//! `outrigger bench read`: readers that read one thing after the other.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use bytes::Bytes;
use clap::Args;
use prost::Message as _;
use tonic::{Request, Status, client::Grpc, codegen::http::uri::PathAndQuery};

use super::{
    HEAD, Load,
    answer::{Wanted, events},
    random::Random,
    report::Report,
    run::{Course, Tally, Worker, run},
    wire::Raw,
    workload::{Names, TAG_EVENTS},
};
use crate::{
    api::proto::v1::{EventFilter, ReadRequest},
    cli::{Session, client::Connection, error::CliError, error::reason},
    limits::MESSAGE_BYTES_MAX,
};

const PATH: &str = "/outrigger.v1.EventLog/Read";
/// Events of a read of a stream or a type, if nothing else is said.
const LIMIT_DEFAULT: u64 = 100;

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum What {
    /// The whole log, again and again
    #[default]
    All,
    /// The 100 events of one tag, of a random tag each time
    Tag,
    /// The first events of a stream, of a random one each time
    Stream,
    /// The first events of a type, of a random one each time
    Type,
}

/// What `bench read` takes.
#[derive(Debug, Args)]
pub struct BenchReadArgs {
    /// What is read
    #[arg(long, value_enum, default_value_t)]
    pub filter: What,
    /// Readers; each has one read at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub readers: u32,
    /// Events of a read at the most [default: all of the log and of a tag, 100 of a stream or a type]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// How long, and on what
    #[command(flatten)]
    pub load: Load,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
The log must hold what `outrigger bench append` wrote; tags need at least 10,000 events of the last run. The order of all \
events is checked, and that they are what was asked for; of a tag there must be exactly 100.

Examples:
  outrigger bench append --batch 1000 --events 1000000
  outrigger bench read
  outrigger bench read --filter tag --readers 8 --output json";

/// Runs `bench read`.
pub async fn bench(session: &Session, args: &BenchReadArgs) -> Result<(), CliError> {
    let names = names(session).await?;
    let seed = args.load.seed();
    let plan = Arc::new(Plan { what: args.filter, limit: args.limit, names });
    if args.filter == What::Tag && plan.names.tag(&mut Random::new(seed, 0)).is_none() {
        return Err(CliError::failed(
            "no tag of the last run has all of its events; append 20,000 events with `outrigger bench append` first",
        ));
    }
    let crew = args.load.crew(session, args.readers as usize);
    let filter = match args.filter {
        What::All => "all",
        What::Tag => "tag",
        What::Stream => "stream",
        What::Type => "type",
    };
    let settings = BTreeMap::from([
        ("filter", filter.into()),
        ("readers", args.readers.into()),
        ("limit", args.limit.into()),
        ("threads", crew.threads.into()),
        ("connections", crew.connections.into()),
    ]);
    let work = move |worker: Worker| read(worker, Arc::clone(&plan), seed);
    let outcome = run(crew, work).await?;
    let mut report = Report::new("read", settings, outcome);
    report.head = Some(session.node.event_log().await?.get_head(HEAD).await?.into_inner().head);
    Report::print(&[report], session.output)
}

/// What the log holds, by its newest event.
async fn names(session: &Session) -> Result<Names, CliError> {
    let mut client = session.node.event_log().await?;
    let request = ReadRequest { limit: Some(1), backwards: true, ..ReadRequest::default() };
    let mut pages = client.read(request).await?.into_inner();
    let newest = pages.message().await?.and_then(|page| page.events.into_iter().next());
    Names::of_log(&newest.map(|event| event.tags).unwrap_or_default()).map_err(CliError::Failed)
}

/// What readers read.
#[derive(Debug)]
struct Plan {
    what: What,
    limit: Option<u64>,
    names: Names,
}

impl Plan {
    /// The next read, and what its events must be.
    fn next(&self, random: &mut Random) -> (ReadRequest, Wanted) {
        let mut filter = EventFilter { include_system: true, ..EventFilter::default() };
        let wanted = match self.what {
            What::All => Wanted::Next,
            What::Tag => Wanted::Tag(self.names.tag(random).unwrap_or_default()),
            What::Stream => Wanted::Stream(self.names.stream(random)),
            What::Type => Wanted::Type(Names::event_type(random)),
        };
        match &wanted {
            Wanted::Next => {}
            Wanted::Tag(tag) => filter.tags = vec![tag.clone()],
            Wanted::Stream(stream) => filter.stream = Some(stream.clone()),
            Wanted::Type(event_type) => filter.types = vec![event_type.clone()],
        }
        let limit = match self.what {
            What::All | What::Tag => self.limit,
            What::Stream | What::Type => self.limit.or(Some(LIMIT_DEFAULT)),
        };
        (ReadRequest { limit, filter: Some(filter), ..ReadRequest::default() }, wanted)
    }

    /// What is wrong with a read that gave so many events.
    fn check(&self, count: u64) -> Result<(), String> {
        let complete = self.what != What::Tag || count == self.limit.unwrap_or(TAG_EVENTS).min(TAG_EVENTS);
        if complete { Ok(()) } else { Err("BENCH_INCOMPLETE_TAG".into()) }
    }
}

/// One reader.
async fn read(worker: Worker, plan: Arc<Plan>, seed: u64) -> Tally {
    let Worker { number, connection, course } = worker;
    let mut grpc = Grpc::new(connection).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let (mut tally, mut random) = (Tally::default(), Random::new(seed, number as u64));
    while !course.stopped() {
        let (request, wanted) = plan.next(&mut random);
        let started = Instant::now();
        let read = pages(&mut grpc, request.encode_to_vec().into(), &wanted, &course, &mut tally).await;
        match read.and_then(|count| count.map_or(Ok(false), |count| plan.check(count).map(|()| true))) {
            Ok(true) => tally.answered(&course, started, 0),
            Ok(false) => break,
            Err(reason) => {
                if !tally.failed(&reason) {
                    break;
                }
            }
        }
    }
    tally
}

/// Reads all pages of one read and gives how many events came; `None` if the run ended under it.
async fn pages(
    grpc: &mut Grpc<Connection>,
    request: Bytes,
    wanted: &Wanted,
    course: &Course,
    tally: &mut Tally,
) -> Result<Option<u64>, String> {
    let failed = |status: Status| reason(&status);
    grpc.ready().await.map_err(|_| "UNAVAILABLE".to_owned())?;
    let codec = Raw::new(request.len());
    let path = PathAndQuery::from_static(PATH);
    let mut pages =
        grpc.server_streaming(Request::new(request), path, codec).await.map_err(failed)?.into_inner();
    let (mut last, mut count) = (0, 0);
    while let Some(page) = pages.message().await.map_err(failed)? {
        let came = events(&page, wanted, &mut last, |_| {})?;
        tally.count_events(course, came);
        count += came;
        if course.stopped() {
            return Ok(None);
        }
    }
    Ok(Some(count))
}
