//! Watchers through random lives of a node: appends, slow readers, resumes, crashes. Whatever completes must equal the
//! list at that position.

use std::panic::catch_unwind;

use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};

use super::*;
use crate::sabotage::Sabotage;

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    /// Events are appended: key, value, whether the document is deleted.
    Append(Vec<(u8, u8, bool)>),
    /// The version comes to the head, in one commit.
    Apply,
    /// A watcher looks and takes so many messages.
    Take(usize, usize),
    /// A watcher takes all there is.
    TakeAll(usize),
    /// A watcher's connection breaks; it resumes with the last token.
    Resume(usize),
    /// The node loses power (`true`) or is killed, and starts again.
    Crash(u64, bool),
}

fn any_step() -> impl Strategy<Value = Step> {
    let events = prop::collection::vec((0..6_u8, 0..4_u8, prop::bool::weighted(0.3)), 1..5);
    prop_oneof![
        5 => events.prop_map(Step::Append),
        4 => Just(Step::Apply),
        3 => (0..4_usize, 1..3_usize).prop_map(|(watcher, messages)| Step::Take(watcher, messages)),
        3 => (0..4_usize).prop_map(Step::TakeAll),
        2 => (0..4_usize).prop_map(Step::Resume),
        1 => (any::<u64>(), any::<bool>()).prop_map(|(seed, power)| Step::Crash(seed, power)),
    ]
}

fn queries() -> [ListQuery; 4] {
    let json = |text: &str| Json::parse(text.as_bytes()).unwrap();
    let tagged =
        Selection::Index { index: "by_tags".into(), equals: vec![json("\"t1\"")], from: None, to: None };
    let keys = Selection::Keys { prefix: None, from: Some(Key::text("k2").unwrap()), to: None };
    [
        all(),
        ListQuery { filter: Some("doc.a > 1".into()), fields: vec!["a".into()], ..all() },
        ListQuery { selection: tagged, ..all() },
        ListQuery { selection: keys, ..all() },
    ]
}

/// A watcher and its client.
#[derive(Debug)]
struct Watcher {
    query: ListQuery,
    watch: Watch,
    client: Client,
    /// What a list gave when it looked last.
    expected: BTreeMap<Vec<u8>, Document>,
    /// It was cut off in the middle of a group, so it may be told some of it again.
    torn: bool,
    completed: usize,
}

impl Watcher {
    fn new(node: &Node, version: &Driven, query: ListQuery) -> Self {
        let watch = small(watch(node, version, &query, None));
        Self { query, watch, client: Client::default(), expected: BTreeMap::new(), torn: false, completed: 0 }
    }

    /// Takes up to so many messages.
    fn take(&mut self, version: &Driven, messages: usize) {
        if !self.watch.is_telling() {
            self.expected = listed(version, &self.query);
            self.watch.look(reading(version)).unwrap();
        }
        for _ in 0..messages {
            let Some(told) = self.watch.next_message().unwrap() else { break };
            if !self.torn {
                self.check_news(&told);
            }
            if self.client.take(told) {
                assert_eq!(self.client.documents, self.expected, "{:?}", self.query);
                self.torn = false;
                self.completed += 1;
            }
        }
    }

    /// Nothing is told that the client has.
    fn check_news(&self, told: &Told) {
        let Told::Changes { changes, .. } = told else { return };
        for change in changes {
            if let Change::Put(document) = change {
                let had = self.client.documents.get(&document.key.encode());
                assert!(had.is_none_or(|had| had.position < document.position), "{document:?} twice");
            }
        }
    }

    fn resume(&mut self, node: &Node, version: &Driven) {
        self.torn |= self.watch.is_telling();
        if self.client.token.is_none() {
            self.client = Client::default();
        }
        self.watch = small(watch(node, version, &self.query, self.client.token.as_ref()));
    }
}

/// With messages of one document or change, so that groups have several.
fn small(mut watch: Watch) -> Watch {
    (watch.plan.page_size, watch.batch_max) = (1, 1);
    watch
}

fn live(steps: &[Step], sabotage: Option<Sabotage>) -> usize {
    let mut disk = SimDisk::new(1);
    let mut node = Node::open(Arc::new(disk.clone()), Path::new(DATA));
    node.append(&[put("k0", 1), put("k3", 2)]);
    let mut version = node.sabotaged_version(DEFINITION, sabotage);
    version.run();
    let mut watchers = queries().map(|query| Watcher::new(&node, &version, query));
    for step in steps {
        match step {
            Step::Append(events) => {
                let events: Vec<_> = events
                    .iter()
                    .map(|(key, a, gone)| {
                        let key = format!("k{key}");
                        if *gone { delete(&key) } else { put(&key, i64::from(*a)) }
                    })
                    .collect();
                node.append(&events);
            }
            Step::Apply => {
                version.run();
            }
            Step::Take(watcher, messages) => watchers[*watcher].take(&version, *messages),
            Step::TakeAll(watcher) => watchers[*watcher].take(&version, usize::MAX),
            Step::Resume(watcher) => watchers[*watcher].resume(&node, &version),
            Step::Crash(seed, power) => {
                disk = if *power { disk.crash(*seed) } else { disk.kill(*seed) };
                node = Node::open(Arc::new(disk.clone()), Path::new(DATA));
                version = node.sabotaged_version(DEFINITION, sabotage);
                open(&node, &version);
                for watcher in &mut watchers {
                    watcher.resume(&node, &version);
                    // The file may have less than the watcher has seen: then there is nothing for it yet.
                    watcher.take(&version, usize::MAX);
                }
                version.run();
            }
        }
    }
    version.run();
    for watcher in &mut watchers {
        watcher.take(&version, usize::MAX);
        watcher.take(&version, usize::MAX);
        assert_eq!(watcher.client.documents, listed(&version, &watcher.query), "{:?}", watcher.query);
    }
    watchers.iter().map(|watcher| watcher.completed).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_a_watcher_holds_is_what_a_list_gives(steps in prop::collection::vec(any_step(), 1..40)) {
        prop_assert!(live(&steps, None) >= 4);
    }
}

/// The test above, held against a bug that is there on purpose.
#[test]
fn a_change_that_is_not_told_is_seen() {
    let mut runner = TestRunner::deterministic();
    let lives = (1..64).find(|_| {
        let steps = prop::collection::vec(any_step(), 1..40).new_tree(&mut runner).unwrap().current();
        let fails = |sabotage| catch_unwind(|| live(&steps, sabotage)).is_err();
        assert!(!fails(None), "without the bug all is well: {steps:?}");
        fails(Some(Sabotage::ChangeUntold))
    });
    assert!(lives.is_some_and(|lives| lives <= 10), "seen after {lives:?} lives");
}
