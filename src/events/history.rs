//! Tokens held against the log's history of epochs.
//!
//! A token names a position and the epoch under which its holder saw it. It holds here if that epoch, as this log knows
//! it, came that far; else the log was rewound, or it is another log, and what the holder saw is not what stands here.
//! Pure. Does not know who holds tokens, or what for.

use uuid::Uuid;

use crate::{
    event::{Position, Token},
    log::{EpochStart, LogReader},
};

/// Why a token does not hold here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The token was made for another log.
    #[error(
        "the token belongs to log {found}, this node's log is {expected}; ask the node that gave the token"
    )]
    OtherLog {
        /// This node's log.
        expected: Uuid,
        /// The token's.
        found: Uuid,
    },
    /// The token names a point that is not in this log's history.
    #[error(
        "the token names position {position} of epoch {epoch}, but that epoch's history here ends at {end}; \
         what was appended behind it is lost to this log"
    )]
    StaleEpoch {
        /// The token's epoch.
        epoch: u64,
        /// The token's position.
        position: Position,
        /// Where the histories part: the last position that the token's epoch has here.
        end: Position,
    },
}

/// Whether the point that a token names is in this log's history, or may still come to be.
pub fn check_token(reader: &LogReader, token: &Token) -> Result<(), TokenError> {
    if token.log_id != reader.log_id() {
        return Err(TokenError::OtherLog { expected: reader.log_id(), found: token.log_id });
    }
    match epoch_end(reader.epochs(), token.epoch) {
        Some(end) if token.position > end => {
            Err(TokenError::StaleEpoch { epoch: token.epoch, position: token.position, end })
        }
        _ => Ok(()),
    }
}

/// The last position that an epoch, or one before it, wrote; `None`: it may still write. An epoch that wrote nothing is
/// not in the history and ends where its successor begins; one that is newer than the newest ends before everything.
fn epoch_end(starts: &[EpochStart], epoch: u64) -> Option<Position> {
    let newest = starts.last().map_or(0, |start| start.epoch.counter);
    if epoch > newest {
        return Some(Position::ZERO);
    }
    let successor = starts.iter().find(|start| start.epoch.counter > epoch);
    successor.map(|start| Position::new(start.first.get().saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Epoch;

    #[test]
    fn tokens_are_held_against_the_history_of_epochs() {
        let start = |(counter, first)| EpochStart {
            epoch: Epoch { counter, random: 0 },
            first: Position::new(first),
        };
        let starts = [(1, 1), (3, 11), (4, 21)].map(start);
        let end = |epoch| epoch_end(&starts, epoch).map(Position::get);
        assert_eq!(end(0), Some(0));
        assert_eq!(end(1), Some(10));
        assert_eq!(end(2), Some(10), "it wrote nothing");
        assert_eq!(end(3), Some(20));
        assert_eq!(end(4), None, "it goes on writing");
        assert_eq!(end(5), Some(0), "there is no such epoch");
    }
}
