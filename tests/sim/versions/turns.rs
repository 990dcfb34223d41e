//! A hundred promotes and rollbacks in a row, over as many lives as it takes: each life ends in a crash somewhere. No read
//! fails or goes back, tokens are honoured over every turn and every restart, and what was acknowledged holds.

use outrigger::clock::Clock as _;

use super::*;
use crate::projection::asked;

/// Turns that are acknowledged, of which the restarts are in the middle.
const TURNS: u64 = 100;
/// A life ends at one of so many operations.
const OPERATIONS_MAX: u64 = 300;

/// What was acknowledged about the active version, and what was asked for and may stand or not.
#[derive(Debug, Clone, Copy)]
struct Active {
    acknowledged: u32,
    asked: Option<u32>,
}

/// Reads without a version, with the newest token: it is answered, and by what may be active.
fn read(node: &Node, told: &mut Told, active: Active) -> Option<()> {
    let options = ReadOptions {
        at_least: told.token,
        timeout: Some(Duration::from_secs(60)),
        ..ReadOptions::default()
    };
    let read = node.work(told, node.registry.read("p", &options, None))?;
    if node.disk.is_crashed() {
        return None;
    }
    let reading = read.expect("no read fails");
    check_shown(&reading, told);
    let context = reading.context();
    assert!(told.token.is_some_and(|token| context.as_of >= token.position), "{context:?} {told:?}");
    assert!(
        context.version == active.acknowledged || Some(context.version) == active.asked,
        "{context:?} {active:?}"
    );
    Some(())
}

/// Turns for as long as the disk lets it.
fn live(node: &Node, told: &mut Told, active: &mut Active, turns: &mut u64) -> Option<()> {
    node.catch_up(told)?;
    while *turns < TURNS {
        node.append(told)?;
        read(node, told, *active)?;
        let to = 3 - active.acknowledged;
        active.asked = Some(to);
        let act = if to == 2 { Act::Promote } else { Act::RollBack };
        if !act.decide(node, told) {
            assert!(node.disk.is_crashed(), "{act:?} is refused without a crash");
            return None;
        }
        *active = Active { acknowledged: to, asked: None };
        *turns += 1;
        node.append(told)?;
        read(node, told, Active { asked: Some(3 - to), ..*active })?;
    }
    Some(())
}

/// Which version the log has after a restart: one of the two that it may be. It answers.
fn settle(node: &Node, told: &mut Told, active: &mut Active) {
    node.catch_up(told).unwrap();
    while node.registry.carry_out_now().unwrap() > 0 {
        thread::yield_now();
    }
    let decided = node.registry.decisions("p").unwrap().versions().active().unwrap_or(1);
    assert!(decided == active.acknowledged || Some(decided) == active.asked, "{decided} {active:?}");
    assert_eq!(node.active(), [decided]);
    *active = Active { acknowledged: decided, asked: None };
    read(node, told, *active).unwrap();
}

#[test]
fn a_hundred_turns_over_restarts() {
    let chance = SimClock::new(asked("TEST_SEED", 0));
    let (mut disk, mut told) = ground(Act::Promote);
    let mut active = Active { acknowledged: 1, asked: None };
    let (mut turns, mut lives) = (0, 0);
    while turns < TURNS {
        lives += 1;
        let cut = 1 + (chance.random() as u64) % OPERATIONS_MAX;
        disk.crash_at(disk.operations() + cut);
        if let Some(node) = Node::open(&disk, lives, None) {
            // How far it came is what the others say.
            let _is_whole = live(&node, &mut told, &mut active, &mut turns).is_some();
            node.close();
        }
        disk = if lives.is_multiple_of(2) { disk.crash(lives) } else { disk.kill(lives) };
        let node = Node::open(&disk, lives, None).expect("a healthy disk opens");
        settle(&node, &mut told, &mut active);
        node.close();
        disk = disk.kill(lives);
    }
    println!("{turns} turns in {lives} lives, {} events", told.appended);
    assert!(lives > 10, "{lives} lives are too few to have been cut");
}
