//! Arbitrary origins and cursors, for the tests of those who write and read them.
//!
//! Does not know what is done with them.

use proptest::prelude::*;
use uuid::Uuid;

use super::{EventId, ImportCursor, Origin, Position};

pub(crate) fn origin() -> impl Strategy<Value = Origin> {
    let ids = (any::<[u8; 16]>(), any::<[u8; 16]>(), any::<[u8; 32]>());
    ("[a-z]{0,9}", ids, any::<u64>(), any::<u64>()).prop_map(|(owner, ids, epoch, position)| Origin {
        owner: owner.into(),
        log_id: Uuid::from_bytes(ids.0),
        epoch,
        position: Position::new(position),
        id: EventId::from_slice(&ids.1.map(|byte| byte | 1)).unwrap(),
        hash: ids.2,
    })
}

pub(crate) fn cursor() -> impl Strategy<Value = ImportCursor> {
    let names = ("[a-z]{1,9}", "[a-z]{1,9}", any::<u32>(), any::<u32>());
    let bytes = (any::<[u8; 32]>(), any::<[u8; 16]>(), any::<[u8; 32]>());
    let numbers = (any::<u64>(), any::<u64>(), any::<u64>());
    (names, bytes, numbers).prop_map(|(names, bytes, numbers)| ImportCursor {
        owner: names.0.into(),
        export: names.1.into(),
        version: names.2,
        definition: bytes.0,
        log_id: Uuid::from_bytes(bytes.1),
        epoch: numbers.0,
        seq: numbers.1,
        position: Position::new(numbers.2),
        chain: bytes.2,
        generation: names.3,
    })
}
