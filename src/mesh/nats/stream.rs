//! The JetStream stream of a node: how it has to be, what is wrong with one that is there, making and changing one.
//!
//! Invariants: whatever silently moves, copies, replaces or removes messages is off; a wrong flag is named with what was
//! expected, and never changed behind anybody's back. A full stream drops its oldest messages: their owner still has
//! them in its log and publishes or repairs from there, while a stream that refuses would stop the export.

use async_nats::Client;
use serde_json::{Map, Value, json};

use super::request::{stream_name, stream_subjects};
use crate::limits::BUS_DUPLICATE_WINDOW;

/// What may differ from mesh to mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSize {
    /// Bytes that the stream keeps; none: as many as the account may.
    pub bytes_max: Option<u64>,
    /// Servers that keep a copy.
    pub replicas: u32,
}

impl Default for StreamSize {
    fn default() -> Self {
        Self { bytes_max: None, replicas: 1 }
    }
}

/// What was done for a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamOutcome {
    /// There was none.
    Created,
    /// It is as it should be.
    Unchanged,
    /// Its size was changed.
    Resized,
}

/// Flags that have to be as they are here; what a server does not mention counts as off.
fn wanted_flags(node: &str) -> Vec<(&'static str, Value)> {
    vec![
        ("name", json!(stream_name(node))),
        ("subjects", json!([stream_subjects(node)])),
        ("retention", json!("limits")),
        ("storage", json!("file")),
        ("discard", json!("old")),
        ("discard_new_per_subject", json!(false)),
        ("max_msgs_per_subject", json!(-1)),
        ("max_msg_size", json!(-1)),
        ("allow_direct", json!(true)),
        ("deny_delete", json!(true)),
        ("duplicate_window", json!(BUS_DUPLICATE_WINDOW.as_nanos() as u64)),
        ("no_ack", json!(false)),
        ("sealed", json!(false)),
        ("allow_rollup_hdrs", json!(false)),
        ("allow_msg_ttl", json!(false)),
        ("allow_msg_schedules", json!(false)),
        ("allow_msg_counter", json!(false)),
        ("republish", Value::Null),
        ("mirror", Value::Null),
        ("sources", Value::Null),
        ("subject_transform", Value::Null),
    ]
}

/// The whole of a new stream's settings.
fn settings(node: &str, size: StreamSize) -> Value {
    let off = |value: &Value| value.is_null() || *value == json!(false);
    let flags = wanted_flags(node).into_iter().filter(|(_, value)| !off(value));
    let mut settings: Map<String, Value> = flags.map(|(name, value)| (name.to_owned(), value)).collect();
    let bytes_max = size.bytes_max.and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(-1);
    settings.insert("max_bytes".to_owned(), json!(bytes_max));
    settings.insert("num_replicas".to_owned(), json!(size.replicas));
    for unlimited in ["max_consumers", "max_msgs"] {
        settings.insert(unlimited.to_owned(), json!(-1));
    }
    settings.insert("max_age".to_owned(), json!(0));
    Value::Object(settings)
}

/// Every flag that is not as it has to be.
pub(super) fn differences(node: &str, found: &Value) -> Vec<String> {
    let off = |value: &Value| value.is_null() || *value == json!(false) || *value == json!([]);
    let differs = |(flag, wanted): (&str, Value)| {
        let found = found.get(flag).cloned().unwrap_or(Value::Null);
        let same = found == wanted || off(&found) && off(&wanted);
        (!same).then(|| format!("{flag} is {found}, expected {wanted}"))
    };
    wanted_flags(node).into_iter().filter_map(differs).collect()
}

/// Makes the stream of a node where there is none, and checks the one that is there; with `resize` its size follows.
pub(super) async fn ensure(
    client: &Client,
    node: &str,
    size: StreamSize,
    resize: bool,
) -> Result<StreamOutcome, String> {
    let name = stream_name(node);
    let Some(info) = info(client, &name).await? else {
        call(client, "CREATE", &name, &settings(node, size)).await?;
        return match self::info(client, &name).await? {
            Some(info) => check(node, &info).map(|()| StreamOutcome::Created),
            None => Err(format!("the stream {name} was created and is not there")),
        };
    };
    check(node, &info)?;
    let mut found = info["config"].clone();
    let wanted = settings(node, size);
    let same = ["max_bytes", "num_replicas"].into_iter().all(|flag| found[flag] == wanted[flag]);
    if same || !resize {
        return Ok(StreamOutcome::Unchanged);
    }
    for flag in ["max_bytes", "num_replicas"] {
        found[flag] = wanted[flag].clone();
    }
    call(client, "UPDATE", &name, &found).await?;
    Ok(StreamOutcome::Resized)
}

fn check(node: &str, info: &Value) -> Result<(), String> {
    let wrong = differences(node, &info["config"]);
    if wrong.is_empty() {
        return Ok(());
    }
    let name = stream_name(node);
    Err(format!("the stream {name} is not as it has to be: {}; change it or remove it", wrong.join("; ")))
}

/// What the server says of a stream; none if there is none.
pub(super) async fn info(client: &Client, name: &str) -> Result<Option<Value>, String> {
    /// JetStream's number for "stream not found".
    const STREAM_NOT_FOUND: u64 = 10_059;
    let answer = ask(client, "INFO", name, &Value::Null).await?;
    if answer["error"]["err_code"] == json!(STREAM_NOT_FOUND) {
        return Ok(None);
    }
    refused("INFO", name, answer).map(Some)
}

async fn call(client: &Client, verb: &str, name: &str, body: &Value) -> Result<Value, String> {
    refused(verb, name, ask(client, verb, name, body).await?)
}

fn refused(verb: &str, name: &str, answer: Value) -> Result<Value, String> {
    match answer.get("error") {
        None => Ok(answer),
        Some(error) => Err(format!("the server refuses STREAM.{verb} for {name}: {}", error["description"])),
    }
}

async fn ask(client: &Client, verb: &str, name: &str, body: &Value) -> Result<Value, String> {
    let payload = if body.is_null() { String::new() } else { body.to_string() };
    let subject = format!("$JS.API.STREAM.{verb}.{name}");
    let answer = client.request(subject.clone(), payload.into()).await;
    let answer =
        answer.map_err(|error| format!("no answer to {subject}: {error}; may this user call it?"))?;
    serde_json::from_slice(&answer.payload)
        .map_err(|error| format!("the answer to {subject} is not JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_of_these_settings_has_no_wrong_flag() {
        assert_eq!(differences("flights", &settings("flights", StreamSize::default())), Vec::<String>::new());
    }

    #[test]
    fn every_wrong_flag_is_named() {
        let check = |flag: &str, value: Value, expected: &str| {
            let mut found = settings("flights", StreamSize::default());
            found[flag] = value;
            assert_eq!(differences("flights", &found), [expected]);
        };
        check("storage", json!("memory"), "storage is \"memory\", expected \"file\"");
        check("discard", json!("new"), "discard is \"new\", expected \"old\"");
        check("allow_direct", json!(false), "allow_direct is false, expected true");
        check(
            "republish",
            json!({"src": ">", "dest": "x"}),
            "republish is {\"dest\":\"x\",\"src\":\">\"}, expected null",
        );
        check("max_msgs_per_subject", json!(1), "max_msgs_per_subject is 1, expected -1");
    }
}
