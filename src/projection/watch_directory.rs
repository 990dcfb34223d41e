//! Where definitions come from: files, and directories of `*.yaml` and `*.yml` files, watched for changes.
//!
//! Invariants: the sources are desired state, read whole after any change has come to rest, and again every ten
//! seconds, whatever the watch saw (mounted configuration swaps symbolic links, network file systems tell nothing). A
//! file that vanishes takes nothing away; one that cannot be read is its own problem. Does not know what a definition
//! says.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::Instant,
};

use notify::Watcher as _;

use crate::{
    disk::{Disk, read_file},
    limits::{DEFINITION_BYTES_MAX, DEFINITION_FILES_MAX, DEFINITIONS_DEBOUNCE, DEFINITIONS_RESCAN_INTERVAL},
    projection::registry::{Registry, Source},
};

/// Watches the sources and applies them to a registry until it drops.
#[derive(Debug)]
pub struct WatchDirectory {
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

impl WatchDirectory {
    /// Applies the sources once, then watches them.
    pub fn start(disk: Arc<dyn Disk>, sources: Vec<PathBuf>, registry: Arc<Registry>) -> io::Result<Self> {
        let mut applied = read_sources(&*disk, &sources);
        registry.apply_sources(&applied);
        let (changes, changed) = mpsc::sync_channel(1);
        let seen = changes.clone();
        let watcher = watch(&sources, move || {
            // Full: a change is waiting already.
            drop(seen.try_send(Change::Seen));
        });
        let thread = thread::Builder::new().name("definitions".into()).spawn(move || {
            let _watcher = watcher;
            while wait_for_change(&changed) {
                let read = read_sources(&*disk, &sources);
                if read != applied {
                    registry.apply_sources(&read);
                    applied = read;
                }
            }
        })?;
        Ok(Self { changes: Some(changes), thread: Some(thread) })
    }
}

impl Drop for WatchDirectory {
    fn drop(&mut self) {
        if let Some(changes) = self.changes.take() {
            // An error means that the thread is gone, which is what is asked for.
            drop(changes.send(Change::Stop));
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that watches definitions panicked");
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

/// Watches the directories that hold the sources; a file alone would be lost when it is replaced.
fn watch(sources: &[PathBuf], seen: impl Fn() + Send + 'static) -> Option<notify::RecommendedWatcher> {
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
    for source in sources {
        let dir = if source.is_dir() { source } else { parent(source) };
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

/// The text of every definition file, in order of the sources and of names.
pub fn read_sources(disk: &dyn Disk, sources: &[PathBuf]) -> Vec<Source> {
    let mut read = Vec::new();
    for source in sources {
        match disk.list(source) {
            Ok(names) => {
                let is_definition = |name: &String| {
                    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
                    !name.starts_with('.') && matches!(extension, Some("yaml" | "yml"))
                };
                let names: Vec<String> = names.into_iter().filter(is_definition).collect();
                if names.len() > DEFINITION_FILES_MAX {
                    let found = names.len();
                    read.push(Source {
                        file: source.display().to_string(),
                        text: Err(format!(
                            "expected at most {DEFINITION_FILES_MAX} definition files in a directory, found {found}"
                        )),
                    });
                }
                let first = names.iter().take(DEFINITION_FILES_MAX);
                read.extend(first.map(|name| read_source(disk, &source.join(name))));
            }
            Err(_) => read.push(read_source(disk, source)),
        }
    }
    read
}

fn read_source(disk: &dyn Disk, path: &Path) -> Source {
    let file = path.display().to_string();
    let text =
        read_file(disk, path, DEFINITION_BYTES_MAX).map_err(|error| format!("{file}: {error}")).and_then(
            |bytes| String::from_utf8(bytes).map_err(|error| format!("{file}: expected UTF-8 text: {error}")),
        );
    Source { file, text }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::{
        disk::{real::RealDisk, replace_file},
        projection::testing::{DEFINITION, Node},
    };

    fn put(path: &Path, text: &str) {
        replace_file(&RealDisk, path, text.as_bytes()).unwrap();
    }

    /// Waits, without a clock in the way, until the registry shows it.
    fn until(registry: &Registry, what: &str, seen: impl Fn(&Registry) -> bool) {
        let latest = Instant::now() + 2 * DEFINITIONS_RESCAN_INTERVAL;
        while !seen(registry) {
            assert!(Instant::now() < latest, "{what}: {:?}", registry.problems());
            thread::yield_now();
        }
    }

    fn versions(registry: &Registry) -> Vec<u32> {
        registry.list().iter().map(|info| info.version).collect()
    }

    #[test]
    fn files_are_deployed_when_they_come_and_stay_deployed_when_they_go() {
        let temporary = tempfile::tempdir().unwrap();
        let node = Node::open(Arc::new(RealDisk), &temporary.path().join("data"));
        let (dir, file) = (temporary.path().join("dir"), temporary.path().join("single.yaml"));
        RealDisk.create_dir_all(&dir).unwrap();
        put(&dir.join("one.yaml"), DEFINITION);
        put(&dir.join("ignored.txt"), "projection: [");
        put(&file, &DEFINITION.replace("version: 1", "version: 7"));
        let registry = Arc::new(node.registry(false));
        let sources = vec![dir.clone(), file.clone()];
        let watch = WatchDirectory::start(Arc::new(RealDisk), sources, Arc::clone(&registry)).unwrap();
        assert_eq!(versions(&registry), [1, 7]);

        put(&dir.join("two.yml"), &DEFINITION.replace("version: 1", "version: 2"));
        until(&registry, "a new file", |registry| versions(registry) == [1, 2, 7]);
        put(&file, "projection: [");
        until(&registry, "a broken file", |registry| registry.problems().len() == 1);
        assert_eq!(registry.problems()[0].file, file.display().to_string());
        RealDisk.remove_file(&dir.join("one.yaml")).unwrap();
        RealDisk.remove_file(&file).unwrap();
        until(&registry, "a vanished file", |registry| {
            registry.problems().iter().all(|problem| problem.error.contains("No such file"))
        });
        assert_eq!(versions(&registry), [1, 2, 7]);
        drop(watch);
        assert_eq!(Arc::strong_count(&registry), 1, "the thread has ended");
    }

    #[test]
    fn a_mounted_directory_that_swaps_its_links_is_read_again() {
        let temporary = tempfile::tempdir().unwrap();
        let node = Node::open(Arc::new(RealDisk), &temporary.path().join("data"));
        let dir = temporary.path().join("mounted");
        for (name, version) in [("..first", "version: 1"), ("..second", "version: 2")] {
            RealDisk.create_dir_all(&dir.join(name)).unwrap();
            put(&dir.join(name).join("p.yaml"), &DEFINITION.replace("version: 1", version));
        }
        symlink("..first", dir.join("..data")).unwrap();
        symlink("..data/p.yaml", dir.join("p.yaml")).unwrap();
        let registry = Arc::new(node.registry(false));
        let _watch =
            WatchDirectory::start(Arc::new(RealDisk), vec![dir.clone()], Arc::clone(&registry)).unwrap();
        assert_eq!(versions(&registry), [1]);
        symlink("..second", dir.join("..data.new")).unwrap();
        RealDisk.rename(&dir.join("..data.new"), &dir.join("..data")).unwrap();
        until(&registry, "the swapped link", |registry| versions(registry) == [1, 2]);
    }
}
