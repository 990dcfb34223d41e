//! `outrigger get` and `list`: documents of a projection.

use std::collections::BTreeSet;

use clap::Args;

use super::{
    Session,
    error::CliError,
    output::{Align, Format, Out, is_terminal, print_lines, table},
    render,
    select::{FieldsArgs, SelectArgs},
    text::{AtLeast, grouped, key_text, parse_at_least, parse_key, pretty, raw, to_line},
};
use crate::{
    api::proto::v1::{
        Document, ExplainRequest, ExplainResponse, GetHeadRequest, GetRequest, ListRequest,
        ListStreamRequest, ReadContext, ReadOptions, Token, event_log_client::EventLogClient,
        query_client::QueryClient,
    },
    cli::client::Connection,
    json::Json,
    limits::{MESSAGE_BYTES_MAX, PAGE_SIZE_MAX},
};

/// Which version answers and how fresh it must be.
#[derive(Debug, Args)]
pub struct FreshArgs {
    /// A version of the projection [default: the active one]
    #[arg(long, value_name = "N")]
    pub version: Option<u32>,
    /// The standing version of this label, as of its position
    #[arg(long)]
    pub label: Option<String>,
    /// The version that this release names
    #[arg(long, value_name = "RELEASE", conflicts_with_all = ["version", "label"])]
    pub release: Option<String>,
    /// Wait until this position, or the token that append printed, is visible
    #[arg(long, value_name = "POSITION|TOKEN")]
    pub at_least: Option<String>,
}

/// What `get` takes.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// The projection
    pub projection: String,
    /// One of its collections
    pub collection: String,
    /// The document's key: a text, or a JSON array of its parts
    pub key: String,
    /// Which fields.
    #[command(flatten)]
    pub fields: FieldsArgs,
    /// Freshness.
    #[command(flatten)]
    pub fresh: FreshArgs,
}

/// Shown below the help of `get`.
pub const GET_EXAMPLES: &str = "\
Prints the document as JSON; with --output json also its key, its position and the snapshot it comes from.

Examples:
  outrigger get departures airports EWR
  outrigger get departures routes '[\"JFK\",\"LAX\"]'
  outrigger get departures airports EWR --at-least 2589
  outrigger get departures flights UA1545-EWR-2013-01-01 --fields status,delay_minutes";

/// What `list` takes.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Which documents.
    #[command(flatten)]
    pub select: SelectArgs,
    /// In descending order
    #[arg(long)]
    pub descending: bool,
    /// At most this many documents
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u32,
    /// All documents, as one stream from one snapshot
    #[arg(long, conflicts_with_all = ["limit", "explain"])]
    pub all: bool,
    /// Print how the question would be answered instead of the answer
    #[arg(long)]
    pub explain: bool,
    /// Which fields.
    #[command(flatten)]
    pub fields: FieldsArgs,
}

/// Shown below the help of `list`.
pub const LIST_EXAMPLES: &str = "\
Examples:
  outrigger list departures airports
  outrigger list departures routes --prefix JFK
  outrigger list departures flights --index by_route --eq JFK --eq LAX
  outrigger list departures flights --index by_departure --from 2013-01-01T22:00:00Z --limit 12
  outrigger list departures carriers --filter 'doc.departed > 100' --output json
  outrigger list departures flights --all --fields status --output json
  outrigger list departures flights --index by_route --eq JFK --explain";

/// Runs `get`.
pub async fn get(session: &Session, args: &GetArgs) -> Result<(), CliError> {
    let key = parse_key(&args.key).map_err(|error| CliError::usage("KEY", &error))?;
    let mut client = Documents::connect(session).await?;
    let request = GetRequest {
        projection: args.projection.clone(),
        collection: args.collection.clone(),
        key: Some(key),
        options: Some(client.options(&args.fresh).await?),
        fields: args.fields.fields.clone(),
    };
    let response = client.query.get(request).await?.into_inner();
    let line = match (session.output, &response.document) {
        (Format::Json, _) => to_line(&render::got(&response)),
        (Format::Table, Some(document)) if is_terminal() => pretty(raw(&document.value).get()),
        (Format::Table, Some(document)) => raw(&document.value).get().to_owned(),
        (Format::Table, None) => return Err(CliError::failed("the node answered without a document")),
    };
    print_lines(&[line])
}

/// Runs `list`.
pub async fn list(session: &Session, args: &ListArgs) -> Result<(), CliError> {
    let mut request = list_request(args)?;
    let mut client = Documents::connect(session).await?;
    request.options = Some(client.options(&args.select.fresh).await?);
    if args.explain {
        let explained = client.query.explain(ExplainRequest { request: Some(request) }).await?;
        return print_plan(session.output, &explained.into_inner());
    }
    let mut out = Out::standard();
    if args.all {
        list_all(&mut client.query, request, session.output, &mut out).await?;
        return out.flush();
    }
    let found = pages(&mut client.query, request, args.limit).await?;
    match session.output {
        Format::Json => print_json(&mut out, &found.documents)?,
        Format::Table => print_documents(&mut out, &found)?,
    }
    out.flush()
}

/// Documents, and the snapshot that the last of them came from.
#[derive(Debug, Default)]
pub struct Found {
    /// The documents.
    pub documents: Vec<Document>,
    /// The snapshot.
    pub context: Option<ReadContext>,
    /// How many documents were looked at.
    pub scanned: u64,
}

/// Follows the pages of a list until there are no more or `limit` documents are there.
pub async fn pages(
    query: &mut QueryClient<Connection>,
    mut request: ListRequest,
    limit: u32,
) -> Result<Found, CliError> {
    let mut found = Found::default();
    loop {
        let left = limit.saturating_sub(found.documents.len() as u32);
        request.page_size = Some(left.min(PAGE_SIZE_MAX));
        let page = query.list(request.clone()).await?.into_inner();
        found.documents.extend(page.documents);
        found.context = page.context;
        found.scanned += page.scanned;
        let enough = found.documents.len() >= limit as usize;
        request.page_token = page.next_page_token;
        if enough || request.page_token.is_none() {
            return Ok(found);
        }
    }
}

/// Prints one snapshot's documents: lines as they come, a table at the end.
async fn list_all(
    query: &mut QueryClient<Connection>,
    mut request: ListRequest,
    format: Format,
    out: &mut Out,
) -> Result<(), CliError> {
    request.page_size = None;
    let request = ListStreamRequest { request: Some(request), limit: None };
    let mut pages = query.list_stream(request).await?.into_inner();
    let mut found = Found::default();
    while let Some(page) = pages.message().await? {
        match format {
            Format::Json => print_json(out, &page.documents)?,
            Format::Table => found.documents.extend(page.documents),
        }
        found.context = page.context;
        found.scanned += page.scanned;
    }
    match format {
        Format::Json => Ok(()),
        Format::Table => print_documents(out, &found),
    }
}

fn print_json(out: &mut Out, documents: &[Document]) -> Result<(), CliError> {
    documents.iter().try_for_each(|document| out.line(&to_line(&render::document(document))))
}

fn list_request(args: &ListArgs) -> Result<ListRequest, CliError> {
    Ok(ListRequest {
        projection: args.select.projection.clone(),
        collection: args.select.collection.clone(),
        options: None,
        selection: args.select.selection()?,
        filter: args.select.filter.clone(),
        descending: args.descending,
        page_size: Some(args.limit.min(PAGE_SIZE_MAX)),
        page_token: None,
        fields: args.fields.fields.clone(),
    })
}

fn print_plan(format: Format, plan: &ExplainResponse) -> Result<(), CliError> {
    if format == Format::Json {
        return print_lines(&[to_line(&render::plan(plan))]);
    }
    let mut lines = vec![format!("plan: {}", plan.plan)];
    lines.extend(plan.index.as_ref().map(|index| format!("index: {index}")));
    lines.extend(plan.filter.as_ref().map(|filter| format!("filter: {filter}")));
    lines.push(format!("documents in the collection: {}", plan.collection_size));
    lines.push(format!("documents in the range: {}", plan.range_size));
    lines.extend(plan.context.as_ref().map(context_line));
    print_lines(&lines)
}

/// Which snapshot answered.
pub fn context_line(context: &ReadContext) -> String {
    format!(
        "{} version {}, as of {}, head {}",
        context.projection, context.version, context.as_of, context.head
    )
}

/// A table with a column for the key and one for every top-level field that any of the documents has.
fn print_documents(out: &mut Out, found: &Found) -> Result<(), CliError> {
    let documents = &found.documents;
    let values: Vec<Json> =
        documents.iter().map(|document| Json::parse_stored(&document.value).unwrap_or_default()).collect();
    let mut fields = BTreeSet::new();
    let mut texts = BTreeSet::new();
    for value in &values {
        if let Json::Object(object) = value {
            for (name, field) in object.iter() {
                fields.insert(name);
                if !matches!(field, Json::Int(_) | Json::Double(_) | Json::Null) {
                    texts.insert(name);
                }
            }
        }
    }
    let align = |name: &str| {
        if texts.contains(name) { Align::Left } else { Align::Right }
    };
    let mut columns = vec![("key", Align::Left)];
    columns.extend(fields.iter().map(|name| (*name, align(name))));
    let mut rows = table(&columns);
    for (document, value) in documents.iter().zip(&values) {
        let key = document.key.as_ref().map(key_text).unwrap_or_default();
        let cell = |name: &&str| match value {
            Json::Object(object) => object.get(name).map(cell_text).unwrap_or_default(),
            _ => String::new(),
        };
        rows.add_row(std::iter::once(key).chain(fields.iter().map(cell)));
    }
    out.table(&rows)?;
    let count = match documents.len() {
        1 => "1 document".to_owned(),
        count => format!("{count} documents"),
    };
    let context = found.context.as_ref().map(context_line).unwrap_or_default();
    let looked_at = match found.scanned {
        scanned if scanned > documents.len() as u64 => format!(" of {} looked at", grouped(scanned)),
        _ => String::new(),
    };
    out.line(&format!("{count}{looked_at}, {context}"))
}

fn cell_text(value: &Json) -> String {
    match value {
        Json::Text(text) => text.to_string(),
        other => other.to_string(),
    }
}

/// Queries, and the head of the log that positions refer to, over one connection.
#[derive(Debug)]
pub struct Documents {
    /// The queries.
    pub query: QueryClient<Connection>,
    log: EventLogClient<Connection>,
}

impl Documents {
    /// Connects.
    pub async fn connect(session: &Session) -> Result<Self, CliError> {
        let connection = session.node.connect().await?;
        Ok(Self {
            query: QueryClient::new(connection.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            log: EventLogClient::new(connection),
        })
    }

    /// The freshness that was asked for.
    pub async fn options(&mut self, fresh: &FreshArgs) -> Result<ReadOptions, CliError> {
        let at_least = match fresh.at_least.as_deref().map(parse_at_least).transpose() {
            Ok(None) => None,
            Ok(Some(AtLeast::Token(token))) => Some(token),
            Ok(Some(AtLeast::Position(position))) => Some(self.token_at(position).await?),
            Err(error) => return Err(CliError::usage("--at-least", &error)),
        };
        let (version, label, release) = (fresh.version, fresh.label.clone(), fresh.release.clone());
        Ok(ReadOptions { version, label, release, at_least, timeout: None, allow_stale: false })
    }

    /// A token for a position of the log as it is now.
    async fn token_at(&mut self, position: u64) -> Result<Token, CliError> {
        let head = self.log.get_head(GetHeadRequest {}).await?.into_inner();
        let token = head.token.unwrap_or_default();
        Ok(Token { position, ..token })
    }
}
