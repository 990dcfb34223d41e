//! `outrigger get` and `list`: documents of a projection.

use std::collections::BTreeSet;

use clap::Args;

use super::{
    Session,
    error::CliError,
    output::{Align, Format, Out, is_terminal, print_lines, table},
    render,
    text::{AtLeast, key_text, parse_at_least, parse_key, parse_value, pretty, raw, to_line},
};
use crate::{
    api::proto::v1::{
        Document, ExplainRequest, ExplainResponse, GetHeadRequest, GetRequest, IndexRange, KeyRange,
        ListRequest, ReadContext, ReadOptions, Token, event_log_client::EventLogClient,
        list_request::Selection, query_client::QueryClient,
    },
    cli::client::Connection,
    event::Invalid,
    json::Json,
    limits::{MESSAGE_BYTES_MAX, PAGE_SIZE_MAX},
};

/// Which version answers and how fresh it must be.
#[derive(Debug, Args)]
pub struct FreshArgs {
    /// A version of the projection [default: the active one]
    #[arg(long, value_name = "N")]
    pub version: Option<u32>,
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
  outrigger get departures airports EWR --at-least 2589";

/// What `list` takes.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The projection
    pub projection: String,
    /// One of its collections
    pub collection: String,
    /// Only keys that begin so: a text, or a JSON array of parts
    #[arg(long, value_name = "KEY", conflicts_with = "index")]
    pub prefix: Option<String>,
    /// Read through this index
    #[arg(long, value_name = "NAME")]
    pub index: Vec<String>,
    /// What the index's next field must equal: JSON if it parses, else a text; may be repeated
    #[arg(long, value_name = "VALUE", requires = "index", allow_hyphen_values = true)]
    pub eq: Vec<String>,
    /// From here on: a value of the index's field after --eq, or without --index a key
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// Below here: a value of the index's field after --eq, or without --index a key
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true)]
    pub to: Option<String>,
    /// Only documents for which this expression over `doc` and `key` is true
    #[arg(long, value_name = "EXPRESSION")]
    pub filter: Option<String>,
    /// In descending order
    #[arg(long)]
    pub descending: bool,
    /// At most this many documents
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u32,
    /// Print how the question would be answered instead of the answer
    #[arg(long)]
    pub explain: bool,
    /// Freshness.
    #[command(flatten)]
    pub fresh: FreshArgs,
}

/// Shown below the help of `list`.
pub const LIST_EXAMPLES: &str = "\
Examples:
  outrigger list departures airports
  outrigger list departures routes --prefix JFK
  outrigger list departures flights --index by_route --eq JFK --eq LAX
  outrigger list departures flights --index by_departure --from 2013-01-01T22:00:00Z --limit 12
  outrigger list departures carriers --filter 'doc.departed > 100' --output json
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
    request.options = Some(client.options(&args.fresh).await?);
    if args.explain {
        let explained = client.query.explain(ExplainRequest { request: Some(request) }).await?;
        return print_plan(session.output, &explained.into_inner());
    }
    let (documents, context) = pages(&mut client.query, request, args.limit).await?;
    let mut out = Out::standard();
    match session.output {
        Format::Json => {
            for document in &documents {
                out.line(&to_line(&render::document(document)))?;
            }
        }
        Format::Table => print_documents(&mut out, &documents, context.as_ref())?,
    }
    out.flush()
}

/// Follows the pages of a list until there are no more or `limit` documents are there.
pub async fn pages(
    query: &mut QueryClient<Connection>,
    mut request: ListRequest,
    limit: u32,
) -> Result<(Vec<Document>, Option<ReadContext>), CliError> {
    let mut documents = Vec::new();
    loop {
        let left = limit.saturating_sub(documents.len() as u32);
        request.page_size = Some(left.min(PAGE_SIZE_MAX));
        let page = query.list(request.clone()).await?.into_inner();
        documents.extend(page.documents);
        let enough = documents.len() >= limit as usize;
        request.page_token = page.next_page_token;
        if enough || request.page_token.is_none() {
            return Ok((documents, page.context));
        }
    }
}

fn list_request(args: &ListArgs) -> Result<ListRequest, CliError> {
    let key = |argument: &str, text: &Option<String>| {
        let key = text.as_deref().map(parse_key).transpose();
        key.map_err(|error| CliError::usage(argument, &error))
    };
    let names: BTreeSet<&String> = args.index.iter().collect();
    if names.len() > 1 {
        let message = Invalid("expected one index; name it once and repeat --eq".into());
        return Err(CliError::usage("--index", &message));
    }
    let selection = match names.first() {
        Some(index) => Some(Selection::Index(IndexRange {
            index: (*index).clone(),
            equals: args.eq.iter().map(|text| parse_value(text)).collect(),
            from: args.from.as_deref().map(parse_value),
            to: args.to.as_deref().map(parse_value),
        })),
        None if args.prefix.is_some() || args.from.is_some() || args.to.is_some() => {
            Some(Selection::Keys(KeyRange {
                prefix: key("--prefix", &args.prefix)?,
                from: key("--from", &args.from)?,
                to: key("--to", &args.to)?,
            }))
        }
        None => None,
    };
    Ok(ListRequest {
        projection: args.projection.clone(),
        collection: args.collection.clone(),
        options: None,
        selection,
        filter: args.filter.clone(),
        descending: args.descending,
        page_size: Some(args.limit.min(PAGE_SIZE_MAX)),
        page_token: None,
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

fn context_line(context: &ReadContext) -> String {
    format!(
        "{} version {}, as of {}, head {}",
        context.projection, context.version, context.as_of, context.head
    )
}

/// A table with a column for the key and one for every top-level field that any of the documents has.
fn print_documents(
    out: &mut Out,
    documents: &[Document],
    context: Option<&ReadContext>,
) -> Result<(), CliError> {
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
    let context = context.map(context_line).unwrap_or_default();
    out.line(&format!("{count}, {context}"))
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

    async fn options(&mut self, fresh: &FreshArgs) -> Result<ReadOptions, CliError> {
        let at_least = match fresh.at_least.as_deref().map(parse_at_least).transpose() {
            Ok(None) => None,
            Ok(Some(AtLeast::Token(token))) => Some(token),
            Ok(Some(AtLeast::Position(position))) => Some(self.token_at(position).await?),
            Err(error) => return Err(CliError::usage("--at-least", &error)),
        };
        Ok(ReadOptions { version: fresh.version, at_least, timeout: None, allow_stale: false })
    }

    /// A token for a position of the log as it is now.
    async fn token_at(&mut self, position: u64) -> Result<Token, CliError> {
        let head = self.log.get_head(GetHeadRequest {}).await?.into_inner();
        let token = head.token.unwrap_or_default();
        Ok(Token { position, ..token })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        list: ListArgs,
    }

    fn request(line: &[&str]) -> Result<ListRequest, String> {
        let whole = ["list", "departures", "flights"].iter().chain(line);
        let parsed = Line::try_parse_from(whole).map_err(|error| error.to_string())?;
        list_request(&parsed.list).map_err(|error| error.to_string())
    }

    #[test]
    fn an_index_range_takes_json_or_texts() {
        let line = ["--index", "i", "--eq", "EWR", "--eq", "-7", "--from", "1", "--descending"];
        let request = request(&line).unwrap();
        assert!(request.descending);
        let Some(Selection::Index(range)) = request.selection else {
            panic!("expected an index range, found {:?}", request.selection);
        };
        assert_eq!(range.index, "i");
        assert_eq!(range.equals, ["\"EWR\"", "-7"]);
        assert_eq!(range.from.as_deref(), Some(&b"1"[..]));
        assert_eq!(range.to, None);
    }

    #[test]
    fn without_an_index_ranges_are_of_keys() {
        let Some(Selection::Keys(range)) = request(&["--prefix", "[\"JFK\",\"L\"]"]).unwrap().selection
        else {
            panic!("expected a key range");
        };
        assert_eq!(range.prefix.map(|key| key.parts.len()), Some(2));
        assert_eq!(request(&[]).unwrap().selection, None);
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(request(&["--eq", "1"]).unwrap_err().contains("--index"));
        assert!(request(&["--index", "a", "--prefix", "b"]).unwrap_err().contains("cannot be used with"));
        assert!(request(&["--index", "a", "--index", "b"]).unwrap_err().contains("expected one index"));
        assert!(request(&["--index", "a", "--index", "a"]).is_ok());
        assert!(request(&["--prefix", "[1.5]"]).unwrap_err().contains("--prefix"));
    }
}
