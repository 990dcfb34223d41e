//! The judgement of one request against the state of the log: a pure function.
//!
//! Invariants: ids are judged before conditions, so that a retry never conflicts with itself; conditions are judged
//! against the state before the request's own events; a request is appended whole, not at all, or (only where it says
//! so) without the events that are known. Does not know where the facts come from.

use foldhash::{HashMap, HashMapExt as _};

use super::{
    AppendError, AppendedEvent, Boundary, Expectation, Expected, FailedCondition, FailedExpectation, Request,
};
use crate::{
    event::{Event, Position, RecordedEvent, Revision, StreamId},
    index::StreamHead,
    json::Json,
};

/// What the log says about a request, as of the group being built.
#[derive(Debug, Default)]
pub struct Facts {
    /// For each event of the request: the event that has its id, if there is one.
    pub known: Vec<Option<Box<RecordedEvent>>>,
    /// The heads of all streams that the request writes or names in a condition; absent: no event.
    pub streams: HashMap<StreamId, StreamHead>,
    /// For each boundary of the request: the first event behind its `after` that matches its query.
    pub matches: Vec<Option<Position>>,
    /// The stored position of the request's source; 0 if there is none.
    pub tracked: u64,
    /// The last position of the log.
    pub head: Position,
}

/// What is to be done with a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// Append some or all of its events, in order.
    Append(Vec<Verdict>),
    /// Every event is in the log.
    AlreadyApplied(Vec<AppendedEvent>),
}

/// What is to be done with one event.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It becomes this revision of its stream.
    New(Revision),
    /// It is there already.
    Known(AppendedEvent),
}

/// Judges a request.
pub fn decide(request: &Request, facts: &Facts) -> Result<Decision, AppendError> {
    let known = known_events(request, facts)?;
    if known.len() == request.events.len() {
        return Ok(Decision::AlreadyApplied(known.into_iter().map(|(_, event)| event).collect()));
    }
    if !known.is_empty() && !request.skip_existing {
        return Err(AppendError::PartlyApplied { known });
    }
    if let Some((index, boundary)) =
        request.boundaries.iter().enumerate().find(|(_, boundary)| boundary.after > facts.head)
    {
        return Err(AppendError::AfterBeyondHead { index, after: boundary.after, head: facts.head });
    }
    let failed = failed_conditions(request, facts);
    if !failed.is_empty() {
        return Err(AppendError::ConditionsFailed(failed));
    }
    Ok(Decision::Append(verdicts(request, facts, &known)))
}

/// The request's events that are in the log, with their index; an id with other content is refused.
fn known_events(request: &Request, facts: &Facts) -> Result<Vec<(usize, AppendedEvent)>, AppendError> {
    let mut found = Vec::new();
    for (index, (event, known)) in request.events.iter().zip(&facts.known).enumerate() {
        let Some(known) = known else { continue };
        if let Some(field) = first_difference(event, &known.event) {
            return Err(AppendError::IdReused { index, id: event.id, position: known.position, field });
        }
        let RecordedEvent { position, revision, .. } = **known;
        found.push((index, AppendedEvent { id: event.id, position, revision, already_existed: true }));
    }
    Ok(found)
}

/// What two events under one id differ in. Metadata, trace and recording time do not count.
pub(crate) fn first_difference(new: &Event, known: &Event) -> Option<&'static str> {
    if new.event_type != known.event_type {
        Some("type")
    } else if new.stream != known.stream {
        Some("stream")
    } else if new.tags != known.tags {
        Some("tags")
    } else if new.time_unix_nanos != known.time_unix_nanos {
        Some("time")
    } else if new.data != known.data && !same_json(&new.data, &known.data) {
        Some("data")
    } else {
        None
    }
}

fn same_json(a: &[u8], b: &[u8]) -> bool {
    matches!((Json::parse(a), Json::parse(b)), (Ok(a), Ok(b)) if a.same_value(&b))
}

fn failed_conditions(request: &Request, facts: &Facts) -> Vec<FailedCondition> {
    let streams =
        request.expectations.iter().filter_map(|expectation| failed_expectation(expectation, facts));
    let broken = |(index, (boundary, position)): (usize, (&Boundary, &Option<Position>))| {
        let (after, position) = (boundary.after, (*position)?);
        Some(FailedCondition::Match { index, after, position })
    };
    let matches = request.boundaries.iter().zip(&facts.matches).enumerate().filter_map(broken);
    let is_other = request.tracked.is_some_and(|expected| expected != facts.tracked);
    let stale = request.tracking.iter().filter(|tracking| is_other || tracking.position <= facts.tracked);
    let tracking = stale.map(|tracking| FailedCondition::Tracking {
        source: tracking.source.clone(),
        stored: facts.tracked,
        requested: tracking.position,
    });
    streams.map(FailedCondition::Stream).chain(matches).chain(tracking).collect()
}

fn failed_expectation(expectation: &Expectation, facts: &Facts) -> Option<FailedExpectation> {
    let head = facts.streams.get(&expectation.stream);
    let actual = head.map_or(Revision::NONE, |head| head.revision);
    let holds = match expectation.expected {
        Expected::Revision(revision) => actual == revision,
        Expected::NoStream => actual == Revision::NONE,
        Expected::Exists => actual > Revision::NONE,
        Expected::Any => true,
    };
    (!holds).then(|| FailedExpectation {
        expectation: expectation.clone(),
        actual,
        position: head.map_or(Position::ZERO, |head| head.last_position),
    })
}

fn verdicts(request: &Request, facts: &Facts, known: &[(usize, AppendedEvent)]) -> Vec<Verdict> {
    let mut known = known.iter().peekable();
    let mut last: HashMap<&str, Revision> = HashMap::new();
    let mut verdicts = Vec::with_capacity(request.events.len());
    for (index, event) in request.events.iter().enumerate() {
        if let Some((_, there)) = known.next_if(|(at, _)| *at == index) {
            verdicts.push(Verdict::Known(*there));
            continue;
        }
        let stream = event.stream.as_str();
        let before = || facts.streams.get(stream).map_or(Revision::NONE, |head| head.revision);
        let revision = last.entry(stream).or_insert_with(before);
        *revision = revision.next();
        verdicts.push(Verdict::New(*revision));
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        event::{EventId, EventType, Source, Tag, Tracking},
        index::QueryItem,
    };

    fn event(id: u8, stream: &str, data: &str) -> Event {
        Event {
            id: EventId::from_slice(&[id; 16]).unwrap(),
            event_type: EventType::parse("t").unwrap(),
            stream: StreamId::parse(stream).unwrap(),
            tags: vec![Tag::parse("a").unwrap()],
            data: Bytes::copy_from_slice(data.as_bytes()),
            metadata: None,
            time_unix_nanos: None,
        }
    }

    fn request(events: Vec<Event>) -> Request {
        Request::of(events)
    }

    fn recorded(position: u64, revision: u64, event: Event) -> Box<RecordedEvent> {
        let (position, revision) = (Position::new(position), Revision::new(revision));
        Box::new(RecordedEvent {
            position,
            revision,
            recorded_at_unix_nanos: 1,
            event,
            tracking: None,
            origin: None,
            cursor: None,
        })
    }

    fn facts(known: Vec<Option<Box<RecordedEvent>>>, streams: &[(&str, u64, u64)]) -> Facts {
        let head = |(name, revision, position): &(&str, u64, u64)| {
            let head =
                StreamHead { revision: Revision::new(*revision), last_position: Position::new(*position) };
            (StreamId::parse(name).unwrap(), head)
        };
        Facts {
            known,
            streams: streams.iter().map(head).collect(),
            head: Position::new(20),
            ..Facts::default()
        }
    }

    fn expecting(stream: &str, expected: Expected) -> Expectation {
        Expectation { stream: StreamId::parse(stream).unwrap(), expected }
    }

    #[test]
    fn new_events_get_the_next_revisions_of_their_streams() {
        let request = request(vec![event(1, "a", "1"), event(2, "b", "2"), event(3, "a", "3")]);
        let decision = decide(&request, &facts(vec![None, None, None], &[("a", 4, 9)])).unwrap();
        let revisions = [5, 1, 6].map(|revision| Verdict::New(Revision::new(revision)));
        assert_eq!(decision, Decision::Append(revisions.into()));
    }

    #[test]
    fn a_repeated_request_is_already_applied_even_where_its_conditions_no_longer_hold() {
        let mut request = request(vec![event(1, "a", r#"{"x":1,"y":2}"#)]);
        request.expectations = vec![expecting("a", Expected::NoStream)];
        let known = recorded(9, 4, event(1, "a", r#"{"y":2.0, "x":1}"#));
        let decision = decide(&request, &facts(vec![Some(known)], &[("a", 4, 9)])).unwrap();
        let Decision::AlreadyApplied(events) = decision else { panic!("{decision:?}") };
        assert_eq!((events[0].position.get(), events[0].revision.get()), (9, 4));
        assert!(events[0].already_existed);
    }

    #[test]
    fn a_partly_known_request_is_refused_unless_it_says_to_skip() {
        let mut request = request(vec![event(1, "a", "1"), event(2, "a", "2")]);
        let facts = facts(vec![Some(recorded(3, 1, event(1, "a", "1"))), None], &[("a", 1, 3)]);
        let error = decide(&request, &facts).unwrap_err();
        assert!(matches!(&error, AppendError::PartlyApplied { known } if known[0].0 == 0), "{error}");
        request.skip_existing = true;
        let Ok(Decision::Append(verdicts)) = decide(&request, &facts) else { panic!("not appended") };
        assert!(matches!(verdicts[0], Verdict::Known(_)));
        assert_eq!(verdicts[1], Verdict::New(Revision::new(2)));
    }

    fn check_reused(change: impl FnOnce(&mut Event), expected: &str) {
        let mut known = event(1, "a", "1");
        change(&mut known);
        let facts = facts(vec![Some(recorded(3, 1, known))], &[]);
        match decide(&request(vec![event(1, "a", "1")]), &facts) {
            Err(AppendError::IdReused { field, .. }) => assert_eq!(field, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }

    #[test]
    fn a_known_id_with_other_content_is_refused() {
        check_reused(|e| e.event_type = EventType::parse("u").unwrap(), "type");
        check_reused(|e| e.stream = StreamId::parse("b").unwrap(), "stream");
        check_reused(|e| e.tags.clear(), "tags");
        check_reused(|e| e.data = Bytes::from_static(b"2"), "data");
        check_reused(|e| e.time_unix_nanos = Some(1), "time");
    }

    fn check_expectation(expected: Expected, revision: u64, holds: bool) {
        let mut request = request(vec![event(1, "x", "1")]);
        request.expectations = vec![expecting("a", expected)];
        let streams = [("a", revision, 7)];
        let facts = facts(vec![None], if revision == 0 { &[] } else { &streams });
        match decide(&request, &facts) {
            Ok(_) => assert!(holds, "{expected:?} at {revision}"),
            Err(AppendError::ConditionsFailed(failed)) => {
                assert!(!holds, "{expected:?} at {revision}");
                let [FailedCondition::Stream(failed)] = failed.as_slice() else { panic!("{failed:?}") };
                assert_eq!(failed.actual.get(), revision);
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn expected_revisions_are_judged_against_the_stream() {
        check_expectation(Expected::Revision(Revision::new(3)), 3, true);
        check_expectation(Expected::Revision(Revision::new(3)), 4, false);
        check_expectation(Expected::Revision(Revision::new(3)), 0, false);
        check_expectation(Expected::NoStream, 0, true);
        check_expectation(Expected::NoStream, 1, false);
        check_expectation(Expected::Exists, 1, true);
        check_expectation(Expected::Exists, 0, false);
        check_expectation(Expected::Any, 0, true);
        check_expectation(Expected::Any, 5, true);
    }

    fn boundary(after: u64) -> Boundary {
        let item = QueryItem { types: vec![EventType::parse("t").unwrap()], tags: Vec::new() };
        Boundary::new(vec![item], Position::new(after))
    }

    #[test]
    fn every_failing_condition_is_listed_with_what_broke_it() {
        let mut request = request(vec![event(1, "x", "1")]);
        request.expectations = vec![expecting("a", Expected::NoStream), expecting("b", Expected::NoStream)];
        request.boundaries = vec![boundary(3), boundary(9), boundary(20)];
        let source = Source::parse("flights").unwrap();
        request.tracking = Some(Tracking { source: source.clone(), position: 7 });
        let mut facts = facts(vec![None], &[("a", 2, 5)]);
        facts.matches = vec![None, Some(Position::new(12)), None];
        facts.tracked = 7;
        let Err(AppendError::ConditionsFailed(failed)) = decide(&request, &facts) else { panic!("appended") };
        let [FailedCondition::Stream(stream), rest @ ..] = failed.as_slice() else { panic!("{failed:?}") };
        assert_eq!(stream.position.get(), 5);
        let (after, position) = (Position::new(9), Position::new(12));
        let tracking = FailedCondition::Tracking { source, stored: 7, requested: 7 };
        assert_eq!(rest, [FailedCondition::Match { index: 1, after, position }, tracking]);
        (facts.matches[1], facts.tracked) = (None, 6);
        request.expectations.remove(0);
        assert!(decide(&request, &facts).is_ok());
        request.tracked = Some(5);
        assert!(decide(&request, &facts).is_err(), "another request has moved the source meanwhile");
        request.tracked = Some(6);
        assert!(decide(&request, &facts).is_ok());
    }

    #[test]
    fn a_retry_is_known_before_its_conditions_and_its_tracking_are_judged() {
        let mut request = request(vec![event(1, "a", "1")]);
        request.boundaries = vec![boundary(30)];
        let source = Source::parse("flights").unwrap();
        request.tracking = Some(Tracking { source, position: 7 });
        let mut facts = facts(vec![Some(recorded(3, 1, event(1, "a", "1")))], &[("a", 1, 3)]);
        facts.tracked = 7;
        assert!(matches!(decide(&request, &facts), Ok(Decision::AlreadyApplied(_))));
        facts.known = vec![None];
        let beyond =
            AppendError::AfterBeyondHead { index: 0, after: Position::new(30), head: Position::new(20) };
        assert_eq!(decide(&request, &facts), Err(beyond));
    }
}
