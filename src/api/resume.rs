//! Where a read or subscription starts: behind a position, or behind a token of this log's history.
//!
//! Invariant: what passes is not above the head. Does not know what is read from there.

use tonic::Code;

use super::{convert, proto::v1, status::Refusal};
use crate::{
    event::Position,
    events::{Events, history::check_token},
};

/// The position that a request names, if it names one.
pub(crate) fn start(
    events: &Events,
    after: Option<u64>,
    after_token: Option<&v1::Token>,
) -> Result<Option<Position>, Refusal> {
    match (after, after_token) {
        (Some(_), Some(_)) => {
            let what = "expected either after or after_token, found both";
            Err(Refusal::field("CONTRADICTORY_START", "after_token", what))
        }
        (None, None) => Ok(None),
        (Some(after), None) => not_above_head(events, Position::new(after), "after").map(Some),
        (None, Some(token)) => {
            let token = convert::token(token, "after_token")?;
            check_token(events.log(), &token).map_err(|error| Refusal::token(error, "after_token"))?;
            not_above_head(events, token.position, "after_token").map(Some)
        }
    }
}

fn not_above_head(events: &Events, after: Position, field: &str) -> Result<Position, Refusal> {
    let head = events.head().get();
    if after <= head {
        return Ok(after);
    }
    let what = format!("expected at most the head {head}, found {after}");
    let refusal = Refusal::field("AFTER_BEYOND_HEAD", field, what).code(Code::OutOfRange);
    Err(refusal.with("head", head).with("actual", after))
}
