//! What an append is made on condition of, as it is typed.
//!
//! Owns the flags and their way into a request. A token is asked of the node before it counts as a position: the
//! protocol's condition names a position only, and a token of another log would name a wrong one. Does not judge
//! conditions; the node does.

use clap::Args;

use crate::{
    api::proto::v1::{
        AnyRevision, AppendRequest, EventQuery, EventQueryItem, ExpectedRevision, FailIfEventsMatch,
        NoStream, ReadRequest, StreamExists, Tracking, expected_revision::Expected,
    },
    cli::{
        Session,
        error::CliError,
        query,
        text::{AtLeast, parse_at_least},
    },
    event::Invalid,
};

/// The conditions of an append.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Conditions; all must hold, or nothing is appended")]
pub struct ConditionArgs {
    /// The state of the event's stream: its last revision, none (no event), exists or any
    #[arg(long, value_name = "N|none|exists|any", value_parser = parse_expected)]
    pub expect_revision: Option<Expected>,
    /// The state of any other stream; may be repeated
    #[arg(long, value_name = "STREAM=N|none|exists|any", value_parser = parse_expectation)]
    pub expect: Vec<ExpectedRevision>,
    /// No event matches this query, types=T,T;tags=T,T as in `read --query`; repeated, no event matches any of them
    #[arg(long, value_name = "QUERY", value_parser = query::parse)]
    pub fail_if_match: Vec<EventQueryItem>,
    /// Only events behind this position, or behind this token as `append` prints it, count for the query [default: all]
    #[arg(long, value_name = "POSITION|TOKEN", value_parser = parse_at_least, requires = "fail_if_match")]
    pub fail_if_match_after: Option<AtLeast>,
    /// A consumer's position in a source, stored with the event; it must be above the stored one
    #[arg(long, value_name = "SOURCE=POSITION", value_parser = parse_tracking)]
    pub tracking: Option<Tracking>,
}

impl ConditionArgs {
    /// Adds the conditions to a request that appends to this stream; `after` is what `after` found out.
    pub fn add_to(&self, request: &mut AppendRequest, stream: &str, after: Option<u64>) {
        let own = self
            .expect_revision
            .map(|expected| ExpectedRevision { stream: stream.to_owned(), expected: Some(expected) });
        request.expected_revisions = own.into_iter().chain(self.expect.iter().cloned()).collect();
        if !self.fail_if_match.is_empty() {
            let query = Some(EventQuery { items: self.fail_if_match.clone() });
            request.fail_if_events_match = vec![FailIfEventsMatch { query, after }];
        }
        request.tracking.clone_from(&self.tracking);
    }

    /// The position behind which events count. The node is asked whether a token is one of its log.
    pub async fn after(&self, session: &Session) -> Result<Option<u64>, CliError> {
        let token = match &self.fail_if_match_after {
            None => return Ok(None),
            Some(AtLeast::Position(position)) => return Ok(Some(*position)),
            Some(AtLeast::Token(token)) => token,
        };
        let mut client = session.node.event_log().await?;
        let request =
            ReadRequest { after_token: Some(token.clone()), limit: Some(1), ..ReadRequest::default() };
        let mut answers = client.read(request).await?.into_inner();
        while answers.message().await?.is_some() {}
        Ok(Some(token.position))
    }
}

fn parse_expected(text: &str) -> Result<Expected, Invalid> {
    match text {
        "none" => Ok(Expected::None(NoStream {})),
        "exists" => Ok(Expected::Exists(StreamExists {})),
        "any" => Ok(Expected::Any(AnyRevision {})),
        _ => text.parse().map(Expected::Revision).map_err(|_| {
            Invalid(format!("expected a revision such as 3, or none, exists or any, found {text:?}"))
        }),
    }
}

/// The last equals sign divides: names of streams may hold others.
fn parse_expectation(text: &str) -> Result<ExpectedRevision, Invalid> {
    let (stream, expected) = text.rsplit_once('=').ok_or_else(|| {
        Invalid(format!("expected STREAM=REVISION such as order-7=3 or order-7=none, found {text:?}"))
    })?;
    Ok(ExpectedRevision { stream: stream.to_owned(), expected: Some(parse_expected(expected)?) })
}

fn parse_tracking(text: &str) -> Result<Tracking, Invalid> {
    let parsed = text.rsplit_once('=').and_then(|(source, position)| {
        Some(Tracking { source: source.to_owned(), position: position.parse().ok()? })
    });
    parsed.ok_or_else(|| Invalid(format!("expected SOURCE=POSITION such as payments=41, found {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expectations_are_numbers_or_words() {
        assert_eq!(parse_expected("3"), Ok(Expected::Revision(3)));
        assert_eq!(parse_expected("none"), Ok(Expected::None(NoStream {})));
        assert_eq!(parse_expected("exists"), Ok(Expected::Exists(StreamExists {})));
        assert_eq!(parse_expected("any"), Ok(Expected::Any(AnyRevision {})));
        assert!(parse_expected("-1").is_err());
        let of =
            |stream: &str, expected| ExpectedRevision { stream: stream.into(), expected: Some(expected) };
        assert_eq!(parse_expectation("a=3"), Ok(of("a", Expected::Revision(3))));
        assert_eq!(parse_expectation("a=b=none"), Ok(of("a=b", Expected::None(NoStream {}))));
        assert!(parse_expectation("a").is_err());
        assert!(parse_expectation("a=").is_err());
    }

    #[test]
    fn a_source_has_a_position() {
        assert_eq!(parse_tracking("a=b=7"), Ok(Tracking { source: "a=b".into(), position: 7 }));
        for bad in ["a", "a=", "a=-1", "7"] {
            assert!(parse_tracking(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn flags_become_the_conditions_of_a_request() {
        let mut request = AppendRequest::default();
        ConditionArgs::default().add_to(&mut request, "s", None);
        assert_eq!(request, AppendRequest::default());
        let args = ConditionArgs {
            expect_revision: Some(Expected::Revision(2)),
            expect: vec![parse_expectation("t=none").unwrap()],
            fail_if_match: vec![query::parse("types=a").unwrap(), query::parse("tags=x,y").unwrap()],
            fail_if_match_after: Some(AtLeast::Position(9)),
            tracking: Some(parse_tracking("payments=41").unwrap()),
        };
        args.add_to(&mut request, "s", Some(9));
        let streams: Vec<_> = request.expected_revisions.iter().map(|entry| entry.stream.as_str()).collect();
        assert_eq!(streams, ["s", "t"]);
        assert_eq!(request.fail_if_events_match.len(), 1, "all items are one query");
        assert_eq!(request.fail_if_events_match[0].after, Some(9));
        assert_eq!(request.fail_if_events_match[0].query.as_ref().map(|query| query.items.len()), Some(2));
        assert_eq!(request.tracking.map(|tracking| tracking.position), Some(41));
    }
}
