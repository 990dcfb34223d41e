//! The harness held against bugs that are there on purpose. `docs/testing.md` has the table.

use outrigger::sabotage::Sabotage;

use super::told;

/// Stories within which a bug must be seen.
const SEEDS_MAX: u64 = 60;

#[expect(clippy::print_stdout, reason = "what a bug looks like is worth reading")]
fn check_caught(bug: Sabotage) {
    let finding = (1..=SEEDS_MAX).find_map(|seed| Some((seed, told(seed, Some(bug)).err()?)));
    let (seed, what) = finding.unwrap_or_else(|| panic!("{bug:?} went unnoticed"));
    println!("{bug:?}: seed {seed}: {}", what.lines().next().unwrap_or_default());
}

macro_rules! bugs {
    ($($name:ident: $bug:ident;)*) => {
        $(
            #[test]
            fn $name() {
                check_caught(Sabotage::$bug);
            }
        )*
    };
}

bugs! {
    gap_is_ignored: IgnoreGap;
    lower_number_is_taken_again: AcceptLowerSeq;
    fork_is_ignored: IgnoreFork;
    signatures_are_not_looked_at: SkipSignature;
    cursor_is_stored_apart_from_its_events: CursorApart;
    imported_events_are_exported_again: ReexportImport;
    events_are_published_before_they_are_durable: SkipSync;
    event_behind_a_parked_one_is_applied: ApplyBehindParked;
}
