//! The life of the process: starting, ready, not ready, stopping; and the one signal that ends it.
//!
//! Owns which of these it is and why. Everything else reads it: probes, health service, admin. Does not know what
//! ready requires.

use std::{sync::Arc, time::Instant};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Where the process is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// The log is being recovered, or what follows from it opened; which of these.
    Starting(String),
    /// The log is writable, but something that queries need is not there yet.
    NotReady(String),
    /// Everything is served.
    Ready,
    /// Calls in progress are finished, new ones refused.
    Stopping,
}

impl Phase {
    /// The name that the API and the probes use.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Starting(_) => "starting",
            Self::NotReady(_) => "not_ready",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
        }
    }

    /// Why it is not ready.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Starting(reason) | Self::NotReady(reason) => Some(reason),
            Self::Ready => None,
            Self::Stopping => Some("the node is stopping"),
        }
    }
}

/// The life of one node. Clones share it.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    phase: Arc<watch::Sender<Phase>>,
    started: Instant,
    stop: CancellationToken,
    failure: Arc<watch::Sender<Option<String>>>,
    warnings: Arc<watch::Sender<Vec<String>>>,
    tasks: TaskTracker,
}

impl Lifecycle {
    /// A node that is starting.
    pub fn new() -> Self {
        let phase = Arc::new(watch::Sender::new(Phase::Starting("the log is being recovered".into())));
        Self {
            phase,
            started: Instant::now(),
            stop: CancellationToken::new(),
            failure: Arc::new(watch::Sender::new(None)),
            warnings: Arc::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// Where the process is.
    pub fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    /// Moves on. Stopping is final.
    pub fn set(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let moves = *now != Phase::Stopping && *now != phase;
            if moves {
                *now = phase;
            }
            moves
        });
    }

    /// Sees every later phase.
    pub fn subscribe(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// The node cannot go on: it is not ready from now on, and the process is to end and recover at its next start.
    pub fn fail(&self, reason: String) {
        self.set(Phase::NotReady(reason.clone()));
        self.failure.send_replace(Some(reason));
    }

    /// Why the node cannot go on, if that is so.
    pub fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    /// Resolves, with the reason, when the node cannot go on.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.subscribe();
        let failed = failure.wait_for(Option::is_some).await;
        failed.ok().and_then(|reason| reason.clone()).unwrap_or_default()
    }

    /// What is wrong and does not keep the node from serving; replaces what was said before.
    pub fn set_warnings(&self, warnings: Vec<String>) {
        self.warnings.send_replace(warnings);
    }

    /// What is wrong and does not keep the node from serving.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.borrow().clone()
    }

    /// Seconds since the process started.
    pub fn uptime_seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// Cancelled when the node is to stop; long calls end on it.
    pub const fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Every task of the node runs on this tracker, so that shutdown can wait for all of them.
    pub const fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}
