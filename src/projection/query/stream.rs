//! A list as a stream: all pages of a query, one after the other, from one snapshot.
//!
//! Invariants: what is kept between pages is the snapshot and where the last page ended, nothing that grows. Does not know
//! how long a stream may take, or to whom it goes.

use super::{ListQuery, Page, Plan, QueryError, ReadContext, Reading};
use crate::limits::{PAGE_SIZE_MAX, STREAM_MESSAGE_BYTES_MAX};

/// The pages of one query that are still to come.
#[derive(Debug)]
pub struct Pages {
    reading: Reading,
    plan: Plan,
    page_size: usize,
    /// Documents that may still be given.
    left: u64,
    done: bool,
}

impl Reading {
    /// All pages of a query, with at most `limit` documents.
    pub fn pages(mut self, query: &ListQuery, limit: Option<u64>) -> Result<Pages, QueryError> {
        if limit == Some(0) {
            let message = "expected at least 1, found 0".to_owned();
            return Err(QueryError::InvalidArgument { field: "limit", message, limit: None, actual: None });
        }
        let mut plan = Plan::new(self.snapshot().definition(), query)?;
        self.context = self.context_at(plan.collection)?;
        plan.bytes_max = STREAM_MESSAGE_BYTES_MAX;
        let page_size = if query.page_size.is_some() { plan.page_size } else { PAGE_SIZE_MAX as usize };
        Ok(Pages { reading: self, plan, page_size, left: limit.unwrap_or(u64::MAX), done: false })
    }
}

impl Pages {
    /// What all pages say about their snapshot.
    pub const fn context(&self) -> &ReadContext {
        self.reading.context()
    }

    /// Whether the last page was given.
    pub const fn is_done(&self) -> bool {
        self.done
    }

    /// The next page; `None` behind the last one. The last one has no token, or the limit is reached.
    pub fn next_page(&mut self) -> Result<Option<Page>, QueryError> {
        if self.done {
            return Ok(None);
        }
        self.plan.page_size = usize::try_from(self.left).map_or(self.page_size, |n| n.min(self.page_size));
        let (page, last) = self.reading.page(&self.plan)?;
        self.left -= page.documents.len() as u64;
        self.done = last.is_none() || self.left == 0;
        self.plan.resume = last;
        Ok(Some(page))
    }
}
