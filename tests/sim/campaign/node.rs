//! A node without threads: log, committer, index, meta and one projection on the simulated disk, opened in the order in
//! which the product opens them and moved step by step.

use std::{
    path::Path,
    sync::{Arc, LazyLock},
};

use outrigger::{
    append::{Appender, Intake, committer::Committer},
    clock::SimClock,
    disk::{Disk, sim::SimDisk},
    event::Position,
    events::{Events, EventsError},
    follower::{Follower as _, Head, Step, Stop},
    index::{Index, IndexConfig},
    log::{LogConfig, LogReader, RecoveryReport, open_sabotaged},
    meta::Meta,
    metrics::Metrics,
    projection::{
        definition::Definition,
        memory::Budget,
        runner::{Runner, Turns},
        status::Status,
        store::Store,
    },
    sabotage::Sabotage,
};

use super::{
    check::{Checked, Checker, Trouble},
    documents::DEFINITION,
    subscriber::Subscriber,
};

/// Steps of a projection until it must have reached the head.
const CATCH_UP_STEPS_MAX: usize = 50;

/// Read once: every opening of a node would read the same text.
static DEFINITION_READ: LazyLock<Arc<Definition>> =
    LazyLock::new(|| Arc::new(Definition::parse(DEFINITION, "p.yaml").expect("the definition is right")));

/// An open node.
#[derive(Debug)]
pub(crate) struct Node {
    /// Dropped first.
    _closing: Closing,
    pub(crate) committer: Committer,
    pub(crate) appender: Appender,
    pub(crate) intake: Intake,
    pub(crate) reader: LogReader,
    /// Beside the committer's own clone, so that background work runs where the story says.
    pub(crate) index: Arc<Index>,
    pub(crate) events: Events,
    pub(crate) subscriber: Subscriber,
    pub(crate) meta: Meta,
    pub(crate) store: Arc<Store>,
    pub(crate) status: Arc<Status>,
    pub(crate) runner: Runner,
}

/// Tells the disk when the files are being closed: redb writes once more then.
#[derive(Debug)]
struct Closing(SimDisk);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.enter("closing");
    }
}

impl Node {
    /// Opens everything in the data directory.
    pub(crate) fn open(
        disk: &SimDisk,
        clock: &Arc<SimClock>,
        segment_bytes: u64,
        sabotage: Option<Sabotage>,
        recovered: &mut dyn FnMut(&RecoveryReport),
    ) -> Checked<Self> {
        let opens = |error: &dyn std::fmt::Display| Checker::Opens.refused(error);
        let closing = Closing(disk.clone());
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        disk.create_dir_all("/data/projections".as_ref()).map_err(|error| opens(&error))?;
        let config =
            LogConfig { dir: "/data/log".into(), node: "flights".into(), segment_bytes, low_water_bytes: 0 };
        let log = open_sabotaged(Arc::clone(&disk), &**clock, config, sabotage).map_err(|e| opens(&e))?;
        recovered(&log.recovery);
        let config = IndexConfig { run_events: 12, background: false, ..IndexConfig::default() };
        let index = Index::open_configured(Arc::clone(&disk), "/data/index".as_ref(), &log.reader, config);
        let index = Arc::new(index.map_err(|error| Checker::Index.refused(error))?);
        let head = Head::new(log.reader.head());
        let committer = Committer::new(
            log.writer,
            log.reader.clone(),
            Arc::clone(&index),
            head.clone(),
            clock.clone(),
            Arc::new(Metrics::new()),
        );
        let events = Events::new(log.reader.clone(), Arc::clone(&index), head.clone());
        let committer = committer.map_err(|error| opens(&error))?.sabotaged(sabotage);
        let meta = Meta::open(&disk, Path::new("/data/meta.redb"));
        let meta = meta.map_err(|error| Checker::Meta.refused(error))?;
        let definition = Arc::clone(&DEFINITION_READ);
        let share = Budget::new(1 << 23).take();
        let store = Store::new(disk, "/data/projections".as_ref(), definition, share).sabotaged(sabotage);
        let (store, status) = (Arc::new(store), Arc::new(Status::new(Position::ZERO, false)));
        let runner =
            Runner::new(Arc::clone(&store), Arc::clone(&status), &events, Turns::default(), Stop::default());
        let (appender, intake) = Appender::new(usize::MAX);
        Ok(Self {
            _closing: closing,
            committer: committer.showing(events.recent().clone()),
            appender,
            intake,
            subscriber: Subscriber::new(&events),
            events,
            reader: log.reader,
            index,
            meta,
            store,
            status,
            runner,
        })
    }

    /// Commits what was submitted.
    pub(crate) fn commit(&mut self) -> Result<bool, EventsError> {
        self.committer.step(&self.intake)
    }

    /// Lets the projection reach the head.
    pub(crate) fn catch_up(&mut self) -> Checked {
        for _ in 0..CATCH_UP_STEPS_MAX {
            match self.runner.step() {
                Step::CaughtUp(position, _) if position >= self.reader.head() => return Ok(()),
                Step::Over | Step::Retry(_) | Step::Paused(..) | Step::Held(_) => break,
                Step::More | Step::CaughtUp(..) => {}
            }
        }
        let progress = self.status.progress();
        let trouble = progress.failure.or(progress.trouble);
        Err(Trouble::Refused(Checker::Projection, format!("it does not reach the head: {trouble:?}")))
    }
}
