//! Keys: with which a node signs what it publishes, and whose signatures it believes.
//!
//! Owns the form of key files (an nkey seed) and of the file of trusted keys (docs/mesh.md). Signatures are Ed25519 over
//! `envelope::signed_bytes`. Invariants: a seed is never shown, also not in debug output; a place counts as signed only
//! under a key that is listed for its owner and in force now. Does not read files: whoever does says what mode they have.

mod file;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

use nkeys::{KeyPair, KeyPairType};

use crate::{
    event::Invalid,
    mapping::about::time_text,
    mesh::envelope::{Envelope, ExportName, HeadMark, Place, Signature, signed_bytes},
};

/// The key with which a node signs.
pub struct SigningKey {
    pair: KeyPair,
    public: String,
}

/// Whose signatures are believed, and when.
#[derive(Debug, Default)]
pub struct Trust {
    nodes: BTreeMap<Box<str>, Vec<TrustedKey>>,
}

/// A key of a node.
#[derive(Debug)]
pub struct TrustedKey {
    /// The public key, as an nkey text.
    pub public: String,
    /// In force from then on; nanoseconds since 1970.
    pub not_before_unix_nanos: Option<i64>,
    /// No longer in force then; nanoseconds since 1970.
    pub not_after_unix_nanos: Option<i64>,
    pair: KeyPair,
}

/// Why a signature is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of a variant says what its fields are")]
pub enum TrustError {
    /// Nobody vouches for that node.
    #[error("the trust file has no key of the node {owner}; it has keys of {known}")]
    UnknownOwner { owner: String, known: String },
    /// The node has keys, and this is none of them.
    #[error(
        "signed with the key {key}, which is none of the {count} that the trust file has of the node {owner}"
    )]
    UnknownKey { owner: String, key: String, count: usize },
    /// The key is not in force yet.
    #[error("signed with the key {key} of the node {owner}, which is in force from {not_before} on")]
    NotYetValid { owner: String, key: String, not_before: String },
    /// The key is not in force any more.
    #[error("signed with the key {key} of the node {owner}, which was in force until {not_after}")]
    Expired { owner: String, key: String, not_after: String },
    /// The key is right, and the signature is not of this place.
    #[error(
        "the signature under the key {key} of the node {owner} does not fit: forged, damaged or of another place"
    )]
    BadSignature { owner: String, key: String },
}

impl SigningKey {
    /// A new key, of the operating system's randomness.
    pub fn generate() -> Self {
        Self::of(KeyPair::new_service())
    }

    /// The key that follows from these bytes: for simulations.
    pub fn from_entropy(entropy: [u8; 32]) -> Self {
        let pair = KeyPair::new_from_raw(KeyPairType::Service, entropy);
        Self::of(pair.expect("any 32 bytes are a key"))
    }

    /// Reads the text of a key file: one line with a seed, which begins with SV.
    pub fn from_seed(text: &str) -> Result<Self, Invalid> {
        let expected = "expected one line with the seed of a key of a service (SV...), as `outrigger mesh keygen` writes it";
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let (Some(seed), None) = (lines.next(), lines.next()) else {
            return Err(Invalid(expected.to_owned()));
        };
        // What is wrong with a seed is said without it.
        let pair = KeyPair::from_seed(seed).map_err(|error| Invalid(format!("{expected}: {error}")))?;
        match pair.key_pair_type() {
            KeyPairType::Service => Ok(Self::of(pair)),
            other => Err(Invalid(format!("{expected}, found one of the kind {other:?}"))),
        }
    }

    fn of(pair: KeyPair) -> Self {
        let public = pair.public_key();
        Self { pair, public }
    }

    /// The text of a key file. A secret.
    pub fn seed(&self) -> String {
        self.pair.seed().expect("a signing key has its seed")
    }

    /// The public key, as an nkey text: V...
    pub fn public(&self) -> &str {
        &self.public
    }

    /// Signs a place.
    pub fn sign(&self, name: &ExportName, definition: &[u8; 32], place: &Place) -> Signature {
        let bytes = self.pair.sign(&signed_bytes(name, definition, place));
        Signature { key: self.public.clone(), bytes: bytes.expect("a signing key has its seed") }
    }

    /// A signed head mark.
    pub fn head_mark(&self, name: &ExportName, definition: &[u8; 32], place: &Place) -> HeadMark {
        let signature = self.sign(name, definition, place);
        HeadMark { name: name.clone(), definition: *definition, place: place.clone(), signature }
    }
}

/// Shows the public key only.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl Trust {
    /// Reads and checks the text of a file of trusted keys. `file` is named in errors.
    pub fn parse(text: &str, name: &str) -> Result<Self, crate::mapping::DefinitionError> {
        file::parse(text, name)
    }

    /// Trusts a key of a node for ever, besides those that it has.
    pub fn trust(&mut self, node: &str, public: &str) -> Result<(), Invalid> {
        let key = TrustedKey::new(public, None, None)?;
        self.nodes.entry(node.into()).or_default().push(key);
        Ok(())
    }

    /// The nodes and their keys, in order of names.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &[TrustedKey])> {
        self.nodes.iter().map(|(name, keys)| (&**name, keys.as_slice()))
    }

    /// The keys of a node; none if it is not known.
    pub fn keys_of(&self, node: &str) -> &[TrustedKey] {
        self.nodes.get(node).map_or(&[], Vec::as_slice)
    }

    /// Whether an event's signature is its owner's, over its place, under a key that is in force. `None` where it has none.
    pub fn verify_event(&self, envelope: &Envelope, now_unix_nanos: i64) -> Option<Result<(), TrustError>> {
        let Envelope { name, definition, place, signature, .. } = envelope;
        signature.as_ref().map(|signature| self.verify(name, definition, place, signature, now_unix_nanos))
    }

    /// Whether a head mark's signature is its owner's, under a key that is in force.
    pub fn verify_head(&self, head: &HeadMark, now_unix_nanos: i64) -> Result<(), TrustError> {
        self.verify(&head.name, &head.definition, &head.place, &head.signature, now_unix_nanos)
    }

    /// Whether a signature of a place is its owner's, under a key that is in force.
    pub fn verify(
        &self,
        name: &ExportName,
        definition: &[u8; 32],
        place: &Place,
        signature: &Signature,
        now_unix_nanos: i64,
    ) -> Result<(), TrustError> {
        let (owner, key) = (name.owner.clone(), signature.key.clone());
        let Some(keys) = self.nodes.get(owner.as_str()) else {
            let names: Vec<&str> = self.nodes.keys().map(|name| &**name).collect();
            let known = if names.is_empty() { "no node".to_owned() } else { names.join(", ") };
            return Err(TrustError::UnknownOwner { owner, known });
        };
        let mut of_this_key = keys.iter().filter(|trusted| trusted.public == key).peekable();
        if of_this_key.peek().is_none() {
            return Err(TrustError::UnknownKey { owner, key, count: keys.len() });
        }
        // A key may be listed more than once, with ranges of its own.
        let mut refused = None;
        for trusted in of_this_key {
            match (trusted.not_before_unix_nanos, trusted.not_after_unix_nanos) {
                (Some(from), _) if now_unix_nanos < from => {
                    refused = Some(TrustError::NotYetValid {
                        owner: owner.clone(),
                        key: key.clone(),
                        not_before: time_text(from),
                    });
                }
                (_, Some(until)) if now_unix_nanos >= until => {
                    refused = Some(TrustError::Expired {
                        owner: owner.clone(),
                        key: key.clone(),
                        not_after: time_text(until),
                    });
                }
                _ => {
                    let signed = signed_bytes(name, definition, place);
                    let fits = trusted.pair.verify(&signed, &signature.bytes).is_ok();
                    return if fits { Ok(()) } else { Err(TrustError::BadSignature { owner, key }) };
                }
            }
        }
        Err(refused.expect("a key that is listed was refused for a reason"))
    }

    /// The node that made a signature which is not the owner's, if the trust file has its key and the signature fits.
    pub fn signer_of(
        &self,
        name: &ExportName,
        definition: &[u8; 32],
        place: &Place,
        signature: &Signature,
    ) -> Option<&str> {
        let signed = signed_bytes(name, definition, place);
        let fits = |key: &TrustedKey| {
            key.public == signature.key && key.pair.verify(&signed, &signature.bytes).is_ok()
        };
        let others = self.nodes.iter().filter(|(node, _)| ***node != *name.owner);
        others.filter(|(_, keys)| keys.iter().any(fits)).map(|(node, _)| &**node).next()
    }
}

impl TrustedKey {
    /// Whether signatures under it are believed at this time.
    pub fn is_in_force(&self, now_unix_nanos: i64) -> bool {
        self.not_before_unix_nanos.is_none_or(|from| now_unix_nanos >= from)
            && self.not_after_unix_nanos.is_none_or(|until| now_unix_nanos < until)
    }

    fn new(
        public: &str,
        not_before_unix_nanos: Option<i64>,
        not_after_unix_nanos: Option<i64>,
    ) -> Result<Self, Invalid> {
        let expected = "expected the public key of a service (V...), as `outrigger mesh keygen` prints it";
        if public.starts_with('S') {
            return Err(Invalid(format!(
                "{expected}, found what may be a seed: a secret that belongs into a key file"
            )));
        }
        let pair = KeyPair::from_public_key(public)
            .map_err(|error| Invalid(format!("{expected}, found {public:?}: {error}")))?;
        if pair.key_pair_type() != KeyPairType::Service {
            return Err(Invalid(format!("{expected}, found one of the kind {:?}", pair.key_pair_type())));
        }
        Ok(Self { public: public.to_owned(), not_before_unix_nanos, not_after_unix_nanos, pair })
    }
}

/// Refuses a key file that every user of the machine may read or change. `mode`: its permission bits. The group may
/// read, since that is how Kubernetes gives secrets to processes that are not root.
pub fn check_key_file_mode(path: &str, mode: u32) -> Result<(), Invalid> {
    check_secret_file_mode("key file", path, mode)
}

/// The same for any file with a secret; `what` names it in the message.
pub fn check_secret_file_mode(what: &str, path: &str, mode: u32) -> Result<(), Invalid> {
    let mode = mode & 0o777;
    if mode & 0o027 == 0 {
        return Ok(());
    }
    Err(Invalid(format!(
        "{what} {path}: expected one that only its owner can change and others cannot read, found mode {mode:04o}; \
         run: chmod 600 {path}"
    )))
}
