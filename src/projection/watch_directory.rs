//! Where definitions come from: files, and directories of `*.yaml` and `*.yml` files, watched for changes.
//!
//! Invariants: the sources are desired state, read whole whenever something may be different (`disk::watch`). A
//! file that vanishes takes nothing away; one that cannot be read is its own problem. Does not know what a definition
//! says.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    disk::{Disk, read_file, watch::Watch},
    limits::{DEFINITION_BYTES_MAX, DEFINITION_FILES_MAX},
    projection::registry::{Registry, Source},
};

/// Watches the sources and applies them to a registry until it drops.
#[derive(Debug)]
pub struct WatchDirectory {
    _watch: Watch,
}

impl WatchDirectory {
    /// Applies the sources once, then watches them.
    pub fn start(disk: Arc<dyn Disk>, sources: Vec<PathBuf>, registry: Arc<Registry>) -> io::Result<Self> {
        let mut applied = read_sources(&*disk, &sources);
        registry.apply_sources(&applied);
        let watched = sources.clone();
        let watch = Watch::start("definitions", &watched, move || {
            let read = read_sources(&*disk, &sources);
            if read != applied {
                registry.apply_sources(&read);
                applied = read;
            }
        })?;
        Ok(Self { _watch: watch })
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
    use std::{os::unix::fs::symlink, thread, time::Instant};

    use super::*;
    use crate::{
        disk::{real::RealDisk, replace_file},
        limits::DEFINITIONS_RESCAN_INTERVAL,
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
