//! The service `Projections`: what is deployed, how far it is, what it could not apply, and which version is active.

use std::{sync::Arc, time::Duration};

use tonic::{Request, Response, Status, Streaming};

use super::{
    compare_versions,
    outbox::Responses,
    process,
    proto::v1::{self, projections_server},
    standing,
    status::Refusal,
    verify_projection,
};
use crate::{
    clock::Clock,
    lifecycle::Lifecycle,
    projection::{
        page::hex,
        registry::{DefinitionProblem, Registry, RetiredInfo, VersionInfo},
        status::VersionState,
    },
};

mod errors;
pub(super) mod versions;

/// What the service needs.
#[derive(Debug, Clone)]
pub(crate) struct ProjectionsService {
    pub(crate) projections: Arc<Registry>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) clock: Arc<dyn Clock>,
    /// How long a message may wait for a client that takes none.
    pub(crate) reader_stall: Duration,
}

#[tonic::async_trait]
impl projections_server::Projections for ProjectionsService {
    async fn list_projections(
        &self,
        _request: Request<v1::ListProjectionsRequest>,
    ) -> Result<Response<v1::ListProjectionsResponse>, Status> {
        let mut versions: Vec<_> = self.projections.list().into_iter().map(version).collect();
        versions.extend(self.projections.retired().into_iter().map(retired));
        versions.sort_by(|a, b| (&a.projection, a.version).cmp(&(&b.projection, b.version)));
        let problems = self.projections.problems().into_iter().map(problem).collect();
        let standing = self.projections.standing().into_iter().map(standing::standing).collect();
        Ok(Response::new(v1::ListProjectionsResponse { versions, problems, standing }))
    }

    async fn get_projection(
        &self,
        request: Request<v1::GetProjectionRequest>,
    ) -> Result<Response<v1::GetProjectionResponse>, Status> {
        let name = request.into_inner().projection;
        let versions = self.projections.show(&name).map_err(Refusal::from)?;
        let mut versions: Vec<_> = versions.into_iter().map(|version| self.with_pause(version)).collect();
        let gone = self.projections.retired().into_iter().filter(|gone| gone.projection == name);
        versions.extend(gone.map(retired));
        versions.sort_by_key(|version| version.version);
        let problems = self.projections.problems().into_iter();
        let problems = problems.filter(|p| p.projection.as_deref() == Some(&name));
        let problems = problems.map(problem).collect();
        let standing = self.projections.standing().into_iter().filter(|one| one.projection == name);
        let standing = standing.map(standing::standing).collect();
        Ok(Response::new(v1::GetProjectionResponse { versions, problems, standing }))
    }

    type ProcessStream = process::Responses;

    async fn process(
        &self,
        request: Request<Streaming<v1::ProcessRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        Ok(Response::new(process::start(self, request.into_inner())))
    }

    type VerifyProjectionStream = Responses<v1::VerifyProjectionResponse>;

    async fn verify_projection(
        &self,
        request: Request<v1::VerifyProjectionRequest>,
    ) -> Result<Response<Self::VerifyProjectionStream>, Status> {
        Ok(Response::new(verify_projection::start(self, request.into_inner()).await?))
    }

    type CompareVersionsStream = Responses<v1::CompareVersionsResponse>;

    async fn compare_versions(
        &self,
        request: Request<v1::CompareVersionsRequest>,
    ) -> Result<Response<Self::CompareVersionsStream>, Status> {
        Ok(Response::new(compare_versions::start(self, request.into_inner()).await?))
    }

    async fn build_standing_version(
        &self,
        request: Request<v1::BuildStandingVersionRequest>,
    ) -> Result<Response<v1::BuildStandingVersionResponse>, Status> {
        Ok(Response::new(standing::build(self, request.into_inner()).await?))
    }

    async fn remove_standing_version(
        &self,
        request: Request<v1::RemoveStandingVersionRequest>,
    ) -> Result<Response<v1::RemoveStandingVersionResponse>, Status> {
        Ok(Response::new(standing::remove(self, request.into_inner()).await?))
    }

    async fn list_errors(
        &self,
        request: Request<v1::ListErrorsRequest>,
    ) -> Result<Response<v1::ListErrorsResponse>, Status> {
        Ok(Response::new(self.errors(request.into_inner()).await?))
    }

    async fn retry(&self, request: Request<v1::RetryRequest>) -> Result<Response<v1::RetryResponse>, Status> {
        Ok(Response::new(self.try_again(request.into_inner()).await?))
    }

    async fn skip(&self, request: Request<v1::SkipRequest>) -> Result<Response<v1::SkipResponse>, Status> {
        Ok(Response::new(self.pass_by(request.into_inner()).await?))
    }

    async fn deploy(
        &self,
        request: Request<v1::DeployRequest>,
    ) -> Result<Response<v1::DeployResponse>, Status> {
        Ok(Response::new(self.put_in_force(request.into_inner()).await?))
    }

    async fn promote(
        &self,
        request: Request<v1::PromoteRequest>,
    ) -> Result<Response<v1::PromoteResponse>, Status> {
        Ok(Response::new(self.make_active(request.into_inner()).await?))
    }

    async fn rollback(
        &self,
        request: Request<v1::RollbackRequest>,
    ) -> Result<Response<v1::RollbackResponse>, Status> {
        Ok(Response::new(self.go_back(request.into_inner()).await?))
    }

    async fn retire(
        &self,
        request: Request<v1::RetireRequest>,
    ) -> Result<Response<v1::RetireResponse>, Status> {
        Ok(Response::new(self.remove_version(request.into_inner()).await?))
    }

    async fn pause(&self, request: Request<v1::PauseRequest>) -> Result<Response<v1::PauseResponse>, Status> {
        Ok(Response::new(self.hold_build(request.into_inner()).await?))
    }

    async fn resume(
        &self,
        request: Request<v1::ResumeRequest>,
    ) -> Result<Response<v1::ResumeResponse>, Status> {
        Ok(Response::new(self.release_build(request.into_inner()).await?))
    }
}

fn problem(problem: DefinitionProblem) -> v1::DefinitionProblem {
    v1::DefinitionProblem { file: problem.file, error: problem.error }
}

/// A version that is not there any more.
fn retired(gone: RetiredInfo) -> v1::ProjectionVersion {
    v1::ProjectionVersion {
        projection: gone.projection,
        version: gone.version,
        state: v1::VersionState::Retired.into(),
        head: gone.head.get(),
        definition_hash: gone.definition_hash,
        ..v1::ProjectionVersion::default()
    }
}

/// A version without the event that it stands at.
pub(super) fn version(status: VersionInfo) -> v1::ProjectionVersion {
    let state = match status.state {
        VersionState::Building => v1::VersionState::Building,
        VersionState::CatchingUp => v1::VersionState::CatchingUp,
        VersionState::Ready => v1::VersionState::Ready,
        VersionState::Active => v1::VersionState::Active,
        VersionState::Standby => v1::VersionState::Standby,
        VersionState::Retired => v1::VersionState::Retired,
        VersionState::Failed => v1::VersionState::Failed,
    };
    v1::ProjectionVersion {
        lag: status.lag(),
        seconds_left: status.seconds_left(),
        on_error: errors::on_error(status.on_error).into(),
        pause: None,
        parked_events: status.counts.parked_events,
        parked_streams: status.counts.parked_streams,
        skipped_events: status.counts.skipped,
        last_error_position: status.last_error().get(),
        content_hash_late: status.counts.late > 0,
        projection: status.projection,
        version: status.version,
        state: state.into(),
        position: status.position.get(),
        head: status.head.get(),
        rate: status.rate,
        content_hash: status.content_hash.map(|hash| hex(&hash.to_bytes())).unwrap_or_default(),
        definition_hash: status.definition_hash,
        collections: status
            .collections
            .into_iter()
            .map(|c| v1::CollectionInfo {
                name: c.name,
                documents: c.documents,
                indexes: c.indexes,
                incomplete: c.incomplete,
            })
            .collect(),
        error: status.error,
        active: status.active,
        queued: status.queued,
        releases: status.releases,
        build_paused: status.build_paused,
        taking_over: status.taking_over,
    }
}
