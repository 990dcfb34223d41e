//! Service handlers: versions whose projector is a service, which answers each event with a transaction.
//!
//! Reading order: `transaction` (what an answer says, and what it does to documents), `dispatch` (pure: which worker has
//! which events, and whose answer is next), `hub` (where calls and the runner meet), `feed` (what the runner does with
//! all this), `emit` (events that answers append). Invariants: transactions are applied strictly in log order, each
//! against the documents that it read; what a worker does not answer in time goes to another. Does not know gRPC.

pub mod dispatch;
pub mod emit;
pub(crate) mod feed;
pub mod hub;
#[cfg(test)]
mod tests;
pub mod transaction;
