//! The service `Releases`, and the release that a query's metadata name.
//!
//! Invariant: a call that decides something goes on to its end although its client is gone. Decides nothing itself.

use std::{collections::BTreeMap, sync::Arc};

use tonic::{Code, Request, Response, Status};

use super::{
    long_work::{did_not_end, to_its_end},
    projections::{self, versions::deploy_refusal},
    proto::v1::{self, releases_server},
    status::Refusal,
};
use crate::{
    event::Position,
    lifecycle::Lifecycle,
    limits::{FILE_NAME_BYTES_MAX, RELEASE_PROJECTIONS_MAX},
    projection::{
        definition::Definition,
        registry::{Deployment, ProjectionTurn, Registry, ReleaseError, ReleaseTurn},
        release::{self, Bound, Release},
    },
};

/// The metadata key that names a release.
const METADATA_KEY: &str = "outrigger-release";

/// What the service needs.
#[derive(Debug, Clone)]
pub(crate) struct ReleasesService {
    pub(crate) projections: Arc<Registry>,
    pub(crate) lifecycle: Lifecycle,
}

/// A query's message, with the release that its metadata name where its options name none.
pub(super) fn released<T>(
    request: Request<T>,
    options: impl FnOnce(&mut T) -> &mut Option<v1::ReadOptions>,
) -> Result<T, Refusal> {
    let named = request.metadata().get(METADATA_KEY).map(|value| value.to_str().map(str::to_owned));
    let mut message = request.into_inner();
    if let Some(named) = named {
        let named = named.map_err(|_| {
            let what = "expected the name of a release, found bytes that are no text";
            Refusal::field("INVALID_ARGUMENT", METADATA_KEY, what)
        })?;
        options(&mut message).get_or_insert_default().release.get_or_insert(named);
    }
    Ok(message)
}

#[tonic::async_trait]
impl releases_server::Releases for ReleasesService {
    async fn apply_release(
        &self,
        request: Request<v1::ApplyReleaseRequest>,
    ) -> Result<Response<v1::ApplyReleaseResponse>, Status> {
        let (service, request) = (self.clone(), request.into_inner());
        Ok(Response::new(to_its_end(&self.lifecycle, async move { service.apply(request).await }).await?))
    }

    async fn promote_release(
        &self,
        request: Request<v1::PromoteReleaseRequest>,
    ) -> Result<Response<v1::PromoteReleaseResponse>, Status> {
        let projections = Arc::clone(&self.projections);
        let v1::PromoteReleaseRequest { release, max_lag, reason } = request.into_inner();
        let promote = async move {
            Ok(projections.promote_release(&release, max_lag, &reason.unwrap_or_default()).await?)
        };
        let ReleaseTurn { position, turns } = to_its_end(&self.lifecycle, promote).await?;
        let (position, turns) = (position.map(Position::get), turns_out(turns));
        Ok(Response::new(v1::PromoteReleaseResponse { position, turns }))
    }

    async fn rollback_release(
        &self,
        request: Request<v1::RollbackReleaseRequest>,
    ) -> Result<Response<v1::RollbackReleaseResponse>, Status> {
        let projections = Arc::clone(&self.projections);
        let v1::RollbackReleaseRequest { release, reason } = request.into_inner();
        let back =
            async move { Ok(projections.roll_back_release(&release, &reason.unwrap_or_default()).await?) };
        let ReleaseTurn { position, turns } = to_its_end(&self.lifecycle, back).await?;
        let (position, turns) = (position.map_or(0, Position::get), turns_out(turns));
        Ok(Response::new(v1::RollbackReleaseResponse { position, turns }))
    }

    async fn get_release(
        &self,
        request: Request<v1::GetReleaseRequest>,
    ) -> Result<Response<v1::GetReleaseResponse>, Status> {
        let name = request.into_inner().release;
        let release = self.projections.release(&name).map_err(Refusal::from)?;
        let release = Some(self.told([(name, release)]).remove(0));
        Ok(Response::new(v1::GetReleaseResponse { release }))
    }

    async fn list_releases(
        &self,
        _request: Request<v1::ListReleasesRequest>,
    ) -> Result<Response<v1::ListReleasesResponse>, Status> {
        let releases = self.told(self.projections.releases());
        Ok(Response::new(v1::ListReleasesResponse { releases }))
    }

    async fn remove_release(
        &self,
        request: Request<v1::RemoveReleaseRequest>,
    ) -> Result<Response<v1::RemoveReleaseResponse>, Status> {
        let projections = Arc::clone(&self.projections);
        let v1::RemoveReleaseRequest { release, reason } = request.into_inner();
        let remove =
            async move { Ok(projections.remove_release(&release, &reason.unwrap_or_default()).await?) };
        let position = to_its_end(&self.lifecycle, remove).await?.get();
        Ok(Response::new(v1::RemoveReleaseResponse { position }))
    }
}

impl ReleasesService {
    async fn apply(&self, request: v1::ApplyReleaseRequest) -> Result<v1::ApplyReleaseResponse, Refusal> {
        let v1::ApplyReleaseRequest { release: name, definitions, reason } = request;
        if !(1..=RELEASE_PROJECTIONS_MAX).contains(&definitions.len()) {
            let what =
                format!("expected 1 to {RELEASE_PROJECTIONS_MAX} definitions, found {}", definitions.len());
            return Err(Refusal::field("INVALID_ARGUMENT", "definitions", what));
        }
        release::check_name(&name)
            .map_err(|invalid| Refusal::field("INVALID_ARGUMENT", "release", invalid))?;
        let projections = Arc::clone(&self.projections);
        let deployed = tokio::task::spawn_blocking(move || deploy_all(&projections, definitions)).await;
        let (versions, deployed) = deployed.map_err(|error| did_not_end(&error))??;
        let reason = reason.unwrap_or_default();
        let position = self.projections.apply_release(&name, versions, &reason).await?;
        let release = self.projections.release(&name)?;
        let release = Some(self.told([(name, release)]).remove(0));
        Ok(v1::ApplyReleaseResponse { release, position: position.map(Position::get), deployed })
    }

    /// How releases stand.
    fn told(&self, releases: impl IntoIterator<Item = (String, Release)>) -> Vec<v1::Release> {
        let all = self.projections.list().into_iter().map(projections::version);
        let all: BTreeMap<_, _> =
            all.map(|version| ((version.projection.clone(), version.version), version)).collect();
        let each = releases.into_iter().map(|(release, Release { versions, applied_at, promotion })| {
            let versions: Vec<_> = versions
                .into_iter()
                .map(|(projection, version)| {
                    let missing = || v1::ProjectionVersion {
                        projection: projection.clone(),
                        version,
                        error: Some("it is not deployed here; apply the release again".into()),
                        ..v1::ProjectionVersion::default()
                    };
                    all.get(&(projection.clone(), version)).cloned().unwrap_or_else(missing)
                })
                .collect();
            let is_ready = |version: &v1::ProjectionVersion| {
                use v1::VersionState::{Active, Ready, Standby};
                matches!(version.state(), Active | Ready | Standby) && !version.build_paused
            };
            v1::Release {
                release,
                active: versions.iter().all(|version| version.active),
                ready: versions.iter().all(is_ready),
                versions,
                applied_position: applied_at.get(),
                promoted_position: promotion.map(|promotion| promotion.at.get()),
            }
        });
        each.collect()
    }
}

/// Deploys all definitions if all are such; gives the highest version of each projection, and how many were not there.
fn deploy_all(registry: &Registry, files: Vec<v1::DefinitionFile>) -> Result<(Bound, u32), Refusal> {
    let mut parsed = Vec::with_capacity(files.len());
    for (at, v1::DefinitionFile { file, definition }) in files.into_iter().enumerate() {
        if file.is_empty() || file.len() > FILE_NAME_BYTES_MAX || file.chars().any(char::is_control) {
            let what =
                format!("expected a name of 1 to {FILE_NAME_BYTES_MAX} bytes without control characters");
            return Err(Refusal::field("INVALID_ARGUMENT", format!("definitions[{at}].file"), what));
        }
        let field = format!("definitions[{at}].definition");
        let read =
            Definition::parse(&definition, &file).map_err(|error| deploy_refusal(error.into(), &field))?;
        parsed.push((read, definition, file, field));
    }
    parsed.sort_by(|(a, ..), (b, ..)| (a.name(), a.version()).cmp(&(b.name(), b.version())));
    let (mut versions, mut count) = (Bound::new(), 0);
    for (definition, text, file, field) in parsed {
        let (name, version) = (definition.name().to_owned(), definition.version());
        let deployed = registry.deploy(definition, &text, &file);
        if deployed.map_err(|error| deploy_refusal(error, &field))? != Deployment::Unchanged {
            count += 1;
        }
        versions.insert(name, version);
    }
    Ok((versions, count))
}

fn turns_out(turns: Vec<ProjectionTurn>) -> Vec<v1::ReleaseTurn> {
    let turn = |turn: ProjectionTurn| v1::ReleaseTurn {
        projection: turn.projection,
        previous_version: turn.before,
        active_version: turn.active,
        answering_version: turn.answering,
    };
    turns.into_iter().map(turn).collect()
}

impl From<ReleaseError> for Refusal {
    fn from(error: ReleaseError) -> Self {
        let message = error.to_string();
        let failed = |reason| Self::new(Code::FailedPrecondition, reason, &*message);
        match error {
            ReleaseError::Name(invalid) => Self::field("INVALID_ARGUMENT", "release", invalid),
            ReleaseError::Unknown { .. } => {
                Self::field("RELEASE_NOT_FOUND", "release", &message).code(Code::NotFound)
            }
            ReleaseError::Size { .. } => Self::field("INVALID_ARGUMENT", "definitions", &message),
            ReleaseError::TooMany => Self::new(Code::ResourceExhausted, "TOO_MANY_RELEASES", message),
            ReleaseError::NotPromoted { .. } => failed("RELEASE_NOT_PROMOTED"),
            ReleaseError::Moved { projection, expected, actual, .. } => failed("RELEASE_MOVED")
                .precondition(
                    "ACTIVE_VERSION",
                    format!("projection {projection}"),
                    format!("expected version {expected} to be active"),
                )
                .with("expected_version", expected)
                .with("actual_version", actual),
            ReleaseError::Conflict { .. } => Self::new(Code::Aborted, "DECISION_CONFLICT", message),
            ReleaseError::Versions(error) => error.into(),
            ReleaseError::Append(error) => error.into(),
            ReleaseError::Events(error) => error.into(),
        }
    }
}
