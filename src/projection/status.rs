//! How a version stands, as its runner tells it and as queries and people read it.
//!
//! Invariants: the as-of position is published after the commit that made it visible; the floor, below which an
//! unpinned read does not answer, never goes down. Deliberately does not know how documents are kept.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{
    event::Position,
    limits::LIVE_LAG_MAX,
    projection::{control::Control, failure::Pause, hold::Holds},
};

/// How a version stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionState {
    /// Applies the log for the first time.
    Building,
    /// Was at the head before and is behind it now.
    CatchingUp,
    /// At the head, not active.
    Ready,
    /// Answers the queries that name no version.
    Active,
    /// Was active before and goes on applying.
    Standby,
    /// Removed.
    Retired,
    /// Stopped by an error, or paused before an event that it cannot apply.
    Failed,
}

impl VersionState {
    /// One word, lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::CatchingUp => "catching_up",
            Self::Ready => "ready",
            Self::Active => "active",
            Self::Standby => "standby",
            Self::Retired => "retired",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for VersionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a version is among the versions of its projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Answers the queries that name no version.
    Active,
    /// Was active before and goes on applying.
    Standby,
    /// It was decided to be active, and another one is still.
    Next,
    /// Was never active.
    Other,
}

impl Role {
    /// Whether it answers the queries that name no version.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Active)
    }
}

/// What a runner has published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and any may hold beside any other"
)]
pub struct Progress {
    /// What a snapshot taken now contains at least.
    pub as_of: Position,
    /// Below this an unpinned read does not answer, unless the version has failed.
    pub floor: Position,
    /// Snapshots can be taken.
    pub open: bool,
    /// It has been at the head once.
    pub built: bool,
    /// Why it stopped for good, where, and what to do.
    pub failure: Option<Arc<str>>,
    /// Where it stands still until somebody decides; `failure` says so too.
    pub pause: Option<Arc<Pause>>,
    /// How many of the tries that were asked for have ended.
    pub tries: u64,
    /// Its follower has ended: nothing changes here any more.
    pub stopped: bool,
    /// It waits for its turn to build.
    pub queued: bool,
    /// What it is trying again at the moment, and why.
    pub trouble: Option<Arc<str>>,
}

impl Progress {
    /// How it stands, the log's head being `head`.
    pub fn state(&self, head: Position, role: Role) -> VersionState {
        if self.failure.is_some() {
            VersionState::Failed
        } else if !self.built {
            VersionState::Building
        } else if !self.open || head.get().saturating_sub(self.as_of.get()) > LIVE_LAG_MAX {
            VersionState::CatchingUp
        } else {
            match role {
                Role::Active => VersionState::Active,
                Role::Standby => VersionState::Standby,
                Role::Next | Role::Other => VersionState::Ready,
            }
        }
    }
}

/// Where a runner publishes and others look and wait.
#[derive(Debug)]
pub struct Status {
    progress: watch::Sender<Progress>,
    control: Control,
    holds: Holds,
    rate: Mutex<Rate>,
    applied: AtomicU64,
    failures: AtomicU64,
}

impl Status {
    /// Of a version that has published nothing yet.
    pub fn new(floor: Position, built: bool) -> Self {
        let progress = Progress { floor, built, ..Progress::default() };
        Self {
            progress: watch::Sender::new(progress),
            control: Control::default(),
            holds: Holds::default(),
            rate: Mutex::new(Rate::default()),
            applied: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// What is published now.
    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Looks at what is published now.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Progress) -> T) -> T {
        look(&self.progress.borrow())
    }

    /// Sees every change from now on.
    pub fn subscribe(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// What people ask of the version.
    pub(crate) const fn control(&self) -> &Control {
        &self.control
    }

    /// How far others let the version go.
    pub(crate) const fn holds(&self) -> &Holds {
        &self.holds
    }

    /// Events applied a second, over the last seconds.
    pub fn rate(&self) -> f64 {
        self.lock_rate().per_second(Instant::now())
    }

    /// Events applied since it was opened, and tries to apply one that failed.
    pub fn totals(&self) -> (u64, u64) {
        (self.applied.load(Ordering::Relaxed), self.failures.load(Ordering::Relaxed))
    }

    /// An event could not be applied.
    pub(crate) fn count_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// The file is open at this position. Where it was further before, that becomes the floor.
    pub(crate) fn opened(&self, as_of: Position, built: bool) {
        self.progress.send_modify(|progress| {
            progress.floor = progress.floor.max(progress.as_of);
            progress.as_of = as_of;
            progress.open = true;
            progress.built = built;
            progress.trouble = None;
        });
    }

    /// A commit made all up to `as_of` visible.
    pub(crate) fn advanced(&self, as_of: Position, built: bool, events: u64) {
        self.lock_rate().add(Instant::now(), events);
        self.applied.fetch_add(events, Ordering::Relaxed);
        self.progress.send_modify(|progress| {
            assert!(as_of >= progress.as_of, "an open version never goes back");
            progress.as_of = as_of;
            progress.built = built;
            if progress.pause.as_ref().is_some_and(|pause| as_of >= pause.position) {
                progress.pause = None;
                progress.failure = None;
            }
        });
    }

    /// It stands still before an event; it goes on when it is past it.
    pub(crate) fn paused(&self, failure: &str, pause: Pause) {
        self.progress.send_modify(|progress| {
            progress.failure = Some(failure.into());
            progress.pause = Some(Arc::new(pause));
        });
    }

    /// It stands still no longer: it begins anew before where it stood.
    pub(crate) fn unpaused(&self) {
        self.progress.send_if_modified(|progress| {
            let was_paused = progress.pause.take().is_some();
            if was_paused {
                progress.failure = None;
            }
            was_paused
        });
    }

    /// A try has ended, whatever came of it; all before it have too.
    pub(crate) fn tried(&self, number: u64) {
        self.control.end_try();
        self.progress.send_modify(|progress| progress.tries = number);
    }

    /// The file is closed and will be tried again.
    pub(crate) fn closed(&self, trouble: &str) {
        self.progress.send_modify(|progress| {
            progress.floor = progress.floor.max(progress.as_of);
            progress.open = false;
            progress.trouble = Some(trouble.into());
        });
    }

    /// Something outside the file did not work and will be tried again; `None`: it works again.
    pub(crate) fn troubled(&self, trouble: Option<&str>) {
        self.progress.send_if_modified(|progress| {
            let changed = progress.trouble.as_deref() != trouble;
            progress.trouble = trouble.map(Into::into);
            changed
        });
    }

    /// Whether it waits for its turn to build.
    pub(crate) fn queued(&self, queued: bool) {
        self.progress.send_if_modified(|progress| std::mem::replace(&mut progress.queued, queued) != queued);
    }

    /// The follower has ended and the file is closed, for this reason.
    pub(crate) fn stopped(&self, reason: &str) {
        self.closed(reason);
        self.progress.send_modify(|progress| progress.stopped = true);
    }

    /// It stopped for good.
    pub(crate) fn failed(&self, failure: &str) {
        self.progress.send_modify(|progress| progress.failure = Some(failure.into()));
    }

    fn lock_rate(&self) -> std::sync::MutexGuard<'_, Rate> {
        self.rate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Over how long a rate is taken.
const RATE_WINDOW: Duration = Duration::from_secs(5);
/// The shortest time that a rate is taken over.
const RATE_SPAN_MIN: Duration = Duration::from_secs(1);
/// Commits closer than this share one entry, which bounds their number.
const RATE_GRAIN: Duration = Duration::from_millis(100);

/// Counts of events by time.
#[derive(Debug, Default)]
struct Rate(VecDeque<(Instant, u64)>);

impl Rate {
    fn add(&mut self, now: Instant, events: u64) {
        match self.0.back_mut() {
            Some((at, count)) if now.saturating_duration_since(*at) < RATE_GRAIN => *count += events,
            _ => self.0.push_back((now, events)),
        }
        while self.0.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > RATE_WINDOW) {
            self.0.pop_front();
        }
    }

    fn per_second(&self, now: Instant) -> f64 {
        let age = |at: &Instant| now.saturating_duration_since(*at);
        let recent: Vec<_> = self.0.iter().filter(|(at, _)| age(at) <= RATE_WINDOW).collect();
        let events: u64 = recent.iter().map(|(_, count)| count).sum();
        // A version that began a moment ago is not slow: the time it had counts, but at least a second.
        let span = recent.first().map_or(RATE_WINDOW, |(at, _)| age(at).max(RATE_SPAN_MIN));
        events as f64 / span.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_follow_from_progress() {
        let head = Position::new(5_000);
        let at = |as_of: u64, built: bool| Progress {
            as_of: Position::new(as_of),
            open: true,
            built,
            ..Progress::default()
        };
        assert_eq!(at(4_999, false).state(head, Role::Active), VersionState::Building);
        assert_eq!(at(3_999, true).state(head, Role::Standby), VersionState::CatchingUp);
        assert_eq!(at(4_000, true).state(head, Role::Active), VersionState::Active);
        assert_eq!(at(5_000, true).state(head, Role::Other), VersionState::Ready);
        assert_eq!(at(5_000, true).state(head, Role::Standby), VersionState::Standby);
        let failed = Progress { failure: Some("why".into()), ..at(5_000, true) };
        assert_eq!(failed.state(head, Role::Active), VersionState::Failed);
    }

    #[test]
    fn the_floor_keeps_what_was_shown_before_a_rebuild() {
        let status = Status::new(Position::new(3), false);
        status.opened(Position::ZERO, false);
        assert_eq!(status.progress().floor, Position::new(3));
        status.advanced(Position::new(9), true, 9);
        status.closed("the disk refused");
        status.opened(Position::ZERO, false);
        assert_eq!(status.progress().floor, Position::new(9));
        assert_eq!(status.progress().as_of, Position::ZERO);
    }

    #[test]
    fn the_rate_covers_the_last_seconds() {
        let start = Instant::now();
        let mut rate = Rate::default();
        for tick in 0..100 {
            rate.add(start + Duration::from_millis(100 * tick), 50);
        }
        let now = start + Duration::from_millis(9_900);
        assert!((rate.per_second(now) - 500.0).abs() < 20.0, "{}", rate.per_second(now));
        assert!(rate.0.len() <= 52);
        assert!(rate.per_second(now + Duration::from_secs(60)) < f64::EPSILON);
    }
}
