//! A run: threads of workers against one server, a warm-up, a measured span, and what came out of it.
//!
//! Every thread has a runtime and connections of its own, so that workers of different threads share nothing but a few
//! counters. Only what is answered within the measured span counts, but errors always do. Owns phases and counting;
//! does not know what workers ask.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    runtime,
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval_at, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::histogram::Histogram;
use crate::{
    api::proto::v1::{GetNodeRequest, admin_client::AdminClient},
    cli::{
        client::{Connection, Node},
        error::CliError,
    },
    disk::real::RealDisk,
    process::{self, Usage},
};

/// How long workers may take to end once the span is over.
const END_WAIT_MAX: Duration = Duration::from_secs(30);
/// Errors in a row after which a worker gives up.
const ERRORS_IN_A_ROW_MAX: u32 = 100;

/// Who works how long.
#[derive(Debug, Clone)]
pub struct Crew {
    /// The server.
    pub server: Server,
    /// Threads, at least one.
    pub threads: usize,
    /// Connections, each of one thread.
    pub connections: usize,
    /// Workers, each on one connection.
    pub workers: usize,
    /// How long they work before anything counts.
    pub warmup: Duration,
    /// How long they work then; `None`: until they end by themselves.
    pub span: Option<Duration>,
}

/// Who is measured.
#[derive(Debug, Clone)]
pub struct Server {
    /// Where it is.
    pub node: Node,
    /// Its process, if it is a child of ours; a node is asked.
    pub process: Option<u32>,
}

/// What a worker starts with.
#[derive(Debug)]
pub struct Worker {
    /// Its number, from 0.
    pub number: usize,
    /// Its connection, which it may share.
    pub connection: Connection,
    /// The run.
    pub course: Arc<Course>,
}

/// How far a run has come.
#[derive(Debug, Default)]
pub struct Course {
    /// Whether the measured span has begun.
    measuring: AtomicBool,
    /// Workers begin.
    start: CancellationToken,
    /// Workers end.
    stop: CancellationToken,
    /// Events of the span, by all workers.
    events: AtomicU64,
}

impl Course {
    /// Whether workers are to end.
    pub fn stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Resolves when workers are to end.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    fn counts(&self) -> bool {
        self.measuring.load(Ordering::Relaxed) && !self.stopped()
    }
}

/// What one or more workers have done.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests answered well in the span.
    pub requests: u64,
    /// Their events.
    pub events: u64,
    /// From request to answer, or what the bench measures.
    pub latency: Histogram,
    /// Another latency, where the bench has two.
    pub second: Histogram,
    /// Errors of the whole run by reason.
    pub errors: BTreeMap<String, u64>,
    errors_in_a_row: u32,
}

impl Tally {
    /// So many requests of one event each.
    pub fn of(requests: u64, latency: Histogram) -> Self {
        Self { requests, events: requests, latency, ..Self::default() }
    }

    /// Counts a request that began at `started` and is answered now.
    pub fn answered(&mut self, course: &Course, started: Instant, events: u64) {
        self.errors_in_a_row = 0;
        if course.counts() {
            self.requests += 1;
            self.latency.record(started.elapsed());
            self.count_events(course, events);
        }
    }

    /// Counts events that came without a request's end, if anything counts now.
    pub fn count_events(&mut self, course: &Course, events: u64) {
        if course.counts() {
            self.events += events;
            course.events.fetch_add(events, Ordering::Relaxed);
        }
    }

    /// Records a latency of its own, if anything counts now.
    pub fn seen(&mut self, course: &Course, latency: Duration) {
        if course.counts() {
            self.latency.record(latency);
        }
    }

    /// Counts a request whose events are counted where they arrive, with its own latency, if anything counts now.
    pub fn answered_beside(&mut self, course: &Course, latency: Duration) {
        self.errors_in_a_row = 0;
        if course.counts() {
            self.requests += 1;
            self.second.record(latency);
        }
    }

    /// Counts an error; false when the worker is to give up.
    #[must_use]
    pub fn failed(&mut self, reason: &str) -> bool {
        *self.errors.entry(reason.to_owned()).or_default() += 1;
        self.errors_in_a_row += 1;
        self.errors_in_a_row < ERRORS_IN_A_ROW_MAX
    }

    /// Takes over what another worker has done.
    pub fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.events += other.events;
        self.latency.add(&other.latency);
        self.second.add(&other.second);
        for (reason, count) in other.errors {
            *self.errors.entry(reason).or_default() += count;
        }
    }
}

/// What came out of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What was done.
    pub tally: Tally,
    /// The measured span.
    pub span: Duration,
    /// Events a second, second by second.
    pub rates: Vec<f64>,
    /// What the server used in the span, and its memory at the end; `None` if it does not say.
    pub server: Option<Usage>,
    /// What this process used.
    pub client: Option<Usage>,
}

/// Runs `work` once for each worker.
pub async fn run<F, W>(crew: Crew, work: F) -> Result<Outcome, CliError>
where
    F: Fn(Worker) -> W + Send + Sync + 'static,
    W: Future<Output = Tally> + Send + 'static,
{
    let course = Arc::new(Course::default());
    let _ends_with_us = course.stop.clone().drop_guard();
    let threads = crew.threads.clamp(1, crew.workers.max(1));
    let (ready, mut are_ready) = mpsc::channel(threads);
    let (tell, tallies) = mpsc::channel(threads);
    let work = Arc::new(work);
    for number in 0..threads {
        let share = Share { number, threads, crew: crew.clone(), course: Arc::clone(&course) };
        let (ready, tell, work) = (ready.clone(), tell.clone(), Arc::clone(&work));
        let thread = std::thread::Builder::new().name(format!("load-{number}"));
        let spawned = thread.spawn(move || share.work(&ready, &tell, &*work));
        spawned.map_err(|error| CliError::failed(format!("cannot start a thread: {error}")))?;
    }
    drop(tell);
    let mut meter = Meter::new(crew.server.clone()).await?;
    for _ in 0..threads {
        are_ready
            .recv()
            .await
            .unwrap_or_else(|| Err(CliError::failed("a thread of the load ended early")))?;
    }
    course.start.cancel();
    measure(&crew, &course, &mut meter, tallies).await
}

async fn measure(
    crew: &Crew,
    course: &Course,
    meter: &mut Meter,
    mut tallies: mpsc::Receiver<Tally>,
) -> Result<Outcome, CliError> {
    if crew.span.is_some() {
        sleep(crew.warmup).await;
    }
    let before = meter.read().await;
    course.measuring.store(true, Ordering::Relaxed);
    let begin = Instant::now();
    let mut seconds = interval_at(tokio::time::Instant::now() + SECOND, SECOND);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let over = sleep(crew.span.unwrap_or(Duration::MAX));
    tokio::pin!(over);
    let (mut tally, mut rates, mut sampled) = (Tally::default(), Vec::new(), (begin, 0));
    let mut sample = || {
        let (now, events) = (Instant::now(), course.events.load(Ordering::Relaxed));
        rates.push((events - sampled.1) as f64 / (now - sampled.0).as_secs_f64());
        sampled = (now, events);
    };
    loop {
        tokio::select! {
            biased;
            () = &mut over => break,
            ended = tallies.recv() => match ended {
                Some(ended) => tally.add(ended),
                None => break,
            },
            _ = seconds.tick() => sample(),
        }
    }
    course.stop.cancel();
    let span = begin.elapsed();
    if span.subsec_millis() > 900 || span < SECOND {
        sample();
    }
    let after = meter.read().await;
    let rest = async {
        while let Some(ended) = tallies.recv().await {
            tally.add(ended);
        }
    };
    if timeout(END_WAIT_MAX, rest).await.is_err() {
        return Err(CliError::failed(format!(
            "requests were unanswered {} s after the run; is the node still there?",
            END_WAIT_MAX.as_secs()
        )));
    }
    let [server, client] = [0, 1].map(|at| difference(before[at]?, after[at]?));
    Ok(Outcome { tally, span, rates, server, client })
}

const SECOND: Duration = Duration::from_secs(1);

fn difference(before: Usage, after: Usage) -> Option<Usage> {
    Some(Usage { cpu: after.cpu.checked_sub(before.cpu)?, resident_bytes: after.resident_bytes })
}

/// Reads what server and client use.
#[derive(Debug)]
pub struct Meter {
    server: Server,
    admin: Option<AdminClient<Connection>>,
}

impl Meter {
    /// Of a server that is there.
    pub async fn new(server: Server) -> Result<Self, CliError> {
        let admin = match server.process {
            None => Some(AdminClient::new(server.node.connect().await?)),
            Some(_) => None,
        };
        Ok(Self { server, admin })
    }

    /// The server's and the client's.
    pub async fn read(&mut self) -> [Option<Usage>; 2] {
        let server = match (&mut self.admin, self.server.process) {
            (Some(admin), _) => admin.get_node(GetNodeRequest {}).await.ok().and_then(|node| {
                let node = node.into_inner();
                let cpu = Duration::try_from_secs_f64(node.cpu_seconds?).ok()?;
                Some(Usage { cpu, resident_bytes: node.resident_bytes? })
            }),
            (None, Some(process)) => process::usage(&RealDisk, &process.to_string()).ok(),
            (None, None) => None,
        };
        [server, process::usage(&RealDisk, "self").ok()]
    }
}

/// What one thread does.
struct Share {
    number: usize,
    threads: usize,
    crew: Crew,
    course: Arc<Course>,
}

impl Share {
    fn work<F, W>(self, ready: &mpsc::Sender<Result<(), CliError>>, tell: &mpsc::Sender<Tally>, work: &F)
    where
        F: Fn(Worker) -> W,
        W: Future<Output = Tally> + Send + 'static,
    {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| CliError::failed(format!("cannot start a runtime: {error}")));
        let worked = runtime.map(|runtime| runtime.block_on(self.run_workers(ready, work)));
        let told = match worked {
            Ok(Ok(tally)) => tell.blocking_send(tally).is_ok(),
            Ok(Err(error)) | Err(error) => ready.blocking_send(Err(error)).is_ok(),
        };
        tracing::debug!(told, "a thread of the load ends");
    }

    async fn run_workers<F, W>(
        &self,
        ready: &mpsc::Sender<Result<(), CliError>>,
        work: &F,
    ) -> Result<Tally, CliError>
    where
        F: Fn(Worker) -> W,
        W: Future<Output = Tally> + Send + 'static,
    {
        let own = |count: usize| (self.number..count).step_by(self.threads);
        let mut connections = Vec::new();
        for _ in own(self.crew.connections.max(self.threads)) {
            connections.push(self.crew.server.node.connect().await?);
        }
        if ready.send(Ok(())).await.is_err() {
            return Ok(Tally::default());
        }
        self.course.start.cancelled().await;
        let mut workers = JoinSet::new();
        for (at, number) in own(self.crew.workers).enumerate() {
            let connection = connections[at % connections.len()].clone();
            workers.spawn(work(Worker { number, connection, course: Arc::clone(&self.course) }));
        }
        drop(connections);
        let mut tally = Tally::default();
        while let Some(ended) = workers.join_next().await {
            match ended {
                Ok(ended) => tally.add(ended),
                Err(_) if tally.failed("BENCH_WORKER_PANICKED") => {}
                Err(_) => break,
            }
        }
        Ok(tally)
    }
}
