//! The thread that drives a node's mesh, and the handle by which others speak to it.
//!
//! The thread steps, and waits for the head of the log, the bus, an order or the time. Invariants: orders are bounded and
//! taken in order; what status shows is as of one step; a stop lets the outboxes publish what is durable until a
//! deadline. Does not know what orders are about.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Wake,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::Mesh;
use crate::{
    clock::Clock,
    event::Position,
    follower::{Head, Stop},
    limits::MESH_COMMANDS_MAX,
    mesh::{
        bus::Bus,
        definition::{Export, Import},
        quarantine::ErrorPage,
        state::{Command, CommandAnswer, CommandError, MeshStatus, StopReason},
        trust::Trust,
    },
};

/// How long status may be old while there is always something to do.
const STATUS_INTERVAL_NANOS: i64 = 100_000_000;
/// How long a stopping mesh waits at most for something to happen.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// What the thread is told.
enum Order {
    Command(Command, oneshot::Sender<CommandAnswer>),
    Errors(ErrorsQuery, oneshot::Sender<ErrorsAnswer>),
    Exports(Vec<Arc<Export>>, Vec<String>),
    Imports(Vec<Arc<Import>>, Vec<String>),
    Trust(Arc<Trust>),
}

/// Asks for a page of what an import could not map.
#[derive(Debug)]
pub struct ErrorsQuery {
    /// The import.
    pub import: String,
    /// Behind this position of the node's log; none: from the beginning.
    pub after: Option<Position>,
    /// So many at the most, besides the one that the import stands at.
    pub count_max: usize,
}

/// The page, or why there is none.
pub type ErrorsAnswer = Result<ErrorPage, CommandError>;

/// Speaks to a mesh that runs on its thread. Clones speak to the same.
#[derive(Debug, Clone)]
pub struct MeshHandle {
    shared: Arc<Shared>,
    head: Head,
    stop: Stop,
}

struct Shared {
    orders: Mutex<VecDeque<Order>>,
    shown: Mutex<Shown>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Shown {
    status: MeshStatus,
    stops: Vec<(String, StopReason, u64)>,
}

/// Has the mesh step once more.
struct Waking(MeshHandle);

impl Wake for Waking {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }
}

/// A mesh on its thread.
#[derive(Debug)]
pub struct Driver {
    handle: MeshHandle,
    thread: JoinHandle<()>,
    drain: Arc<Mutex<Option<Instant>>>,
}

impl Driver {
    /// Starts the thread.
    pub fn start(mut mesh: Mesh, clock: Arc<dyn Clock>, bus: &Arc<dyn Bus>, head: &Head) -> io::Result<Self> {
        let shown = Shown { status: mesh.status(clock.now_unix_nanos()), stops: Vec::new() };
        let shared = Arc::new(Shared { orders: Mutex::default(), shown: Mutex::new(shown) });
        let handle = MeshHandle { shared, head: head.clone(), stop: Stop::default() };
        mesh.set_waker(Arc::new(Waking(handle.clone())).into());
        let (waking, driven) = (handle.clone(), handle.clone());
        bus.on_event(Box::new(move || waking.wake()));
        let drain = Arc::new(Mutex::new(None));
        let deadline = Arc::clone(&drain);
        let run = move || drive(&mut mesh, &*clock, &driven, &deadline);
        let thread = thread::Builder::new().name("mesh".into()).spawn(run)?;
        Ok(Self { handle, thread, drain })
    }

    /// Speaks to it.
    pub const fn handle(&self) -> &MeshHandle {
        &self.handle
    }

    /// Lets it publish what is durable, for so long at most, and ends it.
    pub fn stop(self, drain_max: Duration) {
        *lock(&self.drain) = Some(Instant::now() + drain_max);
        self.handle.wake();
        if self.thread.join().is_err() {
            tracing::error!(
                "the mesh's thread broke; what it had not published yet is published after the next start"
            );
        }
    }
}

impl MeshHandle {
    /// As of the last step.
    pub fn status(&self) -> MeshStatus {
        lock(&self.shared.shown).status.clone()
    }

    /// How often each import stopped since the node started.
    pub fn stops(&self) -> Vec<(String, StopReason, u64)> {
        lock(&self.shared.shown).stops.clone()
    }

    /// Has a command carried out; the answer comes when its decision is durable or refused.
    pub fn command(&self, command: Command) -> Result<oneshot::Receiver<CommandAnswer>, CommandError> {
        let (reply, answer) = oneshot::channel();
        self.order(Order::Command(command, reply))?;
        Ok(answer)
    }

    /// Asks what an import could not map.
    pub fn errors(&self, query: ErrorsQuery) -> Result<oneshot::Receiver<ErrorsAnswer>, CommandError> {
        let (reply, answer) = oneshot::channel();
        self.order(Order::Errors(query, reply))?;
        Ok(answer)
    }

    /// From now on these are the exports, and these files cannot be used.
    pub fn set_exports(&self, exports: Vec<Arc<Export>>, problems: Vec<String>) -> Result<(), CommandError> {
        self.order(Order::Exports(exports, problems))
    }

    /// From now on these are the imports, and these files cannot be used.
    pub fn set_imports(&self, imports: Vec<Arc<Import>>, problems: Vec<String>) -> Result<(), CommandError> {
        self.order(Order::Imports(imports, problems))
    }

    /// From now on these signatures are believed.
    pub fn set_trust(&self, trust: Arc<Trust>) -> Result<(), CommandError> {
        self.order(Order::Trust(trust))
    }

    fn order(&self, order: Order) -> Result<(), CommandError> {
        let mut orders = lock(&self.shared.orders);
        if orders.len() >= MESH_COMMANDS_MAX {
            return Err(CommandError::Unavailable(format!(
                "{MESH_COMMANDS_MAX} commands wait for the mesh already"
            )));
        }
        orders.push_back(order);
        drop(orders);
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        self.head.nudge(&self.stop);
    }
}

fn drive(mesh: &mut Mesh, clock: &dyn Clock, handle: &MeshHandle, drain: &Mutex<Option<Instant>>) {
    let mut shown_at = i64::MIN;
    let (mut exports, mut imports) = (Vec::new(), Vec::new());
    loop {
        for order in std::mem::take(&mut *lock(&handle.shared.orders)) {
            match order {
                Order::Command(command, reply) => mesh.command(command, reply),
                Order::Errors(ErrorsQuery { import, after, count_max }, reply) => {
                    // Whoever asked may be gone.
                    drop(reply.send(mesh.errors(&import, after, count_max)));
                }
                Order::Exports(set, problems) => {
                    mesh.set_exports(set);
                    exports = problems;
                }
                Order::Imports(set, problems) => {
                    mesh.set_imports(set);
                    imports = problems;
                }
                Order::Trust(trust) => mesh.set_trust(trust),
            }
            mesh.set_problems([exports.clone(), imports.clone()].concat());
        }
        let seen = handle.head.get();
        let now = clock.now_unix_nanos();
        let mut wait = mesh.step(now);
        if !wait.is_zero() || now.saturating_sub(shown_at) >= STATUS_INTERVAL_NANOS {
            shown_at = now;
            let stops = mesh.stops().map(|(import, reason, count)| (import.to_owned(), reason, count));
            let stops = stops.collect();
            *lock(&handle.shared.shown) = Shown { status: mesh.status(now), stops };
        }
        if let Some(deadline) = *lock(drain) {
            if mesh.is_drained() || !mesh.is_connected() || Instant::now() >= deadline {
                return;
            }
            wait = wait.min(DRAIN_LOOK);
        }
        if !wait.is_zero() {
            wait_for(handle, seen, wait);
        }
    }
}

fn wait_for(handle: &MeshHandle, seen: Position, wait: Duration) {
    // A head that is closed wakes at once: the mesh is stopped before it, so that this ends no loop.
    handle.head.wait_above_unless(seen, wait, &handle.stop);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
