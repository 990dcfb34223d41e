//! Tests of second builds: equal ones, different ones, those that cannot be.

use std::path::Path;

use redb::ReadableTable as _;

use super::*;
use crate::{
    disk::{Disk, sim::SimDisk},
    kv::Persistence,
    projection::{
        registry::Registry,
        store::DocumentTable,
        testing::{DATA, DEFINITION, Node, definition},
    },
};

fn events(count: u64) -> Vec<(&'static str, String)> {
    let put = |number: u64| {
        let (key, a) = (number % 97, number % 7);
        ("doc.put", format!(r#"{{"key":"k{key}","a":{a},"b":{number},"tags":["t{a}","u"]}}"#))
    };
    (0..count).map(put).collect()
}

fn node(count: u64) -> (Node, Registry) {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let mut node = Node::open(disk, Path::new(DATA));
    for chunk in events(count).chunks(1_000) {
        node.append(chunk);
    }
    let registry = node.registry(false);
    registry.deploy(definition(DEFINITION), DEFINITION, "p.yaml").unwrap();
    let version = registry.show("p").unwrap()[0].version;
    assert_eq!(version, 1);
    wait(&registry, node.head.get());
    (node, registry)
}

fn wait(registry: &Registry, position: Position) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        while registry.show("p").unwrap()[0].position < position {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    });
}

/// Steps to the end; gives the comparison and how many steps came before.
fn run(mut replay: Replay) -> Result<(Comparison, usize), ReplayError> {
    for steps in 0.. {
        if let ReplayStep::Done(comparison) = replay.step()? {
            return Ok((*comparison, steps));
        }
    }
    unreachable!("it ends by a result or an error")
}

#[test]
fn a_second_build_is_equal_and_leaves_nothing() {
    let (mut node, registry) = node(12_000);
    let before = node.disk.list(&node.projections()).unwrap();
    let (comparison, steps) = run(registry.replay("p", None).unwrap()).unwrap();
    assert!(comparison.is_equal(), "{comparison:?}");
    assert_eq!((comparison.position, comparison.documents, steps), (Position::new(12_000), 194, 2));
    assert_eq!(node.disk.list(&node.projections()).unwrap(), before);
    // It sees what comes while it is under way.
    let mut replay = registry.replay("p", Some(1)).unwrap();
    assert!(matches!(replay.step().unwrap(), ReplayStep::Progress { .. }));
    let busy = registry.replay("p", Some(1)).unwrap_err();
    assert!(matches!(busy, ReplayError::Busy), "{busy}");
    let head = node.append(&events(50));
    wait(&registry, head);
    let (comparison, _) = run(replay).unwrap();
    assert!(comparison.is_equal());
    assert_eq!(comparison.position, head);
    assert!(registry.replay("q", None).is_err() && registry.replay("p", Some(2)).is_err());
}

#[test]
fn documents_that_are_not_what_the_log_says_are_named() {
    let (node, registry) = node(500);
    registry.stop();
    drop(registry);
    let path = node.projections().join("p-v1.redb");
    let database = crate::kv::open(&*node.disk, &path, 1 << 20, crate::kv::Syncs::Through).unwrap();
    let write = crate::kv::begin_write(&database, Persistence::Durable).unwrap();
    {
        let mut table = write.open_table(DocumentTable::new("d:docs")).unwrap();
        let key = Key::text("k5").unwrap();
        let stored = table.get(key.as_bytes()).unwrap().unwrap().value().to_vec();
        let text = String::from_utf8_lossy(&stored[8..]).replace("\"u\"", "\"x\"");
        table.insert(key.as_bytes(), &[&stored[..8], text.as_bytes()].concat()[..]).unwrap();
        table.remove(Key::text("k6").unwrap().as_bytes()).unwrap();
    }
    write.commit().unwrap();
    drop(database);
    let registry = node.registry(false);
    wait(&registry, node.head.get());
    let (comparison, _) = run(registry.replay("p", None).unwrap()).unwrap();
    assert!(!comparison.is_equal());
    assert_eq!((comparison.different, comparison.different_entries), (2, 0));
    assert_eq!(comparison.rebuilt_hash, comparison.content_hash);
    assert_ne!(comparison.documents_hash, comparison.content_hash);
    let [changed, gone] = &comparison.differences[..] else { panic!("{comparison:?}") };
    assert_eq!((&*changed.collection, &*changed.key), ("docs", "\"k5\""));
    assert!(changed.running.as_ref().unwrap().contains("\"x\"") && changed.rebuilt.is_some());
    assert_eq!((&*gone.key, &gone.running), ("\"k6\"", &None));
}
