//! `outrigger bench continuity`: reads one document again and again, and holds every answer against what a reader is promised
//! while versions become active.
//!
//! Invariant: nothing is tried again and nothing is left out: a read that was asked for is counted once, as answered or as
//! failed. Does not know what happens to the node meanwhile.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use clap::Args;
use serde::Serialize;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval, timeout},
};
use tonic::{Code, Status};

use super::HEAD;
use crate::{
    api::proto::v1::{
        GetRequest, GetResponse, ReadOptions, Token, event_log_client::EventLogClient,
        query_client::QueryClient,
    },
    cli::{
        Session,
        client::Connection,
        error::{CliError, describe},
        load::progress::say,
        output::{Format, Out},
        text::{duration_text, grouped, parse_key, to_line},
    },
};

/// What `bench continuity` takes.
#[derive(Debug, Args)]
pub struct ContinuityArgs {
    /// The projection
    projection: String,
    /// One of its collections
    collection: String,
    /// The key of a document: text, or a JSON array of its parts
    key: String,
    /// Reads a second
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Seconds that a read may take
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = super::seconds)]
    deadline: f64,
    /// End after so many seconds [default: Ctrl-C or SIGTERM ends it]
    #[arg(long, value_name = "S", value_parser = super::seconds)]
    seconds: Option<f64>,
    /// Another reader was shown this position before
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    after: u64,
    /// A field of the document that has the number of the version that made it
    #[arg(long, value_name = "NAME")]
    version_field: Option<String>,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
Every read names no version, has a deadline and is not repeated. Every second one asks where the log ends and wants to see at
least that. Counted: reads that failed, answers that show less than the answer before, answers that show less than was
asked for, documents of another version than the answer says. Exit code 1 if there is any.

Examples:
  outrigger bench continuity departures flights UA1545-EWR-2013-01-01 --seconds 60
  outrigger bench continuity desk tickets a --version-field made_by --output json";

/// How many failures are told in words.
const TOLD_MAX: u64 = 5;

/// What was seen.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Seen {
    reads: u64,
    /// Those that wanted to see where the log ended.
    with_token: u64,
    failed: u64,
    gone_back: u64,
    /// Of those with a token.
    too_old: u64,
    other_version: u64,
    /// Answers by the version that gave them.
    versions: BTreeMap<u32, u64>,
    /// How often another version answered than before.
    changes: u64,
    last_position: u64,
    last_version: u32,
    longest_ms: f64,
    seconds: f64,
}

impl Seen {
    fn is_sound(&self) -> bool {
        self.failed + self.gone_back + self.too_old + self.other_version == 0
    }

    /// Takes in an answer to a read that wanted to see `wanted`.
    fn answer(&mut self, answer: &GetResponse, wanted: u64, version_field: Option<&str>) {
        let context = answer.context.clone().unwrap_or_default();
        self.gone_back += u64::from(context.as_of < self.last_position);
        self.too_old += u64::from(context.as_of < wanted);
        self.changes += u64::from(self.last_version != 0 && self.last_version != context.version);
        (self.last_position, self.last_version) = (self.last_position.max(context.as_of), context.version);
        *self.versions.entry(context.version).or_default() += 1;
        if let Some(field) = version_field {
            let document = answer.document.as_ref().map(|document| &document.value[..]).unwrap_or_default();
            let value: Option<serde_json::Value> = serde_json::from_slice(document).ok();
            let made_by = value.as_ref().and_then(|value| value[field].as_u64());
            self.other_version += u64::from(made_by != Some(context.version.into()));
        }
    }

    fn fail(&mut self, status: &Status) {
        self.failed += 1;
        if self.failed <= TOLD_MAX {
            say(&format!("a read failed: {}", describe(status)));
        }
    }
}

/// Runs `bench continuity`.
pub async fn bench(session: &Session, args: &ContinuityArgs) -> Result<(), CliError> {
    let key = parse_key(&args.key).map_err(|invalid| CliError::usage("KEY", &invalid))?;
    let mut reader = Reader {
        log: session.node.event_log().await?,
        query: session.node.query().await?,
        request: GetRequest {
            projection: args.projection.clone(),
            collection: args.collection.clone(),
            key: Some(key),
            ..GetRequest::default()
        },
        deadline: Duration::from_secs_f64(args.deadline),
    };
    let mut seen = Seen { last_position: args.after, ..Seen::default() };
    let failed = |error| CliError::failed(format!("signals cannot be heard: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    say(&format!("reads {} of {}/{}", args.key, args.projection, args.collection));
    let mut tick = interval(Duration::from_secs(1) / args.rate);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let began = Instant::now();
    while args.seconds.is_none_or(|seconds| began.elapsed().as_secs_f64() < seconds) {
        tokio::select! {
            _ = tick.tick() => {}
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
        reader.read(&mut seen, args.version_field.as_deref()).await;
    }
    seen.seconds = began.elapsed().as_secs_f64();
    print(session.output, &seen)?;
    if seen.is_sound() {
        return Ok(());
    }
    Err(CliError::failed("a reader was not given what it is promised"))
}

struct Reader {
    log: EventLogClient<Connection>,
    query: QueryClient<Connection>,
    request: GetRequest,
    deadline: Duration,
}

impl Reader {
    async fn read(&mut self, seen: &mut Seen, version_field: Option<&str>) {
        let token = if seen.reads.is_multiple_of(2) { None } else { self.token(seen).await };
        let wanted = token.as_ref().map_or(0, |token| token.position);
        seen.with_token += u64::from(token.is_some());
        seen.reads += 1;
        let options = ReadOptions { at_least: token, ..ReadOptions::default() };
        let mut request = tonic::Request::new(GetRequest { options: Some(options), ..self.request.clone() });
        request.set_timeout(self.deadline);
        let began = Instant::now();
        let answer = timeout(self.deadline, self.query.get(request)).await;
        seen.longest_ms = seen.longest_ms.max(began.elapsed().as_secs_f64() * 1e3);
        match answer {
            Ok(Ok(answer)) => seen.answer(&answer.into_inner(), wanted, version_field),
            Ok(Err(status)) => seen.fail(&status),
            Err(_) => seen.fail(&Status::new(Code::DeadlineExceeded, "no answer came in time")),
        }
    }

    /// Where the log ends.
    async fn token(&mut self, seen: &mut Seen) -> Option<Token> {
        match timeout(self.deadline, self.log.get_head(HEAD)).await {
            Ok(Ok(head)) => head.into_inner().token,
            Ok(Err(status)) => {
                seen.fail(&status);
                None
            }
            Err(_) => {
                seen.fail(&Status::new(Code::DeadlineExceeded, "the log did not answer in time"));
                None
            }
        }
    }
}

fn print(format: Format, seen: &Seen) -> Result<(), CliError> {
    let mut out = Out::standard();
    match format {
        Format::Json => out.line(&to_line(seen))?,
        Format::Table => {
            let versions: Vec<String> = seen
                .versions
                .iter()
                .map(|(version, count)| format!("{version}: {}", grouped(*count)))
                .collect();
            out.line(&format!(
                "{} reads in {}, the longest took {:.1} ms; answers by version {}; {} changes of version",
                grouped(seen.reads),
                duration_text(seen.seconds),
                seen.longest_ms,
                if versions.is_empty() { "none".to_owned() } else { versions.join(", ") },
                grouped(seen.changes),
            ))?;
            out.line(&format!(
                "failed: {}, gone back: {}, older than asked for: {}, of another version than said: {}",
                grouped(seen.failed),
                grouped(seen.gone_back),
                grouped(seen.too_old),
                grouped(seen.other_version),
            ))?;
        }
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::proto::v1::{Document, ReadContext};

    fn answer(version: u32, as_of: u64, made_by: u32) -> GetResponse {
        let value = format!(r#"{{"made_by":{made_by}}}"#).into();
        GetResponse {
            document: Some(Document { value, ..Document::default() }),
            context: Some(ReadContext { version, as_of, ..ReadContext::default() }),
        }
    }

    #[test]
    fn an_answer_that_breaks_a_promise_is_counted() {
        let mut seen = Seen { last_position: 5, ..Seen::default() };
        for (version, as_of, wanted) in [(1, 5, 0), (1, 6, 6), (2, 6, 0)] {
            seen.answer(&answer(version, as_of, version), wanted, Some("made_by"));
        }
        assert!(seen.is_sound(), "{seen:?}");
        assert_eq!((seen.changes, seen.last_position), (1, 6));
        let check = |answer: &GetResponse, wanted, count: fn(&Seen) -> u64| {
            let mut seen = Seen { last_position: 6, ..Seen::default() };
            seen.answer(answer, wanted, Some("made_by"));
            assert_eq!((count(&seen), seen.is_sound()), (1, false), "{seen:?}");
        };
        check(&answer(2, 5, 2), 0, |seen| seen.gone_back);
        check(&answer(2, 7, 2), 8, |seen| seen.too_old);
        check(&answer(2, 7, 1), 0, |seen| seen.other_version);
        check(&GetResponse::default(), 0, |seen| seen.other_version);
    }
}
