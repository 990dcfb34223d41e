//! Where an imported event came from, as JSON.
//!
//! Does not know events.

use serde::Serialize;

use crate::{
    api::proto::v1,
    cli::text::{hex, uuid_text},
};

/// The `origin` of an event; fields as in `outrigger.v1.Origin`.
#[derive(Debug, Serialize)]
pub(super) struct Origin<'a> {
    owner: &'a str,
    log_id: String,
    epoch: u64,
    position: u64,
    id: String,
    hash: String,
}

impl<'a> Origin<'a> {
    pub(super) fn of(origin: &'a v1::Origin) -> Self {
        Self {
            owner: &origin.owner,
            log_id: uuid_text(&origin.log_id),
            epoch: origin.epoch,
            position: origin.position,
            id: uuid_text(&origin.id),
            hash: hex(&origin.hash),
        }
    }
}
