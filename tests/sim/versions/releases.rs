//! A crash at every I/O of a release's promotion and of its taking back: both projections have their old version active or
//! both their new one, at every moment before the crash, right behind the restart, and when all is carried out.

use std::{path::Path, thread};

use outrigger::{
    disk::{Disk as _, sim::SimDisk},
    projection::{definition::Definition, release::Bound},
};

use super::{Node, Told, at_every_operation, definition};

fn text(projection: &str, number: u32) -> String {
    definition(number).replace("projection: p", &format!("projection: {projection}"))
}

fn green() -> Bound {
    [("p", 2), ("q", 2)].map(|(projection, version)| (projection.to_owned(), version)).into()
}

/// The active versions of both, which are the same number at every moment.
fn active(node: &Node) -> u32 {
    let active = node.active();
    assert!(active == [1, 1] || active == [2, 2], "{active:?}: half of the release is active");
    active[0]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Promote,
    RollBack,
}

impl Act {
    const fn active(self) -> u32 {
        match self {
            Self::Promote => 2,
            Self::RollBack => 1,
        }
    }

    /// Whether it was acknowledged.
    fn decide(self, node: &Node, told: &mut Told) -> bool {
        let registry = &node.registry;
        let done = match self {
            Self::Promote => node.work(told, watched(node, registry.promote_release("green", None, ""))),
            Self::RollBack => node.work(told, watched(node, registry.roll_back_release("green", ""))),
        };
        done.is_some_and(|done| done.is_ok())
    }
}

/// Looks at what is active whenever something waits.
async fn watched<T>(node: &Node, work: impl Future<Output = T>) -> T {
    let watching = async {
        loop {
            active(node);
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        done = work => done,
        () = watching => unreachable!("it watches for ever"),
    }
}

fn ground(act: Act) -> (SimDisk, Told) {
    let (disk, mut told) = (SimDisk::new(11), Told::default());
    let node = Node::open(&disk, 1, None).unwrap();
    for (projection, number) in [("p", 1), ("q", 1), ("p", 2), ("q", 2)] {
        let text = text(projection, number);
        let parsed = Definition::parse(&text, "file.yaml").unwrap();
        node.registry.deploy(parsed, &text, "file.yaml").unwrap();
    }
    for _ in 0..5 {
        node.append(&mut told).unwrap();
    }
    catch_up(&node, &mut told).unwrap();
    let applied = node.work(&mut told, node.registry.apply_release("green", green(), "")).unwrap();
    assert!(applied.unwrap().is_some());
    if act == Act::RollBack {
        assert!(Act::Promote.decide(&node, &mut told));
        catch_up(&node, &mut told).unwrap();
    }
    assert_eq!(active(&node), 3 - act.active());
    node.close();
    (disk, told)
}

/// Both versions of both projections show the head.
fn catch_up(node: &Node, told: &mut Told) -> Option<()> {
    let head = node.events.head().get();
    node.work(told, async {
        while node.registry.list().iter().any(|info| info.position < head) {
            tokio::task::yield_now().await;
        }
    })
}

fn live(act: Act, ground: &(SimDisk, Told), operation: u64) -> bool {
    let disk = ground.0.kill(operation);
    let mut told = Told { appended: ground.1.appended, token: ground.1.token, shown: ground.1.shown };
    disk.crash_at(disk.operations() + operation);
    let mut acknowledged = false;
    if let Some(node) = Node::open(&disk, 2, None) {
        let mut story = || {
            catch_up(&node, &mut told)?;
            node.append(&mut told)?;
            catch_up(&node, &mut told)?;
            acknowledged = act.decide(&node, &mut told);
            node.append(&mut told)
        };
        // How far it came is what `told` and `acknowledged` say.
        let _is_whole = story().is_some();
        node.close();
    }
    let was_cut = disk.is_crashed();
    let after = if operation.is_multiple_of(2) { disk.crash(operation) } else { disk.kill(operation) };
    check_after(act, &after, &mut told, acknowledged);
    was_cut
}

fn check_after(act: Act, disk: &SimDisk, told: &mut Told, acknowledged: bool) {
    let node = Node::open(disk, 3, None).expect("a healthy disk opens");
    active(&node);
    catch_up(&node, told).unwrap();
    while node.registry.carry_out_now().unwrap() > 0 {
        active(&node);
        thread::yield_now();
    }
    let release = node.registry.release("green").unwrap();
    assert_eq!(release.versions, green());
    let decided = if release.promotion.is_some() { 2 } else { 1 };
    assert_eq!(active(&node), decided, "what is decided is carried out");
    assert!(!acknowledged || decided == act.active(), "what was acknowledged holds");
    node.close();
    assert!(disk.list(Path::new("/data/projections")).unwrap().len() >= 4);
}

fn check(act: Act) {
    let ground = ground(act);
    at_every_operation(|operation| live(act, &ground, operation));
}

#[test]
fn a_release_is_promoted_whole_or_not_at_all() {
    check(Act::Promote);
}

#[test]
fn a_release_is_taken_back_whole_or_not_at_all() {
    check(Act::RollBack);
}
