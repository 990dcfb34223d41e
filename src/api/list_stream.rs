//! A list as a stream: pages of one snapshot, at the pace of the reader, within a time limit.
//!
//! The snapshot keeps the file from using space again, so it is not kept for ever: a reader that needs longer than the
//! limit, or takes nothing, is ended and told how to go on. Does not know how pages are found.

use std::time::Instant;

use tonic::{Code, Status};

use super::{
    convert::query as convert,
    outbox::{NotSent, Outbox, Responses, outbox},
    proto::v1,
    query::{Query, blocking},
    status::Refusal,
    subscribe::stopping,
};
use crate::{
    limits::STREAM_TIME_MAX,
    projection::query::{Page, Pages},
};

/// Starts a stream of pages. The first one is read before the call is answered, so that a short list needs no task.
pub(super) async fn start(
    service: &Query,
    request: v1::ListStreamRequest,
) -> Result<Responses<v1::ListStreamResponse>, Refusal> {
    let missing = || Refusal::field("MISSING_FIELD", "request", "expected a list request, found none");
    let mut list = request.request.ok_or_else(missing)?;
    let (projection, options) = (std::mem::take(&mut list.projection), list.options.clone());
    let query = convert::list(list)?;
    let reading = service.reading(&projection, options, query.page_token.as_deref()).await?;
    let begun = Instant::now();
    let first = blocking(move || {
        let mut pages = reading.pages(&query, request.limit)?;
        Ok((pages.next_page()?, pages))
    });
    let (page, pages) = first.await?;
    let first = message(page.unwrap_or_default(), &pages);
    if pages.is_done() {
        return Ok(Responses::one(first));
    }
    let (outbox, responses) = outbox(service.reader_stall);
    let stop = service.lifecycle.stop().clone();
    let token = first.next_page_token.clone();
    service.lifecycle.tasks().spawn(async move {
        let sent = tokio::select! {
            sent = send_all(pages, token, begun, &outbox) => sent,
            () = stop.cancelled() => Err(stopping()),
        };
        if let Err(refusal) = sent {
            outbox.fail(Status::from(refusal));
        }
    });
    Ok(responses.behind(first))
}

/// Sends what is left. `token` goes on behind the last page that was sent.
async fn send_all(
    mut pages: Pages,
    mut token: Option<String>,
    begun: Instant,
    outbox: &Outbox<v1::ListStreamResponse>,
) -> Result<(), Refusal> {
    loop {
        if begun.elapsed() > STREAM_TIME_MAX {
            return Err(ended("LIST_TOO_LONG", "it took longer than a snapshot is kept", token));
        }
        let (page, rest) = blocking(move || Ok((pages.next_page()?, pages))).await?;
        let Some(page) = page else {
            return Ok(());
        };
        pages = rest;
        let message = message(page, &pages);
        let next = message.next_page_token.clone();
        match outbox.send(message).await {
            Ok(()) => token = next,
            Err(NotSent::ClientGone) => return Ok(()),
            Err(NotSent::Stalled) => {
                return Err(ended("READER_TOO_SLOW", "its messages were not taken", token));
            }
        }
    }
}

fn message(page: Page, pages: &Pages) -> v1::ListStreamResponse {
    v1::ListStreamResponse {
        documents: page.documents.into_iter().map(convert::document).collect(),
        context: Some(convert::context(pages.context())),
        scanned: page.scanned as u64,
        next_page_token: page.next_page_token,
    }
}

fn ended(reason: &'static str, why: &str, token: Option<String>) -> Refusal {
    let message = format!(
        "the list was ended because {why}; go on with the next_page_token of its last message, in a newer snapshot"
    );
    Refusal::new(Code::ResourceExhausted, reason, message).with("next_page_token", token.unwrap_or_default())
}
