//! `outrigger count`: how many documents of a projection there are.

use clap::Args;

use super::{
    Session,
    documents::{Documents, context_line},
    error::CliError,
    output::{Format, print_lines},
    render,
    select::SelectArgs,
    text::{grouped, to_line},
};
use crate::api::proto::v1::{CountRequest, CountResponse, ReadContext, count_request, list_request};

/// What `count` takes.
#[derive(Debug, Args)]
pub struct CountArgs {
    /// Which documents.
    #[command(flatten)]
    pub select: SelectArgs,
    /// Count to the end, however many documents must be looked at
    #[arg(long)]
    pub all: bool,
}

/// Shown below the help of `count`.
pub const EXAMPLES: &str = "\
One call looks at 100,000 documents; where that was not enough, the answer is `at least`. With --all, counting goes on \
to the end.

Examples:
  outrigger count departures flights
  outrigger count departures flights --index by_status --eq cancelled
  outrigger count departures carriers --filter 'doc.departed > 100' --all --output json";

/// Runs `count`.
pub async fn run(session: &Session, args: &CountArgs) -> Result<(), CliError> {
    let selection = args.select.selection()?.map(|selection| match selection {
        list_request::Selection::Keys(range) => count_request::Selection::Keys(range),
        list_request::Selection::Index(range) => count_request::Selection::Index(range),
    });
    let mut client = Documents::connect(session).await?;
    let mut request = CountRequest {
        projection: args.select.projection.clone(),
        collection: args.select.collection.clone(),
        options: Some(client.options(&args.select.fresh).await?),
        selection,
        filter: args.select.filter.clone(),
        page_token: None,
    };
    let mut first: Option<ReadContext> = None;
    let (mut count, mut scanned) = (0, 0);
    let answer = loop {
        let answer = client.query.count(request.clone()).await?.into_inner();
        first = first.or_else(|| answer.context.clone());
        count += answer.count;
        scanned += answer.scanned;
        request.page_token.clone_from(&answer.next_page_token);
        if !args.all || request.page_token.is_none() {
            break CountResponse { count, scanned, ..answer };
        }
    };
    print_lines(&[match session.output {
        Format::Json => to_line(&render::count(&answer)),
        Format::Table => line(&answer, first.as_ref()),
    }])
}

fn line(answer: &CountResponse, first: Option<&ReadContext>) -> String {
    let at_least = if answer.at_least { "at least " } else { "" };
    let documents = if answer.count == 1 { "document" } else { "documents" };
    let context = answer.context.as_ref().map(context_line).unwrap_or_default();
    let mut parts = vec![format!("{at_least}{} {documents}, {context}", grouped(answer.count))];
    if answer.at_least {
        parts.push(format!("{} were looked at, count to the end with --all", grouped(answer.scanned)));
    }
    if let (Some(first), Some(last)) = (first, &answer.context)
        && first.as_of != last.as_of
    {
        parts.push(format!("counted while the projection went on from {}", first.as_of));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_says_what_it_is_worth() {
        let context =
            |as_of| ReadContext { projection: "p".into(), version: 1, as_of, head: 9, ..Default::default() };
        let exact = CountResponse { count: 1, context: Some(context(7)), ..CountResponse::default() };
        assert_eq!(line(&exact, Some(&context(7))), "1 document, p version 1, as of 7, head 9");
        let bound = CountResponse { count: 1_200, at_least: true, scanned: 100_000, ..exact };
        let text = line(&bound, Some(&context(5)));
        assert!(text.starts_with("at least 1 200 documents"), "{text}");
        assert!(text.contains("100 000 were looked at") && text.ends_with("went on from 5"), "{text}");
    }
}
