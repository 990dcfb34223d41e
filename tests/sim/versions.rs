//! A crash at every I/O of a promote, a rollback and a retirement, with readers in between and a restart behind: one version
//! is active, always one of those it may be; nothing that was shown is taken back; tokens are honoured; what was
//! acknowledged holds, and a retired version leaves nothing behind.
//!
//! The node is the product's, with the threads of its versions: which operation comes where is not the same in every life,
//! and every place is tried.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use outrigger::{
    append::{Appender, Request, committer::Committer},
    clock::SimClock,
    disk::{Disk, sim::SimDisk},
    event::{Event, EventId, EventType, Position, StreamId, Token},
    events::Events,
    follower::Head,
    index::{Index, IndexConfig},
    log::LogConfig,
    meta::Meta,
    metrics::Metrics,
    projection::{
        definition::Definition,
        query::{ReadOptions, Reading},
        registry::{Promote, Registry, RegistryConfig, RegistryLog},
    },
    sabotage::Sabotage,
};

mod releases;
mod turns;

const DATA: &str = "/data";
/// Lives whose crash came behind their end, in a row, until no later place is tried.
const CALM_LIVES_MAX: u32 = 3;

fn definition(number: u32) -> String {
    format!(
        "projection: p\nversion: {number}\ncollections: {{ docs: {{}} }}\nevents:\n  t:\n    - add: docs\n      key: \
         \"'all'\"\n      value: {{ n: 1, by_{number}: 1 }}\n"
    )
}

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// An open node.
struct Node {
    registry: Arc<Registry>,
    appender: Appender,
    events: Events,
    committer: JoinHandle<()>,
    disk: SimDisk,
}

/// What was acknowledged and shown, over all lives.
#[derive(Debug, Default)]
struct Told {
    appended: u64,
    token: Option<Token>,
    shown: Position,
}

impl Node {
    /// `None` where the disk crashes at it.
    fn open(disk: &SimDisk, seed: u64, sabotage: Option<Sabotage>) -> Option<Self> {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let clock = Arc::new(SimClock::new(seed));
        shared.create_dir_all(Path::new(DATA)).ok()?;
        let config = LogConfig {
            dir: Path::new(DATA).join("log"),
            node: "p".into(),
            segment_bytes: 64 << 20,
            low_water_bytes: 0,
        };
        let log = outrigger::log::open(Arc::clone(&shared), &*clock, config).ok()?;
        let config = IndexConfig { background: false, ..IndexConfig::default() };
        let index =
            Index::open_configured(Arc::clone(&shared), &Path::new(DATA).join("index"), &log.reader, config);
        let (index, head) = (Arc::new(index.ok()?), Head::new(log.reader.head()));
        let metrics = Arc::new(Metrics::new());
        let committer = Committer::new(
            log.writer,
            log.reader.clone(),
            Arc::clone(&index),
            head.clone(),
            Arc::clone(&clock) as _,
            metrics,
        );
        let committer = committer.ok()?;
        let meta = Meta::open(&shared, &Path::new(DATA).join("meta.redb")).ok()?;
        let events = Events::new(log.reader, index, head);
        let (appender, intake) = Appender::new(usize::MAX);
        let config = RegistryConfig {
            dir: Path::new(DATA).join("projections"),
            dev: false,
            memory_bytes: 1 << 26,
            builds: 1,
            low_water_bytes: 0,
        };
        let log = RegistryLog {
            events: events.clone(),
            appender: appender.clone(),
            clock,
            ownership: outrigger::ownership::InForce::default(),
        };
        let registry = Arc::new(Registry::open(shared, config, meta, log).ok()?.sabotaged(sabotage));
        // It ends with an error where the disk crashes, and whoever waits learns of it.
        let committer = thread::spawn(move || drop(committer.run(&intake)));
        Some(Self { registry, appender, events, committer, disk: disk.clone() })
    }

    fn close(self) {
        self.appender.close();
        self.committer.join().unwrap();
        self.events.head().close();
        self.registry.stop();
    }

    /// Appends an event; `None` if it is not acknowledged.
    fn append(&self, told: &mut Told) -> Option<()> {
        let event = Event {
            id: EventId::from_uuid(uuid::Uuid::from_u128(u128::from(told.appended) + 1)).unwrap(),
            event_type: EventType::parse("t").unwrap(),
            stream: StreamId::parse("s").unwrap(),
            tags: Vec::new(),
            data: Bytes::from_static(b"{}"),
            metadata: None,
            time_unix_nanos: None,
        };
        let position = block(self.appender.append(Request::of(vec![event]))).ok()?.position;
        let log = self.events.log();
        told.appended += 1;
        told.token = Some(Token { log_id: log.log_id(), epoch: log.epoch_at(position), position });
        Some(())
    }

    /// What a reader that names no version is shown now, if anything is.
    fn look(&self, told: &mut Told) {
        let options = ReadOptions::default();
        let shown = block(async { self.registry.read("p", &options, None).now_or_never() });
        if let Some(Ok(reading)) = shown {
            check_shown(&reading, told);
        }
    }

    /// Polls until it is done or the disk crashes, carrying out what is decided, with a reader in between.
    fn work<T>(&self, told: &mut Told, work: impl Future<Output = T>) -> Option<T> {
        let crashed = async {
            while !self.disk.is_crashed() {
                // An error is a disk that fails, which the loop sees.
                drop(self.registry.carry_out_now());
                if let Some(Ok(reading)) =
                    self.registry.read("p", &ReadOptions::default(), None).now_or_never()
                {
                    check_shown(&reading, told);
                }
                tokio::task::yield_now().await;
            }
        };
        block(async {
            tokio::select! {
                done = work => Some(done),
                () = crashed => None,
            }
        })
    }

    /// All versions show the head.
    fn catch_up(&self, told: &mut Told) -> Option<()> {
        let head = self.events.head().get();
        let log = self.events.log();
        let token = Token { log_id: log.log_id(), epoch: log.epoch_at(head), position: head };
        for info in self.registry.list() {
            let options = ReadOptions {
                version: Some(info.version),
                at_least: Some(token),
                timeout: Some(Duration::from_secs(60)),
                ..ReadOptions::default()
            };
            self.work(told, self.registry.read("p", &options, None))?.ok()?;
        }
        Some(())
    }

    fn active(&self) -> Vec<u32> {
        self.registry.list().iter().filter(|info| info.active).map(|info| info.version).collect()
    }
}

fn check_shown(reading: &Reading, told: &mut Told) {
    let context = reading.context();
    assert!(context.as_of >= told.shown, "{context:?} after {}", told.shown);
    told.shown = context.as_of;
}

/// What is decided in a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Promote,
    RollBack,
    Retire,
}

impl Act {
    /// Whether it was acknowledged.
    fn decide(self, node: &Node, told: &mut Told) -> bool {
        let registry = &node.registry;
        let promote = Promote { version: 2, ..Promote::default() };
        let done = match self {
            Self::Promote => node
                .work(told, registry.promote("p", &promote))
                .map(|done| done.is_ok_and(|turn| turn.position.is_some())),
            Self::RollBack => node.work(told, registry.roll_back("p", Some(2), "")).map(|done| done.is_ok()),
            Self::Retire => {
                let done = node.work(told, registry.retire("p", 1, "")).map(|done| done.is_ok());
                // What a crash leaves of it, the next start does.
                drop(registry.remove_retired("p"));
                done
            }
        };
        done.unwrap_or(false)
    }

    /// The version that is active when it is decided, and when it is not.
    const fn active(self) -> (u32, u32) {
        match self {
            Self::Promote => (2, 1),
            Self::RollBack => (1, 2),
            Self::Retire => (2, 2),
        }
    }
}

/// A node with two versions at the head; the second is active unless it is to be promoted.
fn ground(act: Act) -> (SimDisk, Told) {
    let (disk, mut told) = (SimDisk::new(7), Told::default());
    let node = Node::open(&disk, 1, None).unwrap();
    for number in [1, 2] {
        let text = definition(number);
        let parsed = Definition::parse(&text, "p.yaml").unwrap();
        node.registry.deploy(parsed, &text, "p.yaml").unwrap();
    }
    for _ in 0..5 {
        node.append(&mut told).unwrap();
    }
    node.catch_up(&mut told).unwrap();
    if act != Act::Promote {
        assert!(Act::Promote.decide(&node, &mut told));
        node.catch_up(&mut told).unwrap();
    }
    node.look(&mut told);
    node.close();
    (disk, told)
}

/// A life that is cut at its `operation`-th I/O, and the one behind it. Whether the cut came before the end.
fn live(act: Act, ground: &(SimDisk, Told), operation: u64) -> bool {
    let disk = ground.0.kill(operation);
    let mut told = Told { appended: ground.1.appended, token: ground.1.token, shown: ground.1.shown };
    disk.crash_at(disk.operations() + operation);
    let mut acknowledged = false;
    if let Some(node) = Node::open(&disk, 2, None) {
        let mut story = || {
            node.catch_up(&mut told)?;
            node.append(&mut told)?;
            node.look(&mut told);
            node.catch_up(&mut told)?;
            acknowledged = act.decide(&node, &mut told);
            node.append(&mut told)?;
            node.look(&mut told);
            Some(())
        };
        // How far it came is what `told` and `acknowledged` say.
        let _is_whole = story().is_some();
        node.close();
    }
    let was_cut = disk.is_crashed();
    let after = if operation.is_multiple_of(2) { disk.crash(operation) } else { disk.kill(operation) };
    check_after(act, &after, &mut told, acknowledged);
    was_cut
}

/// The start behind a cut.
fn check_after(act: Act, disk: &SimDisk, told: &mut Told, acknowledged: bool) {
    let node = Node::open(disk, 3, None).expect("a healthy disk opens");
    let (decided, before) = act.active();
    let active = node.active();
    assert!(active == [decided] || active == [before], "{active:?} are active");
    let options = ReadOptions { timeout: Some(Duration::from_secs(60)), ..ReadOptions::default() };
    let first = node.work(told, node.registry.read("p", &options, None)).unwrap().unwrap();
    check_shown(&first, told);
    let with_token = ReadOptions { at_least: told.token, ..options };
    let reading = node.work(told, node.registry.read("p", &with_token, None)).unwrap().unwrap();
    check_shown(&reading, told);
    assert!(told.token.is_some_and(|token| reading.context().as_of >= token.position));
    node.catch_up(told).unwrap();
    while node.registry.carry_out_now().unwrap() > 0 {
        thread::yield_now();
    }
    let in_log = node.registry.decisions("p").unwrap();
    let expected = in_log.versions().active().unwrap_or(1);
    assert_eq!(node.active(), [expected], "what is decided is carried out");
    if acknowledged {
        assert_eq!(expected, decided, "what was acknowledged holds");
    }
    let is_retired = in_log.versions().retired(1).is_some();
    assert!(!acknowledged || act != Act::Retire || is_retired);
    let names = disk.list(&Path::new(DATA).join("projections")).unwrap();
    let has_file = names.iter().any(|name| name == "p-v1.redb");
    assert_eq!(has_file, !is_retired, "{names:?}");
    node.close();
}

/// Tells a life for every place where it can be cut; `live` says whether the cut came before the end.
fn at_every_operation(live: impl Fn(u64) -> bool) {
    let (mut operation, mut calm) = (0, 0);
    while calm < CALM_LIVES_MAX {
        calm = if live(operation) { 0 } else { calm + 1 };
        operation += 1;
    }
    assert!(operation > 20, "{operation} places are too few to be all of them");
}

fn check(act: Act) {
    let ground = ground(act);
    at_every_operation(|operation| live(act, &ground, operation));
}

#[test]
fn a_promote_is_cut_at_every_operation() {
    check(Act::Promote);
}

#[test]
fn a_rollback_is_cut_at_every_operation() {
    check(Act::RollBack);
}

#[test]
fn a_retirement_is_cut_at_every_operation() {
    check(Act::Retire);
}

/// Promotes a version that is held up behind the one that answers. Gives the version that answers then.
fn promote_one_behind(ground: &(SimDisk, Told), sabotage: Option<Sabotage>) -> Vec<u32> {
    let mut told = Told { appended: ground.1.appended, shown: ground.1.shown, ..Told::default() };
    let node = Node::open(&ground.0.kill(1), 2, sabotage).unwrap();
    node.catch_up(&mut told).unwrap();
    let hold = node.registry.hold("p", 2, Position::ZERO).unwrap();
    block(hold.stands(Duration::from_secs(60))).unwrap();
    node.append(&mut told).unwrap();
    let options = ReadOptions {
        at_least: told.token,
        timeout: Some(Duration::from_secs(60)),
        ..ReadOptions::default()
    };
    let shown = node.work(&mut told, node.registry.read("p", &options, None)).unwrap().unwrap();
    check_shown(&shown, &mut told);
    assert!(Act::Promote.decide(&node, &mut told));
    node.look(&mut told);
    let active = node.active();
    drop(hold);
    while node.registry.carry_out_now().unwrap() > 0 {
        thread::yield_now();
    }
    assert_eq!(node.active(), [2]);
    node.close();
    active
}

#[test]
fn a_version_takes_over_when_it_has_come_as_far_and_one_that_does_it_before_is_seen() {
    let ground = ground(Act::Promote);
    assert_eq!(promote_one_behind(&ground, None), [1], "the version before answers");
    let early = AssertUnwindSafe(|| promote_one_behind(&ground, Some(Sabotage::EarlyFlip)));
    assert!(catch_unwind(early).is_err(), "a reader goes back");
}
