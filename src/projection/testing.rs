//! What the tests of projections share: a node with a log on any disk, events, and versions driven step by step.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use crate::{
    append::Appender,
    clock::SimClock,
    disk::Disk,
    event::{Event, EventId, EventType, Position, RecordedEvent, Revision, StreamId},
    events::Events,
    follower::{Follower, Head, Step, Stop},
    index::{Index, IndexConfig},
    limits::SEGMENT_BYTES,
    log::{LogConfig, LogReader, LogWriter},
    meta::Meta,
    ownership::InForce,
    projection::{
        content_hash::ContentHash,
        decisions::{Decision, stream_of},
        definition::Definition,
        memory::{Budget, Share},
        registry::{Registry, RegistryConfig, RegistryLog},
        runner::{Runner, Turns},
        status::Status,
        store::Store,
    },
    sabotage::Sabotage,
};

/// The memory of a version under test.
pub(crate) fn share() -> Share {
    Budget::new(1 << 26).take()
}

/// A definition with every kind of step: documents with indexes, sums, an event that fails on text.
pub(crate) const DEFINITION: &str = r#"
projection: p
version: 1
collections:
  docs:
    indexes:
      by_a: [a]
      by_a_b: [a, b]
      by_tags: [tags, a]
  sums: {}
events:
  doc.put:
    - put: docs
      key: data.key
      value: { a: "${data.a}", b: "${data.b}", tags: "${data.tags}" }
    - add: sums
      key: data.key
      value: { puts: 1 }
  doc.deleted:
    - delete: docs
      key: data.key
  doc.summed:
    - add: sums
      key: data.key
      value: { total: "${data.number}" }
"#;

/// The data directory of all tests on simulated disks.
pub(crate) const DATA: &str = "/data";

pub(crate) fn definition(source: &str) -> Definition {
    Definition::parse(source, "p.yaml").expect("the definition is right")
}

/// A log, its index and its head; what a node has without its projections.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) data: PathBuf,
    pub(crate) writer: LogWriter,
    pub(crate) reader: LogReader,
    pub(crate) head: Head,
    pub(crate) index: Arc<Index>,
}

impl Node {
    pub(crate) fn open(disk: Arc<dyn Disk>, data: &Path) -> Self {
        Self::try_open(disk, data).expect("the node opens")
    }

    /// `None` where the disk does not let it.
    pub(crate) fn try_open(disk: Arc<dyn Disk>, data: &Path) -> Option<Self> {
        let config = LogConfig {
            dir: data.join("log"),
            node: "tests".into(),
            segment_bytes: SEGMENT_BYTES,
            low_water_bytes: 0,
        };
        disk.create_dir_all(data).ok()?;
        let opened = crate::log::open(Arc::clone(&disk), &SimClock::new(7), config).ok()?;
        let index = IndexConfig { background: false, ..IndexConfig::default() };
        let index = Index::open_configured(Arc::clone(&disk), &data.join("index"), &opened.reader, index);
        Some(Self {
            disk,
            data: data.to_owned(),
            index: Arc::new(index.ok()?),
            head: Head::new(opened.reader.head()),
            writer: opened.writer,
            reader: opened.reader,
        })
    }

    /// Appends events of a type with these data, durable and visible.
    pub(crate) fn append(&mut self, events: &[(&str, String)]) -> Position {
        let events: Vec<_> =
            events.iter().map(|(event_type, data)| ("s", *event_type, data.clone())).collect();
        self.append_to(&events)
    }

    /// The same, each event in a stream of its own.
    pub(crate) fn append_to(&mut self, events: &[(&str, &str, String)]) -> Position {
        let mut position = self.writer.head();
        let events = events.iter().map(|(stream, event_type, data)| {
            position = position.next();
            let mut event = event(position, event_type, data);
            event.event.stream = StreamId::parse(stream).expect("a stream");
            event
        });
        let events = events.collect();
        self.append_recorded(events)
    }

    /// Appends a decision about a projection.
    pub(crate) fn decide(&mut self, projection: &str, decision: &Decision) -> Position {
        let head = self.index.stream_head(&stream_of(projection)).expect("the index reads");
        let position = self.writer.head().next();
        let mut event = event(position, "decided", "{}");
        event.revision = head.map_or(Revision::NONE, |head| head.revision).next();
        event.event = decision.to_event(projection, event.event.id);
        self.append_recorded(vec![event])
    }

    fn append_recorded(&mut self, events: Vec<RecordedEvent>) -> Position {
        let payloads: Vec<Bytes> = events.iter().map(|event| event.encode().into()).collect();
        let appended = self.writer.append(&payloads).expect("the log takes it");
        self.index.apply(&events).expect("the index takes it");
        self.head.advance(appended.last);
        appended.last
    }

    pub(crate) fn events(&self) -> Events {
        Events::new(self.reader.clone(), Arc::clone(&self.index), self.head.clone())
    }

    pub(crate) fn projections(&self) -> PathBuf {
        self.data.join("projections")
    }

    pub(crate) fn version(&self, source: &str) -> Driven {
        self.sabotaged_version(source, None)
    }

    /// The same with a bug built in.
    pub(crate) fn sabotaged_version(&self, source: &str, sabotage: Option<Sabotage>) -> Driven {
        let projections = self.projections();
        self.disk.create_dir_all(&projections).expect("the directory is there");
        let store = Store::new(Arc::clone(&self.disk), &projections, Arc::new(definition(source)), share())
            .sabotaged(sabotage);
        let (store, status) = (Arc::new(store), Arc::new(Status::new(Position::ZERO, false)));
        let runner = self.version_over(Arc::clone(&store), Arc::clone(&status), Stop::default());
        Driven { store, status, runner }
    }

    /// A runner of a version, under a stop.
    pub(crate) fn version_over(&self, store: Arc<Store>, status: Arc<Status>, stop: Stop) -> Runner {
        Runner::new(store, status, &self.events(), Turns::default(), stop)
    }

    pub(crate) fn registry(&self, dev: bool) -> Registry {
        self.registry_leaving(dev, 0)
    }

    /// A registry that leaves so much of the disk free.
    pub(crate) fn registry_leaving(&self, dev: bool, low_water_bytes: u64) -> Registry {
        let meta = Meta::open(&self.disk, &self.data.join("meta.redb")).expect("meta.redb opens");
        let config = RegistryConfig {
            dir: self.projections(),
            dev,
            memory_bytes: 1 << 28,
            builds: 1,
            low_water_bytes,
        };
        // Nobody takes from this queue: decisions are appended by `decide`.
        let (appender, _) = Appender::new(0);
        let log = RegistryLog {
            events: self.events(),
            appender,
            clock: Arc::new(SimClock::new(9)),
            ownership: InForce::default(),
        };
        Registry::open(Arc::clone(&self.disk), config, meta, log).expect("the registry opens")
    }
}

pub(crate) fn event(position: Position, event_type: &str, data: &str) -> RecordedEvent {
    RecordedEvent {
        position,
        revision: Revision::new(position.get()),
        recorded_at_unix_nanos: position.get() as i64,
        event: Event {
            id: EventId::from_uuid(uuid::Uuid::from_u128(u128::from(position.get()))).expect("not nil"),
            event_type: EventType::parse(event_type).expect("a type"),
            stream: StreamId::parse("s").expect("a stream"),
            tags: Vec::new(),
            data: Bytes::copy_from_slice(data.as_bytes()),
            metadata: None,
            time_unix_nanos: None,
        },
        tracking: None,
        origin: None,
        cursor: None,
    }
}

/// A version whose runner a test drives.
#[derive(Debug)]
pub(crate) struct Driven {
    pub(crate) store: Arc<Store>,
    pub(crate) status: Arc<Status>,
    pub(crate) runner: Runner,
}

impl Driven {
    /// Steps until it is at the head or over; waits are skipped.
    pub(crate) fn run(&mut self) -> Step {
        for _ in 0..10_000 {
            let step = self.runner.step();
            if matches!(step, Step::CaughtUp(..) | Step::Paused(..) | Step::Held(_) | Step::Over) {
                return step;
            }
        }
        panic!("no end: {:?}", self.status.progress());
    }

    pub(crate) fn content_hash(&self) -> ContentHash {
        self.store.snapshot().expect("it is open").state().content_hash
    }
}
