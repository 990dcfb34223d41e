//! Three nodes on one bus in memory, both unkind by seed: `flights` and `weather` own, `operations` imports both and owns
//! a board, which `flights` imports.

use std::sync::Arc;

use outrigger::{
    clock::{Clock as _, SimClock},
    mesh::{
        definition::Import,
        envelope::{Envelope, Received, chain_after, from_message, to_message},
        memory::{Faults, MemoryBroker},
        state::{Command, ImportState},
        trust::Trust,
    },
    sabotage::Sabotage,
};

use super::{
    check::{check_import, check_late, check_owners},
    node::{SimNode, event, key_of},
};

pub(crate) const FLIGHTS: &str = "export: flights\nversion: 1\nevents:\n  flight.departed:\n    when: data.n % 7 != 0\n    \
    keep: [n]\n  flight.noise: {data: all}\n";
pub(crate) const WEATHER: &str = "export: weather\nversion: 1\nevents:\n  weather.observed: {data: all}\n";
pub(crate) const BOARD: &str = "export: board\nversion: 1\nevents:\n  board.note: {data: all}\n  seen.departed: {as: board.note, data: all}\n";
pub(crate) const TAKE_FLIGHTS: &str = "import: flights\nfrom: {node: flights, export: flights, version: 1}\n\
    streams: 'flights/*'\nevents:\n  flight.departed:\n    append:\n    - {type: seen.departed, stream: 'flights/a', \
    data: {n: '${data.n}'}}\n    - {type: seen.again, when: data.n % 3 == 0, stream: 'flights/b', data: {n: '${data.n}'}}\n";
pub(crate) const TAKE_WEATHER: &str =
    "import: weather\nfrom: {node: weather, export: weather, version: 1}\nstreams: 'weather/*'\n";
/// The same with quarantine: every 61st number fails.
pub(crate) const TAKE_WEATHER_FAILING: &str = "import: weather\nfrom: {node: weather, export: weather, version: 1}\n\
    streams: 'weather/*'\non_error: quarantine\nevents:\n  weather.observed:\n    append:\n    - {when: '1 / (data.n % 61) >= 0', \
    data: all}\n";
pub(crate) const TAKE_BOARD: &str =
    "import: board\nfrom: {node: operations, export: board, version: 1}\nstreams: 'board/*'\n";

const STEPS: u64 = 260;
const MILLISECOND: i64 = 1_000_000;
/// Steps of half a second in which everything must have come right once nothing goes wrong any more.
const QUIET_STEPS: u64 = 900;
const START: i64 = 1_700_000_000_000_000_000;

/// What came of a seed.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) appended: u64,
    pub(crate) held: usize,
    pub(crate) faults: u64,
    pub(crate) crashes: u64,
    pub(crate) stops: u64,
}

/// The world of one seed.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) broker: MemoryBroker,
    pub(crate) nodes: [SimNode; 3],
    random: SimClock,
    pub(crate) now: i64,
    appended: u64,
    /// What was parked has been applied late.
    is_retried: bool,
}

/// Trust in everybody who plays.
pub(crate) fn trust_in(names: &[&str]) -> Arc<Trust> {
    let mut trust = Trust::default();
    for name in names {
        trust.trust(name, key_of(name).public()).unwrap();
    }
    Arc::new(trust)
}

impl World {
    pub(crate) fn new(seed: u64, faults: Faults, sabotage: Option<Sabotage>) -> Self {
        let broker = MemoryBroker::new(seed, faults);
        let trust = trust_in(&["flights", "weather", "operations"]);
        let node = |name, at: u64| SimNode::new(name, seed.wrapping_mul(4) + at, &broker, &trust);
        let mut nodes = [
            node("flights", 0).exporting(FLIGHTS).importing(TAKE_BOARD),
            node("weather", 1).exporting(WEATHER),
            node("operations", 2).exporting(BOARD).importing(TAKE_FLIGHTS).importing(TAKE_WEATHER_FAILING),
        ];
        for node in &mut nodes {
            node.sabotage = sabotage;
        }
        Self {
            broker,
            nodes,
            random: SimClock::new(seed ^ 0x5eed),
            now: START,
            appended: 0,
            is_retried: false,
        }
    }

    pub(crate) fn below(&self, bound: u64) -> u64 {
        (self.random.random() as u64) % bound
    }

    /// Tells the whole story of a seed.
    pub(crate) fn tell(seed: u64, sabotage: Option<Sabotage>) -> Result<Told, String> {
        let rate = [5_000, 20_000, 60_000][(seed % 3) as usize];
        let mut world = Self::new(seed, Faults::all(rate), sabotage);
        for step in 0..STEPS {
            world.unkind_step();
            if step % 64 == 63 {
                world.check(false)?;
            }
        }
        world.broker.set_faults(Faults::none());
        world.settle(QUIET_STEPS)?;
        world.check(true)?;
        world.retry_parked()?;
        let faults: u64 = world.broker.fault_counts().values().sum();
        let held = world.check(true)?;
        let crashes: u64 = world.nodes.iter().map(|node| node.crashes).sum();
        let stops = world.stops();
        Ok(Told { appended: world.appended, held, faults: faults + crashes, crashes, stops })
    }

    fn unkind_step(&mut self) {
        self.now += (self.below(40) as i64) * MILLISECOND;
        if self.below(20) == 0 {
            self.now += 1_500 * MILLISECOND;
        }
        for _ in 0..=self.below(3) {
            let owner = self.below(3) as usize;
            self.append_some(owner);
        }
        match self.below(60) {
            0 | 1 => {
                let at = self.below(3) as usize;
                let operations = self.nodes[at].disk.operations() + self.below(40);
                self.nodes[at].disk.crash_at(operations);
            }
            2 => {
                let at = self.below(3) as usize;
                self.nodes[at].crash();
            }
            3 => self.forge(),
            4 => {
                let name = self.nodes[self.below(3) as usize].name;
                self.broker.wipe(name);
            }
            _ => {}
        }
        for at in 0..3 {
            if self.below(4) > 0 {
                self.nodes[at].step(self.now);
            }
        }
    }

    /// One of the types that an owner has, public or not.
    pub(crate) fn append_some(&mut self, owner: usize) {
        self.appended += 1;
        let n = self.appended;
        let event_type = match (owner, self.below(5)) {
            (0, 0) => "flight.noise",
            (0, 1) => "flight.private",
            (0, _) => "flight.departed",
            (1, 0) => "weather.private",
            (1, _) => "weather.observed",
            _ => "board.note",
        };
        let data = format!("{{\"n\": {n}}}");
        self.nodes[owner].append(event(event_type, n, &data));
    }

    /// Somebody without a key puts an event behind the newest one of a stream, chain and all.
    fn forge(&mut self) {
        let stream = ["flights", "weather", "operations"][self.below(3) as usize];
        let kept = self.broker.messages(stream);
        let newest = kept.iter().rev().find_map(|kept| match from_message(&kept.message) {
            Ok(Received::Event(envelope)) => Some(*envelope),
            _ => None,
        });
        let Some(newest) = newest else { return };
        let mut forged = Envelope { signature: None, ..newest.clone() };
        forged.place.seq += 1;
        forged.place.position = forged.place.position.next();
        forged.event.data = bytes::Bytes::from_static(b"{\"n\": 666}");
        forged.place.chain = chain_after(&newest.place.chain, &forged);
        if self.below(2) == 0 {
            forged.signature = Some(key_of("mallory").sign(&forged.name, &forged.definition, &forged.place));
        }
        self.broker.plant(stream, to_message(&forged));
    }

    /// Steps until everybody has what is there, or as often as allowed.
    pub(crate) fn settle(&mut self, steps: u64) -> Result<(), String> {
        for _ in 0..steps {
            self.now += 500 * MILLISECOND;
            for _ in 0..4 {
                for node in &mut self.nodes {
                    node.step(self.now);
                }
            }
            if self.is_quiet() && self.check(true).is_ok() {
                return Ok(());
            }
        }
        let now = self.now;
        let states: Vec<_> = self.nodes.iter_mut().map(|node| node.status(now)).collect();
        Err(format!("it does not come right: {:?}; {states:#?}", self.check(true)))
    }

    fn is_quiet(&mut self) -> bool {
        let now = self.now;
        self.nodes.iter_mut().all(|node| {
            node.life().mesh.is_drained()
                && node.status(now).imports.iter().all(|import| import.state == ImportState::Following)
        })
    }

    /// The import file is mended and what was parked tried again, over a crash.
    fn retry_parked(&mut self) -> Result<(), String> {
        let now = self.now;
        let operations = &mut self.nodes[2];
        // No crash of before is to come yet.
        operations.crash();
        operations.step(now);
        let parked = operations.import_status("weather", now).aside.parked_events;
        operations.imports[1] = Arc::new(Import::parse(TAKE_WEATHER, "weather.yaml").unwrap());
        let imports = operations.imports.clone();
        operations.life().mesh.set_imports(imports);
        operations.step(now);
        if parked > 0 {
            let retry = Command::Retry { import: "weather".into(), reason: "mended".into() };
            operations.command(retry, now).map_err(|error| error.to_string())?;
            let operations_until = self.below(12);
            let operations = &mut self.nodes[2];
            operations.disk.crash_at(operations.disk.operations() + operations_until);
        }
        self.is_retried = true;
        self.settle(QUIET_STEPS)
    }

    /// Every import against its owner.
    pub(crate) fn check(&mut self, is_whole: bool) -> Result<usize, String> {
        let [flights, weather, operations] = &mut self.nodes;
        let mut held = check_import("flights", flights, operations, is_whole)?;
        held += if self.is_retried {
            check_late(weather, operations)?
        } else {
            check_import("weather", weather, operations, is_whole)?
        };
        held += check_import("board", operations, flights, is_whole)?;
        check_owners(&operations.log(), &["flights", "weather"])?;
        check_owners(&flights.log(), &["operations"])?;
        Ok(held)
    }

    /// How often imports stopped in the lives that last.
    pub(crate) fn stops(&mut self) -> u64 {
        self.nodes.iter_mut().map(|node| node.life().mesh.stops().map(|(.., count)| count).sum::<u64>()).sum()
    }
}
