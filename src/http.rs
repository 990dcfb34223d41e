//! The probes and the metrics page, and nothing else: what the kubelet and Prometheus reach from outside the pod.
//!
//! All of them answer from the moment the port is bound. `/healthz`: the process runs. `/startupz`: the log is recovered. `/readyz`: everything is served, with warnings behind
//! it if there are any; else 503 with the reason. `/metrics`: Prometheus text. Does not know what ready requires.

use std::sync::{Arc, OnceLock};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;

use crate::{
    lifecycle::{Lifecycle, Phase},
    metrics::{self, MetricFamily, Metrics},
};

/// Gives all metrics, brought up to date.
pub type Gather = Arc<dyn Fn() -> Vec<MetricFamily> + Send + Sync>;

/// What the pages are made of.
#[derive(Clone)]
pub struct Pages {
    /// The node's life.
    pub lifecycle: Lifecycle,
    /// What was counted.
    pub metrics: Arc<Metrics>,
    /// What there is to tell once the node is open.
    pub details: Arc<OnceLock<Details>>,
}

/// What the pages tell of an open node.
pub struct Details {
    /// All metrics, brought up to date.
    pub gather: Gather,
    /// What is wrong with projections and keeps nothing from being served, a line each.
    pub projection_warnings: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
}

impl std::fmt::Debug for Details {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Details").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages").field("lifecycle", &self.lifecycle).finish_non_exhaustive()
    }
}

/// Serves the pages until the node stops.
pub async fn serve(listener: TcpListener, pages: Pages) -> std::io::Result<()> {
    let stop = pages.lifecycle.stop().clone();
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/startupz", get(startup))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_page))
        .with_state(pages);
    axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await }).await
}

async fn startup(State(pages): State<Pages>) -> impl IntoResponse {
    match pages.lifecycle.phase() {
        phase @ Phase::Starting(_) => unavailable(&phase),
        _ => (StatusCode::OK, "started\n".to_owned()),
    }
}

async fn ready(State(pages): State<Pages>) -> impl IntoResponse {
    match pages.lifecycle.phase() {
        Phase::Ready => {
            let mut warnings = pages.lifecycle.warnings();
            warnings.extend(
                pages.details.get().map(|details| (details.projection_warnings)()).unwrap_or_default(),
            );
            let lines = warnings.iter().map(|warning| format!("warning: {warning}\n"));
            (StatusCode::OK, std::iter::once("ready\n".to_owned()).chain(lines).collect())
        }
        phase => unavailable(&phase),
    }
}

fn unavailable(phase: &Phase) -> (StatusCode, String) {
    let reason = phase.reason().unwrap_or_default();
    (StatusCode::SERVICE_UNAVAILABLE, format!("{}: {reason}\n", phase.name()))
}

async fn metrics_page(State(pages): State<Pages>) -> impl IntoResponse {
    // It reads files: not on a thread that answers calls.
    let page = tokio::task::spawn_blocking(move || {
        if let Some(details) = pages.details.get() {
            return metrics::text((details.gather)().as_slice());
        }
        pages.metrics.node.set_phase(pages.lifecycle.phase().name());
        metrics::text(&pages.metrics.gather())
    });
    match page.await {
        Ok(page) => (StatusCode::OK, [(CONTENT_TYPE, "text/plain; version=0.0.4")], page),
        Err(error) => {
            let page = format!("the metrics could not be gathered: {error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, [(CONTENT_TYPE, "text/plain")], page)
        }
    }
}
