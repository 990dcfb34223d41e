//! A node under a memory limit of the kernel's: a large log, three projections in two versions each, twenty imports; then
//! kill -9, a backup and a restore of it.
//!
//! The limit is a control group of Linux, as a container's is. The test is skipped loudly where none can be made. Its size
//! comes from outside: `tests/run memory` runs it in full, with a release build.
#![expect(clippy::print_stdout, reason = "figures of a long run, and skipped tests, are for people")]

mod cgroup;
mod recovery;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use outrigger::{
    api::proto::v1::{self, event_log_client::EventLogClient, query_client::QueryClient},
    mesh::trust::SigningKey,
};
use tokio::{task::JoinSet, time::sleep};

use self::cgroup::Cgroup;
use crate::{
    nats_server::NatsServer,
    support::{Process, append, binary, event, page, text_key},
};

const LIMIT_BYTES: u64 = 256 << 20;
const IMPORTS: u64 = 20;
const PROJECTIONS: [&str; 3] = ["boards", "delays", "aircraft"];
/// Flights after which the keys come again.
const FLIGHTS: u64 = 1_000_000;
/// An arrival comes so many flights behind its departure.
const ARRIVES_AFTER: u64 = 2_000;
const FILL_BATCH: u64 = 1_000;
/// Of the load: events of the node's own, and of the other service, in one request each, so many times a second.
const LOAD_BATCH: u64 = 100;
const FOREIGN_BATCH: u64 = 25;
const LOAD_EVERY: Duration = Duration::from_millis(50);

const DEFINITION: &str = "projection: NAME
version: VERSION
collections:
  flights: {indexes: {by_route: [origin, dest], by_delay: [delay]}}
  airports: {}
events:
  flight.departed:
  - put: flights
    key: data.flight
    value: {origin: '${data.origin}', dest: '${data.dest}', delay: '${data.delay}', status: departed}
  - add: airports
    key: data.origin
    value: {departures: 1, delay_sum: '${data.delay}'}
  flight.arrived:
  - merge: flights
    key: data.flight
    value: {status: arrived}
";

#[expect(clippy::disallowed_methods, reason = "a long test is sized from outside")]
fn asked(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The program under test: a release build where one is named.
#[expect(clippy::disallowed_methods, reason = "a long test is run with a release build")]
fn program() -> String {
    std::env::var("TEST_PROGRAM").unwrap_or_else(|_| binary().to_owned())
}

/// The n-th event of the node's own.
fn flight(n: u64) -> v1::NewEvent {
    let number = |n: u64| n / 2 % FLIGHTS;
    if n.is_multiple_of(2) {
        let f = number(n);
        let data = format!(
            "{{\"flight\":\"UA{f}\",\"origin\":\"A{}\",\"dest\":\"B{}\",\"delay\":{},\"carrier\":\"UA\",\"tail\":\"N{}\"}}",
            f % 3,
            f % 105,
            f % 90,
            f % 4_000
        );
        event("flight.departed", &format!("flight-{f}"), &data)
    } else {
        let f = number(n.saturating_sub(2 * ARRIVES_AFTER));
        event(
            "flight.arrived",
            &format!("flight-{f}"),
            &format!("{{\"flight\":\"UA{f}\",\"air\":{}}}", f % 300),
        )
    }
}

/// The other service's n-th event; every export takes one type.
fn foreign(n: u64) -> v1::NewEvent {
    event(&format!("reading.k{}", n % IMPORTS), &format!("sensor-{}", n % 500), &format!("{{\"n\":{n}}}"))
}

struct Place {
    dir: tempfile::TempDir,
    url: String,
}

impl Place {
    fn new(url: String) -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap(), url };
        let key = SigningKey::generate();
        place.write("trust.yaml", &format!("sensors: [{{key: {}}}]\n", key.public()));
        place.write("key", &format!("{}\n", key.seed()));
        fs::set_permissions(place.path("key"), fs::Permissions::from_mode(0o600)).unwrap();
        for k in 0..IMPORTS {
            let export = format!("export: k{k}\nversion: 1\nevents:\n  reading.k{k}: {{data: all}}\n");
            place.write(&format!("exports/k{k}.yaml"), &export);
            let from = format!("from: {{node: sensors, export: k{k}, version: 1}}");
            place.write(&format!("imports/k{k}.yaml"), &format!("import: k{k}\n{from}\nstreams: 'k{k}/*'\n"));
        }
        for name in PROJECTIONS {
            for version in ["1", "2"] {
                let text = DEFINITION.replace("NAME", name).replace("VERSION", version);
                place.write(&format!("projections/{name}-v{version}.yaml"), &text);
            }
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn start(&self, node: &str, mut command: Command) -> Process {
        command.env("OUTRIGGER_NODE", node).env("OUTRIGGER_MESH__NATS__URL", &self.url);
        command.env("OUTRIGGER_MESH__CREATE_STREAM", "true");
        command.env("OUTRIGGER_MESH__TRUST_FILE", self.path("trust.yaml"));
        Process::start_command(command, &self.path(node), &[])
    }
}

/// Appends events `range` of one kind in requests of so many, one after the other.
async fn fill(process: &Process, events: std::ops::Range<u64>, of: fn(u64) -> v1::NewEvent) {
    let mut log = EventLogClient::new(process.channel().await);
    let mut first = events.start;
    while first < events.end {
        let next = (first + FILL_BATCH).min(events.end);
        log.append(append((first..next).map(of).collect())).await.unwrap();
        first = next;
    }
}

/// Sums of a metric over its labels.
async fn sum_of(process: &Process, name: &str) -> u64 {
    let page = page(process.http_addr, "/metrics").await;
    let of = |line: &str| line.strip_prefix(name)?.strip_prefix('{')?.rsplit(' ').next()?.parse::<f64>().ok();
    page.lines().filter_map(of).sum::<f64>() as u64
}

async fn is_caught_up(process: &Process) -> bool {
    sum_of(process, "outrigger_projection_lag_events").await == 0
}

async fn until(what: &str, patience: Duration, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < patience, "{what}: not within {patience:?}");
        sleep(Duration::from_millis(200)).await;
    }
}

/// What a service does with its node: appends, reads and lists, until it is told to end. How many events it appended.
async fn load(channel: tonic::transport::Channel, from: u64, is_over: Arc<AtomicBool>) -> u64 {
    let (mut log, mut query) = (EventLogClient::new(channel.clone()), QueryClient::new(channel));
    let mut n = from;
    let mut ticks = tokio::time::interval(LOAD_EVERY);
    while !is_over.load(Ordering::Relaxed) {
        ticks.tick().await;
        log.append(append((n..n + LOAD_BATCH).map(flight).collect())).await.unwrap();
        n += LOAD_BATCH;
        let projection = PROJECTIONS[(n / LOAD_BATCH % 3) as usize].to_owned();
        let key = Some(text_key(&format!("UA{}", n * 7_919 % FLIGHTS)));
        let collection = "flights".to_owned();
        let get = v1::GetRequest { projection, collection, key, ..v1::GetRequest::default() };
        let list = v1::ListRequest {
            projection: get.projection.clone(),
            collection: get.collection.clone(),
            page_size: Some(100),
            ..v1::ListRequest::default()
        };
        // A flight that has not flown yet is not there.
        drop(query.get(get).await);
        query.list(list).await.unwrap();
    }
    n - from
}

async fn load_foreign(channel: tonic::transport::Channel, is_over: Arc<AtomicBool>) -> u64 {
    let mut log = EventLogClient::new(channel);
    let mut n = 0;
    let mut ticks = tokio::time::interval(LOAD_EVERY);
    while !is_over.load(Ordering::Relaxed) {
        ticks.tick().await;
        log.append(append((n..n + FOREIGN_BATCH).map(foreign).collect())).await.unwrap();
        n += FOREIGN_BATCH;
    }
    n
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a large log in a control group: run by tests/run memory and --long"]
async fn a_large_node_stays_within_its_limit_under_load() {
    let (events, seconds) = (asked("TEST_MEMORY_EVENTS", 100_000), asked("TEST_MEMORY_SECONDS", 10));
    let Some(group) = Cgroup::create(LIMIT_BYTES) else { return };
    let Some(nats) = NatsServer::start() else { return };
    let place = Place::new(nats.url());
    let mut owner = Command::new(program());
    owner
        .env("OUTRIGGER_MESH__KEY_FILE", place.path("key"))
        .env("OUTRIGGER_EXPORTS__DIR", place.path("exports"));
    let owner = place.start("sensors", owner);
    let command = || {
        let mut command = group.command(&program());
        command.env("OUTRIGGER_LIMITS__MEMORY", "128MiB");
        command.env("OUTRIGGER_PROJECTIONS__DIR", place.path("projections"));
        command.env("OUTRIGGER_IMPORTS__DIR", place.path("imports"));
        command
    };
    let node = place.start("operations", command());

    let begun = Instant::now();
    let half = events / 2;
    tokio::join!(fill(&node, 0..half, flight), fill(&node, half..events, flight));
    println!("{events} events appended after {:?}; {}", begun.elapsed(), group.figures(node.child.id()));
    let patience = Duration::from_secs(3_600);
    until("the projections", patience, async || is_caught_up(&node).await).await;
    println!("6 versions follow after {:?}; {}", begun.elapsed(), group.figures(node.child.id()));

    let is_over = Arc::new(AtomicBool::new(false));
    let (mut local, mut foreign) = (JoinSet::new(), JoinSet::new());
    local.spawn(load(node.channel().await, events, Arc::clone(&is_over)));
    foreign.spawn(load_foreign(owner.channel().await, Arc::clone(&is_over)));
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut largest = 0;
    while Instant::now() < end {
        sleep(Duration::from_secs(1)).await;
        largest = largest.max(cgroup::resident_bytes(node.child.id()));
        assert_eq!(group.kills(), 0, "the kernel has killed it");
    }
    is_over.store(true, Ordering::Relaxed);
    let appended = local.join_next().await.unwrap().unwrap();
    let published = foreign.join_next().await.unwrap().unwrap();
    let is_imported = async || sum_of(&node, "outrigger_mesh_imported_events_total").await == published;
    until("the imports", patience, is_imported).await;
    until("the projections", patience, async || is_caught_up(&node).await).await;
    let head = EventLogClient::new(node.channel().await).get_head(v1::GetHeadRequest {}).await.unwrap();
    assert!(head.into_inner().head >= events + appended + published);
    assert_eq!(group.kills(), 0, "the kernel has killed it");
    assert!(appended > 0 && published > 0 && largest > 0);
    println!(
        "{seconds} s of load: {appended} events appended, {published} imported, resident at most {} MiB; {}",
        largest >> 20,
        group.figures(node.child.id())
    );
    recovery::check(&place, &group, node, command).await;
}
