//! The gRPC services: thin handlers between the messages of `proto/` and the rooms below.
//!
//! Owns which services there are, what every call passes first, and the bounds of connections. `convert` is the only
//! way in, `status` the only way out. Does not know the mesh, files or threads.

use std::sync::Arc;

use tonic::service::Routes;
use tonic_health::server::HealthReporter;

use crate::{
    append::Appender, clock::Clock, events::Events, lifecycle::Lifecycle, limits::MESSAGE_BYTES_MAX,
    metrics::Metrics, projection::registry::Registry,
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

/// All services, and the reporter that tells their health.
pub(crate) fn routes(context: Context) -> (Routes, HealthReporter) {
    let Context {
        node,
        appender,
        events,
        projections,
        clock,
        lifecycle,
        metrics,
        tokens,
    } = context;
    let event_log = event_log::EventLog {
        node: Arc::clone(&node),
        appender,
        events: events.clone(),
        clock,
        lifecycle: lifecycle.clone(),
        metrics: Arc::clone(&metrics),
    };
    let query = query::Query {
        projections: Arc::clone(&projections),
        metrics,
    };
    let admin = admin::Admin {
        node,
        events,
        lifecycle,
    };
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
        .add_service(guarded!(
            ProjectionsServer,
            projections::ProjectionsService { projections }
        ))
        .add_service(guarded!(AdminServer, admin));
    (routes, reporter)
}
