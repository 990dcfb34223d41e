//! Standing versions as JSON lines.

use serde::Serialize;

use crate::api::proto::v1;

#[derive(Debug, Serialize)]
struct Standing<'a> {
    projection: &'a str,
    label: &'a str,
    version: u32,
    state: &'static str,
    position: u64,
    until: u64,
    rate: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_left: Option<f64>,
    content_hash: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// A standing version.
pub fn standing(standing: &v1::StandingVersion) -> impl Serialize + '_ {
    Standing {
        projection: &standing.projection,
        label: &standing.label,
        version: standing.version,
        state: standing_word(standing),
        position: standing.position,
        until: standing.until,
        rate: standing.rate,
        seconds_left: standing.seconds_left,
        content_hash: &standing.content_hash,
        error: standing.error.as_deref(),
    }
}

/// How it stands, in one word.
pub fn standing_word(standing: &v1::StandingVersion) -> &'static str {
    match standing.state() {
        v1::StandingState::Unspecified => "unknown",
        v1::StandingState::Building => "building",
        v1::StandingState::Standing => "standing",
        v1::StandingState::Failed => "failed",
    }
}

#[derive(Debug, Serialize)]
struct Removed<'a> {
    projection: &'a str,
    label: &'a str,
    state: &'static str,
}

/// A standing version that is gone.
pub fn removed<'a>(projection: &'a str, label: &'a str) -> impl Serialize + 'a {
    Removed { projection, label, state: "removed" }
}
