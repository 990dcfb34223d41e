//! Events that versions did not apply, on their way in and out, and how refused decisions are told.

use tonic::Code;

use super::{ProjectionsService, version};
use crate::{
    api::{convert, proto::v1, status::Refusal},
    event::Position,
    projection::{
        failure::OnError,
        registry::{DecideError, Decided, EventError, EventErrorKind, VersionInfo},
    },
};

impl ProjectionsService {
    pub(super) async fn errors(
        &self,
        request: v1::ListErrorsRequest,
    ) -> Result<v1::ListErrorsResponse, Refusal> {
        let page_size = convert::page_size(request.page_size)?;
        let projections = std::sync::Arc::clone(&self.projections);
        let read = move || {
            let v1::ListErrorsRequest { projection, version, page_token, .. } = request;
            projections.errors(&projection, version, page_size, page_token.as_deref())
        };
        let page = tokio::task::spawn_blocking(read).await.map_err(|error| {
            Refusal::new(Code::Internal, "INTERNAL", format!("the errors could not be listed: {error}"))
        })??;
        Ok(v1::ListErrorsResponse {
            version: Some(self.with_pause(page.version)),
            errors: page.errors.into_iter().map(event_error).collect(),
            next_page_token: page.next_page_token,
        })
    }

    pub(super) async fn try_again(&self, request: v1::RetryRequest) -> Result<v1::RetryResponse, Refusal> {
        let reason = request.reason.unwrap_or_default();
        let Decided { position, version } =
            self.projections.retry(&request.projection, request.version, &reason).await?;
        Ok(v1::RetryResponse {
            position: position.map(Position::get),
            version: Some(self.with_pause(version)),
        })
    }

    pub(super) async fn pass_by(&self, request: v1::SkipRequest) -> Result<v1::SkipResponse, Refusal> {
        let reason = request.reason.unwrap_or_default();
        let expected = Position::new(request.expect_position);
        let decided = self.projections.skip(&request.projection, request.version, expected, &reason).await?;
        Ok(v1::SkipResponse {
            position: decided.position.map_or(0, Position::get),
            version: Some(self.with_pause(decided.version)),
        })
    }

    /// A version with the exact event that it stands at.
    pub(super) fn with_pause(&self, info: VersionInfo) -> v1::ProjectionVersion {
        let pause = self.projections.stands_at(&info);
        v1::ProjectionVersion { pause: pause.map(event_error), ..version(info) }
    }
}

fn event_error(error: EventError) -> v1::EventError {
    let kind = match error.kind {
        EventErrorKind::Paused => v1::EventErrorKind::Paused,
        EventErrorKind::Parked => v1::EventErrorKind::Parked,
        EventErrorKind::Waiting => v1::EventErrorKind::Waiting,
        EventErrorKind::Skipped => v1::EventErrorKind::Skipped,
    };
    let failure = error.failure;
    v1::EventError {
        kind: kind.into(),
        position: error.position.get(),
        step: failure.as_ref().and_then(|failure| failure.step),
        line: failure.as_ref().and_then(|failure| failure.line),
        expression: failure.as_ref().and_then(|failure| failure.expression.clone()),
        error: failure.map(|failure| failure.message),
        event: error.event.map(convert::event),
        decided_at: error.decided_at.map(Position::get),
        reason: Some(error.reason).filter(|reason| !reason.is_empty()),
    }
}

pub(super) fn on_error(policy: OnError) -> v1::OnError {
    match policy {
        OnError::Pause => v1::OnError::Pause,
        OnError::Quarantine => v1::OnError::Quarantine,
        OnError::Skip => v1::OnError::Skip,
    }
}

impl From<DecideError> for Refusal {
    fn from(error: DecideError) -> Self {
        let message = error.to_string();
        match error {
            DecideError::Query(error) => error.into(),
            DecideError::Append(error) => error.into(),
            DecideError::Events(error) => error.into(),
            DecideError::NothingToRetry { .. } => {
                Self::new(Code::FailedPrecondition, "NOTHING_TO_RETRY", message)
            }
            DecideError::StandsElsewhere { projection, version, expected, actual, skipped_at } => {
                let subject = format!("projection {projection} version {version}");
                let what = format!("expected to stand at position {expected}");
                let refusal = Self::new(Code::Aborted, "STANDS_ELSEWHERE", message)
                    .precondition("EXPECTED_POSITION", subject, what)
                    .with("expected_position", expected)
                    .with("actual_position", actual.unwrap_or(Position::ZERO));
                match skipped_at {
                    Some(at) => refusal.with("skipped_at", at),
                    None => refusal,
                }
            }
            DecideError::Conflict { .. } => Self::new(Code::Aborted, "DECISION_CONFLICT", message),
            DecideError::ReasonTooLong { found } => {
                Self::limit("reason", crate::limits::DECISION_REASON_BYTES_MAX, found, "bytes")
            }
        }
    }
}
