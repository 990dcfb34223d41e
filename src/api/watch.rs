//! One watch as a stream: a snapshot, then changes as they become visible, at the pace of the watcher.
//!
//! A watch sleeps until its version shows more, and keeps a snapshot only while it tells what the snapshot has: not
//! longer than a time limit. A watcher that takes nothing, or too slowly, is ended with what it needs to resume. Does not
//! know what is told.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::OwnedSemaphorePermit;
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
    limits::{ADVANCE_POSITIONS, ADVANCE_WAIT, STREAM_TIME_MAX, WATCHERS_MAX},
    metrics::Metrics,
    projection::{
        query::{ListQuery, QueryError, ReadOptions, Reading},
        registry::{Registry, Watched},
        watch::{Told, Watch},
    },
};

/// Starts a watch and answers with its stream.
pub(super) fn start(
    service: &Query,
    mut request: v1::WatchRequest,
) -> Result<Responses<v1::WatchResponse>, Refusal> {
    let seat = Arc::clone(&service.watchers).try_acquire_owned().map_err(|_| {
        let message =
            format!("this node serves {WATCHERS_MAX} watches already; end some, or watch more at once");
        Refusal::new(Code::ResourceExhausted, "TOO_MANY_WATCHES", message)
            .with("limit", WATCHERS_MAX)
            .retry_after(Duration::from_secs(1))
    })?;
    let (projection, token) = (std::mem::take(&mut request.projection), request.resume_token.take());
    let options = convert::read_options(request.options.clone())?;
    let query = convert::watch(request)?;
    let (watched, watch) = service.projections.watch(&projection, &options, &query, token.as_deref())?;
    let (outbox, responses) = outbox(service.reader_stall);
    let stop = service.lifecycle.stop().clone();
    let metrics = Arc::clone(&service.metrics);
    let watching = Watching {
        projections: Arc::clone(&service.projections),
        question: Question { projection, options, query },
        watched,
        watch: Some(watch),
        token,
        told_at: Instant::now(),
        outbox,
        metrics,
        _seat: seat,
    };
    service.lifecycle.tasks().spawn(watching.run(stop));
    Ok(responses)
}

enum End {
    ClientGone,
    Refused(Refusal),
}

impl From<QueryError> for End {
    fn from(error: QueryError) -> Self {
        Self::Refused(error.into())
    }
}

/// What is watched.
struct Question {
    projection: String,
    options: ReadOptions,
    query: ListQuery,
}

struct Watching {
    projections: Arc<Registry>,
    question: Question,
    watched: Watched,
    /// Always there, but while it works on another thread.
    watch: Option<Watch>,
    /// The last resume token that was sent.
    token: Option<String>,
    told_at: Instant,
    outbox: Outbox<v1::WatchResponse>,
    metrics: Arc<Metrics>,
    _seat: OwnedSemaphorePermit,
}

impl Watching {
    /// Runs until the client is gone, or too slow, or its version is, or the node stops.
    async fn run(mut self, stop: tokio_util::sync::CancellationToken) {
        self.metrics.watches.inc();
        let end = tokio::select! {
            end = self.follow() => match end {
                Err(end) => end,
                Ok(never) => match never {},
            },
            () = stop.cancelled() => End::Refused(stopping()),
        };
        self.metrics.watches.dec();
        if let End::Refused(refusal) = end {
            let refusal = refusal.with("resume_token", self.token.unwrap_or_default());
            self.outbox.fail(Status::from(refusal));
        }
    }

    /// Goes on for ever, from version to version; what it returns is why it could not.
    async fn follow(&mut self) -> Result<std::convert::Infallible, End> {
        loop {
            let (projections, projection) = (Arc::clone(&self.projections), &self.question.projection);
            let first = tokio::select! {
                biased;
                () = projections.watched_elsewhere(projection, &self.watched) => None,
                first = self.watched.first(&self.question.options) => Some(first?),
                () = self.outbox.closed() => return Err(End::ClientGone),
            };
            if let Some(first) = first {
                self.tell(first).await?;
                self.follow_version().await?;
            }
            self.go_over()?;
        }
    }

    /// Tells changes until another version is active.
    async fn follow_version(&mut self) -> Result<(), End> {
        let projections = Arc::clone(&self.projections);
        loop {
            let position = self.watch.as_ref().and_then(Watch::position);
            tokio::select! {
                biased;
                () = projections.watched_elsewhere(&self.question.projection, &self.watched) => return Ok(()),
                reading = self.watched.later(position) => self.tell(reading?).await?,
                () = self.outbox.closed() => return Err(End::ClientGone),
            }
            let untold = self.watch.as_ref().map_or(0, Watch::untold);
            if untold >= ADVANCE_POSITIONS || untold > 0 && self.told_at.elapsed() >= ADVANCE_WAIT {
                self.tell_advance().await?;
            }
        }
    }

    /// Goes on with the version that is active now, from a snapshot that has all that was told.
    fn go_over(&mut self) -> Result<(), End> {
        let told = self.watch.as_ref().and_then(Watch::position).unwrap_or_default();
        let Question { projection, options, query } = &self.question;
        let (watched, watch) = self.projections.watch_on(projection, options, query, told)?;
        (self.watched, self.watch) = (watched, Some(watch));
        Ok(())
    }

    /// Tells what a snapshot has for the watcher.
    async fn tell(&mut self, reading: Reading) -> Result<(), End> {
        self.metrics.watch_wakeups.inc();
        let begun = Instant::now();
        let mut reading = Some(reading);
        loop {
            if begun.elapsed() > STREAM_TIME_MAX {
                return Err(too_slow("a snapshot is not kept for so long"));
            }
            let Some(mut watch) = self.watch.take() else {
                return Err(End::ClientGone);
            };
            let newer = reading.take();
            let looked = blocking(move || {
                newer.map_or(Ok(()), |reading| watch.look(reading))?;
                Ok((watch.next_message()?, watch))
            });
            let (told, watch) = looked.await.map_err(End::Refused)?;
            let more = watch.is_telling();
            self.watch = Some(watch);
            if let Some(told) = told {
                self.send(told).await?;
            }
            if !more {
                return Ok(());
            }
        }
    }

    async fn tell_advance(&mut self) -> Result<(), End> {
        match self.watch.as_mut().and_then(Watch::advance_message) {
            Some(told) => self.send(told).await,
            None => Ok(()),
        }
    }

    async fn send(&mut self, told: Told) -> Result<(), End> {
        if let Told::Reset(_) = told {
            self.metrics.watch_resets.inc();
        }
        let message = convert::told(told);
        let token = message.resume_token.clone();
        match self.outbox.send(message).await {
            Ok(()) => {
                self.token = token.or(self.token.take());
                self.told_at = Instant::now();
                Ok(())
            }
            Err(NotSent::ClientGone) => Err(End::ClientGone),
            Err(NotSent::Stalled) => Err(too_slow("its messages were not taken")),
        }
    }
}

fn too_slow(why: &str) -> End {
    let message = format!("the watch was ended because {why}; watch again with its last resume token");
    End::Refused(Refusal::new(Code::ResourceExhausted, "WATCHER_TOO_SLOW", message))
}
