//! `outrigger append`: one event, on conditions.

use bytes::Bytes;
use clap::Args;
use uuid::Uuid;

use self::condition::ConditionArgs;
use super::{
    Session,
    error::CliError,
    load::line::parse_id,
    output::{Format, print_lines},
    render,
    text::{parse_time, to_line, token_text},
};
use crate::{
    api::proto::v1::{AppendRequest, AppendResponse, NewEvent},
    event::Invalid,
    json,
};

pub mod condition;

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
    /// What must hold.
    #[command(flatten)]
    pub conditions: ConditionArgs,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
A condition that does not hold is exit code 1, and nothing is appended; read again and decide anew. With --id a command \
can be repeated at will: an event that is in the log already is found before any condition is looked at.

Examples:
  outrigger append --type flight.departed --stream flight-UA1545 --tag origin:EWR \\
      --data '{\"delay_minutes\":2}'
  outrigger append --type order.placed --stream order-7 --data '{}' \\
      --expect-revision none --expect customer-3=exists
  outrigger append --type seat.booked --stream booking-17 --data '{}' --tag seat:9C \\
      --fail-if-match 'types=seat.booked,seat.blocked;tags=seat:9C' --fail-if-match-after 2522
  outrigger append --type invoice.paid --stream invoice-5 --data '{}' --tracking payments=41";

/// Runs `append`.
pub async fn run(session: &Session, args: &AppendArgs) -> Result<(), CliError> {
    let mut request = request(args)?;
    let after = args.conditions.after(session).await?;
    args.conditions.add_to(&mut request, &args.stream, after);
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
    let event = NewEvent {
        id: Some(Bytes::copy_from_slice(id.as_bytes())),
        r#type: args.event_type.clone(),
        stream: args.stream.clone(),
        tags: args.tags.clone(),
        data: Bytes::copy_from_slice(args.data.as_bytes()),
        metadata: args.metadata.as_ref().map(|text| Bytes::copy_from_slice(text.as_bytes())),
        time: args.time.as_deref().map(parse_time).transpose().map_err(usage("--time"))?,
    };
    Ok(AppendRequest { events: vec![event], ..AppendRequest::default() })
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
            conditions: ConditionArgs::default(),
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
    }
}
