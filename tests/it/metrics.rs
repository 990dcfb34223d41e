//! The page of metrics as a whole: well formed, complete, described, and with values that follow from what was done.

use std::collections::BTreeSet;

use outrigger::{
    api::proto::v1,
    mesh::memory::{Faults, MemoryBroker},
    metrics::Metrics,
};
use regex::Regex;

use crate::{
    mesh_two_nodes::{depart, events, pair},
    prometheus_text::parse,
    support::{Node, append, event, repository, text_key},
};

/// The page of metrics, without the answer's head.
pub(crate) async fn page(node: &Node) -> String {
    let answer = node.page("/metrics").await;
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn the_page_of_telemetry_has_every_metric_with_its_kind_and_no_other() {
    let page = std::fs::read_to_string(repository().join("docs/telemetry.md")).unwrap();
    let row =
        Regex::new(r"(?m)^\| `((?:outrigger|process)_[a-z_]+)(?:\{[a-z,]+\})?` \| ([a-z]+) \| \S").unwrap();
    let rows: Vec<(String, String)> =
        row.captures_iter(&page).map(|row| (row[1].to_owned(), row[2].to_owned())).collect();
    let told: BTreeSet<_> = rows.iter().cloned().collect();
    assert_eq!(told.len(), rows.len(), "a metric has two rows");
    let metrics = Metrics::new();
    let described = metrics.described();
    let known: BTreeSet<_> =
        described.iter().map(|metric| (metric.name.clone(), metric.kind.to_owned())).collect();
    assert!(known.len() > 60, "{known:?}");
    assert_eq!(told, known);
    assert!(described.iter().all(|metric| metric.help.len() > 4), "{described:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_tells_what_was_done() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("departures.yaml");
    let definition = "projection: departures\nversion: 1\ncollections:\n  flights: {}\nevents:\n  flight.scheduled:\n    - put: \
                      flights\n      key: data.flight\n      value: {}\n";
    std::fs::write(&file, definition).unwrap();
    let node = Node::start(&[file]).await;
    let scheduled =
        vec![event("flight.scheduled", "UA1", "{\"flight\":\"UA1\"}"), event("other", "UA1", "{}")];
    let token = node.log().append(append(scheduled)).await.unwrap().into_inner().token;
    let options = v1::ReadOptions { at_least: token, ..Default::default() };
    let get = v1::GetRequest {
        projection: "departures".into(),
        collection: "flights".into(),
        key: Some(text_key("UA1")),
        options: Some(options),
        ..Default::default()
    };
    node.query().get(get).await.unwrap();
    let page = page(&node).await;
    let families = parse(&page);
    let value = |series: &str| {
        let name = series.split('{').next().unwrap();
        let of = |suffix: &str| families.get(name.strip_suffix(suffix).unwrap_or(name));
        let family = of("_count").or_else(|| of("_sum")).unwrap_or_else(|| panic!("no {name} in {page}"));
        *family.series.get(series).unwrap_or_else(|| panic!("no {series} in {page}"))
    };
    let version = "{projection=\"departures\",version=\"1\"}";
    for (series, expected) in [
        ("outrigger_append_seconds_count", 1.0),
        ("outrigger_group_events_sum", 2.0),
        ("outrigger_log_sync_seconds_count", 1.0),
        ("outrigger_head_position", 2.0),
        ("outrigger_log_segments", 1.0),
        ("outrigger_memory_budget_bytes", 512.0 * 1024.0 * 1024.0),
        ("outrigger_mesh_key_expiry_timestamp_seconds", 0.0),
        (&format!("outrigger_query_seconds_count{version}"), 1.0),
        (&format!("outrigger_projection_applied_events_total{version}"), 2.0),
        (&format!("outrigger_projection_errors_total{version}"), 0.0),
        (&format!("outrigger_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1.0),
    ] {
        assert!((value(series) - expected).abs() < 0.5, "{series} is {}, expected {expected}", value(series));
    }
    let phases: f64 = families["outrigger_phase"].series.values().sum();
    assert!((phases - 1.0).abs() < 0.5, "{phases}");
    let (free, headroom) = (value("outrigger_disk_free_bytes"), value("outrigger_disk_headroom_bytes"));
    assert!(headroom > 0.0 && headroom < free, "{headroom} of {free}");
    assert!(value("outrigger_log_bytes") > 4_096.0 && value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_start_time_seconds") > 1.7e9, "{}", value("process_start_time_seconds"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shared_is_told_by_peer() {
    let broker = MemoryBroker::new(7, Faults::none());
    let (flights, operations) = pair(&broker).await;
    depart(&flights, "{\"flight\":\"UA1\",\"delay\":20}").await;
    events(&operations, 1).await;
    let expected = [
        (&flights, "outrigger_mesh_published_events_total{export=\"departures\",version=\"1\"}"),
        (&operations, "outrigger_mesh_imported_events_total{import=\"flights\"}"),
        (
            &operations,
            "outrigger_mesh_import_info{export=\"departures\",import=\"flights\",owner=\"flights\",version=\"1\"}",
        ),
        (&operations, "outrigger_mesh_connected"),
    ];
    for (node, series) in expected {
        // The mesh shows its state now and then.
        loop {
            let families = parse(&page(node).await);
            let family = families.get(series.split('{').next().unwrap());
            if family.and_then(|family| family.series.get(series)).is_some_and(|value| *value > 0.5) {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    flights.stop().await;
    operations.stop().await;
}
