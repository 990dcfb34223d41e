//! The rules of the house as a test: who may import whom, one owner per crate, file sizes, headers, the top level.
//!
//! Every rule is a pure function from a source text to findings, and has bad snippets below that it must find. A
//! finding says file, line, rule and what to do. Does not know types: it reads text, and trusts no comment or literal.

#![expect(clippy::disallowed_methods, reason = "reads the repository's own files, not a node's data")]

mod rules;
mod scan;

use std::{
    fs,
    path::{Path, PathBuf},
};

use rules::{Finding, check, check_top_level};

#[test]
fn the_house_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = sources_of(root);
    let mut findings: Vec<Finding> = sources.iter().flat_map(|(file, text)| check(file, text)).collect();
    findings.extend(check_top_level(&names_in(root)));
    println!("{}", sizes_of(&sources));
    let list: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(list.is_empty(), "{} places break the rules of the house:\n{}", list.len(), list.join("\n"));
}

#[test]
fn the_checker_reads_the_whole_house() {
    let sources = sources_of(Path::new(env!("CARGO_MANIFEST_DIR")));
    for file in
        ["build.rs", "src/lib.rs", "src/main.rs", "src/disk/real.rs", "tests/it/tidy.rs", "tests/sim/main.rs"]
    {
        assert!(sources.iter().any(|(name, _)| name == file), "{file} was not read");
    }
}

/// Every Rust file of the repository with its text, sorted by name.
fn sources_of(root: &Path) -> Vec<(String, String)> {
    let mut files = vec![root.join("build.rs")];
    for folder in ["src", "tests", "benches", "examples", "fuzz"] {
        collect(&root.join(folder), &mut files);
    }
    files.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source file is readable text");
        let name = path.strip_prefix(root).expect("it is below the root");
        (name.to_string_lossy().replace('\\', "/"), text)
    };
    files.into_iter().map(read).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for name in names_in(folder) {
        let path = folder.join(&name);
        if path.is_dir() && name != "target" {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The names in a folder; none if there is no such folder.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.expect("the folder lists").file_name().to_string_lossy().into_owned()).collect()
}

/// The median and the longest files of src/, for people who run this test with its output shown.
fn sizes_of(sources: &[(String, String)]) -> String {
    let in_src = sources.iter().filter(|(file, _)| file.starts_with("src/"));
    let mut sizes: Vec<_> = in_src.map(|(file, text)| (text.lines().count(), file)).collect();
    sizes.sort();
    let longest: Vec<_> = sizes.iter().rev().take(5).map(|(lines, file)| format!("{file} {lines}")).collect();
    let median = sizes.get(sizes.len() / 2).map_or(0, |(lines, _)| *lines);
    format!("{} files in src/, median {median} lines, longest: {}", sizes.len(), longest.join(", "))
}

/// Checks that a file of this text has exactly these findings: their lines, and a part of each message.
fn check_finds(file: &str, text: &str, expected: &[(usize, &str)]) {
    let found: Vec<_> = check(file, text).iter().map(|finding| (finding.line, finding.to_string())).collect();
    let same = found.len() == expected.len()
        && found
            .iter()
            .zip(expected)
            .all(|((line, message), (at, part))| line == at && message.contains(part));
    assert!(same, "in {file}:\n{text}\nexpected {expected:#?}\nfound {found:#?}");
}

#[test]
fn imports_up_or_across_are_found() {
    check_finds("src/log.rs", "//! .\nuse crate::index::Index;\n", &[(2, "log may not import index")]);
    check_finds(
        "src/log/segment.rs",
        "//! .\nuse crate::{\n    disk::Disk,\n    follower::Head,\n};\n",
        &[(4, "log may not import follower: the log stands on the seams alone")],
    );
    check_finds(
        "src/append.rs",
        "//! .\nfn f() -> crate::app::App {}\n",
        &[(2, "append may not import app")],
    );
    check_finds("src/api/query.rs", "//! .\nuse crate::http::Probe;\n", &[(2, "api may not import http")]);
    check_finds("src/app.rs", "//! .\nuse crate::cli;\n", &[(2, "app may not import cli")]);
    check_finds("src/main.rs", "//! .\nuse outrigger::app;\n", &[(2, "main may not import app")]);
    check_finds(
        "src/expression/parse.rs",
        "//! .\nuse crate::log::LogReader;\n",
        &[(2, "expressions are pure")],
    );
    check_finds("src/kv.rs", "//! .\nuse crate::*;\n", &[(2, "* stands in no layer")]);
    check_finds("src/new.rs", "//! .\nuse crate::disk;\n", &[(2, "add it to LAYERS")]);
}

#[test]
fn imports_down_are_fine() {
    check_finds(
        "src/log/reader.rs",
        "//! .\nuse crate::{disk::Disk, event::Position, log::segment::Segment};\n",
        &[],
    );
    check_finds("src/api.rs", "//! .\n//! See [`crate::app`].\nuse crate::projection::Key;\n", &[]);
    check_finds("src/main.rs", "//! .\nfn main() { outrigger::cli::run() }\n", &[]);
    check_finds("tests/it/x.rs", "//! .\nuse outrigger::app;\nuse tonic::Request;\n", &[]);
}

#[test]
fn strangers_to_a_crate_are_found() {
    check_finds("src/append.rs", "//! .\nuse tonic::Status;\n", &[(2, "gRPC stays at the edge")]);
    check_finds("src/api/convert.rs", "//! .\nuse tonic::Status;\nuse prost::Message as _;\n", &[]);
    check_finds("src/index.rs", "//! .\nuse redb::Database;\n", &[(2, "redb stays with")]);
    check_finds(
        "src/meta.rs",
        "//! .\nuse redb::{ReadableTable, Builder};\n",
        &[(2, "redb files are opened by kv")],
    );
    check_finds("src/cli/load.rs", "//! .\nuse std::{fs::File, io};\n", &[(2, "through the disk seam")]);
    check_finds("src/http.rs", "//! .\nfn f() { std::env::var(\"X\"); }\n", &[(2, "read in config only")]);
    check_finds("src/http.rs", "//! .\nfn f() { \"std::env::var\"; } // std::fs\n", &[]);
    check_finds(
        "src/log.rs",
        "//! .\nuse crate::event::{Position, StreamId};\n",
        &[(2, "the log may not know")],
    );
}

#[test]
fn bad_form_is_found() {
    check_finds("src/kv.rs", "use crate::disk;\n", &[(1, "does not open with a //! header")]);
    check_finds("src/kv.rs", &format!("//! .\n{}", "\n".repeat(500)), &[(501, "has 501 lines")]);
    check_finds("src/kv.rs", &format!("//! .\n{}", "\n".repeat(499)), &[]);
    check_finds("src/kv.rs", concat!("//! .\nfn f() { to", "do!() }\n"), &[(2, "is unfinished")]);
    check_finds("tests/it/x.rs", concat!("//! .\n\n// FIX", "ME later\n"), &[(3, "do it or take it out")]);
    check_finds("tests/it/x.rs", "//! .\n#[ignore]\nfn f() {}\n", &[(2, "ignored without a reason")]);
    check_finds("tests/it/x.rs", "//! .\n#[ignore = \"slow: run by hand\"]\nfn f() {}\n", &[]);
    let names = ["src", ".ci", "target", "notes.txt"].map(str::to_owned);
    assert_eq!(check_top_level(&names).len(), 1);
}
