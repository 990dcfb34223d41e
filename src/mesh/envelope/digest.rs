//! The chain over what is published, and the bytes that signatures are about.
//!
//! Both are made of values, not of how they are written: every field with its length before it, so that no two contents
//! give the same bytes. Invariant: each field that an importer believes is in here. A change here is a new format.

use sha2::{Digest as _, Sha256};

use super::{ENVELOPE_FORMAT, Envelope, ExportName, Place};

/// The chain before the first event of a sequence.
pub const CHAIN_START: [u8; 32] = [0; 32];

/// The chain with an event: SHA-256 over the chain before it and the digest of the event and its place. The chain that
/// the envelope itself names is not looked at.
pub fn chain_after(before: &[u8; 32], envelope: &Envelope) -> [u8; 32] {
    let mut chain = Sha256::new();
    chain.update(before);
    chain.update(digest(envelope));
    chain.finalize().into()
}

/// The bytes that a signature of a place is about.
pub fn signed_bytes(name: &ExportName, definition: &[u8; 32], place: &Place) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    put_place(&mut |bytes| out.extend_from_slice(bytes), b"outrigger place", name, definition, place);
    out.extend_from_slice(&place.chain);
    out
}

/// The hash of a published event and its place, without the chain.
pub fn digest(envelope: &Envelope) -> [u8; 32] {
    let Envelope { name, definition, place, event, signature: _ } = envelope;
    let mut hash = Sha256::new();
    let put = &mut |bytes: &[u8]| hash.update(bytes);
    put_place(put, b"outrigger event", name, definition, place);
    put(event.id.as_bytes());
    put_field(put, event.event_type.as_str().as_bytes());
    put_field(put, event.stream.as_str().as_bytes());
    put(&(event.tags.len() as u64).to_be_bytes());
    for tag in &event.tags {
        put_field(put, tag.as_str().as_bytes());
    }
    put(&event.time_unix_nanos.to_be_bytes());
    put_field(put, &event.data);
    match &event.trace {
        None => put(&[0]),
        Some(trace) => {
            put(&[1]);
            put_field(put, trace.as_bytes());
        }
    }
    hash.finalize().into()
}

/// Everything of a place but its chain.
fn put_place(
    put: &mut dyn FnMut(&[u8]),
    what: &[u8],
    name: &ExportName,
    definition: &[u8; 32],
    place: &Place,
) {
    let ExportName { owner, export, version } = name;
    let Place { log_id, epoch, seq, position, chain: _ } = place;
    put_field(put, what);
    put(&ENVELOPE_FORMAT.to_be_bytes());
    put_field(put, owner.as_bytes());
    put_field(put, export.as_bytes());
    put(&version.to_be_bytes());
    put(definition);
    put(log_id.as_bytes());
    put(&epoch.to_be_bytes());
    put(&seq.to_be_bytes());
    put(&position.get().to_be_bytes());
}

fn put_field(put: &mut dyn FnMut(&[u8]), bytes: &[u8]) {
    put(&(bytes.len() as u64).to_be_bytes());
    put(bytes);
}
