//! Promotes and rollbacks in a row under appends, with a reader in a process of its own that is restarted now and then: it
//! notices nothing but that another version answers.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use outrigger::api::proto::v1::{
    self, event_log_client::EventLogClient, projections_client::ProjectionsClient,
};
use tonic::transport::Channel;

use super::definition;
use crate::support::{Process, append, binary, event};

/// Promotes and rollbacks, unless `TEST_TURNS` says otherwise.
const TURNS_DEFAULT: u32 = 100;
/// How often the readers begin anew meanwhile.
const READERS: u32 = 5;
/// Reading processes at a time.
const AT_ONCE: usize = 3;
/// A turn begins so long after the one before, so that readers see each of them.
const PACE: Duration = Duration::from_millis(30);

/// `outrigger bench continuity` on the document that every event changes.
struct Reader(Child);

impl Reader {
    fn start(process: &Process, after: u64) -> Self {
        let mut command = Command::new(binary());
        command.env_clear().env("OUTRIGGER_ADDR", process.grpc_addr.to_string());
        command.args(["bench", "continuity", "desk", "tickets", "a", "--version-field", "made_by"]);
        command.args(["--rate", "1000", "--output", "json", "--after", &after.to_string()]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut said).unwrap();
        assert!(said.contains("reads a of desk/tickets"), "{said}");
        Self(child)
    }

    /// What it has seen.
    fn end(mut self) -> serde_json::Value {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let (mut out, mut err) = (String::new(), String::new());
        self.0.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        self.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert!(self.0.wait().unwrap().success(), "{out}{err}");
        serde_json::from_str(&out).unwrap()
    }
}

/// About 2,000 events a second, half of them to the document that is read; counts them.
async fn keep_appending(mut log: EventLogClient<Channel>, appended: &AtomicU64) {
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    loop {
        tick.tick().await;
        let first = appended.load(Ordering::Relaxed);
        let set = |n: u64| {
            let id = if n.is_multiple_of(2) { "a".to_owned() } else { format!("k{}", n % 100) };
            event("ticket.set", "s", &format!(r#"{{"id":"{id}","n":{n}}}"#))
        };
        let events = (first..first + 20).map(set).collect();
        log.append(append(events)).await.unwrap();
        appended.fetch_add(20, Ordering::Relaxed);
    }
}

/// Waits until both versions are built.
async fn until_built(client: &mut ProjectionsClient<Channel>) {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    loop {
        tick.tick().await;
        let request = v1::GetProjectionRequest { projection: "desk".into() };
        let versions = client.get_projection(request).await.unwrap().into_inner().versions;
        if versions.len() == 2 && versions.iter().all(|version| version.state() != v1::VersionState::Building)
        {
            return;
        }
    }
}

/// Promotes the second version, or goes back to the first, and waits until it answers.
async fn turn(client: &mut ProjectionsClient<Channel>, number: u32) {
    let projection = "desk".to_owned();
    let (active, mut answering) = if number.is_multiple_of(2) {
        let request = v1::PromoteRequest { projection, version: 2, ..Default::default() };
        let turned = client.promote(request).await.unwrap().into_inner();
        (turned.active_version, turned.answering_version)
    } else {
        let request = v1::RollbackRequest { projection, ..Default::default() };
        let turned = client.rollback(request).await.unwrap().into_inner();
        (turned.active_version, turned.answering_version)
    };
    while answering != active {
        let projection = "desk".to_owned();
        let request = v1::PromoteRequest { projection, version: active, ..Default::default() };
        answering = client.promote(request).await.unwrap().into_inner().answering_version;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_notices_nothing_of_promotes_and_rollbacks_in_a_row() {
    let turns = std::env::var("TEST_TURNS")
        .map_or(TURNS_DEFAULT, |text| text.parse().expect("TEST_TURNS is a number"));
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path(), &[]);
    let channel = process.channel().await;
    let mut client = ProjectionsClient::new(channel.clone());
    for number in [1, 2] {
        let request = v1::DeployRequest { definition: definition(number), file: "desk.yaml".into() };
        client.deploy(request).await.unwrap();
    }
    let mut log = EventLogClient::new(channel);
    log.append(append(vec![event("ticket.set", "s", r#"{"id":"a","n":0}"#)])).await.unwrap();
    until_built(&mut client).await;

    let (appended, began) = (AtomicU64::new(0), Instant::now());
    let (mut after, mut reads, mut changes, mut longest_ms) = (0, 0, 0, 0.0_f64);
    let story = async {
        let mut pace = tokio::time::interval(PACE);
        for reader in 0..READERS {
            let running: Vec<_> = (0..AT_ONCE).map(|_| Reader::start(&process, after)).collect();
            for number in 0..turns.div_ceil(READERS) {
                pace.tick().await;
                turn(&mut client, reader * turns.div_ceil(READERS) + number).await;
            }
            let end = || running.into_iter().map(Reader::end).collect::<Vec<_>>();
            for seen in tokio::task::block_in_place(end) {
                let number =
                    |name: &str| seen[name].as_u64().unwrap_or_else(|| panic!("no {name} in {seen}"));
                for name in ["failed", "gone_back", "too_old", "other_version"] {
                    assert_eq!(number(name), 0, "{name} in {seen}");
                }
                after = after.max(number("last_position"));
                reads += number("reads");
                changes += number("changes");
                longest_ms = longest_ms.max(seen["longest_ms"].as_f64().unwrap());
            }
        }
    };
    tokio::select! {
        () = story => {}
        () = keep_appending(log, &appended) => unreachable!("it appends for ever"),
    }
    let seconds = began.elapsed().as_secs_f64();
    let events = appended.load(Ordering::Relaxed);
    println!(
        "{turns} turns in {seconds:.1} s, {events} events, {reads} reads, longest {longest_ms:.1} ms, {changes} changes seen"
    );
    assert!(reads > u64::from(turns) && changes > 0 && events > 0);
}
