//! `outrigger watch`: documents of a projection, then their changes as they come.
//!
//! Lines are printed as messages come, so memory does not grow with what is told.

use clap::Args;
use tonic::Streaming;

use super::{
    Session,
    documents::Documents,
    error::CliError,
    load::progress::say,
    output::{Format, Out},
    render,
    select::{FieldsArgs, SelectArgs},
    text::{key_text, raw},
};
use crate::api::proto::v1::{
    Document, WatchRequest, WatchResponse, document_change::Change, list_request, watch_request,
    watch_response::Content,
};

/// What `watch` takes.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// Which documents.
    #[command(flatten)]
    pub select: SelectArgs,
    /// Which fields.
    #[command(flatten)]
    pub fields: FieldsArgs,
    /// Go on from this resume token instead of beginning with a snapshot
    #[arg(long, value_name = "RESUME_TOKEN")]
    pub after: Option<String>,
}

/// Shown below the help of `watch`.
pub const EXAMPLES: &str = "\
Prints the documents there are, then every change as it becomes visible, until Ctrl-C. When it ends it says on stderr how \
to go on. With --output json, every line that completes something has a resume token.

Examples:
  outrigger watch departures airports
  outrigger watch departures flights --index by_status --eq cancelled
  outrigger watch departures flights --prefix UA --filter 'doc.delay_minutes > 60' --fields status,delay_minutes
  outrigger watch departures airports --output json";

/// Runs `watch` until it is interrupted.
pub async fn run(session: &Session, args: &WatchArgs) -> Result<(), CliError> {
    let mut client = Documents::connect(session).await?;
    let selection = args.select.selection()?.map(|selection| match selection {
        list_request::Selection::Keys(range) => watch_request::Selection::Keys(range),
        list_request::Selection::Index(range) => watch_request::Selection::Index(range),
    });
    let request = WatchRequest {
        projection: args.select.projection.clone(),
        collection: args.select.collection.clone(),
        options: Some(client.options(&args.select.fresh).await?),
        selection,
        filter: args.select.filter.clone(),
        fields: args.fields.fields.clone(),
        resume_token: args.after.clone(),
    };
    let mut token = args.after.clone();
    let ended = tokio::select! {
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.map_err(|error| CliError::failed(format!("cannot listen for Ctrl-C: {error}")))
        }
        followed = async {
            follow(session.output, client.query.watch(request).await?.into_inner(), &mut token).await
        } => followed,
    };
    if let (Format::Table, Some(token)) = (session.output, &token) {
        say(&format!("go on with --after {token}"));
    }
    ended
}

async fn follow(
    format: Format,
    mut responses: Streaming<WatchResponse>,
    token: &mut Option<String>,
) -> Result<(), CliError> {
    let mut out = Out::standard();
    while let Some(response) = responses.message().await? {
        match format {
            Format::Json => json(&mut out, &response)?,
            Format::Table => table(&mut out, &response)?,
        }
        out.flush()?;
        *token = response.resume_token.or(token.take());
    }
    Err(CliError::failed("the node ended the watch; watch again with --after its last resume token"))
}

fn json(out: &mut Out, response: &WatchResponse) -> Result<(), CliError> {
    for line in render::told(response) {
        out.line(&line)?;
    }
    Ok(())
}

fn table(out: &mut Out, response: &WatchResponse) -> Result<(), CliError> {
    let put = |document: &Document| {
        let key = document.key.as_ref().map(key_text).unwrap_or_default();
        format!("{:>8}  put      {key}  {}", document.position, raw(&document.value).get())
    };
    match &response.content {
        Some(Content::Documents(batch)) => {
            for document in &batch.documents {
                out.line(&put(document))?;
            }
        }
        Some(Content::SnapshotComplete(complete)) => {
            out.line(&format!("{:>8}  snapshot complete", complete.position))?;
        }
        Some(Content::Changes(batch)) => {
            for change in &batch.changes {
                match &change.change {
                    Some(Change::Put(document)) => out.line(&put(document))?,
                    Some(Change::Deleted(deleted)) => {
                        let key = deleted.key.as_ref().map(key_text).unwrap_or_default();
                        out.line(&format!("{:>8}  deleted  {key}", deleted.position))?;
                    }
                    None => {}
                }
            }
        }
        Some(Content::Reset(reset)) => {
            out.line(&format!("          reset    {}: forget all above", reset.reason))?;
        }
        None => {}
    }
    Ok(())
}
