//! Projections: named functions from the log to documents, in versions side by side.
//!
//! Reading order: `definition` and `declarative` (what a version does with an event), `key` and `entries` (how documents
//! are found), `store` and `batch` (how they are kept), `failure` and `ledger` (what becomes of events that cannot be
//! applied), `runner`, `hold`, `builds` and `registry` (how versions follow the log, and when), `handler` (versions whose projector is a
//! service),
//! `decisions`, `versions`, `activation` and `release` (what is decided about versions, told by the log), `query` (how documents are
//! read), `change_table` and `watch` (how changes of documents are told), `watch_directory` (where definitions come from),
//! `replay` (a version built a second time), `compare` (two versions as they are at one position), `offline` (a definition tried on a file of events).

pub mod activation;
pub mod batch;
pub mod builds;
pub(crate) mod change_table;
pub mod compare;
pub mod content_hash;
pub(crate) mod control;
pub mod decisions;
pub mod declarative;
pub mod definition;
pub mod entries;
pub mod exclusive;
pub mod failure;
pub mod handler;
pub mod hold;
pub(crate) mod interest;
pub mod key;
pub mod ledger;
pub mod memory;
pub(crate) mod merge;
pub mod offline;
pub mod page;
pub mod query;
mod recent;
pub mod registry;
pub mod release;
pub mod replay;
pub mod runner;
pub mod state;
pub mod status;
pub mod store;
#[cfg(test)]
pub(crate) mod testing;

pub mod verify;
pub mod versions;
pub mod watch;
pub mod watch_directory;
