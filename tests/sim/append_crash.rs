//! Crashes of the whole append path by seed: queue, judgement, committer, log and index on a disk that loses power.
//!
//! The checker holds every answer against what a calm reopening shows. An acknowledged event is there, at its position
//! and revision, for ever; a refusal named only what is durable (no answer ran ahead of durability); a repeated request
//! gets its first positions again; of the requests that expected a stream to be empty, one won; ids are unique,
//! positions and revisions dense.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use outrigger::{
    append::{
        Answer, AppendError, Appender, Expectation, Expected, FailedCondition, Intake, Request,
        committer::Committer,
    },
    clock::{Clock as _, SimClock},
    disk::{Disk, sim::SimDisk},
    event::{Event, EventId, EventType, Position, RecordedEvent, Revision, StreamId},
    events::EventsError,
    follower::Head,
    index::{Index, IndexConfig},
    log::{LogConfig, LogReader, open_sabotaged},
    metrics::Metrics,
    sabotage::Sabotage,
};

const ROUNDS: usize = 5;
const STEPS_MAX: u64 = 12;
const STREAMS: u64 = 4;

/// One life of one node's log.
struct Story {
    clock: Arc<SimClock>,
    disk: SimDisk,
    sabotage: Option<Sabotage>,
    /// Every event that was ever sent.
    sent: Vec<Event>,
    /// Where the acknowledged ones are.
    acknowledged: HashMap<EventId, (Position, Revision)>,
    /// What refusals named: this stream had an event of this revision at this position.
    named: Vec<(StreamId, Revision, Position)>,
    histogram: BTreeMap<&'static str, u64>,
}

struct Node {
    committer: Committer,
    appender: Appender,
    intake: Intake,
    reader: LogReader,
    /// Beside the committer's own clone, so that background work runs where the story says.
    index: Arc<Index>,
}

impl Story {
    fn new(seed: u64, sabotage: Option<Sabotage>) -> Self {
        Self {
            clock: Arc::new(SimClock::new(seed)),
            disk: SimDisk::new(seed),
            sabotage,
            sent: Vec::new(),
            acknowledged: HashMap::new(),
            named: Vec::new(),
            histogram: BTreeMap::new(),
        }
    }

    fn below(&self, bound: u64) -> u64 {
        self.clock.random() as u64 % bound
    }

    fn count(&mut self, what: &'static str) {
        *self.histogram.entry(what).or_default() += 1;
    }

    fn run(mut self) -> Result<BTreeMap<&'static str, u64>, String> {
        for _ in 0..ROUNDS {
            if self.below(6) > 0 {
                self.disk.crash_at(self.disk.operations() + self.below(80));
            }
            self.round()?;
            let seed = self.clock.random() as u64;
            self.disk = if self.below(4) == 0 { self.disk.kill(seed) } else { self.disk.crash(seed) };
            self.count("stops");
        }
        let node = self.open().map_err(|error| format!("a calm opening: {error}"))?;
        self.check(&node.reader)?;
        Ok(self.histogram)
    }

    fn open(&self) -> Result<Node, String> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let config = LogConfig {
            dir: "/data/log".into(),
            node: "flights".into(),
            segment_bytes: 16_384,
            low_water_bytes: 0,
        };
        let log = open_sabotaged(Arc::clone(&disk), &*self.clock, config, self.sabotage).map_err(text)?;
        let config = IndexConfig { run_events: 16, background: false, ..IndexConfig::default() };
        let index =
            Index::open_configured(disk, "/data/index".as_ref(), &log.reader, config).map_err(text)?;
        let index = Arc::new(index);
        let head = Head::new(log.reader.head());
        let (clock, metrics) = (self.clock.clone(), Arc::new(Metrics::new()));
        let committer =
            Committer::new(log.writer, log.reader.clone(), Arc::clone(&index), head, clock, metrics)
                .map_err(text)?;
        let (appender, intake) = Appender::new(usize::MAX);
        Ok(Node { committer, appender, intake, reader: log.reader, index })
    }

    /// Opens, checks and appends until the disk fails or the round is over.
    fn round(&mut self) -> Result<(), String> {
        let mut node = match self.open() {
            Ok(node) => node,
            Err(_) if self.disk.is_crashed() => {
                self.count("crashes while opening");
                return Ok(());
            }
            Err(error) => return Err(format!("the node does not open: {error}")),
        };
        match self.check(&node.reader) {
            Err(_) if self.disk.is_crashed() => return Ok(()),
            checked => checked?,
        }
        for _ in 0..=self.below(STEPS_MAX) {
            let requests: Vec<_> = (0..=self.below(4)).map(|_| self.request()).collect();
            let submit = |request: &Request| node.appender.submit(request.clone()).map_err(text);
            let answers = requests.iter().map(submit).collect::<Result<Vec<_>, _>>()?;
            let stepped = node.committer.step(&node.intake);
            for (request, mut answer) in requests.iter().zip(answers) {
                let answer = answer.try_recv().map_err(|_| "a request was not answered".to_owned())?;
                self.note(request, answer)?;
            }
            match stepped {
                Ok(_) => {}
                Err(EventsError::Damaged(error)) => return Err(error.to_string()),
                Err(_) if self.disk.is_crashed() => {
                    self.count("crashes while appending");
                    return Ok(());
                }
                Err(error) => return Err(format!("the committer: {error}")),
            }
            if self.below(2) == 0 && node.index.step().is_err() && !self.disk.is_crashed() {
                return Err("the index could not do its work".into());
            }
        }
        Ok(())
    }

    /// New events and repeated ones, with and without expectations.
    fn request(&mut self) -> Request {
        let mut events: Vec<Event> = Vec::new();
        for _ in 0..=self.below(3) {
            let event = if self.below(4) == 0 && !self.sent.is_empty() {
                self.sent[self.below(self.sent.len() as u64) as usize].clone()
            } else {
                self.event()
            };
            if !events.iter().any(|other| other.id == event.id) {
                events.push(event);
            }
        }
        self.sent.extend(events.iter().cloned());
        let mut expectations = Vec::new();
        if self.below(3) == 0 {
            let expected = match self.below(3) {
                0 => Expected::NoStream,
                1 => Expected::Exists,
                _ => Expected::Revision(Revision::new(1 + self.below(8))),
            };
            expectations.push(Expectation { stream: self.stream(), expected });
        }
        Request { expectations, skip_existing: self.below(2) == 0, ..Request::of(events) }
    }

    fn event(&self) -> Event {
        let random = self.clock.random() | 1;
        Event {
            id: EventId::from_slice(&random.to_be_bytes()).unwrap(),
            event_type: EventType::parse("t").unwrap(),
            stream: self.stream(),
            tags: Vec::new(),
            data: Bytes::from(format!("\"{}\"", "x".repeat(self.below(900) as usize))),
            metadata: None,
            time_unix_nanos: None,
        }
    }

    fn stream(&self) -> StreamId {
        StreamId::parse(&format!("s{}", self.below(STREAMS))).unwrap()
    }

    /// Remembers what an answer promised.
    fn note(&mut self, request: &Request, answer: Answer) -> Result<(), String> {
        match answer {
            Ok(appended) => {
                self.count(if appended.already_applied() { "already applied" } else { "appended" });
                for (event, place) in request.events.iter().zip(appended.events) {
                    let place = (place.position, place.revision);
                    if let Some(before) = self.acknowledged.insert(event.id, place)
                        && before != place
                    {
                        return Err(format!("event {} was at {before:?} and is at {place:?}", event.id));
                    }
                }
            }
            Err(AppendError::ConditionsFailed(failed)) => {
                self.count("conditions failed");
                let streams = failed.into_iter().filter_map(|condition| match condition {
                    FailedCondition::Stream(failed) => Some(failed),
                    _ => None,
                });
                let at_events = streams.filter(|failed| failed.position > Position::ZERO);
                self.named.extend(at_events.map(|f| (f.expectation.stream, f.actual, f.position)));
            }
            Err(AppendError::PartlyApplied { known }) => {
                self.count("partly applied");
                for (index, place) in known {
                    let id = request.events[index].id;
                    self.acknowledged.insert(id, (place.position, place.revision));
                }
            }
            Err(AppendError::OutcomeUnknown(_)) => self.count("outcome unknown"),
            // A crashed disk refuses reads too.
            Err(AppendError::Unreadable(_) | AppendError::DiskFull(_)) if self.disk.is_crashed() => {}
            Err(error) => return Err(format!("an unexpected answer: {error}")),
        }
        Ok(())
    }

    fn check(&self, reader: &LogReader) -> Result<(), String> {
        let mut revisions: HashMap<StreamId, u64> = HashMap::new();
        let mut places: HashMap<EventId, (Position, Revision)> = HashMap::new();
        let mut at: BTreeSet<(u64, StreamId, u64)> = BTreeSet::new();
        let sent: HashMap<EventId, &Event> = self.sent.iter().map(|event| (event.id, event)).collect();
        for number in 1..=reader.head().get() {
            let position = Position::new(number);
            let payload =
                reader.read(position).map_err(text)?.ok_or_else(|| format!("no record at {position}"))?;
            let recorded = RecordedEvent::decode(position, payload).map_err(text)?;
            let event = &recorded.event;
            if sent.get(&event.id).is_none_or(|sent| *sent != event) {
                return Err(format!("position {position} holds what was not sent"));
            }
            let revision = revisions.entry(event.stream.clone()).or_default();
            *revision += 1;
            if recorded.revision.get() != *revision {
                return Err(format!(
                    "position {position} has revision {}, not {revision}",
                    recorded.revision
                ));
            }
            if places.insert(event.id, (position, recorded.revision)).is_some() {
                return Err(format!("position {position} repeats the id {}", event.id));
            }
            at.insert((number, event.stream.clone(), *revision));
        }
        if let Some((id, place)) = self.acknowledged.iter().find(|(id, place)| places.get(id) != Some(place))
        {
            return Err(format!("acknowledged event {id} at {place:?} is at {:?}", places.get(id)));
        }
        let missing = |(stream, revision, position): &&(StreamId, Revision, Position)| {
            !at.contains(&(position.get(), stream.clone(), revision.get()))
        };
        match self.named.iter().find(missing) {
            Some(named) => Err(format!("a refusal named {named:?}, which is not there")),
            None => Ok(()),
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A number from outside, which sizes a campaign.
#[expect(clippy::disallowed_methods, reason = "a campaign is sized from outside")]
fn asked(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn answers_hold_over_crashes_at_any_operation() {
    let (first, seeds) = (asked("TEST_SEED", 1), asked("TEST_SEEDS", 400));
    let mut histogram: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in first..first + seeds {
        let story = Story::new(seed, None).run().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        for (what, count) in story {
            *histogram.entry(what).or_default() += count;
        }
    }
    println!("{histogram:?}");
    let kinds = ["appended", "already applied", "conditions failed", "partly applied", "outcome unknown"];
    for what in kinds.iter().chain(&["crashes while opening", "crashes while appending"]) {
        assert!(
            seeds < 400 || histogram.get(what).is_some_and(|count| *count >= 50),
            "{what}: {histogram:?}"
        );
    }
}

#[test]
fn an_acknowledgement_without_a_sync_is_caught() {
    let caught = (1..=400).any(|seed| Story::new(seed, Some(Sabotage::SkipSync)).run().is_err());
    assert!(caught, "400 stories without syncs went unnoticed");
}
