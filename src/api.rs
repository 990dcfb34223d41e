//! The gRPC services: thin handlers between the messages of `proto/` and the rooms below.
//!
//! Owns which services there are, what every call passes first, and the bounds of connections. `convert` is the only
//! way in, `status` the only way out. Does not know the mesh, files or threads.

use std::{sync::Arc, time::Duration};

use tokio::sync::Semaphore;
use tonic::{service::Routes, transport::Server};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    append::Appender,
    clock::Clock,
    events::{Events, dispatcher},
    lifecycle::{Lifecycle, Phase},
    limits::{
        CONNECTION_STREAMS_MAX, CONNECTION_WINDOW_BYTES, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT,
        MESSAGE_BYTES_MAX, STREAM_WINDOW_BYTES, WATCHERS_MAX,
    },
    metrics::Metrics,
    ownership::InForce,
    projection::registry::Registry,
};
use proto::raw_servers::{event_log_server::EventLogServer, query_server::QueryServer};
use proto::v1::{
    admin_server::AdminServer, mesh_server::MeshServer, projections_server::ProjectionsServer,
    releases_server::ReleasesServer,
};

mod admin;
mod append;
mod backup;
mod compare_versions;
mod convert;
pub(crate) mod diagnostics;
mod event_log;
mod list_stream;
pub(crate) mod listen;
mod long_work;
pub(crate) mod mesh;
pub(crate) mod middleware;
mod outbox;
mod process;
mod projections;
pub mod proto;
mod query;
pub(crate) mod raw;
pub(crate) mod raw_append;
pub(crate) mod raw_query;
mod read;
mod releases;
mod resume;
mod standing;
mod status;
mod subscribe;
pub(crate) mod tls;
mod verify_projection;
mod watch;

/// What the services are made of.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) node: Arc<str>,
    pub(crate) appender: Appender,
    /// What clients may append.
    pub(crate) ownership: InForce,
    /// How events are shared.
    pub(crate) mesh: mesh::Handle,
    pub(crate) events: Events,
    pub(crate) projections: Arc<Registry>,
    /// What helps to find the reason of trouble.
    pub(crate) diagnostics: diagnostics::Handle,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tokens: middleware::auth::Tokens,
    /// How long a message may wait for a reader that takes none.
    pub(crate) reader_stall: Duration,
}

/// Serves all services until the node stops. A listener that fails ends the node.
pub(crate) fn serve(listener: listen::Listener, context: Context) {
    middleware::access::check_complete();
    let lifecycle = context.lifecycle.clone();
    let metrics = Arc::clone(&context.metrics);
    let tracer = context.events.tracer().clone();
    let woken = move |readers: usize| metrics.subscription_wakeups.inc_by(readers as u64);
    lifecycle.tasks().spawn(dispatcher::run(context.events.clone(), lifecycle.stop().clone(), woken));
    let tokens = context.tokens.clone();
    let (routes, health) = routes(context);
    let stop = lifecycle.stop().clone();
    let served = Server::builder()
        .max_concurrent_streams(CONNECTION_STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .layer(middleware::trace::TraceLayer(tracer))
        .layer(tokens)
        .add_routes(routes)
        .serve_with_incoming_shutdown(
            listener.connections(&lifecycle),
            async move { stop.cancelled().await },
        );
    lifecycle.tasks().spawn(tell_health(health, lifecycle.clone()));
    lifecycle.clone().tasks().spawn(async move {
        if let Err(error) = served.await {
            lifecycle.fail(format!("the gRPC listener failed: {error}"));
        }
    });
}

/// Keeps `grpc.health.v1` in step with the node's life.
async fn tell_health(health: HealthReporter, lifecycle: Lifecycle) {
    let mut phases = lifecycle.subscribe();
    loop {
        let ready = *phases.borrow_and_update() == Phase::Ready;
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        health.set_service_status("", status).await;
        tokio::select! {
            changed = phases.changed() => if changed.is_err() { return },
            () = lifecycle.stop().cancelled() => return,
        }
    }
}

/// All services, and the reporter that tells their health.
fn routes(context: Context) -> (Routes, HealthReporter) {
    let Context {
        node,
        appender,
        ownership,
        mesh,
        events,
        projections,
        diagnostics,
        clock,
        lifecycle,
        metrics,
        tokens: _,
        reader_stall,
    } = context;
    let event_log = event_log::EventLog {
        node: Arc::clone(&node),
        appender,
        ownership: ownership.clone(),
        events: events.clone(),
        clock: Arc::clone(&clock),
        lifecycle: lifecycle.clone(),
        metrics: Arc::clone(&metrics),
        reader_stall,
    };
    let backups = backup::Backups {
        node: Arc::clone(&node),
        events: events.clone(),
        projections: Arc::clone(&projections),
        clock: Arc::clone(&clock),
        lifecycle: lifecycle.clone(),
        metrics: Arc::clone(&metrics),
        reader_stall,
        running: Arc::new(Semaphore::new(1)),
    };
    let query = query::Query {
        projections: Arc::clone(&projections),
        metrics,
        lifecycle: lifecycle.clone(),
        reader_stall,
        watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
    };
    let releases =
        releases::ReleasesService { projections: Arc::clone(&projections), lifecycle: lifecycle.clone() };
    let projections =
        projections::ProjectionsService { projections, lifecycle: lifecycle.clone(), clock, reader_stall };
    let mesh = mesh::MeshService { node: Arc::clone(&node), ownership, mesh };
    let admin = admin::Admin { node, events, lifecycle, backups, diagnostics };
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptors were compiled with the crate");
    macro_rules! bounded {
        ($server:ident, $service:expr) => {
            $server::new($service).max_decoding_message_size(MESSAGE_BYTES_MAX)
        };
    }
    let routes = Routes::new(health)
        .add_service(reflection)
        .add_service(bounded!(EventLogServer, event_log))
        .add_service(bounded!(QueryServer, query))
        .add_service(bounded!(ProjectionsServer, projections))
        .add_service(bounded!(ReleasesServer, releases))
        .add_service(bounded!(MeshServer, mesh))
        .add_service(bounded!(AdminServer, admin));
    (routes, reporter)
}
