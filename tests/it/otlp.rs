//! Traces and metrics as a real collector gets them: one trace from an append at one node to a document at another; nothing
//! where nothing is asked for; a node that goes on where nobody takes anything.

use std::{fs, net::TcpListener, path::Path, time::Duration};

use opentelemetry_proto::tonic::{
    metrics::v1::{AggregationTemporality, metric::Data, number_data_point::Value},
    trace::v1::{Span, span::SpanKind},
};
use outrigger::{
    api::proto::v1,
    app,
    config::Config,
    mesh::memory::{Faults, MemoryBroker},
};

use crate::{
    mesh_two_nodes::{events, pair_with},
    metrics::page,
    otlp_receiver::{Receiver, text},
    support::{Node, append, config, event},
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

fn request(sampled: bool) -> tonic::Request<v1::AppendRequest> {
    let departed = event("flight.departed", "UA1", "{\"flight\":\"UA1\",\"delay\":20}");
    let mut request = tonic::Request::new(append(vec![departed]));
    let header = format!("00-{TRACE}-{CALLER}-{:02}", u8::from(sampled));
    request.metadata_mut().insert("traceparent", header.parse().unwrap());
    request
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// A projection of whatever this type says of a flight.
fn projection(dir: &Path, event_type: &str) -> std::path::PathBuf {
    let file = dir.join("flights.yaml");
    let text = format!(
        "projection: flights\nversion: 1\ncollections:\n  flights: {{}}\nevents:\n  {event_type}:\n    - put: flights\n      \
         key: data.flight\n      value: {{}}\n"
    );
    fs::write(&file, text).unwrap();
    file
}

fn send_to(config: &mut Config, endpoint: &str) {
    config.telemetry.otlp.endpoint = Some(endpoint.to_owned());
    config.telemetry.otlp.metrics_interval = None;
}

async fn node(set: impl FnOnce(&mut Config)) -> Node {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), &[]);
    set(&mut config);
    let running = app::start(config).await.unwrap();
    Node::around(running, dir).await
}

/// Waits until the node's projection is at the head: before, what it applies is history.
async fn projected(node: &Node) {
    let active = "outrigger_projection_state{projection=\"flights\",state=\"active\",version=\"1\"} 1";
    while !page(node).await.contains(active) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_goes_from_an_append_to_the_document_at_another_node() {
    let (receiver, endpoint) = Receiver::start().await;
    let broker = MemoryBroker::new(3, Faults::none());
    let set = |config: &mut Config, dir: &Path| {
        send_to(config, &endpoint);
        let seen = if config.node == "flights" { "flight.departed" } else { "board.flight" };
        config.projections.paths = vec![projection(dir, seen)];
    };
    let (flights, operations) = pair_with(&broker, set).await;
    projected(&flights).await;
    projected(&operations).await;
    flights.log().append(request(true)).await.unwrap();

    let check = |span: &Span, parent: &[u8], kind: SpanKind| {
        assert_eq!(hex(&span.trace_id), TRACE, "{span:?}");
        assert_eq!(hex(&span.parent_span_id), hex(parent), "{span:?}");
        assert_eq!(span.kind(), kind, "{span:?}");
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano && span.status.is_none(), "{span:?}");
    };
    let any = |_: &Span| true;
    let call = receiver.span("flights", "outrigger.v1.EventLog/Append", any).await;
    check(&call, &u64::from_str_radix(CALLER, 16).unwrap().to_be_bytes(), SpanKind::Server);
    assert_eq!(text(&call.attributes, "rpc.system").as_deref(), Some("grpc"));
    assert_eq!(text(&call.attributes, "rpc.method").as_deref(), Some("Append"));
    assert_eq!(text(&call.attributes, "rpc.grpc.status_code").as_deref(), Some("0"));
    let commit = receiver.span("flights", "log commit", any).await;
    check(&commit, &call.span_id, SpanKind::Internal);
    assert_eq!(text(&commit.attributes, "outrigger.group.events").as_deref(), Some("1"));
    let applied = receiver.span("flights", "projection apply", any).await;
    check(&applied, &call.span_id, SpanKind::Internal);
    assert_eq!(text(&applied.attributes, "outrigger.projection.name").as_deref(), Some("flights"));
    let published = receiver.span("flights", "publish", any).await;
    check(&published, &call.span_id, SpanKind::Producer);
    let subject = "outrigger.v1.flights.departures.v1.flight.departed";
    assert_eq!(text(&published.attributes, "messaging.destination.name").as_deref(), Some(subject));

    let imported = receiver.span("operations", "process", any).await;
    check(&imported, &call.span_id, SpanKind::Consumer);
    let committed = receiver.span("operations", "log commit", any).await;
    check(&committed, &imported.span_id, SpanKind::Internal);
    check(&receiver.span("operations", "projection apply", any).await, &call.span_id, SpanKind::Internal);

    let stored = events(&operations, 1).await.remove(0).metadata.unwrap();
    assert_eq!(stored, format!("{{\"traceparent\":\"00-{TRACE}-{}-01\"}}", hex(&call.span_id)));
    flights.stop().await;
    operations.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_for_several_traces_is_linked_to_them() {
    let (receiver, endpoint) = Receiver::start().await;
    let dir = tempfile::tempdir().unwrap();
    let node = node(|config| {
        send_to(config, &endpoint);
        config.projections.paths = vec![projection(dir.path(), "flight.departed")];
    });
    let node = node.await;
    projected(&node).await;
    let traced = |trace: u128| {
        let mut departed = event("flight.departed", "UA1", &format!("{{\"flight\":\"{trace}\"}}"));
        departed.metadata = Some(format!("{{\"traceparent\":\"00-{trace:032x}-{CALLER}-01\"}}").into());
        departed
    };
    // One request is one group, and one batch: the head moves once.
    node.log().append(append((1..=40).map(traced).collect())).await.unwrap();
    let applied = receiver.span("local", "projection apply", |_| true).await;
    assert_eq!(hex(&applied.trace_id), format!("{:032x}", 1));
    let linked: Vec<String> = applied.links.iter().map(|link| hex(&link.trace_id)).collect();
    assert_eq!(linked, (2..=33).map(|trace| format!("{trace:032x}")).collect::<Vec<_>>());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_call_has_its_code_and_an_answer_that_is_streamed_ends_its_span() {
    let (receiver, endpoint) = Receiver::start().await;
    let node = node(|config| send_to(config, &endpoint)).await;
    node.log().append(append(Vec::new())).await.unwrap_err();
    let refused = receiver.span("local", "outrigger.v1.EventLog/Append", |_| true).await;
    assert_eq!(text(&refused.attributes, "rpc.grpc.status_code").as_deref(), Some("3"));
    assert!(refused.status.is_none(), "what the caller did wrong is no error of the node: {refused:?}");
    let subscribed = node.log().subscribe(v1::SubscribeRequest::default()).await.unwrap();
    drop(subscribed);
    let left = receiver.span("local", "outrigger.v1.EventLog/Subscribe", |_| true).await;
    assert_eq!(text(&left.attributes, "rpc.grpc.status_code").as_deref(), Some("1"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_recorded_or_stored_that_is_not_asked_for() {
    let (receiver, endpoint) = Receiver::start().await;
    let off = node(|_| {}).await;
    let unsampled = node(|config| send_to(config, &endpoint)).await;
    let none = node(|config| {
        send_to(config, &endpoint);
        config.telemetry.otlp.sample_ppm = 0;
    });
    let none = none.await;
    off.log().append(request(true)).await.unwrap();
    unsampled.log().append(request(false)).await.unwrap();
    let departed = event("flight.departed", "UA1", "{}");
    none.log().append(append(vec![departed])).await.unwrap();
    for node in [off, unsampled, none] {
        let get = v1::GetEventRequest { by: Some(v1::get_event_request::By::Position(1)) };
        let mut request = tonic::Request::new(get);
        let header = format!("00-{TRACE}-{CALLER}-00").parse().unwrap();
        request.metadata_mut().insert("traceparent", header);
        let stored = node.log().get_event(request).await.unwrap().into_inner().event.unwrap();
        assert_eq!(stored.metadata, None);
        // What is to be sent is sent before a node has stopped.
        node.stop().await;
    }
    assert_eq!(receiver.spans(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_collector_costs_spans_and_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let node = node(|config| send_to(config, &endpoint)).await;
    node.log().append(request(true)).await.unwrap();
    let dropped = "outrigger_otlp_spans_dropped_total{reason=\"export_failed\"} ";
    let failed = "outrigger_otlp_export_failures_total{signal=\"traces\"} ";
    loop {
        let page = page(&node).await;
        let value =
            |series: &str| page.lines().find_map(|line| line.strip_prefix(series)?.parse::<u64>().ok());
        if value(failed).is_some_and(|count| count > 0) && value(dropped).is_some_and(|count| count >= 2) {
            break;
        }
        tokio::task::yield_now().await;
    }
    node.log().append(request(true)).await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_sent_as_they_are_on_the_page() {
    let (receiver, endpoint) = Receiver::start().await;
    let node = node(|config| {
        send_to(config, &endpoint);
        config.telemetry.otlp.traces = false;
        config.telemetry.otlp.metrics_interval = Some(Duration::from_secs(3_600));
    });
    let node = node.await;
    node.log().append(request(true)).await.unwrap();
    // The last ones are sent before the node has stopped.
    node.stop().await;
    assert_eq!(receiver.spans(), []);
    let metric = |name: &str| receiver.metric("local", name).unwrap_or_else(|| panic!("no {name}"));
    let appended = metric("outrigger_appended_events_total");
    let Some(Data::Sum(sum)) = appended.data else { panic!("{appended:?}") };
    assert!(sum.is_monotonic && sum.aggregation_temporality == i32::from(AggregationTemporality::Cumulative));
    let point = &sum.data_points[0];
    assert_eq!(point.value, Some(Value::AsDouble(1.0)));
    assert!(point.start_time_unix_nano > 0 && point.start_time_unix_nano < point.time_unix_nano);
    let seconds = metric("outrigger_append_seconds");
    assert_eq!(seconds.unit, "s");
    let Some(Data::Histogram(histogram)) = seconds.data else { panic!("no histogram") };
    let point = &histogram.data_points[0];
    assert_eq!((point.count, point.bucket_counts.iter().sum::<u64>()), (1, 1));
    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
    let Some(Data::Gauge(head)) = metric("outrigger_head_position").data else { panic!("no gauge") };
    assert_eq!(head.data_points[0].value, Some(Value::AsDouble(1.0)));
    let phase = metric("outrigger_phase");
    assert!(!phase.description.is_empty() && phase.unit == "1", "{phase:?}");
    let Some(Data::Gauge(phases)) = phase.data else { panic!("no gauge") };
    let labels: Vec<_> =
        phases.data_points.iter().filter_map(|point| text(&point.attributes, "phase")).collect();
    assert_eq!(labels.len(), 4, "{labels:?}");
}
