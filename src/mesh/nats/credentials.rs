//! How a node proves to the broker who it is: the seed of an nkey, or a credentials file with a token and a seed.
//!
//! Invariants: the file is read anew for every connection, so that a credential is rotated by replacing it; one that others
//! can read is refused each time. Does not keep what it read.

use std::{io, path::PathBuf, sync::Arc};

use async_nats::{Auth, AuthError};

use crate::{
    disk::{Disk, read_file, real::RealDisk},
    mesh::trust::check_secret_file_mode,
};

/// Bytes of a credentials file.
const CREDENTIALS_BYTES_MAX: usize = 64 * 1_024;

/// Where the credentials are.
#[derive(Debug, Clone)]
pub(super) struct Credentials {
    pub(super) file: PathBuf,
    pub(super) disk: Arc<dyn Disk>,
}

impl Credentials {
    /// Signs what the server asks to be signed.
    pub(super) fn sign(&self, nonce: &[u8]) -> Result<Auth, AuthError> {
        let wrong = |what: &str| AuthError::new(format!("{}: {what}", self.file.display()));
        let unreadable = |error: io::Error| wrong(&format!("cannot be read: {error}"));
        let mode = RealDisk.mode(&self.file).map_err(unreadable)?;
        check_secret_file_mode("credentials file", &self.file.display().to_string(), mode)
            .map_err(|invalid| AuthError::new(invalid.0))?;
        let bytes = read_file(self.disk.as_ref(), &self.file, CREDENTIALS_BYTES_MAX).map_err(unreadable)?;
        let text = String::from_utf8(bytes).map_err(|_| wrong("is no text"))?;
        let (jwt, seed) = parse(&text).ok_or_else(|| {
            wrong("holds no seed; expected one line SU..., or a file made by `nsc generate creds`")
        })?;
        let pair =
            nkeys::KeyPair::from_seed(seed).map_err(|error| wrong(&format!("holds a bad seed: {error}")))?;
        let signature = pair.sign(nonce).map_err(|error| wrong(&format!("cannot sign: {error}")))?;
        let mut auth = Auth::new();
        auth.signature = Some(signature);
        match jwt {
            Some(jwt) => auth.jwt = Some(jwt.to_owned()),
            None => auth.nkey = Some(pair.public_key()),
        }
        Ok(auth)
    }
}

/// The token, if there is one, and the seed of a credentials file.
fn parse(text: &str) -> Option<(Option<&str>, &str)> {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let behind = |mark: &str| lines().skip_while(|line| !line.contains(mark)).nth(1);
    if let Some(seed) = behind("BEGIN USER NKEY SEED") {
        return Some((behind("BEGIN NATS USER JWT"), seed));
    }
    lines().next().filter(|line| line.starts_with("SU")).map(|seed| (None, seed))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn both_kinds_of_file_are_read() {
        let creds = "-----BEGIN NATS USER JWT-----\neyJ0\n------END NATS USER JWT------\n\n\
                     -----BEGIN USER NKEY SEED-----\nSUAX\n------END USER NKEY SEED------\n";
        assert_eq!(parse(creds), Some((Some("eyJ0"), "SUAX")));
        assert_eq!(parse("# flights\nSUAX\n"), Some((None, "SUAX")));
        assert_eq!(parse("hello"), None);
        assert_eq!(parse(""), None);
    }
}
