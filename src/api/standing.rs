//! The calls `BuildStandingVersion` and `RemoveStandingVersion`.
//!
//! Does not know how versions are built.

use std::sync::Arc;

use tonic::Code;

use super::{
    convert,
    long_work::blocking,
    projections::ProjectionsService,
    proto::v1::{self, build_standing_version_request::Until as Wire},
    status::Refusal,
};
use crate::{
    event::Position,
    projection::{
        page::hex,
        registry::{StandingError, StandingInfo, Until},
    },
};

/// Begins a build.
pub(super) async fn build(
    service: &ProjectionsService,
    request: v1::BuildStandingVersionRequest,
) -> Result<v1::BuildStandingVersionResponse, Refusal> {
    let v1::BuildStandingVersionRequest { projection, version, until, label } = request;
    if version == 0 {
        return Err(Refusal::field("INVALID_ARGUMENT", "version", "expected a version from 1, found 0"));
    }
    let until = match until {
        Some(Wire::Position(position)) => Until::Position(Position::new(position)),
        Some(Wire::Time(time)) => Until::Time(convert::unix_nanos(time, || "time".into())?),
        None => {
            return Err(Refusal::field(
                "MISSING_FIELD",
                "until",
                "expected a position or a time, found none",
            ));
        }
    };
    let projections = Arc::clone(&service.projections);
    let built = blocking(move || projections.build_standing(&projection, version, until, &label)).await??;
    Ok(v1::BuildStandingVersionResponse { standing: Some(standing(built)) })
}

/// Removes one.
pub(super) async fn remove(
    service: &ProjectionsService,
    request: v1::RemoveStandingVersionRequest,
) -> Result<v1::RemoveStandingVersionResponse, Refusal> {
    let v1::RemoveStandingVersionRequest { projection, label } = request;
    let projections = Arc::clone(&service.projections);
    blocking(move || projections.remove_standing(&projection, &label)).await??;
    Ok(v1::RemoveStandingVersionResponse {})
}

/// One as the API shows it.
pub(super) fn standing(info: StandingInfo) -> v1::StandingVersion {
    let state = match (info.built, info.failed) {
        (true, _) => v1::StandingState::Standing,
        (false, true) => v1::StandingState::Failed,
        (false, false) => v1::StandingState::Building,
    };
    v1::StandingVersion {
        seconds_left: info.seconds_left(),
        projection: info.projection,
        label: info.label,
        version: info.version,
        until: info.until.get(),
        position: info.position.get(),
        state: state.into(),
        rate: info.rate,
        content_hash: info.content_hash.map(|hash| hex(&hash.to_bytes())).unwrap_or_default(),
        error: info.error,
    }
}

impl From<StandingError> for Refusal {
    fn from(error: StandingError) -> Self {
        let message = error.to_string();
        let until = |reason| Self::field(reason, "until", &message).code(Code::OutOfRange);
        match error {
            StandingError::Query(error) => error.into(),
            StandingError::Space(error) => error.into(),
            StandingError::Events(error) => error.into(),
            StandingError::Service { .. } => {
                Self::new(Code::FailedPrecondition, "HANDLED_BY_SERVICE", message)
            }
            StandingError::Taken { row } => {
                Self::new(Code::AlreadyExists, "LABEL_TAKEN", message).with("until", row.until)
            }
            StandingError::TooMany { .. } => {
                Self::new(Code::ResourceExhausted, "TOO_MANY_STANDING_VERSIONS", message)
            }
            StandingError::NotInLog { head, .. } => until("POSITION_NOT_IN_LOG").with("head", head),
            StandingError::BeforeAll | StandingError::NotPassed => until("TIME_NOT_IN_LOG"),
            StandingError::Definition { .. } => {
                Self::new(Code::FailedPrecondition, "INVALID_DEFINITION", message)
            }
            StandingError::Meta(_)
            | StandingError::File(_)
            | StandingError::Io { .. }
            | StandingError::Thread(_) => Self::new(Code::Unavailable, "PROJECTION_UNAVAILABLE", message),
        }
    }
}
