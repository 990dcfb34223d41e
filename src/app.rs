//! The composition root: bind early, open, wire, run, drain. It reads top to bottom in the order things happen.
//!
//! Owns which rooms there are and how they are connected; decides nothing else. Listeners are bound before the log is
//! opened, so that a wrong address costs no recovery; probes answer from then on. Shutdown goes the other way round:
//! not ready, no new calls, calls in progress, the committer's last group, followers at a batch edge, probes.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::sharing::Sharing;
use crate::{
    api,
    append::{Appender, Intake, committer::Committer},
    clock::{Clock, SystemClock},
    config::Config,
    disk::{self, Disk, real::RealDisk},
    events::{Events, EventsError},
    follower::Head,
    http,
    index::{Index, IndexConfig, IndexError},
    lifecycle::{Lifecycle, Phase},
    limits::{DEFINITION_BYTES_MAX, MESH_DRAIN_MAX, SEGMENT_BYTES, SHUTDOWN_DRAIN_MAX},
    log::{self, LogConfig, LogError},
    mesh::{bus::Bus, node::driver::Driver},
    meta::{Meta, MetaError},
    metrics::Metrics,
    projection::{
        definition::Definition,
        registry::{Registry, RegistryConfig, RegistryError, RegistryLog},
        watch_directory::WatchDirectory,
    },
};

mod gauges;
mod mesh_api;
mod mesh_gauges;
mod mesh_keys;
pub(crate) mod ownership;
mod scrub;
mod sharing;
mod tokens;

/// How often a node that is not ready yet looks whether it is.
const READINESS_LOOK: Duration = Duration::from_millis(10);

/// Why a node does not run, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A listener could not be bound.
    #[error("{setting} cannot listen on {addr}: {error}; choose another address or stop what listens there")]
    Bind {
        /// The setting.
        setting: &'static str,
        /// Its address.
        addr: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
    /// The data directory cannot be used.
    #[error("data directory {dir}: {error}")]
    DataDir {
        /// The directory.
        dir: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The token file cannot be used.
    #[error("{0}")]
    Tokens(String),
    /// The mesh cannot start.
    #[error("{0}")]
    Mesh(String),
    /// The node's key or the file of trusted keys cannot be used.
    #[error("{0}")]
    Keys(String),
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The index cannot be opened.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The committer cannot start.
    #[error(transparent)]
    Committer(#[from] EventsError),
    /// What the node knows beside its log cannot be opened.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The projections cannot be opened.
    #[error(transparent)]
    Projections(#[from] RegistryError),
    /// A definition that the command line names cannot be used.
    #[error("{0}")]
    Definition(String),
    /// The projection definitions cannot be watched.
    #[error("projection definitions cannot be watched: {0}")]
    Watch(io::Error),
    /// A thread or task could not be started or did not end as it should.
    #[error("{0}")]
    Thread(String),
    /// The node could not go on.
    #[error("the node had to stop: {0}; start it again, it recovers at start")]
    Failed(String),
}

/// A running node.
#[derive(Debug)]
pub struct Running {
    /// Where the gRPC API listens.
    pub grpc_addr: SocketAddr,
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
}

/// Starts a node on the bus that is configured; it is ready once its projections are where they were.
pub async fn start(config: Config) -> Result<Running, AppError> {
    start_on(config, None).await
}

/// The same on a bus that is handed in.
pub async fn start_on(config: Config, bus: Option<Arc<dyn Bus>>) -> Result<Running, AppError> {
    let lifecycle = Lifecycle::new();
    let metrics = Arc::new(Metrics::new());
    let grpc = bind("grpc.listen", config.grpc.listen).await?;
    let http = bind("http.listen", config.http.listen).await?;
    let (grpc_addr, http_addr) = (local_addr(&grpc)?, local_addr(&http)?);

    let opened = {
        let (config, metrics) = (config.clone(), Arc::clone(&metrics));
        let opened = tokio::task::spawn_blocking(move || open(&config, metrics)).await;
        opened.map_err(|error| AppError::Thread(format!("opening the node did not end: {error}")))??
    };
    let Opened { disk, clock, committer, appender, intake, events, projections, definitions } = opened;
    let (head, index) = (events.head().clone(), Arc::clone(events.index()));
    let committer = spawn_committer(committer, intake, lifecycle.clone())?;
    lifecycle.set(Phase::NotReady("projections are catching up".into()));

    let sharing = sharing::Node {
        config: &config,
        disk: &disk,
        clock: &clock,
        events: &events,
        appender: &appender,
        lifecycle: &lifecycle,
        bus,
    };
    let Sharing { ownership, mesh, driver } = sharing::start(sharing)?;
    let tokens =
        tokens::watch(disk, config.grpc.token_file.as_deref(), &lifecycle).map_err(AppError::Tokens)?;
    let refresh = gauges::refresher(
        Arc::clone(&metrics),
        events.clone(),
        appender.clone(),
        Arc::clone(&projections),
        driver.as_ref().map(|driver| driver.handle().clone()),
    );
    if let Some(interval) = config.log.scrub {
        let reader = events.log().clone();
        scrub::start(interval, reader, appender.clone(), lifecycle.clone(), Arc::clone(&metrics));
    }
    let warnings = {
        let projections = Arc::clone(&projections);
        Arc::new(move || projections.warnings())
    };
    let pages = http::Pages {
        lifecycle: lifecycle.clone(),
        metrics: Arc::clone(&metrics),
        projection_warnings: warnings,
        refresh,
    };
    let context = api::Context {
        node: config.node.as_str().into(),
        appender: appender.clone(),
        ownership,
        mesh,
        events,
        projections: Arc::clone(&projections),
        clock,
        lifecycle: lifecycle.clone(),
        metrics,
        tokens,
        reader_stall: config.limits.reader_stall,
    };
    api::serve(grpc, context);
    serve_http(http, pages);
    lifecycle.tasks().spawn(become_ready(lifecycle.clone(), Arc::clone(&projections)));
    lifecycle.tasks().spawn(carry_out(lifecycle.stop().clone(), Arc::clone(&projections)));
    tracing::info!(node = %config.node, grpc = %grpc_addr, http = %http_addr, head = %head.get(), "serving");
    Ok(Running {
        grpc_addr,
        http_addr,
        lifecycle,
        appender,
        head,
        committer,
        index,
        projections,
        definitions,
        mesh: driver,
    })
}

impl Running {
    /// Resolves, with the reason, when the node cannot go on and must be stopped.
    pub async fn failed(&self) -> String {
        self.lifecycle.failed().await
    }

    /// Stops the node; afterwards everything it acknowledged is durable and nothing of it runs.
    pub async fn stop(self) -> Result<(), AppError> {
        let Self { lifecycle, appender, head, committer, index, projections, definitions, mesh, .. } = self;
        let failure = lifecycle.failure();
        tracing::info!("stopping");
        lifecycle.set(Phase::Stopping);
        lifecycle.stop().cancel();
        lifecycle.tasks().close();
        if tokio::time::timeout(SHUTDOWN_DRAIN_MAX, lifecycle.tasks().wait()).await.is_err() {
            tracing::warn!(waited = ?SHUTDOWN_DRAIN_MAX, "calls in progress did not end in time");
        }
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
        match drained.await {
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
}

/// Opens log, index and projections; recovery happens here.
fn open(config: &Config, metrics: Arc<Metrics>) -> Result<Opened, AppError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    check_named_definitions(&*disk, &config.projections.paths)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let dir = &config.data_dir;
    disk.create_dir_all(dir).map_err(|error| AppError::DataDir { dir: dir.clone(), error })?;
    let log_config = LogConfig {
        dir: dir.join("log"),
        node: config.node.clone(),
        segment_bytes: SEGMENT_BYTES,
        low_water_bytes: config.log.low_water_bytes,
    };
    let log = log::open(Arc::clone(&disk), &*clock, log_config)?;
    tracing::info!(recovery = ?log.recovery, "the log is open");
    let index_config = IndexConfig::with_memory(config.limits.memory_bytes / 4);
    let index = Index::open_configured(Arc::clone(&disk), &dir.join("index"), &log.reader, index_config)?;
    let index = Arc::new(index);
    let head = Head::new(log.reader.head());
    let committer = Committer::new(
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
    let events = Events::new(log.reader, index, head);
    let decided =
        RegistryLog { events: events.clone(), appender: appender.clone(), clock: Arc::clone(&clock) };
    let projections = Arc::new(Registry::open(Arc::clone(&disk), projections_config, meta, decided)?);
    let sources = config.projections.dir.iter().chain(&config.projections.paths).cloned().collect();
    let definitions = WatchDirectory::start(Arc::clone(&disk), sources, Arc::clone(&projections))
        .map_err(AppError::Watch)?;
    let committer = committer.showing(events.recent().clone());
    Ok(Opened { disk, clock, committer, appender, intake, events, projections, definitions })
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

async fn bind(setting: &'static str, addr: SocketAddr) -> Result<TcpListener, AppError> {
    TcpListener::bind(addr).await.map_err(|error| AppError::Bind { setting, addr, error })
}

fn local_addr(listener: &TcpListener) -> Result<SocketAddr, AppError> {
    listener.local_addr().map_err(|error| AppError::Thread(format!("a listener has no address: {error}")))
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

fn serve_http(listener: TcpListener, pages: http::Pages) {
    let lifecycle = pages.lifecycle.clone();
    lifecycle.clone().tasks().spawn(async move {
        if let Err(error) = http::serve(listener, pages).await {
            lifecycle.fail(format!("the listener of probes and metrics failed: {error}"));
        }
    });
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
