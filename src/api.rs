//! The gRPC services: thin handlers between the messages of `proto/` and the rooms below.
//!
//! Owns which services there are, what every call passes first, and the bounds of connections. `convert` is the only
//! way in, `status` the only way out. Does not know the mesh, files or threads.

use std::sync::Arc;

use tokio::net::TcpListener;
use tonic::{
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    append::Appender,
    clock::Clock,
    events::Events,
    lifecycle::{Lifecycle, Phase},
    limits::{CONNECTION_STREAMS_MAX, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MESSAGE_BYTES_MAX},
    metrics::Metrics,
    projection::registry::Registry,
};
use proto::v1::{
    admin_server::AdminServer, event_log_server::EventLogServer, projections_server::ProjectionsServer,
    query_server::QueryServer,
};

mod admin;
mod convert;
mod event_log;
pub(crate) mod middleware;
mod projections;
pub mod proto;
mod query;
mod status;
mod subscribe;

/// What the services are made of.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) node: Arc<str>,
    pub(crate) appender: Appender,
    pub(crate) events: Events,
    pub(crate) projections: Arc<Registry>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tokens: middleware::auth::Tokens,
}

/// Serves all services until the node stops. A listener that fails ends the node.
pub(crate) fn serve(listener: TcpListener, context: Context) {
    let lifecycle = context.lifecycle.clone();
    let (routes, health) = routes(context);
    let stop = lifecycle.stop().clone();
    let served = Server::builder()
        .max_concurrent_streams(CONNECTION_STREAMS_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_routes(routes)
        .serve_with_incoming_shutdown(
            // An answer is several small writes: without this each would wait for the client's delayed ACK, 40 ms.
            TcpIncoming::from(listener).with_nodelay(Some(true)),
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
    let Context { node, appender, events, projections, clock, lifecycle, metrics, tokens } = context;
    let event_log = event_log::EventLog {
        node: Arc::clone(&node),
        appender,
        events: events.clone(),
        clock,
        lifecycle: lifecycle.clone(),
        metrics: Arc::clone(&metrics),
    };
    let query = query::Query { projections: Arc::clone(&projections), metrics };
    let admin = admin::Admin { node, events, lifecycle };
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptors were compiled with the crate");
    macro_rules! guarded {
        ($server:ident, $service:expr) => {
            tonic::service::interceptor::InterceptedService::new(
                $server::new($service).max_decoding_message_size(MESSAGE_BYTES_MAX),
                tokens.clone(),
            )
        };
    }
    let routes = Routes::new(health)
        .add_service(reflection)
        .add_service(guarded!(EventLogServer, event_log))
        .add_service(guarded!(QueryServer, query))
        .add_service(guarded!(ProjectionsServer, projections::ProjectionsService { projections }))
        .add_service(guarded!(AdminServer, admin));
    (routes, reporter)
}
