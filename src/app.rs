//! The composition root: bind early, open, wire, run, drain. It reads top to bottom in the order things happen.
//!
//! Owns which rooms there are and how they are connected; decides nothing else. Listeners are bound before the log is
//! opened, so that a wrong address costs no recovery; probes answer from then on. Shutdown goes the other way round:
//! not ready, no new calls, calls in progress, the committer's last group, followers at a batch edge, what a collector has not got yet.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, OnceLock},
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::{
    listen::{Bound, bind_tcp, local_addr},
    sharing::Sharing,
};
use crate::{
    api,
    append::{Appender, Intake, committer::Committer},
    clock::{Clock, SystemClock},
    config::{Config, Listen},
    disk::{self, Disk, real::RealDisk},
    events::Events,
    follower::Head,
    http,
    index::{Index, IndexConfig},
    lifecycle::{Lifecycle, Phase},
    limits::{DEFINITION_BYTES_MAX, MESH_DRAIN_MAX, SEGMENT_BYTES, SHUTDOWN_DRAIN_MAX},
    log::{self, LogConfig},
    mesh::{bus::Bus, node::driver::Driver, restored},
    meta::Meta,
    metrics::Metrics,
    ownership::InForce,
    projection::{
        definition::Definition,
        registry::{Registry, RegistryConfig, RegistryLog},
        watch_directory::WatchDirectory,
    },
    telemetry::{
        control::LogControl,
        otlp::{self, Exporter},
    },
    trace::Tracer,
};

mod access;
mod diagnostics;
mod error;
mod gauges;
mod listen;
mod mesh_api;
mod mesh_gauges;
mod mesh_keys;
pub(crate) mod ownership;
mod restoring;
mod scrub;
mod sharing;
mod tls;
mod tokens;

pub use self::{diagnostics::Setting, error::AppError};

/// How often a node that is not ready yet looks whether it is.
const READINESS_LOOK: Duration = Duration::from_millis(10);

/// A running node.
#[derive(Debug)]
pub struct Running {
    /// Where the gRPC API listens.
    pub grpc_addr: Listen,
    /// Where probes and metrics are.
    pub http_addr: SocketAddr,
    lifecycle: Lifecycle,
    appender: Appender,
    head: Head,
    committer: JoinHandle<()>,
    index: Arc<Index>,
    projections: Arc<Registry>,
    definitions: WatchDirectory,
    mesh: Option<Driver>,
    exporter: Exporter,
}

/// Starts a node on the bus that is configured; it is ready once its projections are where they were.
pub async fn start(config: Config) -> Result<Running, AppError> {
    start_on(config, None).await
}

/// What a node is given from outside, beside its settings.
#[derive(Debug, Default)]
pub struct Around {
    /// A bus instead of the configured one.
    pub bus: Option<Arc<dyn Bus>>,
    /// The log of the process, where it is the node's to change.
    pub logs: Option<LogControl>,
    /// Every setting, as it is told to whoever looks for the reason of trouble.
    pub settings: Vec<Setting>,
}

/// The same on a bus that is handed in.
pub async fn start_on(config: Config, bus: Option<Arc<dyn Bus>>) -> Result<Running, AppError> {
    start_around(config, Around { bus, ..Around::default() }).await
}

/// The same with all that it can be given.
pub async fn start_around(config: Config, around: Around) -> Result<Running, AppError> {
    let lifecycle = Lifecycle::new();
    let metrics = Arc::new(Metrics::new());
    let started = start_with(config, around, &lifecycle, metrics).await;
    if started.is_err() {
        // What answers probes by now ends with the attempt.
        lifecycle.set(Phase::Stopping);
        lifecycle.stop().cancel();
    }
    started
}

async fn start_with(
    config: Config,
    around: Around,
    lifecycle: &Lifecycle,
    metrics: Arc<Metrics>,
) -> Result<Running, AppError> {
    let Around { bus, logs, settings } = around;
    let grpc = Bound::bind("grpc.listen", &config.grpc.listen).await?;
    let http = bind_tcp("http.listen", config.http.listen).await?;
    let (grpc_addr, http_addr) = (grpc.addr()?, local_addr(&http)?);
    let access = access::read(&config, &metrics, lifecycle)?;
    let details = serve_http(http, lifecycle, &metrics);
    tracing::info!(node = %config.node, grpc = %grpc_addr, http = %http_addr, "probes answer; the log is opened");

    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let otlp = otlp::prepare(&config.telemetry.otlp, &clock, &metrics.telemetry);
    let opened = {
        let (config, metrics, lifecycle) = (config.clone(), Arc::clone(&metrics), lifecycle.clone());
        let tracer = otlp.tracer.clone();
        let opened =
            tokio::task::spawn_blocking(move || open(&config, clock, metrics, tracer, &lifecycle)).await;
        opened.map_err(|error| AppError::Thread(format!("opening the node did not end: {error}")))??
    };
    let sharing = sharing::start(&config, &opened, lifecycle, bus)?;
    let gather = gauges::gather(gauges::Owners::of(&config, lifecycle, &metrics, &opened, &sharing));
    let Sharing { ownership, mesh, driver, .. } = sharing;
    let Opened { clock, committer, appender, intake, events, projections, definitions, .. } = opened;
    let (head, index) = (events.head().clone(), Arc::clone(events.index()));
    let committer = spawn_committer(committer, intake, lifecycle.clone())?;
    lifecycle.set(Phase::NotReady("projections are catching up".into()));
    if let Some(interval) = config.log.scrub {
        let reader = events.log().clone();
        scrub::start(interval, reader, appender.clone(), lifecycle.clone(), Arc::clone(&metrics));
    }
    let set = details.set(details_of(Arc::clone(&gather), &projections, &metrics)?);
    set.expect("details are set once");
    let teller = otlp::Teller { node: config.node.clone(), log_id: events.log().log_id().to_string() };
    let exporter = otlp.start(&teller, Arc::clone(&gather));
    let diagnostics = diagnostics::handle(logs, settings, gather, lifecycle.clone());
    let context = api::Context {
        node: config.node.as_str().into(),
        appender: appender.clone(),
        ownership,
        mesh,
        events,
        projections: Arc::clone(&projections),
        diagnostics,
        clock,
        lifecycle: lifecycle.clone(),
        metrics,
        tokens: access.tokens,
        reader_stall: config.limits.reader_stall,
    };
    api::serve(grpc.listener(access.tls), context);
    lifecycle.tasks().spawn(become_ready(lifecycle.clone(), Arc::clone(&projections)));
    lifecycle.tasks().spawn(carry_out(lifecycle.stop().clone(), Arc::clone(&projections)));
    tracing::info!(node = %config.node, grpc = %grpc_addr, http = %http_addr, head = %head.get(), "serving");
    Ok(Running {
        grpc_addr,
        http_addr,
        lifecycle: lifecycle.clone(),
        appender,
        head,
        committer,
        index,
        projections,
        definitions,
        mesh: driver,
        exporter,
    })
}

/// What the pages tell of an open node.
fn details_of(
    gather: http::Gather,
    projections: &Arc<Registry>,
    metrics: &Metrics,
) -> Result<http::Details, AppError> {
    if let Some((unix_seconds, _)) = projections.last_backup()? {
        metrics.last_backup.set(unix_seconds as i64);
    }
    let projections = Arc::clone(projections);
    Ok(http::Details { projection_warnings: Arc::new(move || projections.warnings()), gather })
}

impl Running {
    /// Resolves, with the reason, when the node cannot go on and must be stopped.
    pub async fn failed(&self) -> String {
        self.lifecycle.failed().await
    }

    /// Stops the node; afterwards everything it acknowledged is durable and nothing of it runs.
    pub async fn stop(self) -> Result<(), AppError> {
        let Self {
            lifecycle,
            appender,
            head,
            committer,
            index,
            projections,
            definitions,
            mesh,
            grpc_addr,
            exporter,
            ..
        } = self;
        let failure = lifecycle.failure();
        tracing::info!("stopping");
        lifecycle.set(Phase::Stopping);
        lifecycle.stop().cancel();
        lifecycle.tasks().close();
        if tokio::time::timeout(SHUTDOWN_DRAIN_MAX, lifecycle.tasks().wait()).await.is_err() {
            tracing::warn!(waited = ?SHUTDOWN_DRAIN_MAX, "calls in progress did not end in time");
        }
        listen::remove_socket(&grpc_addr);
        let published = tokio::task::spawn_blocking(move || mesh.map(|mesh| mesh.stop(MESH_DRAIN_MAX)));
        if published.await.is_err() {
            tracing::error!("the mesh did not end as it should");
        }
        appender.close();
        let drained = tokio::task::spawn_blocking(move || {
            drop(definitions);
            let joined = committer.join();
            head.close();
            projections.stop();
            if let Err(error) = index.stop() {
                tracing::warn!(%error, "the index could not be written; the next start reads its newest events from the log");
            }
            joined
        });
        let drained = drained.await;
        exporter.flush().await;
        match drained {
            Ok(Ok(())) => {
                tracing::info!("stopped");
                failure.map_or(Ok(()), |reason| Err(AppError::Failed(reason)))
            }
            _ => Err(AppError::Thread("the committer did not end as it should".into())),
        }
    }
}

/// Everything that is opened before the first call is served.
struct Opened {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    committer: Committer,
    appender: Appender,
    intake: Intake,
    events: Events,
    projections: Arc<Registry>,
    definitions: WatchDirectory,
    /// Empty until `sharing` knows what the node owns.
    ownership: InForce,
}

/// Opens log, index and projections; recovery happens here.
fn open(
    config: &Config,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    tracer: Tracer,
    lifecycle: &Lifecycle,
) -> Result<Opened, AppError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    check_named_definitions(&*disk, &config.projections.paths)?;
    let dir = &config.data_dir;
    disk.create_dir_all(dir).map_err(|error| AppError::DataDir { dir: dir.clone(), error })?;
    let log_config = LogConfig {
        dir: dir.join("log"),
        node: config.node.clone(),
        segment_bytes: SEGMENT_BYTES,
        low_water_bytes: config.log.low_water_bytes,
    };
    restoring::refuse_unfinished(&*disk, dir)?;
    let log_dir = log_config.dir.clone();
    let log = log::open_restored(Arc::clone(&disk), &*clock, log_config, config.restore_epoch)?;
    tracing::info!(recovery = ?log.recovery, "the log is open");
    lifecycle.set(Phase::Starting(format!(
        "the index is opened: events up to {} are looked through",
        log.reader.head()
    )));
    let index_config = IndexConfig::with_memory(config.limits.memory_bytes / 4);
    let index = Index::open_configured(Arc::clone(&disk), &dir.join("index"), &log.reader, index_config)?;
    let index = Arc::new(index);
    let head = Head::new(log.reader.head());
    let mut committer = Committer::new(
        log.writer,
        log.reader.clone(),
        Arc::clone(&index),
        head.clone(),
        Arc::clone(&clock),
        metrics,
    )?;
    let meta = Meta::open(&disk, &dir.join("meta.redb"))?;
    let projections_config = RegistryConfig {
        dir: dir.join("projections"),
        dev: config.dev,
        memory_bytes: config.limits.memory_bytes / 2,
        builds: config.limits.builds,
        low_water_bytes: config.log.low_water_bytes,
    };
    let (appender, intake) = Appender::new((config.limits.memory_bytes / 8) as usize);
    let events = Events::new(log.reader, index, head).traced(tracer.clone());
    if log.is_restored {
        restored::accept(&disk, &log_dir, &mut committer, (&appender, &intake), &events, &*clock)?;
    }
    lifecycle.set(Phase::Starting("the projections are opened".into()));
    let ownership = InForce::default();
    let decided = RegistryLog {
        events: events.clone(),
        appender: appender.clone(),
        clock: Arc::clone(&clock),
        ownership: ownership.clone(),
    };
    let projections = Arc::new(Registry::open(Arc::clone(&disk), projections_config, meta, decided)?);
    let sources = config.projections.dir.iter().chain(&config.projections.paths).cloned().collect();
    let definitions = WatchDirectory::start(Arc::clone(&disk), sources, Arc::clone(&projections))
        .map_err(AppError::Watch)?;
    let committer = committer.showing(events.recent().clone()).traced(tracer);
    Ok(Opened { disk, clock, committer, appender, intake, events, projections, definitions, ownership })
}

/// A definition file that is named one by one must hold, or the node does not start. One in a directory is a problem of
/// its projection only: the directory is desired state, which may be mended while the node runs.
fn check_named_definitions(disk: &dyn Disk, paths: &[PathBuf]) -> Result<(), AppError> {
    for path in paths {
        let name = path.display().to_string();
        let text = match disk::read_file(disk, path, DEFINITION_BYTES_MAX) {
            Ok(bytes) => {
                String::from_utf8(bytes).map_err(|error| AppError::Definition(format!("{name}: {error}")))?
            }
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => continue,
            Err(error) => return Err(AppError::Definition(format!("{name}: {error}"))),
        };
        Definition::parse(&text, &name).map_err(|error| AppError::Definition(error.to_string()))?;
    }
    Ok(())
}

/// The committer's thread. When it ends with an error, or a broken invariant ends it, the node cannot go on.
fn spawn_committer(
    committer: Committer,
    intake: Intake,
    lifecycle: Lifecycle,
) -> Result<JoinHandle<()>, AppError> {
    let run = move || {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| committer.run(&intake)));
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "the committer stopped");
                lifecycle.fail(error.to_string());
            }
            Err(_) => lifecycle.fail("an invariant of the committer broke; the log above says which".into()),
        }
    };
    let spawned = thread::Builder::new().name("committer".into()).spawn(run);
    spawned.map_err(|error| AppError::Thread(format!("the committer's thread could not be started: {error}")))
}

/// Answers probes from now on; gives the place for what there is to tell once the node is open.
fn serve_http(
    listener: TcpListener,
    lifecycle: &Lifecycle,
    metrics: &Arc<Metrics>,
) -> Arc<OnceLock<http::Details>> {
    let (lifecycle, details) = (lifecycle.clone(), Arc::new(OnceLock::new()));
    let pages = http::Pages {
        lifecycle: lifecycle.clone(),
        metrics: Arc::clone(metrics),
        details: Arc::clone(&details),
    };
    lifecycle.clone().tasks().spawn(async move {
        if let Err(error) = http::serve(listener, pages).await {
            lifecycle.fail(format!("the listener of probes and metrics failed: {error}"));
        }
    });
    details
}

/// Lets versions become active as the log decides, until the node stops.
async fn carry_out(stop: CancellationToken, projections: Arc<Registry>) {
    tokio::select! {
        never = projections.carry_out() => match never {},
        () = stop.cancelled() => {}
    }
}

/// Ready once every required projection is at the head that was recovered at start. Until then the reason tells what is
/// waited for.
async fn become_ready(lifecycle: Lifecycle, projections: Arc<Registry>) {
    let mut look = tokio::time::interval(READINESS_LOOK);
    loop {
        tokio::select! {
            _ = look.tick() => {}
            () = lifecycle.stop().cancelled() => return,
        }
        let readiness = projections.required_ready();
        if readiness.is_ready() {
            tracing::info!("ready");
            return lifecycle.set(Phase::Ready);
        }
        lifecycle.set(Phase::NotReady(readiness.waiting_for.join("; ")));
    }
}
