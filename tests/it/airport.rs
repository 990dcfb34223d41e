//! The main job on real data: a day and a month of flights and weather, held against answers computed from the raw
//! files. Only queries over gRPC, on a process of its own; every count and sum is a stored document field.

use std::{collections::BTreeMap, path::Path, process::Command};

use outrigger::api::proto::v1::{self, query_client::QueryClient};
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::support::{Process, airport, binary, repository, text_key};

struct Documents {
    query: QueryClient<Channel>,
    at_least: Option<v1::Token>,
}

impl Documents {
    async fn new(process: &Process) -> Self {
        let channel = process.channel().await;
        let mut log = v1::event_log_client::EventLogClient::new(channel.clone());
        let head = log.get_head(v1::GetHeadRequest {}).await.unwrap().into_inner();
        Self { query: QueryClient::new(channel), at_least: head.token }
    }

    fn options(&self) -> v1::ReadOptions {
        let timeout = Some(prost_types::Duration { seconds: 60, nanos: 0 });
        v1::ReadOptions { at_least: self.at_least.clone(), timeout, ..Default::default() }
    }

    async fn get(&mut self, projection: &str, collection: &str, key: &str) -> Value {
        let request = v1::GetRequest {
            projection: projection.into(),
            collection: collection.into(),
            key: Some(text_key(key)),
            options: Some(self.options()),
            fields: vec![],
        };
        let response = self.query.get(request).await.unwrap().into_inner();
        let context = response.context.unwrap();
        assert_eq!((context.projection.as_str(), context.version), (projection, 1));
        assert!(context.as_of >= self.at_least.as_ref().unwrap().position);
        serde_json::from_slice(&response.document.unwrap().value).unwrap()
    }

    /// All documents of a collection by the text of their keys, through its pages.
    async fn all(&mut self, projection: &str, collection: &str) -> BTreeMap<String, Value> {
        let mut documents = BTreeMap::new();
        let mut page_token = None;
        loop {
            let request = v1::ListRequest {
                projection: projection.into(),
                collection: collection.into(),
                options: Some(self.options()),
                page_size: Some(1_000),
                page_token,
                ..Default::default()
            };
            let page = self.query.list(request).await.unwrap().into_inner();
            for document in page.documents {
                let parts = document.key.unwrap().parts;
                let text = |part: &v1::KeyPart| match part.part.as_ref().unwrap() {
                    v1::key_part::Part::Text(text) => text.clone(),
                    other => format!("{other:?}"),
                };
                let key = parts.iter().map(text).collect::<Vec<_>>().join("-");
                let value = serde_json::from_slice(&document.value).unwrap();
                assert!(documents.insert(key, value).is_none(), "a page repeats a document");
            }
            page_token = page.next_page_token;
            if page_token.is_none() {
                return documents;
            }
        }
    }
}

/// The given fields of a document, missing ones as 0.
fn fields(document: &Value, names: &[(&str, &str)]) -> Value {
    let field = |(answer, stored): &(&str, &str)| {
        ((*answer).to_owned(), document.get(*stored).cloned().unwrap_or_else(|| json!(0)))
    };
    Value::Object(names.iter().map(field).collect())
}

fn check_equal(what: &str, actual: &Value, expected: &Value) {
    let same = match (actual, expected) {
        (Value::Object(a), Value::Object(e)) => {
            a.len() == e.len() && e.iter().all(|(key, value)| number(&a[key]) == number(value))
        }
        (a, e) => number(a) == number(e),
    };
    assert!(same, "{what}: expected {expected}, found {actual}");
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64()
}

/// Every answer of the file, from stored documents alone.
async fn check_answers(process: &Process, answers: &Value) {
    let mut documents = Documents::new(process).await;
    let totals = documents.get("departures", "totals", "all").await;
    let names = ["flights", "departed", "arrived", "cancelled", "diverted"].map(|name| (name, name));
    check_equal("totals", &fields(&totals, &names), &answers["totals"]);
    for (origin, expected) in answers["departures_by_origin"].as_object().unwrap() {
        let airport = documents.get("departures", "airports", origin).await;
        check_equal(origin, &airport["departures"], &expected["count"]);
        check_equal(origin, &airport["delay_sum"], &expected["sum_delay_minutes"]);
    }
    let carriers = documents.all("departures", "carriers").await;
    let expected = answers["by_carrier"].as_object().unwrap();
    assert_eq!(carriers.len(), expected.len());
    let names =
        ["scheduled", "cancelled", "departed", "sum_departure_delay_minutes"].map(|name| (name, name));
    for (carrier, expected) in expected {
        check_equal(carrier, &fields(&carriers[carrier], &names), expected);
    }
    let destinations = documents.all("departures", "destinations").await;
    let names = [("count", "arrivals"), ("sum_delay_minutes", "delay_sum")];
    for (dest, expected) in answers["arrivals_top_dest"].as_object().unwrap() {
        check_equal(dest, &fields(&destinations[dest], &names), expected);
    }
    check_top("arrivals", &destinations, "arrivals", &answers["arrivals_top_dest"], |e| number(&e["count"]));
    let routes = documents.all("departures", "routes").await;
    check_top("routes", &routes, "flights", &answers["top_routes"], number);
    let tails = documents.all("departures", "tails").await;
    check_top("tails", &tails, "flights", &answers["top_tails"], number);
    for (station, expected) in answers["weather_by_station"].as_object().unwrap() {
        let names = ["observations", "sum_precip_in", "last_temp_f"].map(|name| (name, name));
        let document = fields(&documents.get("weather", "stations", station).await, &names);
        for (name, expected) in expected.as_object().unwrap() {
            let close = (number(&document[name]).unwrap() - number(expected).unwrap()).abs() < 1e-6;
            assert!(close, "{station}.{name}: expected {expected}, found {}", document[name]);
        }
    }
}

/// The documents named are the highest by a stored field, and hold the counts expected.
fn check_top(
    what: &str,
    documents: &BTreeMap<String, Value>,
    field: &str,
    expected: &Value,
    count: impl Fn(&Value) -> Option<f64>,
) {
    let expected = expected.as_object().unwrap();
    let of = |document: &Value| number(&document[field]).unwrap_or(0.0);
    let mut highest: Vec<_> = documents.values().map(of).collect();
    highest.sort_by(|a, b| b.total_cmp(a));
    let mut wanted: Vec<_> = expected.values().map(|value| count(value).unwrap()).collect();
    wanted.sort_by(|a, b| b.total_cmp(a));
    assert_eq!(highest[..wanted.len()], wanted[..], "{what}: the highest counts");
    for (key, value) in expected {
        assert_eq!(Some(of(&documents[key])), count(value), "{what}: {key}");
    }
}

fn load(process: &Process, file: &Path) -> String {
    let output = Command::new(binary())
        .args(["load", "--addr", &process.grpc_addr.to_string()])
        .arg(file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().last().unwrap().to_owned()
}

fn answers(name: &str) -> Value {
    let text = std::fs::read_to_string(repository().join("tests/data").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_day_gives_the_answers() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path(), &airport());
    let example = repository().join("examples/airport");
    assert_eq!(
        load(&process, &example.join("flights-2013-01-01.ndjson")),
        "loaded 2522 events, 0 already there, head 2522"
    );
    assert_eq!(
        load(&process, &example.join("weather-2013-01-01.ndjson")),
        "loaded 67 events, 0 already there, head 2589"
    );
    check_answers(&process, &answers("answers-2013-01-01.json")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_month_gives_the_answers_and_a_second_load_adds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(dir.path(), &airport());
    let data = repository().join("tests/data");
    let flights = data.join("flights-2013-01.ndjson.gz");
    assert_eq!(load(&process, &flights), "loaded 80491 events, 0 already there, head 80491");
    assert_eq!(load(&process, &flights), "loaded 0 events, 80491 already there, head 80491");
    let weather = load(&process, &data.join("weather-2013-01.ndjson.gz"));
    assert_eq!(weather, "loaded 2226 events, 0 already there, head 82717");
    check_answers(&process, &answers("answers-2013-01.json")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_ten_times_in_the_middle_of_a_load_it_gives_the_same_answers() {
    let kills = std::env::var("TEST_KILLS").map_or(10, |text| text.parse().expect("TEST_KILLS is a number"));
    let share = 75_000 / kills;
    let dir = tempfile::tempdir().unwrap();
    let flights = repository().join("tests/data/flights-2013-01.ndjson.gz");
    let mut heads = Vec::new();
    for round in 1..=kills {
        let process = Process::start(dir.path(), &airport());
        let mut load = Command::new(binary())
            .args(["load", "--addr", &process.grpc_addr.to_string()])
            .arg(&flights)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // A random point of this round's share of the file, told by the head that the node shows.
        let random = u64::from(uuid::Uuid::new_v4().as_bytes()[0]) * share / 255;
        let stop_at = heads.last().copied().unwrap_or(0).max((round - 1) * share) + random;
        let mut log = v1::event_log_client::EventLogClient::new(process.channel().await);
        let request = v1::SubscribeRequest { after: Some(0), ..Default::default() };
        let mut events = log.subscribe(request).await.unwrap().into_inner();
        let mut last = 0;
        while last < stop_at.min(80_491) {
            let message = events.message().await.unwrap().unwrap();
            if let Some(v1::subscribe_response::Content::Events(batch)) = message.content {
                for event in batch.events {
                    assert_eq!(event.position, last + 1, "positions are dense");
                    last = event.position;
                }
            }
        }
        process.kill();
        load.kill().unwrap();
        load.wait().unwrap();
        heads.push(last);
    }
    let process = Process::start(dir.path(), &airport());
    let mut log = v1::event_log_client::EventLogClient::new(process.channel().await);
    let head = log.get_head(v1::GetHeadRequest {}).await.unwrap().into_inner().head;
    assert!(head >= *heads.last().unwrap(), "what was seen before a kill is there after it");
    let line = load(&process, &flights);
    assert_eq!(line, format!("loaded {} events, {head} already there, head 80491", 80_491 - head));
    load(&process, &repository().join("tests/data/weather-2013-01.ndjson.gz"));
    check_answers(&process, &answers("answers-2013-01.json")).await;
}
