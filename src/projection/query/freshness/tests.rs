//! Reads that meet a file just as it is closed and opened again.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll, Wake, Waker},
};

use super::*;
use crate::{
    disk::sim::SimDisk,
    follower::Follower as _,
    projection::{
        store::LogFacts,
        testing::{DATA, DEFINITION, Driven, Node},
    },
};

/// Counts how often a read wants to be looked at again.
#[derive(Debug, Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

fn built() -> (Node, Driven) {
    let mut node = Node::open(Arc::new(SimDisk::new(1)), Path::new(DATA));
    node.append(&[("doc.put", r#"{"key":"k","a":1,"b":2,"tags":[]}"#.into())]);
    let mut version = node.version(DEFINITION);
    version.run();
    (node, version)
}

fn source<'a>(node: &'a Node, version: &'a Driven) -> Source<'a> {
    Source { store: &version.store, status: &version.status, reader: &node.reader, head: &node.head }
}

fn open(node: &Node, version: &Driven) {
    let facts = LogFacts {
        log_id: node.reader.log_id(),
        head: node.reader.head(),
        epoch_at: &|position| node.reader.epoch_at(position),
    };
    let (state, _) = version.store.open(&facts).unwrap();
    version.status.opened(state.cursor, true);
}

#[tokio::test]
async fn a_read_of_a_closed_file_sleeps_until_its_version_says_something() {
    let (node, version) = built();
    // As a read sees it that looked before and comes to the file after it was closed.
    version.store.close();
    let (source, options) = (source(&node, &version), ReadOptions::default());
    let mut reading = Box::pin(read(&source, &options, deadline(&options).unwrap()));
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut poll = || reading.as_mut().poll(&mut Context::from_waker(&waker));
    let woken = async || {
        // What only steps aside for a moment is woken as soon as others had their turn.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        wakes.0.swap(0, Ordering::AcqRel)
    };
    assert!(poll().is_pending());
    assert_eq!(woken().await, 0, "it does not spin");
    version.status.closed("a test");
    assert_eq!(woken().await, 1);
    assert!(poll().is_pending());
    open(&node, &version);
    assert_eq!(woken().await, 1);
    assert!(matches!(poll(), Poll::Ready(Ok(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_read_misses_that_its_file_is_open_again() {
    let (node, mut version) = built();
    version.runner.finish();
    let (node, version) = (Arc::new(node), Arc::new(version));
    for _ in 0..300 {
        let mut readers = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (node, version) = (Arc::clone(&node), Arc::clone(&version));
            readers.spawn(async move {
                // What is not woken fails when its time is up.
                let options =
                    ReadOptions { timeout: Some(Duration::from_secs(30)), ..ReadOptions::default() };
                let until = deadline(&options).unwrap();
                for _ in 0..20 {
                    read(&source(&node, &version), &options, until)
                        .await
                        .map(drop)
                        .map_err(|e| e.to_string())?;
                }
                Ok::<(), String>(())
            });
        }
        version.status.closed("a test");
        version.store.close();
        tokio::task::yield_now().await;
        open(&node, &version);
        assert!(readers.join_all().await.into_iter().all(|read| read == Ok(())));
    }
}
