//! `outrigger append`: one event.

use bytes::Bytes;
use clap::Args;
use uuid::Uuid;

use super::{
    Session,
    error::CliError,
    load::line::parse_id,
    output::{Format, print_lines},
    render,
    text::{parse_time, to_line, token_text},
};
use crate::{
    api::proto::v1::{
        AnyRevision, AppendRequest, AppendResponse, ExpectedRevision, NewEvent, NoStream, StreamExists,
        expected_revision::Expected,
    },
    event::Invalid,
    json,
};

/// What `append` takes.
#[derive(Debug, Args)]
pub struct AppendArgs {
    /// What kind of fact it is, such as flight.departed
    #[arg(long = "type", value_name = "TYPE")]
    pub event_type: String,
    /// The entity that the event belongs to
    #[arg(long)]
    pub stream: String,
    /// The event's data: one JSON value
    #[arg(long, value_name = "JSON")]
    pub data: String,
    /// The event's id, a UUID; repeating the command with it appends nothing new [default: a random one]
    #[arg(long, value_name = "UUID")]
    pub id: Option<String>,
    /// A label to find the event by; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// When it happened, RFC 3339 [default: when it is recorded]
    #[arg(long)]
    pub time: Option<String>,
    /// Metadata: a JSON object
    #[arg(long, value_name = "JSON")]
    pub metadata: Option<String>,
    /// What must hold of the stream: its last revision, none (no event), exists or any
    #[arg(long, value_name = "N|none|exists|any")]
    pub expect_revision: Option<String>,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  outrigger append --type flight.departed --stream flight-UA1545 --data '{\"delay_minutes\":2}' --tag origin:EWR
  outrigger append --type order.placed --stream order-7 --data '{}' --expect-revision none";

/// Runs `append`.
pub async fn run(session: &Session, args: &AppendArgs) -> Result<(), CliError> {
    let request = request(args)?;
    let mut client = session.node.event_log().await?;
    let response = client.append(request).await?.into_inner();
    print_lines(&[match session.output {
        Format::Json => to_line(&render::appended(&response)),
        Format::Table => sentence(&response),
    }])
}

fn sentence(response: &AppendResponse) -> String {
    let token = response.token.as_ref().map(token_text).unwrap_or_default();
    let verb = if response.already_applied { "was already at" } else { "appended at" };
    match response.events.first() {
        Some(event) => {
            format!("{verb} position {}, revision {}, token {token}", event.position, event.revision)
        }
        None => format!("appended, token {token}"),
    }
}

fn request(args: &AppendArgs) -> Result<AppendRequest, CliError> {
    let usage = |argument: &'static str| move |invalid: Invalid| CliError::usage(argument, &invalid);
    json::check(args.data.as_bytes()).map_err(usage("--data"))?;
    if let Some(metadata) = &args.metadata {
        json::check_object(metadata.as_bytes()).map_err(usage("--metadata"))?;
    }
    let id = match &args.id {
        Some(text) => *parse_id(text).map_err(usage("--id"))?.uuid(),
        None => Uuid::new_v4(),
    };
    let expected = args.expect_revision.as_deref().map(parse_expected).transpose();
    let expected = expected.map_err(usage("--expect-revision"))?;
    let event = NewEvent {
        id: Some(Bytes::copy_from_slice(id.as_bytes())),
        r#type: args.event_type.clone(),
        stream: args.stream.clone(),
        tags: args.tags.clone(),
        data: Bytes::copy_from_slice(args.data.as_bytes()),
        metadata: args.metadata.as_ref().map(|text| Bytes::copy_from_slice(text.as_bytes())),
        time: args.time.as_deref().map(parse_time).transpose().map_err(usage("--time"))?,
    };
    let expectation = |expected| ExpectedRevision { stream: args.stream.clone(), expected: Some(expected) };
    Ok(AppendRequest {
        events: vec![event],
        expected_revisions: expected.map(expectation).into_iter().collect(),
        skip_existing: false,
        fail_if_events_match: Vec::new(),
        tracking: None,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> AppendArgs {
        AppendArgs {
            event_type: "a.b".into(),
            stream: "s".into(),
            data: "{\"n\": 1.50}".into(),
            id: None,
            tags: vec!["t".into()],
            time: None,
            metadata: None,
            expect_revision: None,
        }
    }

    fn check_usage(args: &AppendArgs, expected: &str) {
        match request(args) {
            Err(CliError::Usage(message)) => assert!(message.contains(expected), "{message}"),
            other => panic!("expected a usage error, found {other:?}"),
        }
    }

    #[test]
    fn a_request_carries_an_id_and_the_data_as_typed() {
        let request = request(&args()).unwrap();
        assert_eq!(request.events[0].data, "{\"n\": 1.50}");
        assert_eq!(request.events[0].id.as_ref().map(Bytes::len), Some(16));
        assert_eq!(request.expected_revisions, []);
    }

    #[test]
    fn expectations_are_numbers_or_words() {
        assert_eq!(parse_expected("3"), Ok(Expected::Revision(3)));
        assert_eq!(parse_expected("none"), Ok(Expected::None(NoStream {})));
        assert_eq!(parse_expected("exists"), Ok(Expected::Exists(StreamExists {})));
        assert_eq!(parse_expected("any"), Ok(Expected::Any(AnyRevision {})));
        assert!(parse_expected("-1").is_err());
        let with = AppendArgs { expect_revision: Some("none".into()), ..args() };
        assert_eq!(request(&with).unwrap().expected_revisions[0].stream, "s");
    }

    #[test]
    fn what_cannot_mean_anything_is_a_usage_error() {
        let data = |text: &str| AppendArgs { data: text.into(), ..args() };
        check_usage(&data("{"), "--data: expected one JSON value");
        check_usage(&data("{\"a\":1,\"a\":2}"), "repeated");
        check_usage(&AppendArgs { id: Some("7".into()), ..args() }, "--id: expected a UUID");
        check_usage(&AppendArgs { time: Some("now".into()), ..args() }, "--time: expected a time");
        check_usage(
            &AppendArgs { metadata: Some("[]".into()), ..args() },
            "--metadata: expected a JSON object",
        );
        check_usage(&AppendArgs { expect_revision: Some("x".into()), ..args() }, "--expect-revision");
    }
}
