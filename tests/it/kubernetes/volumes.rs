//! Volumes as the kubelet lays them out: claims that stay, empty directories that go with the pod, and files of `ConfigMap`s and
//! Secrets behind a symbolic link that is swapped when they change.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{fields::Fields, render::Objects};

/// Files by name.
pub(crate) type Files = BTreeMap<String, String>;

/// The machine that pods run on: what outlives a pod, and the Secrets and `ConfigMap`s of the namespace that no chart made.
pub(crate) struct Machine {
    dir: tempfile::TempDir,
    given: BTreeMap<String, Files>,
}

impl Machine {
    pub(crate) fn new(given: &[(&str, &[(&str, &str)])]) -> Self {
        let files = |files: &[(&str, &str)]| {
            files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
        };
        let given = given.iter().map(|(name, of)| ((*name).to_owned(), files(of)));
        Self { dir: tempfile::tempdir().unwrap(), given: given.collect() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    fn secrets(&self, name: &str) -> &Files {
        self.given.get(name).unwrap_or_else(|| panic!("there is no {name}"))
    }

    pub(crate) fn secret(&self, name: &str, key: &str) -> &str {
        self.secrets(name).get(key).unwrap_or_else(|| panic!("{name} has no {key}"))
    }

    /// The directory of a volume of a pod, with its content.
    pub(crate) fn volume(&self, pod: &str, volume: &mut Fields, objects: &Objects) -> (String, PathBuf) {
        let name = volume.text(&["name"]);
        let dir = self.dir.path().join("pods").join(pod).join(&name);
        if let Value::String(claim) = volume.take(&["persistentVolumeClaim", "claimName"]) {
            let is_given = self.given.contains_key(&claim);
            assert!(
                is_given || objects.find("PersistentVolumeClaim", &claim).is_some(),
                "there is no claim {claim}"
            );
            let claim = self.dir.path().join("claims").join(claim);
            fs::create_dir_all(&claim).unwrap();
            return (name, claim);
        }
        if let Value::String(map) = volume.take(&["configMap", "name"]) {
            let mode = volume.take(&["configMap", "defaultMode"]).as_u64().unwrap_or(0o644);
            let files = match self.given.get(&map) {
                Some(files) => files.clone(),
                None => files_of(objects.get("ConfigMap", &map)),
            };
            put_files(&dir, &files, mode as u32);
        } else if let Value::String(secret) = volume.take(&["secret", "secretName"]) {
            let mode = volume.take(&["secret", "defaultMode"]).as_u64().unwrap_or(0o644);
            let items = volume.list(&["secret", "items"]);
            // Without items the kubelet lays out every key under its own name.
            let mut files = if items.is_empty() { self.secrets(&secret).clone() } else { Files::new() };
            for mut item in items {
                let text = self.secret(&secret, &item.text(&["key"])).to_owned();
                files.insert(item.text(&["path"]), text);
            }
            put_files(&dir, &files, mode as u32);
        } else {
            assert!(
                !volume.take(&["emptyDir"]).is_null(),
                "volume {name}: a kind that this test does not lay out"
            );
            fs::create_dir_all(&dir).unwrap();
        }
        (name, dir)
    }

    /// What the kubelet does when a `ConfigMap` has changed: the pod's files are others, at once.
    pub(crate) fn update(&self, pod: &str, volume: &str, map: &Value) {
        put_files(&self.dir.path().join("pods").join(pod).join(volume), &files_of(map), 0o444);
    }
}

fn files_of(map: &Value) -> Files {
    let data = map["data"].as_object().into_iter().flatten();
    data.map(|(name, text)| (name.clone(), text.as_str().unwrap().to_owned())).collect()
}

/// Writes files into a new directory, points `..data` at it in one rename, and links the names through it.
fn put_files(dir: &Path, files: &Files, mode: u32) {
    fs::create_dir_all(dir).unwrap();
    let turn = (0..1_000).find(|turn| !dir.join(format!("..{turn}")).exists()).unwrap();
    let content = dir.join(format!("..{turn}"));
    fs::create_dir(&content).unwrap();
    for (name, text) in files {
        fs::write(content.join(name), text).unwrap();
        fs::set_permissions(content.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    symlink(format!("..{turn}"), dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    for name in files.keys() {
        if fs::symlink_metadata(dir.join(name)).is_err() {
            symlink(format!("..data/{name}"), dir.join(name)).unwrap();
        }
    }
    for entry in fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.starts_with("..") && !files.contains_key(&name) {
            fs::remove_file(dir.join(name)).unwrap();
        }
    }
}
