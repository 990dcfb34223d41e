//! A collector in this process: takes spans and metrics over OTLP/gRPC and keeps them, decoded.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::Metric,
    resource::v1::Resource,
    trace::v1::Span,
};
use tokio::{net::TcpListener, sync::Notify};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

/// What came, with the node that sent it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Receiver {
    spans: Arc<Mutex<Vec<(String, Span)>>>,
    metrics: Arc<Mutex<Vec<(String, Metric)>>>,
    changed: Arc<Notify>,
}

impl Receiver {
    /// A collector on a free port, and its address as settings name it.
    pub(crate) async fn start() -> (Self, String) {
        let receiver = Self::default();
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let served = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(receiver.clone()))
            .add_service(MetricsServiceServer::new(receiver.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        tokio::spawn(served);
        (receiver, format!("http://{addr}"))
    }

    /// The span of a node with this name, once there is one that is as it should be.
    pub(crate) async fn span(&self, node: &str, name: &str, is: impl Fn(&Span) -> bool) -> Span {
        loop {
            let changed = self.changed.notified();
            let found =
                self.spans().into_iter().find(|(of, span)| of == node && span.name == name && is(span));
            if let Some((_, span)) = found {
                return span;
            }
            changed.await;
        }
    }

    pub(crate) fn spans(&self) -> Vec<(String, Span)> {
        self.spans.lock().unwrap().clone()
    }

    /// The newest of a node's metrics under this name.
    pub(crate) fn metric(&self, node: &str, name: &str) -> Option<Metric> {
        let metrics = self.metrics.lock().unwrap();
        metrics
            .iter()
            .rev()
            .find(|(of, metric)| of == node && metric.name == name)
            .map(|(_, metric)| metric.clone())
    }
}

/// The text of an attribute.
pub(crate) fn text(attributes: &[KeyValue], name: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == name)?.value.clone()?.value?;
    match value {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{name} is {other:?}"),
    }
}

fn node_of(resource: Option<&Resource>) -> String {
    let attributes = &resource.expect("every export has a resource").attributes;
    assert_eq!(text(attributes, "service.name").as_deref(), Some("outrigger"));
    assert_eq!(text(attributes, "service.version").as_deref(), Some(env!("CARGO_PKG_VERSION")));
    assert!(text(attributes, "service.instance.id").is_some_and(|id| id.len() == 36));
    text(attributes, "outrigger.node").unwrap()
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for of_resource in request.into_inner().resource_spans {
            let node = node_of(of_resource.resource.as_ref());
            let spans = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.spans.lock().unwrap().extend(spans.map(|span| (node.clone(), span)));
        }
        self.changed.notify_waiters();
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        for of_resource in request.into_inner().resource_metrics {
            let node = node_of(of_resource.resource.as_ref());
            let metrics = of_resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics);
            self.metrics.lock().unwrap().extend(metrics.map(|metric| (node.clone(), metric)));
        }
        self.changed.notify_waiters();
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}
