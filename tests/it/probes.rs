//! Probes and metrics, over plain HTTP as the kubelet and Prometheus ask for them.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use outrigger::api::proto::v1::event_log_client::EventLogClient;

use crate::support::{Process, airport, append, event};

pub(crate) fn get(addr: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_served_node_answers_probes_and_tells_its_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path(), &airport());
    assert!(get(process.http_addr, "/healthz").starts_with("HTTP/1.1 200"));
    assert!(get(process.http_addr, "/startupz").starts_with("HTTP/1.1 200"));
    let mut log = EventLogClient::new(process.channel().await);
    log.append(append(vec![event("t", "s", "1"), event("t", "s", "2")])).await.unwrap();
    while !get(process.http_addr, "/readyz").starts_with("HTTP/1.1 200") {
        tokio::task::yield_now().await;
    }
    let metrics = get(process.http_addr, "/metrics");
    assert!(metrics.contains("outrigger_head_position 2"), "{metrics}");
    assert!(metrics.contains("outrigger_appended_events_total 2"), "{metrics}");
    assert!(
        metrics.contains("outrigger_projection_lag_events{projection=\"departures\",version=\"1\"}"),
        "{metrics}"
    );
    assert!(get(process.http_addr, "/other").starts_with("HTTP/1.1 404"));
}
