//! The harness held against bugs that are there on purpose: the unchanged campaign must see each of them, and the
//! checker that sees it is named. `docs/testing.md` has the table.

use outrigger::{
    disk::sim::{Action, Site},
    sabotage::Sabotage,
};

use super::{
    check::Checker,
    story::{Bug, Finding, Story},
};

/// Stories within which a bug must be seen.
const SEEDS_MAX: u64 = 600;

/// The first finding, and how many stories it took.
fn first_finding(bug: Bug) -> Option<(u64, Finding)> {
    (1..=SEEDS_MAX).find_map(|seed| Some((seed, Story::new(seed, bug).run().err()?)))
}

#[expect(clippy::print_stdout, reason = "what a bug looks like is worth reading")]
fn check_caught(name: &str, bug: Bug, expected: &[Checker]) {
    let (seeds, finding) = first_finding(bug).unwrap_or_else(|| panic!("{name} went unnoticed"));
    println!("{name}: {:?} after {seeds} stories: {}", finding.checker, finding.what);
    assert!(expected.contains(&finding.checker), "{name} was caught by {:?}", finding.checker);
}

const fn built_in(sabotage: Sabotage) -> Bug {
    Bug { sabotage: Some(sabotage), left_out: None }
}

const fn left_out(left_out: fn(&Site) -> bool) -> Bug {
    Bug { sabotage: None, left_out: Some(left_out) }
}

/// One test for each bug: its name, what it is, who sees it.
macro_rules! bugs {
    ($($name:ident: $bug:expr => $($checker:ident)|+;)*) => {
        $(
            #[test]
            fn $name() {
                check_caught(stringify!($name), $bug, &[$(Checker::$checker),+]);
            }
        )*
    };
}

bugs! {
    log_syncs_no_file: built_in(Sabotage::SkipSync) => Durability | Opens;
    log_syncs_no_directory: built_in(Sabotage::SkipDirectorySync) => Durability | Opens;
    failed_sync_is_tried_again: built_in(Sabotage::RetrySync) => Durability | Index | Opens;
    recovered_tail_is_served_as_it_is: built_in(Sabotage::ServeRecoveredTail) => Durability | Opens;
    good_groups_are_cut: built_in(Sabotage::CutGoodGroups) => Durability;
    checksums_are_ignored: built_in(Sabotage::IgnoreChecksums) => Durability | Content | Opens;
    segment_is_named_before_it_is_synced: built_in(Sabotage::PublishBeforeSync) => Durability | Opens;
    mark_vouches_too_early: built_in(Sabotage::MarkAhead) => Opens;
    mark_reaches_beyond_the_tail: built_in(Sabotage::MarkBeyondTail) => Opens;
    position_is_given_twice: built_in(Sabotage::ReusePosition) => Answers | Durability | Opens | Projection;
    log_goes_on_after_a_failed_write: built_in(Sabotage::IgnorePoison) => Poison;
    answers_come_before_the_write: built_in(Sabotage::AnswerAllEarly) => Answers | Judgement;
    already_applied_comes_before_the_sync: built_in(Sabotage::AnswerKnownEarly) => Answers | Judgement;
    refusal_comes_before_the_sync: built_in(Sabotage::AnswerRefusedEarly) => Answers | Judgement;
    readers_see_a_group_before_it_is_written: built_in(Sabotage::ShowEarly) => Readers;
    streams_of_the_group_are_forgotten: built_in(Sabotage::StaleHeads) => Conditions | Judgement;
    ids_of_the_group_are_forgotten: built_in(Sabotage::ForgetIds) => Judgement;
    queries_see_what_is_durable_only: built_in(Sabotage::QueryDurableOnly) => Conditions | Judgement;
    queries_ignore_after: built_in(Sabotage::IgnoreAfter) => Judgement;
    tracking_goes_back: built_in(Sabotage::TrackingBack) => Conditions | Judgement | Tracking;
    group_is_split: built_in(Sabotage::SplitGroup) => Atomicity | Chain;
    cursor_runs_ahead_of_documents: built_in(Sabotage::CursorAhead) => Projection;
    index_run_is_named_before_it_is_synced:
        left_out(|s| s.action == Action::Sync && s.place == "index run in the making") => Index;
    projection_is_not_synced: left_out(|s| s.action == Action::Sync && s.place == "projection") => Projection;
    meta_is_not_synced: left_out(|s| s.action == Action::Sync && s.place == "meta") => Meta;
}
