//! The node's ownership: what its settings name, and what its import files take from others.
//!
//! An import file that cannot be used takes nothing; it is logged, and keeps the node from nothing else.

use crate::{
    config::Config,
    disk::Disk,
    mesh::definition::{
        Import,
        directory::{imported, read_imports},
    },
    ownership::Ownership,
};

/// The ownership that the settings and these imports make.
pub(crate) fn of<'i>(config: &Config, imports: impl IntoIterator<Item = &'i Import>) -> Ownership {
    Ownership {
        types: config.owns.types.clone(),
        streams: config.owns.streams.clone(),
        imports: imports.into_iter().map(imported).collect(),
    }
}

/// The ownership as settings and files are now, and what is wrong with the files.
pub(crate) fn read(config: &Config, disk: &dyn Disk) -> (Ownership, Vec<String>) {
    let Some(dir) = &config.imports_dir else {
        return (of(config, []), Vec::new());
    };
    let directory = read_imports(disk, dir);
    (of(config, directory.files.values()), directory.problems)
}
