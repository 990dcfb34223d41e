//! The definition files of a directory: all that can be used, and why the others cannot.
//!
//! A file that cannot be used keeps no other from being used. Two files that define the same, or two imports whose streams
//! overlap, are told apart by the order of their names: the first counts.

use std::{collections::BTreeMap, path::Path};

use super::{DefinitionError, Export, Import};
use crate::{
    disk::{self, Disk},
    limits::{DEFINITION_BYTES_MAX, DEFINITION_FILES_MAX},
    ownership::Imported,
};

/// What a directory holds.
#[derive(Debug)]
pub struct Directory<T> {
    /// By the name of the file.
    pub files: BTreeMap<String, T>,
    /// One line each, with file, line and column.
    pub problems: Vec<String>,
}

impl<T> Default for Directory<T> {
    fn default() -> Self {
        Self { files: BTreeMap::new(), problems: Vec::new() }
    }
}

/// Reads the exports of a directory.
pub fn read_exports(disk: &dyn Disk, dir: &Path) -> Directory<Export> {
    read(disk, dir, Export::parse, |former, export| {
        let same = former.name() == export.name() && former.version() == export.version();
        same.then(|| format!("version {} of the export {} is defined", export.version(), export.name()))
    })
}

/// Reads the imports of a directory.
pub fn read_imports(disk: &dyn Disk, dir: &Path) -> Directory<Import> {
    read(disk, dir, Import::parse, |former, import| {
        if former.name() == import.name() {
            return Some(format!("the import {} is defined", import.name()));
        }
        former.streams().overlaps(import.streams()).then(|| {
            format!(
                "streams {} of the import {} overlap with {} of the import {}, which is defined",
                import.streams(),
                import.name(),
                former.streams(),
                former.name()
            )
        })
    })
}

/// What an import makes of the ownership of its node.
pub fn imported(import: &Import) -> Imported {
    let types = import.event_types().unwrap_or_default();
    Imported {
        import: import.name().to_owned(),
        owner: import.from().owner.clone(),
        types: types.into_iter().map(str::to_owned).collect(),
        streams: import.streams().clone(),
    }
}

fn read<T>(
    disk: &dyn Disk,
    dir: &Path,
    parse: impl Fn(&str, &str) -> Result<T, DefinitionError>,
    clash: impl Fn(&T, &T) -> Option<String>,
) -> Directory<T> {
    let mut directory = Directory::default();
    let mut names = match disk.list(dir) {
        Ok(names) => names,
        Err(error) => {
            directory.problems.push(format!("{}: the directory cannot be read: {error}", dir.display()));
            return directory;
        }
    };
    names.retain(|name| {
        let is_yaml = Path::new(name).extension().is_some_and(|end| end == "yaml" || end == "yml");
        is_yaml && !name.starts_with('.')
    });
    if names.len() > DEFINITION_FILES_MAX {
        let (found, dir) = (names.len(), dir.display());
        let problem =
            format!("{dir}: expected at most {DEFINITION_FILES_MAX} definition files, found {found}");
        directory.problems.push(problem);
        names.truncate(DEFINITION_FILES_MAX);
    }
    for name in names {
        let path = dir.join(&name);
        let shown = path.display().to_string();
        let read =
            disk::read_file(disk, &path, DEFINITION_BYTES_MAX).map_err(|error| format!("{shown}: {error}"));
        let read = read.and_then(|bytes| {
            String::from_utf8(bytes).map_err(|error| format!("{shown}: expected UTF-8 text: {error}"))
        });
        let parsed = read.and_then(|text| parse(&text, &shown).map_err(|error| error.to_string()));
        let used = parsed.and_then(|parsed| {
            let clash =
                directory.files.iter().find_map(|(file, former)| Some((file, clash(former, &parsed)?)));
            match clash {
                Some((file, what)) => {
                    Err(format!("{shown}: {what} in {file} already; this file is not used"))
                }
                None => Ok(parsed),
            }
        });
        match used {
            Ok(used) => drop(directory.files.insert(name, used)),
            Err(problem) => directory.problems.extend(problem.lines().map(str::to_owned)),
        }
    }
    directory
}
