//! The reader of the demo: asks for one document without pause, and counts what it must never see.
//!
//! It reads like a service that knows nothing of versions: it names none. It does not retry, and the counts are taken
//! from the answers alone. It does not know when versions flip.

use tokio::{
    sync::watch,
    time::{Duration, sleep},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

use super::story;
use crate::{
    api::proto::v1::{GetRequest, GetResponse, ReadOptions, Token, query_client::QueryClient},
    cli::{
        client::Connection,
        error::{CliError, describe},
        output::{Align, table},
        text::{grouped, parse_key},
    },
};

/// The document.
const AIRPORT: &str = "EWR";
/// Version 2 has this field of it, version 1 has not.
pub(super) const FIELD_OF_VERSION_2: &str = "late_percent";
/// One read of so many asks to see the newest event of the traffic.
const TOKEN_EVERY: u64 = 8;
/// How long a read may take.
const READ_MAX: Duration = Duration::from_secs(5);
/// How long it rests after a read that failed: a node that is gone is not asked without end.
const REST: Duration = Duration::from_millis(20);

/// What the reader has seen.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Reads that ended, in whatever way.
    pub(super) reads: u64,
    with_token: u64,
    by_version: [u64; 2],
    failed: u64,
    went_backwards: u64,
    token_not_seen: u64,
    misfits: u64,
    as_of: u64,
    first_error: Option<String>,
}

impl Counts {
    /// Takes one read in.
    fn record(&mut self, at_least: Option<&Token>, answer: Result<&GetResponse, &Status>) {
        self.reads += 1;
        self.with_token += u64::from(at_least.is_some());
        let (context, document) = match answer {
            Ok(GetResponse { document: Some(document), context: Some(context) }) => (context, document),
            Ok(_) => return self.fail("an answer had no document or no context".into()),
            Err(status) => return self.fail(describe(status)),
        };
        self.went_backwards += u64::from(context.as_of < self.as_of);
        self.as_of = self.as_of.max(context.as_of);
        self.token_not_seen += u64::from(at_least.is_some_and(|token| context.as_of < token.position));
        let has_it = story::has_field(document, FIELD_OF_VERSION_2);
        match context.version {
            version @ (1 | 2) => {
                self.by_version[version as usize - 1] += 1;
                self.misfits += u64::from(has_it != (version == 2));
            }
            _ => self.misfits += 1,
        }
    }

    fn fail(&mut self, error: String) {
        self.failed += 1;
        self.first_error.get_or_insert(error);
    }

    /// The counts, a line each.
    pub(super) fn table(&self) -> comfy_table::Table {
        let mut rows = table(&[("what the reader saw", Align::Left), ("reads", Align::Right)]);
        let [by_1, by_2] = self.by_version;
        for (what, count) in [
            ("all", self.reads),
            ("with a token of the traffic", self.with_token),
            ("answered by version 1", by_1),
            ("answered by version 2", by_2),
            ("failed", self.failed),
            ("as-of went backwards", self.went_backwards),
            ("token not seen", self.token_not_seen),
            ("document of another version", self.misfits),
        ] {
            rows.add_row([what.to_owned(), grouped(count)]);
        }
        rows
    }

    /// An error if anything was seen that must never be, or nothing that could show it.
    pub(super) fn verdict(&self) -> Result<(), CliError> {
        let wrong = self.failed + self.went_backwards + self.token_not_seen + self.misfits;
        if wrong > 0 {
            let error = self.first_error.as_ref().map(|error| format!("; the first that failed: {error}"));
            return Err(CliError::failed(format!(
                "the reader saw what it must not: failed {}, as-of went backwards {}, token not seen {}, \
                 document of another version {}{}",
                self.failed,
                self.went_backwards,
                self.token_not_seen,
                self.misfits,
                error.unwrap_or_default()
            )));
        }
        if self.by_version.contains(&0) || self.with_token == 0 {
            return Err(CliError::failed("the reader did not read from both versions, so it proves nothing"));
        }
        Ok(())
    }
}

/// Reads until it is told to stop; `done` says how many reads there were so far.
pub(super) async fn read(
    mut query: QueryClient<Connection>,
    newest: watch::Receiver<Option<Token>>,
    done: watch::Sender<u64>,
    stop: CancellationToken,
) -> Counts {
    let mut counts = Counts::default();
    let key = parse_key(AIRPORT).ok();
    while !stop.is_cancelled() {
        let at_least = if counts.reads.is_multiple_of(TOKEN_EVERY) { newest.borrow().clone() } else { None };
        let mut request = Request::new(GetRequest {
            projection: super::PROJECTION.into(),
            collection: "airports".into(),
            key: key.clone(),
            options: Some(ReadOptions { at_least: at_least.clone(), ..ReadOptions::default() }),
            fields: Vec::new(),
        });
        request.set_timeout(READ_MAX);
        let answer = query.get(request).await;
        counts.record(at_least.as_ref(), answer.as_ref().map(tonic::Response::get_ref));
        done.send_replace(counts.reads);
        if answer.is_err() {
            sleep(REST).await;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::api::proto::v1::{Document, ReadContext};

    fn answer(version: u32, as_of: u64, value: &'static str) -> GetResponse {
        GetResponse {
            document: Some(Document { key: None, value: Bytes::from_static(value.as_bytes()), position: 1 }),
            context: Some(ReadContext { version, as_of, ..ReadContext::default() }),
        }
    }

    /// Two good reads, then this one: what the verdict says.
    fn check(at_least: Option<u64>, last: Result<GetResponse, Status>, expected: &str) {
        let mut counts = Counts::default();
        let token = |position| Token { position, ..Token::default() };
        counts.record(None, Ok(&answer(1, 5, "{}")));
        counts.record(Some(&token(7)), Ok(&answer(2, 7, "{\"late_percent\":1}")));
        counts.verdict().unwrap();
        counts.record(at_least.map(token).as_ref(), last.as_ref());
        match counts.verdict() {
            Ok(()) => assert_eq!(expected, ""),
            Err(error) => assert!(error.to_string().contains(expected) && !expected.is_empty(), "{error}"),
        }
        assert_eq!(counts.reads, 3);
    }

    #[test]
    fn what_must_not_be_seen_is_counted() {
        check(None, Ok(answer(1, 7, "{}")), "");
        check(None, Ok(answer(1, 6, "{}")), "backwards 1");
        check(Some(9), Ok(answer(1, 8, "{}")), "token not seen 1");
        check(None, Ok(answer(2, 7, "{}")), "another version 1");
        check(None, Ok(answer(1, 7, "{\"late_percent\":1}")), "another version 1");
        check(None, Ok(answer(3, 7, "{}")), "another version 1");
        check(None, Ok(GetResponse::default()), "no document");
        check(None, Err(Status::unavailable("gone")), "failed 1");
        check(None, Err(Status::unavailable("gone")), "gone (UNAVAILABLE)");
    }

    #[test]
    fn a_reader_of_one_version_proves_nothing() {
        let mut counts = Counts::default();
        counts.record(None, Ok(&answer(1, 5, "{}")));
        assert!(counts.verdict().is_err());
    }
}
