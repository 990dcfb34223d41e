//! Single events at a pace: from the acknowledgement of an append at the owner to the changed document at the importer, and
//! by turns a message of bare JetStream as large, from its publish to its delivery.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use crate::{
    api::proto::v1::{
        AppendRequest, Document, WatchRequest, document_change::Change, key_part::Part,
        watch_response::Content,
    },
    cli::{
        bench::{histogram::Histogram, project::flights::Flights, run::Server},
        error::CliError,
    },
    mesh::nats::BareStream,
};

/// How long an event may be on its way.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes that an event has on the bus beside its data: headers and subject.
const HEADER_BYTES: usize = 900;
/// Turns that do not count, at the beginning.
const WARM_UP: u32 = 50;

/// What was seen, one value a turn.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// From the answer of the append at the owner to the change of the document at the importer.
    pub(super) visible: Histogram,
    /// From the call of the append to its answer.
    pub(super) append: Histogram,
    /// From the publish of a bare message to its delivery.
    pub(super) bare: Histogram,
}

/// Runs so many turns, each `pace` after the one before.
pub(super) async fn run(
    owner: &Server,
    importer: &Server,
    bare: &mut BareStream,
    mut flights: Flights,
    turns: u32,
    pace: Duration,
) -> Result<Seen, CliError> {
    let mut log = owner.node.event_log().await?;
    let (mut changes, _reader) = watch(importer).await?;
    let mut seen = Seen::default();
    for turn in 0..turns + WARM_UP {
        let event = flights.next().ok_or_else(|| CliError::failed("there is no further flight"))?;
        let (key, bytes) = (Flights::key(&event).to_owned(), event.data.len() + HEADER_BYTES);
        let called = Instant::now();
        let request = AppendRequest { events: vec![event], ..AppendRequest::default() };
        log.append(request).await?;
        let answered = Instant::now();
        let changed = timeout(PATIENCE, change_of(&mut changes, &key)).await;
        let changed = changed.map_err(|_| {
            CliError::failed(format!("{key} was not seen at the importer within {PATIENCE:?}"))
        })??;
        tokio::time::sleep_until((called + pace / 2).into()).await;
        let bare = bare.publish_to_deliver(Bytes::from(vec![b'x'; bytes])).await.map_err(CliError::failed)?;
        if turn >= WARM_UP {
            seen.append.record(answered - called);
            seen.visible.record(changed.saturating_duration_since(answered));
            seen.bare.record(bare);
        }
        tokio::time::sleep_until((called + pace).into()).await;
    }
    Ok(seen)
}

/// When documents changed, and their keys.
type Changes = mpsc::Receiver<Result<(Instant, String), CliError>>;

/// When the document of this key changed, as it is told.
async fn change_of(changes: &mut Changes, key: &str) -> Result<Instant, CliError> {
    loop {
        match changes.recv().await {
            Some(Ok((at, changed))) if changed == key => return Ok(at),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error),
            None => return Err(CliError::failed("the watch at the importer has ended")),
        }
    }
}

/// Watches the importer's documents; gives the keys of those that change after the snapshot, and when that was told. A
/// task reads as long as its set is kept, so that the time is that of the arrival also while nobody asks.
async fn watch(importer: &Server) -> Result<(Changes, JoinSet<()>), CliError> {
    let request = WatchRequest {
        projection: "departures".to_owned(),
        collection: "flights".to_owned(),
        fields: vec!["status".to_owned()],
        ..WatchRequest::default()
    };
    let mut stream = importer.node.query().await?.watch(request).await?.into_inner();
    loop {
        let told = stream.message().await?;
        let told = told.ok_or_else(|| CliError::failed("the watch at the importer ended in its snapshot"))?;
        if let Some(Content::SnapshotComplete(_)) = told.content {
            break;
        }
    }
    let (tell, changes) = mpsc::channel(1_024);
    let mut reader = JoinSet::new();
    reader.spawn(async move {
        loop {
            let told = match stream.message().await {
                Ok(Some(told)) => told,
                Ok(None) => return,
                Err(status) => {
                    let _gone = tell.send(Err(status.into())).await;
                    return;
                }
            };
            let at = Instant::now();
            let Some(Content::Changes(group)) = told.content else { continue };
            for change in group.changes {
                if let Some(Change::Put(document)) = change.change
                    && tell.send(Ok((at, text_key(document)))).await.is_err()
                {
                    return;
                }
            }
        }
    });
    Ok((changes, reader))
}

fn text_key(document: Document) -> String {
    let part = document.key.and_then(|key| key.parts.into_iter().next()).and_then(|part| part.part);
    match part {
        Some(Part::Text(text)) => text,
        _ => String::new(),
    }
}
