//! What records of a log must hold beyond their checksums: events, in time, with revisions that have no gaps.
//!
//! Owns the memory of streams that this takes, up to a bound. Does not know where records lie.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
};

use crate::{
    event::{Position, RecordedEvent},
    limits::{VERIFY_FINDINGS_MAX, VERIFY_STREAMS_MAX},
};

/// What the events of a log showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventsVerified {
    /// Events whose streams could be followed.
    pub followed: u64,
    /// Events of streams beyond those that can be followed in bounded memory; their revisions were not checked.
    pub unfollowed: u64,
    /// Positions and what is wrong there.
    pub problems: Vec<(Position, String)>,
}

/// Looks at events in order of position; some may be missing.
#[derive(Debug, Default)]
pub(super) struct EventCheck {
    verified: EventsVerified,
    /// Two hashes of a stream's name to its last revision and position.
    streams: HashMap<u128, (u64, Position)>,
    hashers: [RandomState; 2],
    before: Option<(Position, i64)>,
    /// Behind the last gap in positions; streams may have lost events before it.
    unbroken_from: Position,
}

impl EventCheck {
    pub(super) fn add(&mut self, recorded: &RecordedEvent) {
        let position = recorded.position;
        if let Some((before, at)) = self.before {
            if before.next() != position {
                self.unbroken_from = position;
            }
            if recorded.recorded_at_unix_nanos < at {
                self.problem(position, "it was recorded before the event before it".into());
            }
        } else {
            self.unbroken_from = position;
        }
        self.before = Some((position, recorded.recorded_at_unix_nanos));
        self.follow(recorded);
    }

    pub(super) fn undecodable(&mut self, position: Position, what: String) {
        self.unbroken_from = position.next();
        self.problem(position, what);
    }

    pub(super) fn finish(self) -> EventsVerified {
        self.verified
    }

    /// A stream's revisions are 1, 2, 3 ... unless events before them are missing.
    fn follow(&mut self, recorded: &RecordedEvent) {
        let (position, revision) = (recorded.position, recorded.revision.get());
        let name = recorded.event.stream.as_str();
        let [high, low] = [0, 1].map(|at: usize| u128::from(self.hashers[at].hash_one(name)));
        let key = (high << 64) | low;
        let known = self.streams.get(&key).copied();
        if known.is_none() && self.streams.len() >= VERIFY_STREAMS_MAX {
            self.verified.unfollowed += 1;
            return;
        }
        self.verified.followed += 1;
        self.streams.insert(key, (revision, position));
        let complete = self.unbroken_from <= Position::new(1);
        let expected = match known {
            Some((before, _)) => before + 1,
            None => 1,
        };
        let fits = revision == expected || (!complete && revision > expected);
        if !fits {
            let what = format!("expected revision {expected} of stream {name:?}, found {revision}");
            self.problem(position, what);
        }
    }

    fn problem(&mut self, position: Position, what: String) {
        if self.verified.problems.len() < VERIFY_FINDINGS_MAX {
            self.verified.problems.push((position, what));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::event::{Event, EventId, EventType, Revision, StreamId};

    fn recorded(position: u64, stream: &str, revision: u64, at: i64) -> RecordedEvent {
        RecordedEvent {
            position: Position::new(position),
            revision: Revision::new(revision),
            recorded_at_unix_nanos: at,
            event: Event {
                id: EventId::from_slice(&[1 + position as u8; 16]).unwrap(),
                event_type: EventType::parse("t").unwrap(),
                stream: StreamId::parse(stream).unwrap(),
                tags: Vec::new(),
                data: Bytes::from_static(b"1"),
                metadata: None,
                time_unix_nanos: None,
            },
            tracking: None,
            origin: None,
            cursor: None,
        }
    }

    fn check(events: &[(u64, &str, u64, i64)], expected: &[(u64, &str)]) {
        let mut check = EventCheck::default();
        for (position, stream, revision, at) in events {
            check.add(&recorded(*position, stream, *revision, *at));
        }
        let problems = check.finish().problems;
        let found: Vec<u64> = problems.iter().map(|(position, _)| position.get()).collect();
        assert_eq!(found, expected.iter().map(|(position, _)| *position).collect::<Vec<_>>(), "{problems:?}");
        for ((_, what), (_, expected)) in problems.iter().zip(expected) {
            assert!(what.contains(expected), "{what}");
        }
    }

    #[test]
    fn revisions_have_no_gaps_and_time_does_not_go_back() {
        check(&[(1, "a", 1, 5), (2, "b", 1, 5), (3, "a", 2, 6)], &[]);
        check(&[(1, "a", 1, 5), (2, "a", 3, 6)], &[(2, "expected revision 2 of stream \"a\", found 3")]);
        check(&[(1, "a", 2, 5), (2, "a", 2, 6)], &[(1, "revision 1"), (2, "revision 3")]);
        check(&[(1, "a", 1, 5), (2, "b", 1, 4)], &[(2, "recorded before")]);
    }

    #[test]
    fn behind_missing_events_revisions_may_jump_but_not_go_back() {
        check(&[(1, "a", 1, 1), (4, "a", 3, 2), (5, "b", 2, 3), (6, "b", 3, 3)], &[]);
        check(&[(1, "a", 3, 1), (4, "a", 3, 2)], &[(1, "revision 1"), (4, "revision 4")]);
    }
}
