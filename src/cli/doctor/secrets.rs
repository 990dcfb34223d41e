//! Files of keys, tokens and credentials: whether they are there, and who may read them. Their content is not shown.

use std::path::Path;

use super::{Finding, machine};
use crate::{
    config::Config,
    disk::real::RealDisk,
    limits::{KEY_FILE_BYTES_MAX, TRUST_FILE_BYTES_MAX},
    mesh::trust::{SigningKey, Trust},
};

/// Bits of a file's mode that let others read or write it.
const OTHERS: u32 = 0o007;
const GROUP_AND_OTHERS: u32 = 0o077;

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(path) = &config.mesh.key_file {
        findings.push(key(path, config));
    }
    for (name, path) in
        [("token file", &config.grpc.token_file), ("NATS credentials", &config.mesh.nats_creds_file)]
    {
        findings.extend(path.as_ref().map(|path| private(name, path, OTHERS)));
    }
    if let Some(path) = &config.mesh.trust_file {
        findings.push(trust(path));
    }
    findings
}

fn private(check: &'static str, path: &Path, forbidden: u32) -> Finding {
    let shown = path.display();
    match machine::is_readable(path).and_then(|()| RealDisk.mode(path)) {
        Ok(mode) if mode & forbidden != 0 => {
            let remedy = format!("chmod 600 {shown}, or defaultMode 0400 of the Secret's volume");
            let found = format!("{shown} can be read by others (mode {mode:03o})");
            if forbidden == OTHERS {
                Finding::warning(check, found, remedy)
            } else {
                Finding::failed(check, found, remedy)
            }
        }
        Ok(mode) => Finding::ok(check, format!("{shown}, mode {mode:03o}")),
        Err(error) => {
            Finding::failed(check, format!("{shown}: {error}"), "see that it is mounted and readable")
        }
    }
}

fn key(path: &Path, config: &Config) -> Finding {
    let check = "key file";
    let finding = private(check, path, GROUP_AND_OTHERS);
    if !finding.remedy.is_empty() {
        return finding;
    }
    let text = machine::text(path, KEY_FILE_BYTES_MAX).map_err(|error| error.to_string());
    let key = text.and_then(|text| SigningKey::from_seed(&text).map_err(|invalid| invalid.0));
    let key = match key {
        Ok(key) => key,
        Err(error) => {
            let remedy = "`outrigger mesh keygen --out FILE` makes a key";
            return Finding::failed(check, format!("{}: {error}", path.display()), remedy);
        }
    };
    let trusted = config.mesh.trust_file.as_ref().and_then(|path| {
        let trust = Trust::parse(&machine::text(path, TRUST_FILE_BYTES_MAX).ok()?, "trust file").ok()?;
        Some(trust.keys_of(&config.node).iter().any(|known| known.public == key.public()))
    });
    if trusted == Some(false) {
        let found = format!("the trust file does not have {} for {}", key.public(), config.node);
        let remedy = "add it there, in all nodes' copies: else nobody believes what this node publishes";
        return Finding::warning(check, found, remedy);
    }
    finding
}

fn trust(path: &Path) -> Finding {
    let check = "trust file";
    let read = machine::text(path, TRUST_FILE_BYTES_MAX).map_err(|error| error.to_string());
    let trust = read.and_then(|text| Trust::parse(&text, "trust file").map_err(|error| error.to_string()));
    match trust {
        Ok(trust) => Finding::ok(check, format!("{} nodes are trusted", trust.nodes().count())),
        Err(error) => {
            let found = format!("{}: {}", path.display(), error.replace('\n', "; "));
            Finding::failed(check, found, "correct it; docs/mesh.md has its form")
        }
    }
}
