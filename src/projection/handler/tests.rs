//! A whole node with a service's versions on a simulated disk: what is emitted, over crashes at every I/O, promotes and
//! rollbacks.

use std::{collections::BTreeMap, path::Path, sync::Arc, thread};

use super::{
    emit::{Emitter, emission_source, emitted_id},
    feed::Feed,
    hub::{Hub, Message, Session, ToWorker, WorkerAnswer},
    transaction::{Answer, StepOperation, Transaction, TransactionStep},
};
use crate::{
    append::{Appender, Intake, Request, committer::Committer},
    clock::SimClock,
    disk::{Disk, sim::SimDisk},
    event::{Event, Position, RecordedEvent},
    events::Events,
    follower::{Follower as _, Step, Stop},
    json::{Json, Object},
    metrics::Metrics,
    projection::{
        content_hash::ContentHash,
        decisions::{self, Decision},
        definition::Definition,
        hold::Hold,
        key::Key,
        runner::{Runner, Turns},
        status::Status,
        store::Store,
        testing::{DATA, Node, event, share},
        versions::Change,
    },
};

mod late;

fn definition(version: u32, handled: &str) -> Definition {
    let text = format!(
        "projection: p\nversion: {version}\nhandler: service\ncollections: {{ docs: {{}} }}\nevents: [{handled}]\n"
    );
    Definition::parse(&text, "p.yaml").unwrap()
}

/// What a version of the service emits for a cause, in one of its lives.
type Emits = fn(version: u32, life: u64, cause: &RecordedEvent) -> Vec<&'static str>;

/// A different number in every version and life, also none.
fn by_life(version: u32, life: u64, cause: &RecordedEvent) -> Vec<&'static str> {
    let count = (cause.position.get() * 7 + u64::from(version) * 3 + life * 5) % 4;
    (0..count).map(|_| "emitted").collect()
}

/// An open node whose committer runs.
struct Life {
    events: Events,
    appender: Appender,
    committer: thread::JoinHandle<()>,
    disk: Arc<dyn Disk>,
    number: u64,
}

/// A version of the service and its one worker.
struct Version {
    number: u32,
    runner: Runner,
    status: Arc<Status>,
    store: Arc<Store>,
    hub: Arc<Hub>,
    session: Session,
    told: tokio::sync::mpsc::Receiver<ToWorker>,
    /// Whether the worker cannot handle an event, which comes late or not.
    fails: fn(event: &RecordedEvent, late: bool) -> bool,
}

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

impl Life {
    /// `None` if the disk crashes at it.
    fn open(disk: &SimDisk, number: u64) -> Option<Self> {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let node = Node::try_open(Arc::clone(&shared), Path::new(DATA))?;
        let committer = Committer::new(
            node.writer,
            node.reader.clone(),
            Arc::clone(&node.index),
            node.head.clone(),
            Arc::new(SimClock::new(number)),
            Arc::new(Metrics::new()),
        );
        let events = Events::new(node.reader, node.index, node.head);
        let (appender, intake): (_, Intake) = Appender::new(usize::MAX);
        let committer = committer.ok()?;
        // It ends with an error where the disk crashes, and whoever waits learns of it.
        let committer = thread::spawn(move || drop(committer.run(&intake)));
        shared.create_dir_all(&Path::new(DATA).join("projections")).ok()?;
        Some(Self { events, appender, committer, disk: shared, number })
    }

    fn version(&self, number: u32, handled: &str) -> Version {
        self.version_of(definition(number, handled))
    }

    fn version_of(&self, definition: Definition) -> Version {
        let number = definition.version();
        let stop = Stop::default();
        let (hub, inbox) = Hub::new(self.events.head().clone(), stop.clone());
        let emitter = Emitter::new(self.events.clone(), self.appender.clone(), &definition, 1);
        let dir = Path::new(DATA).join("projections");
        let store = Arc::new(Store::new(Arc::clone(&self.disk), &dir, Arc::new(definition), share()));
        let status = Arc::new(Status::new(Position::ZERO, false));
        let runner =
            Runner::new(Arc::clone(&store), Arc::clone(&status), &self.events, Turns::default(), stop)
                .fed(Some(Feed::new(inbox, emitter)));
        let deadline = std::time::Duration::from_secs(600);
        let (session, told) = block(hub.attach("w".into(), 3, deadline)).expect("the version runs");
        Version { number, runner, status, store, hub, session, told, fails: |_, _| false }
    }

    /// Appends through the committer.
    fn append(&self, request: Request) -> Position {
        block(self.appender.append(request)).unwrap().position
    }

    fn promote(&self, version: u32) {
        let mut known = decisions::Decisions::new("p");
        known.refresh(&self.events, self.events.head().get()).unwrap();
        let decision =
            Decision::Versions { change: Change::Promote { version, from: None }, reason: String::new() };
        let clock = SimClock::new(self.events.head().get().get());
        self.append(decisions::request(&clock, "p", &decision, decisions::expect(known.revision())));
    }

    /// Steps versions in turn, each worker answering what it is given, until all are at the head. `false`: the disk
    /// crashed before.
    fn run(&self, disk: &SimDisk, versions: &mut [Version], emits: Emits) -> bool {
        for _ in 0..10_000 {
            if disk.is_crashed() {
                return false;
            }
            let head = self.events.head().get();
            let mut is_there = true;
            for version in versions.iter_mut() {
                let step = version.runner.step();
                let said = version.work(self, emits);
                let at_head = matches!(step, Step::CaughtUp(..)) && version.status.progress().as_of >= head;
                is_there &= at_head && !said;
            }
            if is_there && self.events.head().get() == head {
                return true;
            }
        }
        let progress: Vec<_> = versions.iter().map(|version| version.status.progress()).collect();
        panic!("no end: {progress:?}");
    }

    /// Ends it; durable is what is durable.
    fn end(self, versions: Vec<Version>) {
        for mut version in versions {
            version.runner.finish();
        }
        self.appender.close();
        self.committer.join().unwrap();
    }
}

impl Version {
    /// Answers what is there. Whether there was anything.
    fn work(&mut self, life: &Life, emits: Emits) -> bool {
        let mut said = false;
        while let Ok(told) = self.told.try_recv() {
            if let ToWorker::Run { run, late_at, events, .. } = told {
                let answer = |event: RecordedEvent| WorkerAnswer {
                    run,
                    position: event.position,
                    answer: if (self.fails)(&event, late_at.is_some()) {
                        Answer::Failure("poisoned".into())
                    } else {
                        Answer::Transaction(self.transaction(life, &event, emits))
                    },
                    bytes: 1,
                };
                let answers = events.into_iter().map(answer).collect();
                assert!(block(self.session.send(Message::Answers(answers))));
                said = true;
            }
        }
        said
    }

    /// Documents depend on the events alone, emissions on the life too.
    fn transaction(&self, life: &Life, cause: &RecordedEvent, emits: Emits) -> Transaction {
        let mut fields = Object::new();
        fields.insert("sum", Json::Int(cause.position.get() as i64));
        let step = TransactionStep {
            collection: 0,
            key: Key::text(cause.event.stream.as_str()).unwrap(),
            operation: StepOperation::Add(fields),
        };
        let emits = emits(self.number, life.number, cause).into_iter().enumerate();
        let emits = emits.map(|(ordinal, event_type)| {
            let id = emitted_id(life.events.log().log_id(), "p", cause.position, ordinal);
            let data = format!(r#"{{"version":{},"life":{}}}"#, self.number, life.number);
            Event { id, metadata: None, ..event(cause.position, event_type, &data).event }
        });
        Transaction { reads: Vec::new(), steps: vec![step], emits: emits.collect() }
    }

    fn content_hash(&self) -> ContentHash {
        self.store.snapshot().unwrap().state().content_hash
    }
}

fn causes(life: &Life, from: u128, count: u128) {
    let one = |n: u128| {
        let mut cause = event(Position::new(1), "t", "{}").event;
        cause.id = crate::event::EventId::from_uuid(uuid::Uuid::from_u128(n)).unwrap();
        cause
    };
    life.append(Request::of((from..from + count).map(one).collect()));
}

/// A log in which version 2 is promoted and rolled back in the middle of causes, before anything was handled.
fn ground() -> SimDisk {
    let disk = SimDisk::new(1);
    let life = Life::open(&disk, 0).unwrap();
    causes(&life, 1, 4);
    life.promote(2);
    causes(&life, 101, 5);
    life.promote(1);
    causes(&life, 201, 3);
    life.end(Vec::new());
    disk.crash(0)
}

/// The version that is active at a cause of `ground`.
fn active_at(position: Position) -> u32 {
    if (6..=11).contains(&position.get()) { 2 } else { 1 }
}

/// Every cause has what one life of the version that was active at it emitted: all of it, once.
fn check_emissions(events: &Events, lives: u64) {
    let log_id = events.log().log_id();
    let mut emitted: BTreeMap<u64, Vec<RecordedEvent>> = BTreeMap::new();
    let mut handled = Vec::new();
    for position in (1..=events.head().get().get()).map(Position::new) {
        let event = events.at(position).unwrap().unwrap();
        match event.event.event_type.as_str() {
            "t" => handled.push(event),
            "emitted" => {
                let Ok(Json::Object(metadata)) = Json::parse(event.event.metadata.as_ref().unwrap()) else {
                    panic!("no metadata")
                };
                let Some(Json::Int(cause)) = metadata.get("causation_position") else { panic!("no cause") };
                emitted.entry(*cause as u64).or_default().push(event);
            }
            _ => {}
        }
    }
    for cause in &handled {
        let found = emitted.remove(&cause.position.get()).unwrap_or_default();
        let version = active_at(cause.position);
        let said = |life: u64| {
            let count = by_life(version, life, cause).len();
            let data = format!(r#"{{"version":{version},"life":{life}}}"#);
            let events =
                (0..count).map(|ordinal| (emitted_id(log_id, "p", cause.position, ordinal), data.clone()));
            events.collect::<Vec<_>>()
        };
        let text = |event: &RecordedEvent| String::from_utf8(event.event.data.to_vec()).unwrap();
        let found: Vec<_> = found.iter().map(|event| (event.event.id, text(event))).collect();
        let of_a_life = (1..=lives).any(|life| said(life) == found);
        assert!(of_a_life, "cause {} of version {version}: {found:?}", cause.position);
    }
    assert!(emitted.is_empty(), "emitted without a cause: {emitted:?}");
}

/// Lives until one is not cut off; each crashes at the next of these operations after its start.
fn live(disk: SimDisk, crashes: &[u64]) -> (bool, [ContentHash; 2]) {
    let mut disk = disk;
    let mut crashed = true;
    for life_number in 1.. {
        let crash = crashes.get(life_number as usize - 1);
        if let Some(after) = crash {
            disk.crash_at(disk.operations() + after);
        }
        if let Some(life) = Life::open(&disk, life_number) {
            let mut versions = vec![life.version(1, "t"), life.version(2, "t")];
            let done = life.run(&disk, &mut versions, by_life);
            if done {
                check_emissions(&life.events, life_number);
                crashed &= life_number > 1;
                let hashes = [versions[0].content_hash(), versions[1].content_hash()];
                life.end(versions);
                return (crashed, hashes);
            }
            life.end(versions);
        }
        assert!(disk.is_crashed(), "a life ends at the head or by a crash");
        disk = disk.crash(life_number);
    }
    unreachable!("some life has no crash")
}

#[test]
fn emitted_events_are_there_once_over_a_crash_at_every_operation() {
    let ground = ground();
    let (_, undisturbed) = live(ground.crash(0), &[]);
    assert_eq!(undisturbed[0], undisturbed[1]);
    for after in 0.. {
        let (crashed, hashes) = live(ground.crash(0), &[after]);
        assert_eq!(hashes, undisturbed, "documents do not depend on crashes");
        if !crashed {
            assert!(after > 20, "there are many operations at which to crash");
            return;
        }
        // Crashed twice, the second time somewhere in what the first left to do.
        let (_, hashes) = live(ground.crash(0), &[after, after % 7]);
        assert_eq!(hashes, undisturbed);
    }
}

#[test]
fn what_the_log_has_stands_when_a_version_is_built_anew() {
    let disk = ground();
    let first = Life::open(&disk, 1).unwrap();
    let mut versions = vec![first.version(1, "t"), first.version(2, "t")];
    assert!(first.run(&disk, &mut versions, by_life));
    let head = first.events.head().get();
    let hash = versions[0].content_hash();
    first.end(versions);
    for number in [1, 2] {
        disk.remove_file(&Path::new(DATA).join(format!("projections/p-v{number}.redb"))).unwrap();
    }
    let second = Life::open(&disk, 2).unwrap();
    let mut versions = vec![second.version(1, "t"), second.version(2, "t")];
    assert!(second.run(&disk, &mut versions, by_life));
    check_emissions(&second.events, 1);
    assert_eq!(second.events.head().get(), head, "nothing was appended");
    assert_eq!(versions[0].content_hash(), hash);
    for (version, active) in versions.iter().zip([1, 2]) {
        let differences = version.hub.counts.emission_differences.load(std::sync::atomic::Ordering::Relaxed);
        let causes = (1..=4).chain(6..=10).chain(12..=14).map(Position::new);
        let expected = causes.filter(|cause| active_at(*cause) == active);
        assert_eq!(differences, expected.count() as u64, "every life says something else for every cause");
    }
    second.end(versions);
}

#[test]
fn an_older_version_still_emits_for_its_causes_when_a_newer_one_has_emitted_for_later_ones() {
    let disk = ground();
    let life = Life::open(&disk, 1).unwrap();
    let mut newer = vec![life.version(2, "t")];
    assert!(life.run(&disk, &mut newer, by_life));
    let source = emission_source(newer[0].store.definition());
    assert!(life.events.tracking(&source).unwrap().is_some());
    let mut older = vec![life.version(1, "t")];
    assert!(life.run(&disk, &mut older, by_life));
    check_emissions(&life.events, 1);
    life.end(newer.into_iter().chain(older).collect());
}

#[test]
fn a_chain_of_emissions_ends_and_carries_its_beginning_along() {
    fn again(_: u32, _: u64, _: &RecordedEvent) -> Vec<&'static str> {
        vec!["t"]
    }
    let disk = SimDisk::new(1);
    let life = Life::open(&disk, 1).unwrap();
    let mut cause = event(Position::new(1), "t", "{}").event;
    cause.metadata = Some(r#"{"traceparent":"00-a-b-01","correlation_id":"begin"}"#.into());
    life.append(Request::of(vec![cause.clone()]));
    let mut version = life.version(1, "t");
    while version.status.progress().failure.is_none() {
        version.runner.step();
        version.work(&life, again);
    }
    let failure = version.status.progress().failure.unwrap();
    assert!(failure.contains("position 17") && failure.contains("at most 16"), "{failure}");
    assert_eq!(life.events.head().get(), Position::new(17));
    let last = life.events.at(Position::new(17)).unwrap().unwrap();
    let before = life.events.at(Position::new(16)).unwrap().unwrap();
    let expected = format!(
        r#"{{"causation_depth":16,"causation_id":"{}","causation_position":16,"correlation_id":"begin","traceparent":"00-a-b-01"}}"#,
        before.event.id
    );
    assert_eq!(last.event.metadata.unwrap(), expected.as_str());
    life.end(vec![version]);
}

#[test]
fn a_held_version_gives_out_and_applies_nothing_above_the_bound() {
    fn none(_: u32, _: u64, _: &RecordedEvent) -> Vec<&'static str> {
        Vec::new()
    }
    let disk = ground();
    let life = Life::open(&disk, 1).unwrap();
    let mut version = life.version(1, "t");
    let (head, status) = (life.events.head().clone(), Arc::clone(&version.status));
    let hold = |at| Hold::place(Arc::clone(&status), head.clone(), Stop::default(), Position::new(at));
    let stands = |hold: &Hold| block(hold.stands(std::time::Duration::ZERO)).map(Position::get).ok();
    let upto_two = hold(2);
    let mut told = Vec::new();
    let mut step = version.runner.step();
    while let Ok(message) = version.told.try_recv() {
        if let ToWorker::Run { run, events, .. } = message {
            told.extend(events.into_iter().map(|event| (run, event)));
        }
    }
    let positions = |told: &[(u64, RecordedEvent)]| -> Vec<u64> {
        told.iter().map(|(_, event)| event.position.get()).collect()
    };
    assert_eq!(positions(&told), [1, 2], "of three that the worker takes");
    assert!(matches!(step, Step::Held(_)) && stands(&upto_two).is_none(), "it waits for the answers");
    // Another one comes while two events are out: the second one's answer is not applied.
    let upto_one = hold(1);
    let answers = told.into_iter().map(|(run, event)| WorkerAnswer {
        run,
        position: event.position,
        answer: Answer::Transaction(version.transaction(&life, &event, none)),
        bytes: 1,
    });
    assert!(block(version.session.send(Message::Answers(answers.collect()))));
    for (held, position) in [(upto_one, 1), (upto_two, 2), (hold(7), 7), (hold(11), 11)] {
        for _ in 0..20 {
            step = version.runner.step();
            version.work(&life, none);
            assert!(version.status.progress().as_of.get() <= position);
        }
        assert!(matches!(step, Step::Held(_)));
        assert_eq!(stands(&held), Some(position));
    }
    let mut versions = vec![version, life.version(2, "t")];
    assert!(life.run(&disk, &mut versions, none));
    assert_eq!(versions[0].content_hash(), versions[1].content_hash());
    life.end(versions);
}
