//! Tests of deployment: states, refusals, restarts, the watched directory.

use std::{path::Path, time::Duration};

use super::*;
use crate::{
    disk::sim::SimDisk,
    event::Token,
    projection::{
        key::Key,
        query::{ListQuery, ReadOptions, Reading},
        status::VersionState,
        testing::{DATA, DEFINITION, Node, definition},
    },
};

fn put(key: &str, a: u64) -> (&'static str, String) {
    ("doc.put", format!(r#"{{"key":"{key}","a":{a},"b":null,"tags":null}}"#))
}

fn source(file: &str, text: &str) -> Source {
    Source { file: file.into(), text: Ok(text.into()) }
}

fn version(number: u32) -> String {
    DEFINITION.replace("version: 1", &format!("version: {number}"))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn token(node: &Node, position: u64) -> Token {
    Token {
        log_id: node.reader.log_id(),
        epoch: node.reader.epochs().last().unwrap().epoch.counter,
        position: Position::new(position),
    }
}

fn at_least(node: &Node, position: u64) -> ReadOptions {
    ReadOptions {
        at_least: Some(token(node, position)),
        timeout: Some(Duration::from_secs(60)),
        ..ReadOptions::default()
    }
}

fn read(registry: &Registry, options: &ReadOptions) -> Result<Reading, QueryError> {
    runtime().block_on(registry.read("p", options, None))
}

#[test]
fn a_query_with_a_token_sees_the_append_it_came_from() {
    let mut node = Node::open(Arc::new(SimDisk::new(1)), Path::new(DATA));
    let registry = node.registry(false);
    assert_eq!(registry.deploy(definition(DEFINITION), DEFINITION, "p.yaml").unwrap(), Deployment::New);
    for number in 1..50 {
        let position = node.append(&[put("k", number)]);
        let reading = read(&registry, &at_least(&node, position.get())).unwrap();
        let document = reading.get("docs", &Key::text("k").unwrap(), &[]).unwrap();
        let expected = format!(r#"{{"a":{number},"b":null,"tags":null}}"#);
        assert_eq!(document.value, expected);
        assert_eq!(document.position, position);
        assert_eq!((reading.context().as_of, reading.context().stale), (position, false));
    }
    let beyond = ReadOptions { timeout: Some(Duration::from_millis(1)), ..at_least(&node, 1_000) };
    let refused = read(&registry, &beyond).unwrap_err();
    assert!(matches!(refused, QueryError::DeadlineExceeded { .. }), "{refused}");
    let stale = ReadOptions { allow_stale: true, ..beyond };
    assert!(read(&registry, &stale).unwrap().context().stale);
}

#[test]
fn tokens_of_other_logs_and_epochs_and_wrong_timeouts_are_refused() {
    let node = Node::open(Arc::new(SimDisk::new(1)), Path::new(DATA));
    let registry = node.registry(false);
    registry.deploy(definition(DEFINITION), DEFINITION, "p.yaml").unwrap();
    let with = |change: &dyn Fn(&mut ReadOptions)| {
        let mut options = at_least(&node, 1);
        change(&mut options);
        read(&registry, &options).unwrap_err().reason()
    };
    let other_log = Token { log_id: uuid::Uuid::from_u128(5), ..token(&node, 1) };
    assert_eq!(with(&|options| options.at_least = Some(other_log)), "TOKEN_OF_OTHER_LOG");
    let other_epoch = Token { epoch: 99, ..token(&node, 1) };
    assert_eq!(with(&|options| options.at_least = Some(other_epoch)), "STALE_EPOCH");
    assert_eq!(with(&|options| options.timeout = Some(Duration::ZERO)), "INVALID_ARGUMENT");
    assert_eq!(with(&|options| options.version = Some(2)), "VERSION_NOT_FOUND");
    let unknown = runtime().block_on(registry.read("q", &at_least(&node, 1), None)).unwrap_err();
    assert!(unknown.to_string().contains("deployed: p"), "{unknown}");
}

#[test]
fn the_lowest_version_of_a_first_deployment_is_active_and_stays_it() {
    let mut node = Node::open(Arc::new(SimDisk::new(1)), Path::new(DATA));
    node.append(&[put("k", 1)]);
    let registry = node.registry(false);
    registry.apply_sources(&[source("b.yaml", &version(3)), source("a.yaml", &version(2))]);
    registry.apply_sources(&[source("c.yaml", &version(1))]);
    assert_eq!(registry.problems(), []);
    let pinned = |version| ReadOptions { version: Some(version), ..at_least(&node, 1) };
    for version in 1..=3 {
        assert_eq!(read(&registry, &pinned(version)).unwrap().context().version, version);
    }
    assert_eq!(read(&registry, &at_least(&node, 1)).unwrap().context().version, 2);
    let states: Vec<_> =
        registry.list().into_iter().map(|info| (info.version, info.state, info.active)).collect();
    assert_eq!(
        states,
        [(1, VersionState::Ready, false), (2, VersionState::Active, true), (3, VersionState::Ready, false)]
    );
    let info = &registry.show("p").unwrap()[1];
    assert_eq!((info.position, info.head, info.lag()), (Position::new(1), Position::new(1), 0));
    assert_eq!(info.collections[0].documents, 1);
    assert_eq!(info.collections[0].indexes, ["by_a", "by_a_b", "by_tags"]);
    assert!(registry.show("q").is_err());
}

#[test]
fn a_changed_definition_is_refused_in_words_and_others_go_on() {
    let mut node = Node::open(Arc::new(SimDisk::new(1)), Path::new(DATA));
    node.append(&[put("k", 1)]);
    let registry = node.registry(false);
    let other = DEFINITION.replace("projection: p", "projection: q");
    registry.apply_sources(&[source("p.yaml", DEFINITION)]);
    let changed =
        DEFINITION.replace("by_a: [a]", "by_a: [b]").replace("  sums: {}", "  sums: {}\n  more: {}");
    let sources = [
        source("broken.yaml", "projection"),
        source("p.yaml", &changed),
        source("q.yaml", &other),
        Source { file: "r.yaml".into(), text: Err("r.yaml: it is a directory".into()) },
    ];
    registry.apply_sources(&sources);
    let problems = registry.problems();
    let files: Vec<_> = problems.iter().map(|problem| problem.file.as_str()).collect();
    assert_eq!(files, ["broken.yaml", "p.yaml", "r.yaml"]);
    let error = &problems[1].error;
    assert!(
        error.contains("index by_a of collection docs has other fields, collection more is new"),
        "{error}"
    );
    assert!(error.contains("--dev"), "{error}");
    assert_eq!(read(&registry, &at_least(&node, 1)).unwrap().context().version, 1);
    assert_eq!(registry.show("q").unwrap().len(), 1);
    for (from, to, words) in [
        ("doc.summed:", "doc.counted:", "event type doc.summed is gone, event type doc.counted is new"),
        ("puts: 1", "puts: 2", "events.doc.put[1].value.puts is 2, it was 1"),
    ] {
        registry.apply_sources(&[source("p.yaml", &DEFINITION.replace(from, to))]);
        assert!(registry.problems()[0].error.contains(words), "{:?}", registry.problems());
    }
    registry.apply_sources(&[source("p.yaml", &DEFINITION.replace("version: 1", "version:  1 # the first"))]);
    assert_eq!(registry.problems(), [], "layout and comments are no change");
}

#[test]
fn under_dev_a_changed_definition_is_built_anew_in_place() {
    let mut node = Node::open(Arc::new(SimDisk::new(1)), Path::new(DATA));
    node.append(&[put("k", 1), put("l", 2)]);
    let registry = node.registry(true);
    registry.apply_sources(&[source("p.yaml", DEFINITION)]);
    let mut query = ListQuery { collection: "docs".into(), page_size: Some(1), ..ListQuery::default() };
    let page = read(&registry, &at_least(&node, 2)).unwrap().list(&query).unwrap();
    let changed = DEFINITION.replace("by_a: [a]", "by_b: [b]");
    registry.apply_sources(&[source("p.yaml", &changed)]);
    assert_eq!(registry.problems(), []);
    let reading = read(&registry, &ReadOptions::default()).unwrap();
    assert_eq!(reading.context().as_of, Position::new(2), "an unpinned read does not go back");
    let info = &registry.show("p").unwrap()[0];
    assert_eq!(info.collections[0].indexes, ["by_a_b", "by_b", "by_tags"]);
    query.page_token = page.next_page_token;
    assert_eq!(reading.list(&query).unwrap_err().reason(), "PAGE_EXPIRED");
}

#[test]
fn what_was_deployed_is_there_after_a_restart_and_is_waited_for() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let mut node = Node::open(Arc::clone(&disk), Path::new(DATA));
    let registry = node.registry(false);
    registry.apply_sources(&[source("p.yaml", DEFINITION)]);
    node.append(&[put("k", 1)]);
    read(&registry, &at_least(&node, 1)).unwrap();
    registry.stop();
    assert_eq!(read(&registry, &at_least(&node, 1)).unwrap_err().reason(), "PROJECTION_UNAVAILABLE");
    drop(registry);
    let events: Vec<_> = (0..500).map(|number| put("k", number)).collect();
    node.append(&events);

    let registry = node.registry(false);
    let reading = read(&registry, &ReadOptions::default()).unwrap();
    assert_eq!(reading.context().as_of, Position::new(501), "an unpinned read waits for the head at start");
    assert!(registry.required_ready().is_ready());
    registry.apply_sources(&[]);
    assert_eq!(registry.list().len(), 1, "a file that vanishes retires nothing");
    assert!(registry.show("p").unwrap()[0].error.is_none());
}

#[test]
fn a_version_that_failed_answers_and_does_not_block_readiness() {
    let mut node = Node::open(Arc::new(SimDisk::new(1)), Path::new(DATA));
    node.append(&[put("k", 1), ("doc.summed", r#"{"key":"k","number":"x"}"#.into()), put("k", 2)]);
    for start in 0..2 {
        let registry = node.registry(false);
        registry.apply_sources(&[source("p.yaml", DEFINITION)]);
        let refused = read(&registry, &at_least(&node, 3)).unwrap_err();
        assert!(matches!(&refused, QueryError::DeadlineExceeded { failure: Some(_), .. }), "{refused}");
        let reading = read(&registry, &ReadOptions::default()).unwrap();
        assert_eq!(reading.context().as_of, Position::new(1), "start {start}");
        let info = &registry.show("p").unwrap()[0];
        assert_eq!(info.state, VersionState::Failed);
        assert!(info.error.as_ref().unwrap().contains("position 2"), "{:?}", info.error);
        assert!(registry.required_ready().is_ready());
    }
}

#[test]
fn a_page_token_keeps_the_version_of_its_page() {
    let mut node = Node::open(Arc::new(SimDisk::new(1)), Path::new(DATA));
    node.append(&[put("k", 1), put("l", 2)]);
    let registry = node.registry(false);
    registry.apply_sources(&[source("a.yaml", DEFINITION), source("b.yaml", &version(2))]);
    let mut query = ListQuery { collection: "docs".into(), page_size: Some(1), ..ListQuery::default() };
    let second = ReadOptions { version: Some(2), ..at_least(&node, 2) };
    query.page_token = read(&registry, &second).unwrap().list(&query).unwrap().next_page_token;
    let token = query.page_token.as_deref();
    let reading = runtime().block_on(registry.read("p", &ReadOptions::default(), token)).unwrap();
    assert_eq!(reading.context().version, 2);
    assert_eq!(reading.list(&query).unwrap().documents[0].key, Key::text("l").unwrap());
    let first = ReadOptions { version: Some(1), ..ReadOptions::default() };
    let refused = runtime().block_on(registry.read("p", &first, token)).unwrap_err();
    assert_eq!(refused.reason(), "PAGE_TOKEN_MISMATCH");
}

#[test]
fn a_version_that_the_disk_would_not_hold_is_refused_and_one_that_is_there_is_not() {
    let disk = Arc::new(SimDisk::new(1));
    let mut node = Node::open(Arc::clone(&disk) as Arc<dyn Disk>, Path::new(DATA));
    node.append(&[put("k", 1)]);
    let registry = node.registry(false);
    registry.deploy(definition(DEFINITION), DEFINITION, "p.yaml").unwrap();
    read(&registry, &at_least(&node, 1)).unwrap();
    drop(registry);
    disk.set_free_bytes(Some(1 << 30));
    let free_bytes = node.disk.free_bytes(Path::new(DATA)).unwrap();
    let registry = node.registry_leaving(false, free_bytes - 1_000);
    let refused = registry.deploy(definition(&version(2)), &version(2), "p-v2.yaml").unwrap_err();
    let DeployError::DiskFull { needed_bytes, .. } = refused else { panic!("{refused}") };
    assert!(needed_bytes > 1_000, "as the version that is there, and more: {needed_bytes}");
    assert_eq!(registry.list().len(), 1);
    let again = registry.deploy(definition(DEFINITION), DEFINITION, "p.yaml").unwrap();
    assert_eq!(again, Deployment::Unchanged);
    read(&registry, &at_least(&node, 1)).unwrap();
}
