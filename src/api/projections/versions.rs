//! Versions side by side, on their way in and out: deploy, promote, roll back, retire, pause, resume.
//!
//! Invariant: a call that decides something goes on to its end although its client is gone. Decides nothing itself.

use std::{sync::Arc, time::Duration};

use tonic::Code;

use super::ProjectionsService;
use crate::{
    api::{
        long_work::{did_not_end, to_its_end},
        proto::v1,
        status::Refusal,
    },
    event::Position,
    limits::{DECISION_REASON_BYTES_MAX, FILE_NAME_BYTES_MAX},
    projection::{
        definition::Definition,
        page::hex,
        registry::{DeployError, Deployment, Promote, VersionsError},
    },
};

impl ProjectionsService {
    pub(super) async fn put_in_force(
        &self,
        request: v1::DeployRequest,
    ) -> Result<v1::DeployResponse, Refusal> {
        check_file(&request.file)?;
        let projections = Arc::clone(&self.projections);
        let deploy = move || {
            let v1::DeployRequest { definition: text, file } = request;
            let definition = Definition::parse(&text, &file)?;
            let (projection, version) = (definition.name().to_owned(), definition.version());
            let definition_hash = hex(definition.hash());
            let result = match projections.deploy(definition, &text, &file)? {
                Deployment::New => v1::DeployResult::New,
                Deployment::Unchanged => v1::DeployResult::Unchanged,
                Deployment::Rebuilt => v1::DeployResult::Rebuilt,
                Deployment::Restored => v1::DeployResult::Restored,
            };
            Ok(v1::DeployResponse { projection, version, result: result.into(), definition_hash })
        };
        let deployed = self.lifecycle.tasks().spawn_blocking(deploy).await;
        let deployed: Result<_, DeployError> = deployed.map_err(|error| did_not_end(&error))?;
        deployed.map_err(|error| deploy_refusal(error, "definition"))
    }

    pub(super) async fn make_active(
        &self,
        request: v1::PromoteRequest,
    ) -> Result<v1::PromoteResponse, Refusal> {
        let version = version_of(request.version)?;
        let promote = Promote {
            version,
            expect_active: request.expect_active,
            max_lag: request.max_lag,
            reason: request.reason.unwrap_or_default(),
        };
        let projections = Arc::clone(&self.projections);
        let turn = to_its_end(&self.lifecycle, async move {
            Ok(projections.promote(&request.projection, &promote).await?)
        })
        .await?;
        Ok(v1::PromoteResponse {
            position: turn.position.map(Position::get),
            previous_version: turn.before,
            active_version: turn.active,
            answering_version: turn.answering,
        })
    }

    pub(super) async fn go_back(
        &self,
        request: v1::RollbackRequest,
    ) -> Result<v1::RollbackResponse, Refusal> {
        let projections = Arc::clone(&self.projections);
        let turn = to_its_end(&self.lifecycle, async move {
            let reason = request.reason.unwrap_or_default();
            Ok(projections.roll_back(&request.projection, request.expect_active, &reason).await?)
        })
        .await?;
        Ok(v1::RollbackResponse {
            position: turn.position.map_or(0, Position::get),
            previous_version: turn.before,
            active_version: turn.active,
            answering_version: turn.answering,
        })
    }

    pub(super) async fn remove_version(
        &self,
        request: v1::RetireRequest,
    ) -> Result<v1::RetireResponse, Refusal> {
        let version = version_of(request.version)?;
        let projections = Arc::clone(&self.projections);
        let position = to_its_end(&self.lifecycle, async move {
            let v1::RetireRequest { projection, reason, .. } = request;
            let at = projections.retire(&projection, version, &reason.unwrap_or_default()).await?;
            let removed = tokio::task::spawn_blocking(move || projections.remove_retired(&projection));
            removed.await.map_err(|error| did_not_end(&error))??;
            Ok(at)
        })
        .await?;
        Ok(v1::RetireResponse { position: position.get() })
    }

    pub(super) async fn hold_build(&self, request: v1::PauseRequest) -> Result<v1::PauseResponse, Refusal> {
        let version = version_of(request.version)?;
        let projections = Arc::clone(&self.projections);
        let paused =
            to_its_end(
                &self.lifecycle,
                async move { Ok(projections.pause(&request.projection, version).await?) },
            )
            .await?;
        Ok(v1::PauseResponse { was_paused: paused.before, position: paused.position.get() })
    }

    pub(super) async fn release_build(
        &self,
        request: v1::ResumeRequest,
    ) -> Result<v1::ResumeResponse, Refusal> {
        let version = version_of(request.version)?;
        let projections = Arc::clone(&self.projections);
        let was_paused = to_its_end(&self.lifecycle, async move {
            Ok(projections.resume(&request.projection, version).await?)
        })
        .await?;
        Ok(v1::ResumeResponse { was_paused })
    }
}

fn version_of(version: u32) -> Result<u32, Refusal> {
    match version {
        0 => Err(Refusal::field("INVALID_ARGUMENT", "version", "expected a version from 1, found 0")),
        version => Ok(version),
    }
}

fn check_file(file: &str) -> Result<(), Refusal> {
    if file.len() > FILE_NAME_BYTES_MAX {
        return Err(Refusal::limit("file", FILE_NAME_BYTES_MAX, file.len(), "bytes"));
    }
    if file.is_empty() || file.chars().any(char::is_control) {
        let what = format!("expected a file's name without control characters, found {file:?}");
        return Err(Refusal::field("INVALID_ARGUMENT", "file", what));
    }
    Ok(())
}

/// A definition that is not in force; the request has it in `field`.
pub(in crate::api) fn deploy_refusal(error: DeployError, field: &str) -> Refusal {
    let message = error.to_string();
    match error {
        DeployError::Definition(_) => {
            Refusal::field("INVALID_DEFINITION", field, message.replace('\n', "; "))
        }
        DeployError::Changed { projection, version, changes, .. } => {
            let subject = format!("projection {projection} version {version}");
            Refusal::new(Code::FailedPrecondition, "DEFINITION_CHANGED", message).precondition(
                "SAME_DEFINITION",
                subject,
                changes,
            )
        }
        DeployError::RetiredOtherwise { .. } => {
            Refusal::new(Code::FailedPrecondition, "DEFINITION_CHANGED", message)
        }
        DeployError::Retired { .. } => Refusal::new(Code::FailedPrecondition, "VERSION_RETIRED", message),
        DeployError::DiskFull { .. } => Refusal::new(Code::FailedPrecondition, "DISK_FULL", message),
        DeployError::Append(error) => error.into(),
        DeployError::Events(error) => error.into(),
        DeployError::Meta(_)
        | DeployError::File(_)
        | DeployError::Room { .. }
        | DeployError::Thread { .. } => Refusal::new(Code::Unavailable, "PROJECTION_UNAVAILABLE", message)
            .retry_after(Duration::from_secs(1)),
    }
}

impl From<VersionsError> for Refusal {
    fn from(error: VersionsError) -> Self {
        let message = error.to_string();
        let failed = |reason, message| Self::new(Code::FailedPrecondition, reason, message);
        match error {
            VersionsError::Query(error) => error.into(),
            VersionsError::Append(error) => error.into(),
            VersionsError::Events(error) => error.into(),
            VersionsError::Retired { .. } => failed("VERSION_RETIRED", message),
            VersionsError::OtherActive { projection, expected, actual } => {
                Self::new(Code::Aborted, "EXPECTED_ACTIVE", message)
                    .precondition(
                        "ACTIVE_VERSION",
                        format!("projection {projection}"),
                        format!("expected version {expected} to be active"),
                    )
                    .with("expected_version", expected)
                    .with("actual_version", actual)
            }
            VersionsError::NotReady {
                projection,
                version,
                state,
                on_its_way,
                position,
                lag,
                max_lag,
                why,
            } => failed("NOT_READY", message)
                .precondition("READY", format!("projection {projection} version {version}"), why)
                .with("state", state)
                .with("on_its_way", on_its_way)
                .with("position", position)
                .with("lag", lag)
                .with("max_lag", max_lag),
            VersionsError::EmitterBehind { projection, version, position, upto, why } => {
                failed("EMITTER_BEHIND", message)
                    .precondition("EMITTED", format!("projection {projection} version {version}"), why)
                    .with("position", position)
                    .with("upto", upto)
            }
            VersionsError::NothingBefore { .. } => failed("NOTHING_TO_ROLL_BACK_TO", message),
            VersionsError::Active { .. } => failed("VERSION_ACTIVE", message),
            VersionsError::Needed { by, .. } => failed("VERSION_NEEDED", message).with("by", by),
            VersionsError::Conflict { .. } => Self::new(Code::Aborted, "DECISION_CONFLICT", message),
            VersionsError::ReasonTooLong { found } => {
                Self::limit("reason", DECISION_REASON_BYTES_MAX, found, "bytes")
            }
            VersionsError::Meta(_) | VersionsError::Task(_) | VersionsError::NotRemoved(_) => {
                Self::new(Code::Unavailable, "PROJECTION_UNAVAILABLE", message)
                    .retry_after(Duration::from_secs(1))
            }
        }
    }
}
