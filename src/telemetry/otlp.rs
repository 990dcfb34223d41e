//! Spans and metrics on their way to a collector, over OTLP/gRPC.
//!
//! Owns when they are sent and what becomes of what cannot be. Invariants: nobody in the node waits for the collector; what
//! waits for it is bounded; a batch that it does not take is dropped and counted, and a warning a minute says so; the last
//! ones are sent at shutdown, for a bounded time. Does not know how spans come about.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::metrics_service_client::MetricsServiceClient,
        trace::v1::trace_service_client::TraceServiceClient,
    },
    common::v1::{AnyValue, KeyValue, any_value},
    resource::v1::Resource,
};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::{Channel, Endpoint};

use crate::{
    clock::Clock,
    config::Otlp,
    limits::{OTLP_FLUSH_MAX, OTLP_TIMEOUT, OTLP_WARNING_INTERVAL, SPANS_BATCH_MAX, SPANS_INTERVAL},
    metrics::{MetricFamily, telemetry::TelemetryMetrics},
    trace::{Span, Tracer},
};

mod series;
mod spans;

/// Gives all metrics, brought up to date.
pub type Gather = Arc<dyn Fn() -> Vec<MetricFamily> + Send + Sync>;

/// Who tells.
#[derive(Debug, Clone)]
pub struct Teller {
    /// The node's name.
    pub node: String,
    /// Its log, which is the instance.
    pub log_id: String,
}

/// What a node begins with: a tracer, and an exporter that has not started.
#[derive(Debug)]
pub struct Prepared {
    /// Makes spans, where they are exported.
    pub tracer: Tracer,
    spans: Option<mpsc::Receiver<Span>>,
    channel: Option<Channel>,
    settings: Otlp,
    clock: Arc<dyn Clock>,
    counts: TelemetryMetrics,
}

/// Sends until it is flushed.
#[derive(Debug)]
pub struct Exporter {
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Makes what the settings ask for; without an endpoint nothing. A runtime must be there.
pub fn prepare(settings: &Otlp, clock: &Arc<dyn Clock>, counts: &TelemetryMetrics) -> Prepared {
    let endpoint = settings.endpoint.as_ref().map(|endpoint| {
        let endpoint = Endpoint::from_shared(endpoint.clone()).expect("the settings were checked");
        endpoint.connect_timeout(OTLP_TIMEOUT).timeout(OTLP_TIMEOUT).connect_lazy()
    });
    let (tracer, spans) = if endpoint.is_some() && settings.traces {
        let dropped = counts.spans_dropped.with_label_values(&["queue_full"]);
        let (tracer, spans) = Tracer::new(Arc::clone(clock), settings.sample_ppm, dropped);
        (tracer, Some(spans))
    } else {
        (Tracer::default(), None)
    };
    Prepared {
        tracer,
        spans,
        channel: endpoint,
        settings: settings.clone(),
        clock: Arc::clone(clock),
        counts: counts.clone(),
    }
}

impl Prepared {
    /// Starts to send; nothing where nothing is to be sent.
    pub fn start(self, teller: &Teller, gather: Gather) -> Exporter {
        let exporter = Exporter { tasks: TaskTracker::new(), stop: CancellationToken::new() };
        let Some(channel) = self.channel else { return exporter };
        let resource = resource(teller);
        let started_unix_nanos = self.clock.now_unix_nanos();
        let sender = |signal| Sender {
            signal,
            resource: resource.clone(),
            counts: self.counts.clone(),
            warned_at: None,
            failed: 0,
        };
        if let Some(spans) = self.spans {
            let client = TraceServiceClient::new(channel.clone());
            let run = Traces { spans, client, sender: sender("traces") }.run(exporter.stop.clone());
            exporter.tasks.spawn(run);
        }
        if let Some(interval) = self.settings.metrics_interval {
            let client = MetricsServiceClient::new(channel);
            let (clock, sender) = (self.clock, sender("metrics"));
            let metrics = Metrics { gather, client, clock, started_unix_nanos, sender };
            exporter.tasks.spawn(metrics.run(interval, exporter.stop.clone()));
        }
        exporter
    }
}

impl Exporter {
    /// Sends what is there and ends, in a bounded time.
    pub async fn flush(self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(OTLP_FLUSH_MAX, self.tasks.wait()).await.is_err() {
            tracing::warn!(waited = ?OTLP_FLUSH_MAX, "the collector did not take the last spans and metrics in time");
        }
    }
}

fn resource(teller: &Teller) -> Resource {
    let attributes = [
        ("service.name", "outrigger"),
        ("service.instance.id", &teller.log_id),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("outrigger.node", &teller.node),
    ];
    let attributes = attributes.map(|(name, value)| text(name, value)).to_vec();
    Resource { attributes, ..Resource::default() }
}

fn text(name: &str, value: &str) -> KeyValue {
    attribute(name, any_value::Value::StringValue(value.to_owned()))
}

fn attribute(name: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// What both have in common.
struct Sender {
    signal: &'static str,
    resource: Resource,
    counts: TelemetryMetrics,
    warned_at: Option<Instant>,
    /// Exports that failed since the last warning.
    failed: u64,
}

impl Sender {
    fn failed(&mut self, error: &tonic::Status) {
        self.counts.failures.with_label_values(&[self.signal]).inc();
        self.failed += 1;
        if self.warned_at.is_none_or(|at| at.elapsed() >= OTLP_WARNING_INTERVAL) {
            let (signal, failed) = (self.signal, self.failed);
            tracing::warn!(signal, failed, error = %error.message(), code = ?error.code(), "the collector took no telemetry; the node goes on without");
            (self.warned_at, self.failed) = (Some(Instant::now()), 0);
        }
    }
}

struct Traces {
    spans: mpsc::Receiver<Span>,
    client: TraceServiceClient<Channel>,
    sender: Sender,
}

impl Traces {
    async fn run(mut self, stop: CancellationToken) {
        let mut ticks = interval(SPANS_INTERVAL);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.send_all().await,
                () = stop.cancelled() => return self.send_all().await,
            }
        }
    }

    /// Sends what waits now.
    async fn send_all(&mut self) {
        let mut left = self.spans.len();
        while left > 0 {
            let mut batch = Vec::with_capacity(left.min(SPANS_BATCH_MAX));
            while batch.len() < SPANS_BATCH_MAX
                && let Ok(span) = self.spans.try_recv()
            {
                batch.push(span);
            }
            left = left.saturating_sub(batch.len().max(1));
            self.send(batch).await;
        }
    }

    async fn send(&mut self, batch: Vec<Span>) {
        let count = batch.len() as u64;
        let dropped = self.sender.counts.spans_dropped.with_label_values(&["export_failed"]);
        match self.client.export(spans::request(&self.sender.resource, batch)).await {
            Ok(answer) => {
                let refused = answer.into_inner().partial_success.map_or(0, |part| part.rejected_spans);
                let refused = u64::try_from(refused).unwrap_or(0).min(count);
                dropped.inc_by(refused);
                self.sender.counts.spans_sent.inc_by(count - refused);
            }
            Err(error) => {
                dropped.inc_by(count);
                self.sender.failed(&error);
            }
        }
    }
}

struct Metrics {
    gather: Gather,
    client: MetricsServiceClient<Channel>,
    clock: Arc<dyn Clock>,
    started_unix_nanos: i64,
    sender: Sender,
}

impl Metrics {
    async fn run(mut self, every: Duration, stop: CancellationToken) {
        let mut ticks = interval(every);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.send().await,
                () = stop.cancelled() => return self.send().await,
            }
        }
    }

    async fn send(&mut self) {
        let gather = Arc::clone(&self.gather);
        // It reads files: not on a thread that answers calls.
        let Ok(families) = tokio::task::spawn_blocking(move || gather()).await else { return };
        let times = (self.started_unix_nanos, self.clock.now_unix_nanos());
        if let Err(error) = self.client.export(series::request(&self.sender.resource, &families, times)).await
        {
            self.sender.failed(&error);
        }
    }
}

/// Ticks that are not made up for.
fn interval(every: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}
