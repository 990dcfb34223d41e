//! Every known way to put a message into a foreign stream, tried against the generated configuration, against its
//! accounts without the users' permissions, and, as a control, against one account for all.

use std::time::Duration;

use async_nats::{Client, ConnectOptions, HeaderMap};
use futures_util::StreamExt as _;
use nkeys::KeyPair;
use outrigger::mesh::bus::BusEvent;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{A, ALL, Mesh};
use crate::{mesh_bus::peer::message, nats_server::NatsServer};

/// Where no one but `flights` may publish.
const TARGET: &str = "outrigger.v1.flights.board.v1.forged";
const OWN: &str = "outrigger.v1.operations.board.v1.own";

/// The ways in; those that must lead in where all share one account are marked.
const FORGERIES: &[(&str, bool)] = &[
    ("direct publish", false),
    ("reply of a publish", true),
    ("reply of $JS.API.INFO", true),
    ("reply of a direct get", true),
    ("reply of a pull request", true),
    ("deliver_subject", true),
    ("republish", true),
    ("trace destination", false),
    ("schedule target", false),
    ("stream update", true),
    ("purge", true),
];

struct Attacker {
    client: Client,
    /// How long a call may take that may never be answered.
    patience: Duration,
}

impl Attacker {
    async fn call(&self, subject: &str, body: Value) -> Option<Value> {
        let request =
            async_nats::Request::new().payload(body.to_string().into()).timeout(Some(self.patience));
        let answer = self.client.send_request(subject.to_owned(), request).await.ok()?;
        serde_json::from_slice(&answer.payload).ok()
    }

    async fn put(&self, subject: &str, reply: Option<&str>, body: &str) {
        let (subject, body) = (subject.to_owned(), body.to_owned().into());
        match reply {
            Some(reply) => self.client.publish_with_reply(subject, reply.to_owned(), body).await.unwrap(),
            None => self.client.publish(subject, body).await.unwrap(),
        }
    }

    async fn put_with(&self, headers: &[(&str, &str)]) {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), (*value).into())).collect();
        self.client.publish_with_headers(OWN, headers, "own".into()).await.unwrap();
    }

    async fn forge(&self, way: &str) {
        match way {
            "direct publish" => {
                self.put(TARGET, None, "forged").await;
                self.call(TARGET, json!("forged")).await;
            }
            "reply of a publish" => self.put(OWN, Some(TARGET), "own").await,
            "reply of $JS.API.INFO" => self.put("$JS.API.INFO", Some(TARGET), "").await,
            "reply of a direct get" => {
                let question = json!({"last_by_subj": "outrigger.v1.operations.>"}).to_string();
                self.put("$JS.API.DIRECT.GET.OUTRIGGER_operations", Some(TARGET), &question).await;
            }
            "reply of a pull request" => {
                let config = json!({"durable_name": "pull", "ack_policy": "none", "deliver_policy": "all"});
                self.consumer("pull", config).await;
                let next = "$JS.API.CONSUMER.MSG.NEXT.OUTRIGGER_operations.pull";
                self.put(next, Some(TARGET), r#"{"batch":1}"#).await;
            }
            "deliver_subject" => {
                let config = json!({"durable_name": "push", "ack_policy": "none", "deliver_policy": "all",
                    "deliver_subject": TARGET});
                // A consumer delivers where somebody listens: the attacker does.
                let listening = self.client.subscribe(TARGET).await.unwrap();
                self.consumer("push", config).await;
                self.put(OWN, None, "own").await;
                self.client.flush().await.unwrap();
                drop(timeout(self.patience, listening.into_future()).await);
            }
            "republish" => {
                self.update(
                    "operations",
                    &json!({"republish": {"src": "outrigger.v1.operations.>", "dest": ALL}}),
                )
                .await;
                self.put(OWN, None, "own").await;
            }
            "trace destination" => self.put_with(&[("Nats-Trace-Dest", TARGET)]).await,
            "schedule target" => {
                self.put_with(&[
                    ("Nats-Schedule", "@at 2020-01-01T00:00:00Z"),
                    ("Nats-Schedule-Target", TARGET),
                ])
                .await;
            }
            "stream update" => {
                self.update("flights", &json!({"subjects": [ALL, "_INBOX.forged"]})).await;
                self.put("_INBOX.forged", None, "forged").await;
            }
            "purge" => {
                self.call("$JS.API.STREAM.PURGE.OUTRIGGER_flights", json!({})).await;
            }
            other => panic!("{other} is no forgery"),
        }
        self.client.flush().await.unwrap();
    }

    async fn consumer(&self, name: &str, config: Value) {
        let subject = format!("$JS.API.CONSUMER.CREATE.OUTRIGGER_operations.{name}");
        let mut config = config;
        config["name"] = json!(name);
        self.call(&subject, json!({"stream_name": "OUTRIGGER_operations", "config": config})).await;
    }

    /// Changes a stream; what its settings are is guessed where the server does not tell.
    async fn update(&self, node: &str, change: &Value) {
        let info = self.call(&format!("$JS.API.STREAM.INFO.OUTRIGGER_{node}"), Value::Null).await;
        let mut config = info.map_or_else(
            || {
                json!({"name": format!("OUTRIGGER_{node}"), "subjects": [format!("outrigger.v1.{node}.>")],
                    "retention": "limits", "storage": "file", "discard": "old", "num_replicas": 1,
                    "allow_direct": true, "deny_delete": true, "max_bytes": 64 << 20,
                    "duplicate_window": 120_000_000_000_u64})
            },
            |info| info["config"].clone(),
        );
        for (name, value) in change.as_object().unwrap() {
            config[name] = value.clone();
        }
        self.call(&format!("$JS.API.STREAM.UPDATE.OUTRIGGER_{node}"), config).await;
    }
}

/// What the operator sees of the stream of `flights`: messages in it, and the last sequence.
async fn stream_of_flights(operator: &Client) -> (u64, u64) {
    let context = async_nats::jetstream::new(operator.clone());
    let mut stream = context.get_stream("OUTRIGGER_flights").await.unwrap();
    let state = &stream.info().await.unwrap().state;
    (state.messages, state.last_sequence)
}

async fn connect(server: &NatsServer, key: &KeyPair) -> Client {
    ConnectOptions::with_nkey(key.seed().unwrap()).connect(server.url()).await.unwrap()
}

/// Tries every way, and gives the names of those that changed the foreign stream.
async fn try_all(server: &NatsServer, mesh: &Mesh, patience: Duration, looks: usize) -> Vec<&'static str> {
    let operator = connect(server, &mesh.keys["operator"]).await;
    let attacker = Attacker { client: connect(server, &mesh.keys["operations"]).await, patience };
    attacker.put(OWN, None, "own").await;
    let mut led_in = Vec::new();
    for (way, _) in FORGERIES {
        let before = stream_of_flights(&operator).await;
        attacker.forge(way).await;
        // What goes through the server's own queues needs a moment; every look is one more turn of them.
        for _ in 0..looks {
            if stream_of_flights(&operator).await != before {
                led_in.push(*way);
                break;
            }
        }
    }
    led_in
}

/// Publishes honestly, forges, and gives what led in.
fn run(config: &str, mesh: &Mesh, patience: Duration, looks: usize) -> Option<Vec<&'static str>> {
    let server = NatsServer::start_with(config)?;
    mesh.provision(&server, "operator").unwrap();
    let mut owner = mesh.peer(&server, "flights", "flights");
    for n in 1..=3 {
        assert_eq!(owner.publish("flights", message(A, n.to_string()), &n.to_string()), (n, false));
    }
    let led_in = mesh.runtime.block_on(try_all(&server, mesh, patience, looks));
    if led_in.is_empty() {
        // And the honest way is still open.
        assert_eq!(owner.publish("flights", message(A, "4"), "4"), (4, false));
        let (messages, _) = owner.fetch("flights", ALL, 0, 500, 1 << 20);
        let expected: Vec<_> = (1..=4).map(|n| (n, message(A, n.to_string()))).collect();
        assert_eq!(messages, expected);
        assert_eq!(owner.count(|event| matches!(event, BusEvent::Disconnected { .. })), 0);
    }
    Some(led_in)
}

#[test]
fn no_forgery_lands_under_the_generated_configuration() {
    let mesh = Mesh::new(&["operator", "flights", "operations", "weather"]);
    let config = mesh.topology(&mesh.nodes());
    if let Some(led_in) = run(&config, &mesh, Duration::from_millis(500), 20) {
        assert_eq!(led_in, Vec::<&str>::new());
    }
}

#[test]
fn the_accounts_alone_hold_without_permissions_of_users() {
    let mesh = Mesh::new(&["operator", "flights", "operations", "weather"]);
    let config = mesh.topology(&mesh.nodes());
    let mut inside = false;
    let without: Vec<&str> = config
        .lines()
        .filter(|line| {
            let begins = line.trim() == "permissions {";
            let keep = !inside && !begins;
            inside = (inside || begins) && line.trim() != "}";
            keep
        })
        .collect();
    let without = without.join("\n");
    assert!(config.contains("publish:") && !without.contains("publish:"), "{without}");
    if let Some(led_in) = run(&without, &mesh, Duration::from_millis(500), 20) {
        assert_eq!(led_in, Vec::<&str>::new());
    }
}

#[test]
fn permissions_in_one_account_do_not_hold() {
    let mesh = Mesh::new(&["operator", "flights", "operations", "weather"]);
    mesh.topology(&mesh.nodes());
    let user = |name: &str| {
        let publish = format!("[\"outrigger.v1.{name}.>\", \"$JS.API.>\", \"_INBOX.>\"]");
        format!("{{ nkey: {}, permissions {{ publish: {publish} }} }}", mesh.key(name))
    };
    let config = format!(
        "accounts {{ SHARED {{ jetstream: enabled, users: [ {{ nkey: {} }}, {}, {}, {} ] }} }}",
        mesh.key("operator"),
        user("flights"),
        user("operations"),
        user("weather")
    );
    if let Some(led_in) = run(&config, &mesh, Duration::from_secs(5), 200) {
        let expected: Vec<&str> = FORGERIES.iter().filter(|(_, lands)| *lands).map(|(way, _)| *way).collect();
        for way in expected {
            assert!(led_in.contains(&way), "the control does not show {way}: {led_in:?}");
        }
    }
}
