//! kill -9 of the real process under gRPC load, again and again on one directory: what clients were told is held
//! against what the log has.
//!
//! Writers of every kind (single events, batches, a pipelined stream, expected revisions, queries that nothing may
//! match, requests that were cut off and are sent once more) keep a record of what they sent and what was answered. The
//! process dies when a random number of answers has come, with others under way. The next one is read by itself: every
//! acknowledged event at its position with its content, every request whole or absent, nothing that was not sent, no
//! condition that did not hold. What a refusal named must be there too. `TEST_KILLS` says how often.
//!
//! The page cache outlives a killed process, so this says nothing about syncs: `durability.rs` and the simulation do.

use std::{
    collections::{HashMap, VecDeque},
    path::Path,
    process::Command,
};

use bytes::Bytes;
use outrigger::api::proto::v1::{
    self, append_stream_response::Outcome, event_log_client::EventLogClient, expected_revision::Expected,
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::support::{Process, append, binary, event};

/// Answers of a round: at most so many before the kill.
const ANSWERS_MAX: u64 = 600;
/// Requests under way on a stream.
const WINDOW: usize = 64;
/// Positions that are read once more after each kill; the last look reads all of them.
const READ_AGAIN: usize = 200;
const NOTES_MAX: usize = 1_024;

type Log = EventLogClient<Channel>;

/// What a writer tells the record.
#[derive(Debug)]
enum Note {
    /// About to be sent.
    Sent(v1::AppendRequest),
    Acknowledged(v1::AppendRequest, v1::AppendResponse),
    /// A condition failed because of the event at this position.
    Refused(u64),
}

/// What there is in all of the writers' heads, and what of it was seen in the log.
#[derive(Debug, Default)]
struct Record {
    /// All requests ever sent, by the id of their first event.
    sent: HashMap<Bytes, v1::AppendRequest>,
    acknowledged: Vec<(v1::AppendRequest, v1::AppendResponse)>,
    refused_by: Vec<u64>,
    /// The log as it was read last.
    log: Vec<v1::Event>,
    revisions: HashMap<String, u64>,
    /// The newest position of each tag.
    tags: HashMap<String, u64>,
    checked: usize,
}

fn random(bound: u64) -> u64 {
    u64::from(u32::from_be_bytes(uuid::Uuid::new_v4().as_bytes()[..4].try_into().unwrap())) % bound
}

/// Events of one request: each says which of how many it is, so that half a request shows.
fn request(writer: &str, streams: u64, count: u64) -> v1::AppendRequest {
    let one = |at| {
        let pad = "x".repeat(random(400) as usize);
        let data = format!(r#"{{"at":{at},"of":{count},"pad":"{pad}"}}"#);
        let stream = format!("{writer}-{}", random(streams));
        v1::NewEvent { tags: vec![format!("writer:{writer}")], ..event("written", &stream, &data) }
    };
    append((0..count).map(one).collect())
}

impl Record {
    fn take(&mut self, note: Note) {
        match note {
            Note::Sent(request) => {
                self.sent.insert(first_id(&request), request);
            }
            Note::Acknowledged(request, response) => self.acknowledged.push((request, response)),
            Note::Refused(position) => self.refused_by.push(position),
        }
    }

    /// Reads the log from a little before where it was read last, and holds it against all that is known.
    async fn check(&mut self, log: &mut Log, again: usize) {
        let from = self.log.len().saturating_sub(again);
        let found = read(log, from as u64).await;
        let known = self.log.len() - from;
        assert!(
            found.len() >= known,
            "{} events were seen before, and now {}",
            self.log.len(),
            from + found.len()
        );
        assert!(found[..known] == self.log[from..], "events behind {from} are not what they were");
        self.log.extend_from_slice(&found[known..]);
        while self.checked < self.log.len() {
            self.check_request();
        }
        for (request, response) in std::mem::take(&mut self.acknowledged) {
            self.check_acknowledged(&request, &response);
        }
        for position in std::mem::take(&mut self.refused_by) {
            assert!(
                position <= self.log.len() as u64,
                "an event at {position} refused a request and is gone"
            );
        }
    }

    /// The next request in the log: one that was sent, whole, in order, and its conditions held there.
    fn check_request(&mut self) {
        let first = &self.log[self.checked];
        let position = self.checked as u64 + 1;
        let request = self.sent.get(&first.id);
        let request = request.unwrap_or_else(|| panic!("position {position} begins no request: {first:?}"));
        self.check_conditions(request, position);
        let found = &self.log[self.checked..];
        assert!(found.len() >= request.events.len(), "position {position} begins half a request");
        for (at, (found, sent)) in found.iter().zip(&request.events).enumerate() {
            assert_eq!(found.position, position + at as u64, "positions are dense");
            check_content(found, sent);
            let revision = self.revisions.entry(found.stream.clone()).or_default();
            *revision += 1;
            assert_eq!(found.revision, *revision, "revisions are dense: {found:?}");
            for tag in &found.tags {
                self.tags.insert(tag.clone(), found.position);
            }
        }
        self.checked += request.events.len();
    }

    fn check_conditions(&self, request: &v1::AppendRequest, position: u64) {
        for condition in &request.expected_revisions {
            let actual = self.revisions.get(&condition.stream).copied().unwrap_or(0);
            let expected = match condition.expected.as_ref().unwrap() {
                Expected::Revision(revision) => *revision,
                _ => 0,
            };
            assert_eq!(actual, expected, "position {position}: {condition:?} did not hold");
        }
        for condition in &request.fail_if_events_match {
            let tag = &condition.query.as_ref().unwrap().items[0].tags[0];
            let newest = self.tags.get(tag).copied().unwrap_or(0);
            let after = condition.after.unwrap_or(0);
            assert!(newest <= after, "position {position}: {condition:?} was broken by position {newest}");
        }
    }

    fn check_acknowledged(&self, request: &v1::AppendRequest, response: &v1::AppendResponse) {
        assert_eq!(response.events.len(), request.events.len());
        for (sent, answered) in request.events.iter().zip(&response.events) {
            let found = self.log.get(answered.position as usize - 1);
            let found = found.unwrap_or_else(|| panic!("acknowledged and lost: {answered:?}"));
            assert_eq!(found.revision, answered.revision);
            check_content(found, sent);
        }
    }

    /// Requests that were sent lately and have no answer, so far as it is known whether they are in the log.
    fn unanswered(&self, lately: &[Bytes]) -> Vec<v1::AppendRequest> {
        lately.iter().filter_map(|id| self.sent.get(id).cloned()).collect()
    }
}

fn first_id(request: &v1::AppendRequest) -> Bytes {
    request.events[0].id.clone().unwrap()
}

fn check_content(found: &v1::Event, sent: &v1::NewEvent) {
    // Tags are a set.
    let mut tags = sent.tags.clone();
    tags.sort();
    let is_same = Some(&found.id) == sent.id.as_ref()
        && (&found.r#type, &found.stream, &found.tags) == (&sent.r#type, &sent.stream, &tags)
        && (&found.data, &found.metadata) == (&sent.data, &sent.metadata);
    assert!(is_same, "{found:?} is not what was sent: {sent:?}");
}

async fn read(log: &mut Log, after: u64) -> Vec<v1::Event> {
    let request = v1::ReadRequest { after: Some(after), ..Default::default() };
    let mut pages = log.read(request).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(page) = pages.message().await.unwrap() {
        events.extend(page.events);
    }
    events
}

/// One connection's way to the log and to the record.
struct Writer {
    log: Log,
    notes: mpsc::Sender<Note>,
}

impl Writer {
    async fn note(&self, note: Note) {
        self.notes.send(note).await.expect("the record is kept as long as there are writers");
    }

    /// Sends one request. `None`: no answer came. A refusal gives the position that it names.
    async fn send(&mut self, request: v1::AppendRequest) -> Option<Result<v1::AppendResponse, u64>> {
        self.note(Note::Sent(request.clone())).await;
        match self.log.append(request.clone()).await {
            Ok(response) => {
                let response = response.into_inner();
                self.note(Note::Acknowledged(request, response.clone())).await;
                Some(Ok(response))
            }
            Err(status) => {
                let position = refused_by(&status)?;
                self.note(Note::Refused(position)).await;
                Some(Err(position))
            }
        }
    }

    /// Unary requests of so many events, without conditions, after those that an earlier process did not answer.
    async fn plain(mut self, name: &'static str, count: u64, unanswered: Vec<v1::AppendRequest>) {
        for request in unanswered {
            match self.send(request).await {
                Some(answer) => assert!(answer.is_ok(), "a repeated request conflicts with itself"),
                None => return,
            }
        }
        while self.send(request(name, 5, 1 + random(count))).await.is_some() {}
    }

    /// A stream of requests with a window of them under way.
    async fn stream(mut self, name: &'static str) {
        let (requests, taken) = mpsc::channel(WINDOW);
        let mut waiting = VecDeque::new();
        let mut answers: Option<tonic::Streaming<v1::AppendStreamResponse>> = None;
        let mut taken = Some(taken);
        loop {
            while waiting.len() < WINDOW {
                let request = request(name, 5, 1 + random(3));
                self.note(Note::Sent(request.clone())).await;
                waiting.push_back(request.clone());
                if requests.send(v1::AppendStreamRequest { request: Some(request) }).await.is_err() {
                    return;
                }
            }
            if let Some(taken) = taken.take() {
                let Ok(stream) = self.log.append_stream(ReceiverStream::new(taken)).await else { return };
                answers = Some(stream.into_inner());
            }
            let Some(Ok(answer)) = answers.as_mut().expect("it was opened").next().await else { return };
            let request = waiting.pop_front().unwrap();
            match answer.outcome.unwrap() {
                Outcome::Appended(response) => self.note(Note::Acknowledged(request, response)).await,
                Outcome::Failure(failure) => panic!("nothing refuses what has no condition: {failure:?}"),
            }
        }
    }

    /// Two of these write to one stream, each only where it knows the newest revision.
    async fn expecting(mut self, stream: &'static str) {
        let mut newest = self.newest(|filter| filter.stream = Some(stream.into())).await;
        while let Some((_, revision)) = newest {
            let mut request = request("expecting", 3, 2);
            request.events[1].stream = stream.into();
            let expected = match revision {
                0 => Expected::None(v1::NoStream {}),
                revision => Expected::Revision(revision),
            };
            request.expected_revisions =
                vec![v1::ExpectedRevision { stream: stream.into(), expected: Some(expected) }];
            newest = match self.send(request).await {
                Some(Ok(response)) => Some((response.events[1].position, response.events[1].revision)),
                Some(Err(_)) => self.newest(|filter| filter.stream = Some(stream.into())).await,
                None => return,
            };
        }
    }

    /// Two of these write events of one tag, each only if it knows the newest.
    async fn deciding(mut self, tag: &'static str) {
        let mut newest = self.newest(|filter| filter.tags = vec![tag.into()]).await;
        while let Some((position, _)) = newest {
            let mut request = request("deciding", 3, 2);
            request.events[0].tags.push(tag.into());
            let items = vec![v1::EventQueryItem { types: Vec::new(), tags: vec![tag.into()] }];
            let query = Some(v1::EventQuery { items });
            request.fail_if_events_match = vec![v1::FailIfEventsMatch { query, after: Some(position) }];
            newest = match self.send(request).await {
                Some(Ok(response)) => Some((response.events[0].position, 0)),
                Some(Err(position)) => Some((position, 0)),
                None => return,
            };
        }
    }

    /// Position and revision of the newest event of a filter; `None`: no answer came.
    async fn newest(&mut self, filter: impl FnOnce(&mut v1::EventFilter)) -> Option<(u64, u64)> {
        let mut wanted = v1::EventFilter::default();
        filter(&mut wanted);
        let request =
            v1::ReadRequest { filter: Some(wanted), backwards: true, limit: Some(1), ..Default::default() };
        let mut pages = self.log.read(request).await.ok()?.into_inner();
        let mut newest = (0, 0);
        while let Some(page) = pages.message().await.ok()? {
            newest = page.events.first().map_or(newest, |event| (event.position, event.revision));
        }
        Some(newest)
    }
}

/// The position that a refused condition names; `None`: the connection was cut.
fn refused_by(status: &Status) -> Option<u64> {
    let info = status.get_details_error_info()?;
    assert_eq!((status.code(), info.reason.as_str()), (Code::Aborted, "CONDITION_FAILED"), "{status:?}");
    let position = info.metadata.get("match_position").or_else(|| info.metadata.get("position"));
    Some(position.unwrap_or_else(|| panic!("no position in {info:?}")).parse().unwrap())
}

/// Starts all writers of a round.
async fn start(
    process: &Process,
    notes: &mpsc::Sender<Note>,
    unanswered: Vec<v1::AppendRequest>,
) -> JoinSet<()> {
    let mut writers = JoinSet::new();
    let writer = || {
        let notes = notes.clone();
        async { Writer { log: EventLogClient::new(process.channel().await), notes } }
    };
    writers.spawn(writer().await.plain("single", 1, Vec::new()));
    writers.spawn(writer().await.plain("batch", 20, unanswered));
    writers.spawn(writer().await.stream("stream"));
    for _ in 0..2 {
        writers.spawn(writer().await.expecting("contended"));
        writers.spawn(writer().await.deciding("contended"));
    }
    writers
}

/// Lets the writers go until so many answers have come, and kills the process with the others under way.
async fn load_and_kill(
    process: Process,
    record: &mut Record,
    unanswered: Vec<v1::AppendRequest>,
) -> Vec<Bytes> {
    let (notes, mut taken) = mpsc::channel(NOTES_MAX);
    let mut writers = start(&process, &notes, unanswered).await;
    drop(notes);
    let mut process = Some(process);
    let mut left = 1 + random(ANSWERS_MAX);
    let mut open = Vec::new();
    while let Some(note) = taken.recv().await {
        match &note {
            Note::Sent(request)
                if request.expected_revisions.is_empty() && request.fail_if_events_match.is_empty() =>
            {
                open.push(first_id(request));
            }
            Note::Sent(_) => {}
            Note::Acknowledged(request, _) => {
                let id = first_id(request);
                open.retain(|other| *other != id);
                left = left.saturating_sub(1);
            }
            Note::Refused(_) => left = left.saturating_sub(1),
        }
        record.take(note);
        if left == 0
            && let Some(process) = process.take()
        {
            process.kill();
        }
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    assert!(process.is_none(), "the writers gave up before the kill");
    open
}

fn verify(dir: &Path) {
    let output = Command::new(binary()).args(["verify", "--data-dir"]).arg(dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_it_keeps_what_it_acknowledged_and_nothing_else() {
    let kills = std::env::var("TEST_KILLS").map_or(10, |text| text.parse().expect("TEST_KILLS is a number"));
    let dir = tempfile::tempdir().unwrap();
    let mut record = Record::default();
    let mut open = Vec::new();
    for _ in 0..kills {
        let process = Process::start(dir.path(), &[]);
        let mut log = EventLogClient::new(process.channel().await);
        record.check(&mut log, READ_AGAIN).await;
        // Half of what was cut off is sent again, the same ids; the other half stays as the kill left it.
        let unanswered = record.unanswered(&open[..open.len() / 2]);
        open = load_and_kill(process, &mut record, unanswered).await;
    }
    verify(dir.path());
    let mut process = Process::start(dir.path(), &[]);
    let mut log = EventLogClient::new(process.channel().await);
    record.check(&mut log, usize::MAX).await;
    assert!(record.checked >= kills, "each kill waits for an answer");
    process.terminate();
    verify(dir.path());
}
