//! Files and directories that are watched for changes: whoever wants to know looks again.
//!
//! Invariants: one look at a time, on a thread of its own; once at the start, after any change has come to rest, and again every ten seconds,
//! whatever the watch saw (mounted configuration swaps symbolic links, network file systems tell nothing). What is watched
//! is told by the system, not by the disk seam: a watch is a hint to look. Does not know what is looked for.

use std::{
    io,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Instant,
};

use notify::Watcher as _;

use crate::limits::{DEFINITIONS_DEBOUNCE, DEFINITIONS_RESCAN_INTERVAL};

/// Looks again whenever something may be different, until it drops.
#[derive(Debug)]
pub struct Watch {
    /// Dropped to stop the thread.
    changes: Option<mpsc::SyncSender<Change>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Something may be different.
#[derive(Debug)]
enum Change {
    Seen,
    Stop,
}

impl Watch {
    /// Watches these files and directories. `name` is that of the thread.
    pub fn start(name: &str, paths: &[PathBuf], mut look: impl FnMut() + Send + 'static) -> io::Result<Self> {
        let (changes, changed) = mpsc::sync_channel(1);
        let seen = changes.clone();
        let watcher = watch(paths, move || {
            // Full: a change is waiting already.
            drop(seen.try_send(Change::Seen));
        });
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _watcher = watcher;
            // What changed between whoever read it first and the watch would be missed otherwise.
            look();
            while wait_for_change(&changed) {
                look();
            }
        })?;
        Ok(Self { changes: Some(changes), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(changes) = self.changes.take() {
            // An error means that the thread is gone, which is what is asked for.
            drop(changes.send(Change::Stop));
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a thread that watches files panicked");
        }
    }
}

/// Waits for a change to come to rest, or for the time to look anyway; `false`: stop.
fn wait_for_change(changed: &mpsc::Receiver<Change>) -> bool {
    match changed.recv_timeout(DEFINITIONS_RESCAN_INTERVAL) {
        Ok(Change::Seen) => {}
        Err(mpsc::RecvTimeoutError::Timeout) => return true,
        Ok(Change::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return false,
    }
    let latest = Instant::now() + 20 * DEFINITIONS_DEBOUNCE;
    while Instant::now() < latest {
        match changed.recv_timeout(DEFINITIONS_DEBOUNCE) {
            Ok(Change::Seen) => {}
            Err(mpsc::RecvTimeoutError::Timeout) => break,
            Ok(Change::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return false,
        }
    }
    true
}

/// Watches the directories that hold the files; a file alone would be lost when it is replaced.
fn watch(paths: &[PathBuf], seen: impl Fn() + Send + 'static) -> Option<notify::RecommendedWatcher> {
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the files is an event too, of which a look must not be the consequence.
        if !matches!(event, Ok(notify::Event { kind: notify::EventKind::Access(_), .. })) {
            seen();
        }
    });
    let unwatched = |path: &Path, error: &notify::Error| {
        tracing::warn!(
            path = %path.display(), %error,
            "changes are seen within {DEFINITIONS_RESCAN_INTERVAL:?} only"
        );
    };
    let mut watcher = match watcher {
        Ok(watcher) => watcher,
        Err(error) => {
            unwatched(Path::new("all"), &error);
            return None;
        }
    };
    for path in paths {
        let dir = if path.is_dir() { path } else { parent(path) };
        if let Err(error) = watcher.watch(dir, notify::RecursiveMode::NonRecursive) {
            unwatched(dir, &error);
        }
    }
    Some(watcher)
}

fn parent(file: &Path) -> &Path {
    match file.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}
