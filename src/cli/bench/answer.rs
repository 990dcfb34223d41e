//! Answers are checked, all of them: what was acknowledged is what was sent, and what was read is in order.
//!
//! Pure functions from the bytes of an answer to what it says, or to the name of what is wrong with it. Does not know
//! calls.

use super::{wire::Fields, workload::Sent};

/// What is wrong with an answer, in the form of a refusal's reason.
pub type Wrong = &'static str;

/// Checks an `AppendResponse` against the request's events and gives the last of their positions.
pub fn appended(response: &[u8], sent: &[Sent]) -> Result<u64, Wrong> {
    let mut rest = sent.iter();
    let (mut last, mut token) = (0, 0);
    let mut fields = Fields::of(response);
    for (field, value) in &mut fields {
        match field {
            1 => last = event(value.bytes(), rest.next().ok_or("BENCH_TOO_MANY_EVENTS")?, last)?,
            2 if value.number() != 0 => return Err("BENCH_ALREADY_APPLIED"),
            3 => token = token_position(value.bytes()),
            _ => {}
        }
    }
    match (fields.is_whole(), rest.next()) {
        (false, _) => Err("BENCH_BROKEN_ANSWER"),
        (_, Some(_)) => Err("BENCH_TOO_FEW_EVENTS"),
        _ if token < last => Err("BENCH_WRONG_TOKEN"),
        _ => Ok(last),
    }
}

/// Checks an `AppendedEvent` behind the request's event at position `before`, or 0, and gives its position.
fn event(bytes: &[u8], sent: &Sent, before: u64) -> Result<u64, Wrong> {
    let (mut position, mut revision, mut same_id) = (0, 0, false);
    let mut fields = Fields::of(bytes);
    for (field, value) in &mut fields {
        match field {
            1 => position = value.number(),
            2 => revision = value.number(),
            3 if value.number() != 0 => return Err("BENCH_ALREADY_EXISTED"),
            4 => same_id = value.bytes() == sent.id,
            _ => {}
        }
    }
    if !fields.is_whole() {
        Err("BENCH_BROKEN_ANSWER")
    } else if !same_id {
        Err("BENCH_WRONG_ID")
    } else if position == 0 || before > 0 && position != before + 1 {
        Err("BENCH_WRONG_POSITION")
    } else if revision == 0 || sent.revision > 0 && revision != sent.revision {
        Err("BENCH_WRONG_REVISION")
    } else {
        Ok(position)
    }
}

fn token_position(token: &[u8]) -> u64 {
    Fields::of(token).find(|(field, _)| *field == 3).map_or(0, |(_, value)| value.number())
}

/// What every event of a read must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Behind the one before it without a gap.
    Next,
    /// Of this type.
    Type(String),
    /// Of this stream.
    Stream(String),
    /// With this tag.
    Tag(String),
}

/// Checks the events of a `ReadResponse` or an `EventBatch` behind position `last`, or 0, which it moves. Gives how
/// many they are. `seen` gets the data of each.
pub fn events(
    message: &[u8],
    wanted: &Wanted,
    last: &mut u64,
    mut seen: impl FnMut(&[u8]),
) -> Result<u64, Wrong> {
    let mut count = 0;
    let mut fields = Fields::of(message);
    for (field, value) in &mut fields {
        if field == 1 {
            let (position, data) = read_event(value.bytes(), wanted)?;
            let next = *last == 0 || position == *last + 1;
            if position <= *last || (*wanted == Wanted::Next && !next) {
                return Err("BENCH_WRONG_POSITION");
            }
            *last = position;
            count += 1;
            seen(data);
        }
    }
    if fields.is_whole() { Ok(count) } else { Err("BENCH_BROKEN_ANSWER") }
}

/// The position and data of an `Event`.
fn read_event<'a>(bytes: &'a [u8], wanted: &Wanted) -> Result<(u64, &'a [u8]), Wrong> {
    let (mut position, mut data) = (0, None);
    let mut is_wanted = *wanted == Wanted::Next;
    let mut fields = Fields::of(bytes);
    for (field, value) in &mut fields {
        match (field, wanted) {
            (1, _) => position = value.number(),
            (7, _) => data = Some(value.bytes()),
            (3, Wanted::Type(text)) | (4, Wanted::Stream(text)) | (6, Wanted::Tag(text)) => {
                is_wanted |= value.bytes() == text.as_bytes();
            }
            _ => {}
        }
    }
    match data {
        Some(data) if is_wanted && fields.is_whole() => Ok((position, data)),
        Some(_) if !is_wanted => Err("BENCH_OTHER_EVENT"),
        _ => Err("BENCH_BROKEN_ANSWER"),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message as _;

    use super::*;
    use crate::api::proto::v1::{AppendResponse, AppendedEvent, Event, ReadResponse, Token};

    const SENT: [Sent; 2] = [Sent { id: [1; 16], revision: 0 }, Sent { id: [2; 16], revision: 5 }];

    fn check_appended(change: impl FnOnce(&mut AppendResponse), expected: Result<u64, Wrong>) {
        let event = |position, revision, id: u8| AppendedEvent {
            position,
            revision,
            already_existed: false,
            id: Bytes::from(vec![id; 16]),
        };
        let token = Token { log_id: Bytes::from_static(&[7; 16]), epoch: 1, position: 9 };
        let mut response = AppendResponse {
            events: vec![event(8, 1, 1), event(9, 5, 2)],
            already_applied: false,
            token: Some(token),
        };
        change(&mut response);
        assert_eq!(appended(&response.encode_to_vec(), &SENT), expected, "{response:?}");
    }

    #[test]
    fn an_append_is_answered_event_by_event() {
        check_appended(|_| {}, Ok(9));
        check_appended(|r| r.already_applied = true, Err("BENCH_ALREADY_APPLIED"));
        check_appended(|r| r.events[1].already_existed = true, Err("BENCH_ALREADY_EXISTED"));
        check_appended(|r| r.events[0].id = Bytes::new(), Err("BENCH_WRONG_ID"));
        check_appended(|r| r.events.swap(0, 1), Err("BENCH_WRONG_ID"));
        check_appended(|r| r.events[1].position = 10, Err("BENCH_WRONG_POSITION"));
        check_appended(|r| r.events[0].position = 0, Err("BENCH_WRONG_POSITION"));
        check_appended(|r| r.events[1].revision = 6, Err("BENCH_WRONG_REVISION"));
        check_appended(|r| drop(r.events.pop()), Err("BENCH_TOO_FEW_EVENTS"));
        check_appended(|r| r.events.push(r.events[0].clone()), Err("BENCH_TOO_MANY_EVENTS"));
        check_appended(|r| r.token = None, Err("BENCH_WRONG_TOKEN"));
        assert_eq!(appended(&[0x0A, 9, 1], &SENT), Err("BENCH_BROKEN_ANSWER"));
    }

    fn page(positions: &[u64]) -> Vec<u8> {
        let event = |position: &u64| Event {
            position: *position,
            r#type: "t".into(),
            stream: "s".into(),
            tags: vec!["a".into(), "b".into()],
            data: Bytes::from_static(b"1"),
            ..Event::default()
        };
        ReadResponse { events: positions.iter().map(event).collect(), head: 9 }.encode_to_vec()
    }

    fn check_read(positions: &[u64], wanted: Wanted, last: u64, expected: Result<u64, Wrong>) {
        let (mut moved, mut seen) = (last, 0);
        let found = events(&page(positions), &wanted, &mut moved, |data| seen += data.len() as u64);
        assert_eq!(found, expected, "{positions:?} {wanted:?}");
        if let Ok(count) = expected {
            assert_eq!((moved, seen), (positions.last().copied().unwrap_or(last), count));
        }
    }

    #[test]
    fn a_read_is_in_order_and_gives_what_was_wanted() {
        check_read(&[], Wanted::Next, 3, Ok(0));
        check_read(&[4, 5], Wanted::Next, 3, Ok(2));
        check_read(&[4, 6], Wanted::Next, 3, Err("BENCH_WRONG_POSITION"));
        check_read(&[4, 6], Wanted::Tag("b".into()), 3, Ok(2));
        check_read(&[4, 4], Wanted::Tag("b".into()), 3, Err("BENCH_WRONG_POSITION"));
        check_read(&[4], Wanted::Tag("c".into()), 3, Err("BENCH_OTHER_EVENT"));
        check_read(&[4], Wanted::Type("t".into()), 3, Ok(1));
        check_read(&[4], Wanted::Stream("t".into()), 3, Err("BENCH_OTHER_EVENT"));
        assert_eq!(events(&[0x0A, 9], &Wanted::Next, &mut 0, |_| {}), Err("BENCH_BROKEN_ANSWER"));
    }
}
