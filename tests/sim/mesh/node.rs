//! A node of the mesh without threads: log, committer, index and mesh on a simulated disk, opened in the product's order.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use outrigger::{
    append::{Answer, AppendError, Appender, Intake, Request, committer::Committer},
    clock::{Clock as _, SimClock},
    disk::{Disk, sim::SimDisk},
    event::{Event, EventId, EventType, Position, RecordedEvent, StreamId},
    events::Events,
    follower::Head,
    index::{Index, IndexConfig},
    log::{LogConfig, open_sabotaged},
    mesh::{
        bus::Bus,
        definition::{Export, Import},
        memory::MemoryBroker,
        node::{Mesh, Parts},
        restored::accept,
        state::{Command, CommandAnswer, ImportStatus, MeshStatus},
        store::Store,
        trust::{SigningKey, Trust},
    },
    metrics::Metrics,
    sabotage::Sabotage,
};
use uuid::Uuid;

/// What a node is, over all its lives.
#[derive(Debug)]
pub(crate) struct SimNode {
    pub(crate) name: &'static str,
    pub(crate) disk: SimDisk,
    clock: Arc<SimClock>,
    broker: MemoryBroker,
    pub(crate) key: Arc<SigningKey>,
    pub(crate) trust: Arc<Trust>,
    pub(crate) exports: Vec<Arc<Export>>,
    pub(crate) imports: Vec<Arc<Import>>,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) life: Option<Life>,
    pub(crate) crashes: u64,
    /// Events of a run of the index.
    pub(crate) run_events: u32,
}

/// An open node.
#[derive(Debug)]
pub(crate) struct Life {
    committer: Committer,
    pub(crate) appender: Appender,
    intake: Intake,
    index: Arc<Index>,
    pub(crate) events: Events,
    pub(crate) mesh: Mesh,
}

/// The key of a node: the same in every run.
pub(crate) fn key_of(name: &str) -> Arc<SigningKey> {
    let mut entropy = [7; 32];
    for (byte, letter) in entropy.iter_mut().zip(name.bytes()) {
        *byte = letter;
    }
    Arc::new(SigningKey::from_entropy(entropy))
}

impl SimNode {
    pub(crate) fn new(name: &'static str, seed: u64, broker: &MemoryBroker, trust: &Arc<Trust>) -> Self {
        Self {
            name,
            disk: SimDisk::new(seed),
            clock: Arc::new(SimClock::new(seed)),
            broker: broker.clone(),
            key: key_of(name),
            trust: Arc::clone(trust),
            exports: Vec::new(),
            imports: Vec::new(),
            sabotage: None,
            life: None,
            crashes: 0,
            run_events: 64,
        }
    }

    pub(crate) fn exporting(mut self, text: &str) -> Self {
        self.exports.push(Arc::new(Export::parse(text, "export.yaml").unwrap()));
        self
    }

    pub(crate) fn importing(mut self, text: &str) -> Self {
        self.imports.push(Arc::new(Import::parse(text, "import.yaml").unwrap()));
        self
    }

    /// Opens the node; `Err`: the disk ended its life meanwhile, or refused.
    pub(crate) fn open(&mut self) -> Result<(), String> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let text = |error: &dyn std::fmt::Display| error.to_string();
        disk.create_dir_all("/data".as_ref()).map_err(|error| text(&error))?;
        let config = LogConfig {
            dir: "/data/log".into(),
            node: self.name.into(),
            segment_bytes: 65_536,
            low_water_bytes: 0,
        };
        let log = open_sabotaged(Arc::clone(&disk), &*self.clock, config, self.sabotage)
            .map_err(|error| text(&error))?;
        let is_restored = log.is_restored;
        let config = IndexConfig { run_events: self.run_events, background: false, ..IndexConfig::default() };
        let index = Index::open_configured(Arc::clone(&disk), "/data/index".as_ref(), &log.reader, config);
        let index = Arc::new(index.map_err(|error| text(&error))?);
        let head = Head::new(log.reader.head());
        let (reader, metrics) = (log.reader.clone(), Arc::new(Metrics::new()));
        let clock: Arc<SimClock> = Arc::clone(&self.clock);
        let committer = Committer::new(log.writer, reader, Arc::clone(&index), head.clone(), clock, metrics);
        let mut committer = committer.map_err(|error| text(&error))?;
        let events = Events::new(log.reader.clone(), Arc::clone(&index), head);
        let store = Store::open(&disk, Path::new("/data/mesh.redb"), log.reader.log_id());
        let store = store.map_err(|error| text(&error))?;
        let (appender, intake) = Appender::new(usize::MAX);
        if is_restored {
            let (dir, ways) = (Path::new("/data/log"), (&appender, &intake));
            let accepted = accept(&disk, dir, &mut committer, ways, &events, &*self.clock);
            accepted.map_err(|error| text(&error))?;
        }
        let bus: Arc<dyn Bus> = Arc::new(self.broker.connect(self.name));
        let mut mesh = Mesh::new(Parts {
            node: self.name.to_owned(),
            bus,
            events: events.clone(),
            appender: appender.clone(),
            clock: self.clock.clone(),
            store,
            key: Arc::clone(&self.key),
            trust: Arc::clone(&self.trust),
            // A few, so that imports change between the two ways.
            bulk_behind: 30,
            sabotage: self.sabotage,
        });
        mesh.set_exports(self.exports.clone());
        mesh.set_imports(self.imports.clone());
        self.life = Some(Life { committer, appender, intake, index, events, mesh });
        Ok(())
    }

    /// One step: what waits is committed, then the mesh goes on. A crash ends the life, and the next one begins.
    pub(crate) fn step(&mut self, now: i64) {
        if self.life.is_none() {
            self.rise();
        }
        let Some(life) = &mut self.life else { return };
        let stepped = life.step(now);
        if self.disk.is_crashed() {
            self.crash();
        } else if let Err(error) = stepped {
            panic!("{}: the node failed on a sound disk: {error}", self.name);
        }
    }

    /// Loses power now.
    pub(crate) fn crash(&mut self) {
        self.life = None;
        self.crashes += 1;
        self.disk = self.disk.crash(self.clock.random() as u64);
    }

    /// Opens again; a crash while it opens is one more.
    fn rise(&mut self) {
        match self.open() {
            Ok(()) => {}
            Err(_) if self.disk.is_crashed() => self.crash(),
            Err(error) => panic!("{}: it does not open: {error}", self.name),
        }
    }

    pub(crate) fn life(&mut self) -> &mut Life {
        // It may lose power while it opens, too.
        while self.life.is_none() {
            self.rise();
        }
        self.life.as_mut().unwrap()
    }

    /// Queues an event; nobody waits for the answer.
    pub(crate) fn append(&mut self, event: Event) {
        drop(self.life().appender.submit(Request::of(vec![event])));
    }

    /// Appends an event and commits it.
    pub(crate) fn append_now(&mut self, event: Event) -> Answer {
        let life = self.life();
        let mut answer = life.appender.submit(Request::of(vec![event]))?;
        life.commit().unwrap();
        answer.try_recv().unwrap_or(Err(AppendError::Stopping))
    }

    /// Everything that is durable, in order. A crash that was still to come may come while it is read.
    pub(crate) fn log(&mut self) -> Vec<RecordedEvent> {
        loop {
            let life = self.life();
            let head = life.events.head().get().get();
            let read = (1..=head).map(|at| life.events.at(Position::new(at)));
            match read.collect::<Result<Vec<_>, _>>() {
                Ok(events) => return events.into_iter().map(Option::unwrap).collect(),
                Err(_) if self.disk.is_crashed() => self.crash(),
                Err(error) => panic!("{}: its log cannot be read: {error}", self.name),
            }
        }
    }

    pub(crate) fn status(&mut self, now: i64) -> MeshStatus {
        self.life().mesh.status(now)
    }

    pub(crate) fn import_status(&mut self, import: &str, now: i64) -> ImportStatus {
        let status = self.status(now);
        status.imports.into_iter().find(|status| status.import == import).unwrap()
    }

    /// Commands the mesh and commits its decision.
    pub(crate) fn command(&mut self, command: Command, now: i64) -> CommandAnswer {
        let life = self.life();
        let (reply, mut answer) = tokio::sync::oneshot::channel();
        life.mesh.command(command, reply);
        for _ in 0..3 {
            life.step(now).unwrap();
        }
        answer.try_recv().unwrap()
    }
}

impl Life {
    fn step(&mut self, now: i64) -> Result<(), String> {
        self.commit()?;
        self.mesh.step(now);
        self.commit()
    }

    pub(crate) fn commit(&mut self) -> Result<(), String> {
        while self.appender.queued_bytes() > 0 {
            self.committer.step(&self.intake).map_err(|error| error.to_string())?;
        }
        while self.index.step().map_err(|error| error.to_string())? {}
        Ok(())
    }
}

/// The n-th event of a life.
pub(crate) fn event(event_type: &str, n: u64, data: &str) -> Event {
    Event {
        id: EventId::from_uuid(Uuid::from_u128(u128::from(n) << 64 | 0x4000_8000_0000_0000_0000)).unwrap(),
        event_type: EventType::parse(event_type).unwrap(),
        stream: StreamId::parse(&format!("s-{}", n % 5)).unwrap(),
        tags: Vec::new(),
        data: Bytes::copy_from_slice(data.as_bytes()),
        metadata: None,
        time_unix_nanos: None,
    }
}
