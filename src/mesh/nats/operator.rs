//! What an operator does to a broker: make, check and resize the streams of a topology.
//!
//! Invariants: repeating it changes nothing; a stream that is not as it has to be is named and left alone, and all that
//! is wrong is said at once. Does not know how a topology is written.

use std::{path::PathBuf, sync::Arc};

use futures_util::future::join_all;

use super::{
    driver::{addresses, options},
    stream::{self, StreamOutcome, StreamSize},
};
use crate::{clock::Clock, disk::Disk};

/// What was done for one node's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provisioned {
    /// The node.
    pub node: String,
    /// What was done.
    pub outcome: StreamOutcome,
}

/// Why streams could not be made or are wrong.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    /// There is no way to the broker.
    #[error("cannot connect to {url}: {reason}")]
    Connect {
        /// Where it was looked for.
        url: String,
        /// What came of it.
        reason: String,
    },
    /// Some streams are wrong; the others are as they should be.
    #[error("{}", .0.join("\n"))]
    Streams(Vec<String>),
}

/// Brings the stream of each of these nodes into being, or to its size.
pub async fn provision(
    url: &str,
    credentials_file: Option<&PathBuf>,
    streams: &[(String, StreamSize)],
    clock: Arc<dyn Clock>,
    disk: Arc<dyn Disk>,
) -> Result<Vec<Provisioned>, ProvisionError> {
    let failed = |reason: String| ProvisionError::Connect { url: url.to_owned(), reason };
    let options = options(credentials_file, &clock, &disk).name("outrigger mesh provision");
    let client =
        options.connect(addresses(url).map_err(failed)?).await.map_err(|error| failed(error.to_string()))?;
    let ensured = streams.iter().map(|(node, size)| {
        let client = &client;
        async move { (node, stream::ensure(client, node, *size, true).await) }
    });
    let (mut done, mut wrong) = (Vec::new(), Vec::new());
    for (node, outcome) in join_all(ensured).await {
        match outcome {
            Ok(outcome) => done.push(Provisioned { node: node.clone(), outcome }),
            Err(reason) => wrong.push(format!("{node}: {reason}")),
        }
    }
    if wrong.is_empty() { Ok(done) } else { Err(ProvisionError::Streams(wrong)) }
}
