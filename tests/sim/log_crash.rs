//! Crashes of the log by seed: appends, crashes at any I/O, failed syncs, crashes during recovery, and after each of
//! them the question whether the log is what it promised.
//!
//! The checker: what was acknowledged or once shown by a recovered log is there; nothing is there that was not sent;
//! groups are there as a whole, in order, with the bytes that were sent; every chain is right.
//!
//! The campaign (`campaign.rs`) does all this to a whole node. This one stays for what the log takes and a node never
//! gives it: groups of any bytes, larger than a segment, seen edge by edge; scans in both directions; and that every
//! byte that was cut is in quarantine.

use std::{collections::BTreeMap, io, ops::Range, sync::Arc};

use bytes::Bytes;
use outrigger::{
    clock::{Clock as _, SimClock},
    disk::{read_file, sim::SimDisk},
    event::Position,
    log::{LogConfig, LogError, LogReader, LogWriter, Opened, open_sabotaged},
    sabotage::Sabotage,
};

/// Rounds of opening, appending and crashing in one story.
const ROUNDS: usize = 6;
/// Groups that one round appends at most.
const GROUPS_MAX: u64 = 23;
const EVERYTHING: Position = Position::new(u64::MAX);

/// How often what happened, over all stories of a campaign.
type Histogram = BTreeMap<&'static str, u64>;

/// One life of one log.
struct Story {
    clock: SimClock,
    disk: SimDisk,
    sabotage: Option<Sabotage>,
    segment_bytes: u64,
    /// Every payload that was sent and may be in the log, by position.
    sent: Vec<Bytes>,
    /// Where groups end, as positions.
    edges: Vec<usize>,
    /// Acknowledged, or shown after recovery: never to be lost.
    promised: usize,
    histogram: Histogram,
}

/// How a round ended.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Crash,
    Kill,
    CleanStop,
}

impl Story {
    fn new(seed: u64, sabotage: Option<Sabotage>) -> Self {
        let clock = SimClock::new(seed);
        let segment_bytes = [13_000, 16_384, 20_000, 65_536][clock.random() as usize % 4];
        Self {
            disk: SimDisk::new(seed),
            clock,
            sabotage,
            segment_bytes,
            sent: Vec::new(),
            edges: vec![0],
            promised: 0,
            histogram: Histogram::new(),
        }
    }

    fn below(&self, bound: u64) -> u64 {
        self.clock.random() as u64 % bound
    }

    fn count(&mut self, what: &'static str) {
        *self.histogram.entry(what).or_default() += 1;
    }

    fn run(mut self) -> Result<Histogram, String> {
        for _ in 0..ROUNDS {
            self.arm();
            let end = self.round()?;
            self.stop(end);
        }
        // The last word has a machine that does not fail.
        let opened = self.open().map_err(|error| format!("a calm opening: {error}"))?;
        self.check_recovered(&opened)?;
        self.histogram.insert("records at the end", self.sent.len() as u64);
        Ok(self.histogram)
    }

    /// Prepares what will go wrong in this round.
    fn arm(&self) {
        let now = self.disk.operations();
        match self.below(8) {
            0..=3 => self.disk.crash_at(now + self.below(60)),
            4 => self.disk.fail_at(now + self.below(60), io::ErrorKind::Other),
            5 => self.disk.fail_sync_from(now + self.below(60), io::ErrorKind::Other),
            6 => self.disk.crash_at(now + self.below(12)),
            _ => {}
        }
    }

    fn open(&self) -> Result<Opened, LogError> {
        let config = LogConfig {
            dir: "/data/log".into(),
            node: "flights".into(),
            segment_bytes: self.segment_bytes,
            low_water_bytes: 0,
        };
        open_sabotaged(Arc::new(self.disk.clone()), &self.clock, config, self.sabotage)
    }

    fn round(&mut self) -> Result<End, String> {
        let opened = match self.open() {
            Ok(opened) => opened,
            Err(LogError::Io { .. }) => {
                self.count("opening failed");
                return Ok(if self.disk.is_crashed() { End::Crash } else { End::Kill });
            }
            Err(error) => return Err(format!("the log does not open: {error}")),
        };
        match self.check_recovered(&opened) {
            Err(_) if self.disk.is_crashed() => return Ok(End::Crash),
            other => other?,
        }
        let Opened { mut writer, reader, .. } = opened;
        for _ in 0..=self.below(GROUPS_MAX) {
            if let Some(end) = self.step(&mut writer, &reader)? {
                return Ok(end);
            }
        }
        Ok(match self.below(3) {
            0 => End::Crash,
            1 => End::Kill,
            _ if writer.sync_mark().is_ok() => End::CleanStop,
            _ => End::Kill,
        })
    }

    fn step(&mut self, writer: &mut LogWriter, reader: &LogReader) -> Result<Option<End>, String> {
        if self.below(6) == 0 && writer.sync_mark().is_err() {
            self.count("mark failed");
            return Ok(Some(self.end_after_error(writer)?));
        }
        let payloads = self.payloads();
        self.sent.extend(payloads.iter().cloned());
        self.edges.push(self.sent.len());
        match writer.append(&payloads) {
            Ok(appended) => {
                self.promised = self.sent.len();
                let first = self.promised + 1 - payloads.len();
                let expected = (Position::new(first as u64), Position::new(self.promised as u64));
                if (appended.first, appended.last) != expected || reader.head() != expected.1 {
                    return Err(format!("appended {appended:?}, expected {expected:?}"));
                }
                match reader.read(appended.last) {
                    Ok(Some(payload)) if Some(&payload) == payloads.last() => Ok(None),
                    Err(LogError::Io { .. }) if self.disk.is_crashed() => Ok(Some(End::Crash)),
                    other => Err(format!("reading what was just appended gives {other:?}")),
                }
            }
            Err(LogError::Io { .. }) => {
                self.count("append failed");
                Ok(Some(self.end_after_error(writer)?))
            }
            Err(error) => Err(format!("an append gives {error}")),
        }
    }

    fn end_after_error(&self, writer: &mut LogWriter) -> Result<End, String> {
        let again = writer.append(&[Bytes::from_static(b"again")]);
        if !matches!(again, Err(LogError::Poisoned)) {
            return Err(format!("after an error the log goes on: {again:?}"));
        }
        Ok(if self.disk.is_crashed() || self.below(3) == 0 { End::Crash } else { End::Kill })
    }

    /// Mostly small, now and then as large as a segment or larger.
    fn payloads(&self) -> Vec<Bytes> {
        let records = 1 + self.below(6);
        let bytes_max = [10, 100, 700, 6_000][self.below(4) as usize];
        let payload = |_| {
            let fill = self.below(256) as u8;
            Bytes::from(vec![fill; self.below(bytes_max) as usize])
        };
        (0..records).map(payload).collect()
    }

    fn stop(&mut self, end: End) {
        if self.disk.has_unsynced() {
            self.count("unsynced at the stop");
        }
        let seed = self.clock.random() as u64;
        let (next, what) = match end {
            End::Crash => (self.disk.crash(seed), "power loss"),
            End::Kill => (self.disk.kill(seed), "kill"),
            End::CleanStop => (self.disk.kill(seed), "clean stop"),
        };
        self.count(what);
        self.disk = next;
    }

    fn check_recovered(&mut self, opened: &Opened) -> Result<(), String> {
        let report = &opened.recovery;
        let head = report.head.get() as usize;
        if head < self.promised {
            return Err(format!("promised up to {}, recovered up to {head}", self.promised));
        }
        if !self.edges.contains(&head) {
            return Err(format!("recovered up to {head}, which is inside a group: {:?}", self.edges));
        }
        let rewritten = report.rewritten.is_some();
        self.count(match (rewritten, report.cut.is_some()) {
            (false, false) => "recovered clean",
            (true, false) => "recovered with a tail",
            (false, true) => "recovered with a cut",
            (true, true) => "recovered with a tail and a cut",
        });
        if let Some(cut) = &report.cut {
            let path = cut.quarantine.as_ref().ok_or("cut bytes were not kept")?;
            let kept = read_file(&self.disk, path, 1 << 20).map_err(|error| error.to_string())?;
            if kept.len() as u64 != cut.bytes {
                return Err(format!("kept {} bytes of {cut:?}", kept.len()));
            }
        }
        self.sent.truncate(head);
        self.edges.retain(|edge| *edge <= head);
        check_content(&opened.reader, &self.sent)?;
        // Whoever reads the log now may rely on what it shows.
        self.promised = head;
        Ok(())
    }
}

/// The log holds exactly these payloads, whichever way it is read.
fn check_content(reader: &LogReader, expected: &[Bytes]) -> Result<(), String> {
    let told = |error: LogError| error.to_string();
    if reader.head().get() != expected.len() as u64 {
        return Err(format!("the head is {}, expected {}", reader.head(), expected.len()));
    }
    let numbered = |range: Range<usize>| -> Vec<(Position, Bytes)> {
        range.map(|i| (Position::new(i as u64 + 1), expected[i].clone())).collect()
    };
    let all = reader.scan(Position::ZERO, EVERYTHING, usize::MAX, usize::MAX).map_err(told)?;
    if all != numbered(0..expected.len()) {
        return Err("a scan forwards differs from what was sent".into());
    }
    let mut back = reader.scan_back(EVERYTHING, Position::ZERO, usize::MAX, usize::MAX).map_err(told)?;
    back.reverse();
    if back != all {
        return Err("a scan backwards differs from one forwards".into());
    }
    let verified = reader.verify().map_err(told)?;
    if verified.records != expected.len() as u64 {
        return Err(format!("verified {verified:?}, expected {} records", expected.len()));
    }
    Ok(())
}

/// Runs stories until one fails; gives what happened, or the first seed that failed and why.
fn campaign(seeds: Range<u64>, sabotage: Option<Sabotage>) -> Result<Histogram, (u64, String)> {
    let mut total = Histogram::new();
    for seed in seeds {
        let histogram = Story::new(seed, sabotage).run().map_err(|what| (seed, what))?;
        for (what, count) in histogram {
            *total.entry(what).or_default() += count;
        }
    }
    Ok(total)
}

/// From `TEST_SEED` (0) on, `TEST_SEEDS` many (1,000); and whether they are enough to have seen everything happen.
#[expect(clippy::disallowed_methods, reason = "tests take their size from the environment")]
fn seeds_to_run() -> (Range<u64>, bool) {
    let number = |name, default| {
        std::env::var(name)
            .map_or(default, |text| text.parse().expect("TEST_SEED and TEST_SEEDS are numbers"))
    };
    let (first, count) = (number("TEST_SEED", 0), number("TEST_SEEDS", 1_000));
    (first..first + count, count >= 1_000)
}

#[test]
fn the_log_keeps_its_promises_through_crashes() {
    let (seeds, whole) = seeds_to_run();
    let histogram = campaign(seeds, None).unwrap_or_else(|(seed, what)| panic!("seed {seed}: {what}"));
    println!("{histogram:#?}");
    if !whole {
        return;
    }
    for what in [
        "append failed",
        "kill",
        "mark failed",
        "opening failed",
        "power loss",
        "recovered clean",
        "recovered with a cut",
        "recovered with a tail",
        "recovered with a tail and a cut",
        "unsynced at the stop",
    ] {
        let count = histogram.get(what).copied().unwrap_or(0);
        assert!(count >= 20, "{what:?} happened {count} times: {histogram:#?}");
    }
}

/// The unchanged campaign must find a fault that is built in; gives by which seed and how.
fn check_caught(sabotage: Sabotage) -> String {
    match campaign(0..1_000, Some(sabotage)) {
        Err((seed, what)) => format!("{sabotage:?}: caught by seed {seed}: {what}"),
        Ok(histogram) => panic!("{sabotage:?} was not caught: {histogram:#?}"),
    }
}

#[test]
fn skipping_syncs_is_caught() {
    println!("{}", check_caught(Sabotage::SkipSync));
}

#[test]
fn skipping_directory_syncs_is_caught() {
    println!("{}", check_caught(Sabotage::SkipDirectorySync));
}

#[test]
fn retrying_a_failed_sync_is_caught() {
    println!("{}", check_caught(Sabotage::RetrySync));
}

#[test]
fn serving_the_recovered_tail_without_writing_it_anew_is_caught() {
    println!("{}", check_caught(Sabotage::ServeRecoveredTail));
}

#[test]
fn a_mark_that_runs_ahead_is_caught() {
    println!("{}", check_caught(Sabotage::MarkAhead));
}

#[test]
fn a_story_is_told_twice_the_same() {
    let tell = || campaign(40..60, None).expect("these seeds are good");
    assert_eq!(tell(), tell());
}

/// A group whose sync failed reads back from the cache, is recovered, and must from then on survive power loss.
#[test]
fn after_a_failed_sync_the_cache_is_not_trusted() {
    for seed in 0..300 {
        let mut story = Story::new(seed, None);
        let mut log = story.open().unwrap();
        let payloads: Vec<Bytes> = (0..20).map(|i| Bytes::from(vec![i; 400])).collect();
        log.writer.append(&payloads[..1]).unwrap();
        story.disk.fail_sync_from(story.disk.operations(), io::ErrorKind::Other);
        let failed = log.writer.append(&payloads[1..]).unwrap_err();
        assert!(matches!(failed, LogError::Io { .. }), "{failed}");
        assert!(matches!(log.writer.sync_mark(), Err(LogError::Poisoned)));
        assert_eq!(log.reader.head(), Position::new(1), "nothing undurable is shown");
        story.disk = story.disk.kill(seed);
        let shown = story.open().unwrap().reader.head().get() as usize;
        assert!(shown == 1 || shown == payloads.len(), "seed {seed}: {shown} records");
        story.disk = story.disk.crash(seed);
        check_content(&story.open().unwrap().reader, &payloads[..shown]).unwrap();
    }
}
