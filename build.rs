//! Compiles proto/ without protoc: types and services into `OUT_DIR`, and the descriptor set that reflection serves.
#![expect(clippy::disallowed_methods, reason = "a build script has no seams")]

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use prost::Message as _;
use tonic_prost_build::FileDescriptorSet;

const FILES: &[&str] = &[
    "outrigger/v1/common.proto",
    "outrigger/v1/compare.proto",
    "outrigger/v1/diagnostics.proto",
    "outrigger/v1/event_log.proto",
    "outrigger/v1/query.proto",
    "outrigger/v1/mesh.proto",
    "outrigger/v1/import_errors.proto",
    "outrigger/v1/projections.proto",
    "outrigger/v1/releases.proto",
    "outrigger/v1/standing.proto",
    "outrigger/v1/versions.proto",
    "outrigger/v1/admin.proto",
    "outrigger/v1/backup.proto",
    "outrigger/storage/v1/stored.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".outrigger").compile_fds(descriptors.clone())?;
    raw_servers(descriptors, &out.join("raw"))
}

/// The servers once more, with appends that take in texts as slices (`src/api/raw_append.rs`), and with reads and
/// subscriptions that hand over events as bytes (`src/api/raw.rs`), and with gets and lists that hand over documents as bytes
/// (`src/api/raw_query.rs`).
fn raw_servers(descriptors: FileDescriptorSet, out: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(out)?;
    tonic_prost_build::configure()
        .build_client(false)
        .extern_path(".outrigger.v1", "crate::api::proto::v1")
        .extern_path(".outrigger.v1.AppendRequest", "crate::api::raw_append::AppendRequest")
        .extern_path(".outrigger.v1.AppendStreamRequest", "crate::api::raw_append::AppendStreamRequest")
        .extern_path(".outrigger.v1.ReadResponse", "crate::api::raw::ReadResponse")
        .extern_path(".outrigger.v1.SubscribeResponse", "crate::api::raw::SubscribeResponse")
        .extern_path(".outrigger.v1.GetResponse", "crate::api::raw_query::GetResponse")
        .extern_path(".outrigger.v1.ListResponse", "crate::api::raw_query::ListResponse")
        .out_dir(out)
        .compile_fds(descriptors)?;
    Ok(())
}
