//! The service `Projections`: what is deployed and how far it is.

use std::{sync::Arc, time::Duration};

use tonic::{Request, Response, Status, Streaming};

use super::{
    outbox::Responses,
    process,
    proto::v1::{self, projections_server},
    status::Refusal,
    verify_projection,
};
use crate::{
    clock::Clock,
    lifecycle::Lifecycle,
    projection::{
        page::hex,
        registry::{DefinitionProblem, Registry, VersionInfo},
        status::VersionState,
    },
};

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
        let versions = self.projections.list().into_iter().map(version).collect();
        let problems = self.projections.problems().into_iter().map(problem).collect();
        Ok(Response::new(v1::ListProjectionsResponse { versions, problems }))
    }

    async fn get_projection(
        &self,
        request: Request<v1::GetProjectionRequest>,
    ) -> Result<Response<v1::GetProjectionResponse>, Status> {
        let name = request.into_inner().projection;
        let versions = self.projections.show(&name).map_err(Refusal::from)?;
        let versions = versions.into_iter().map(version).collect();
        let problems = self.projections.problems().into_iter();
        let problems = problems.filter(|p| p.projection.as_deref() == Some(&name));
        let problems = problems.map(problem).collect();
        Ok(Response::new(v1::GetProjectionResponse { versions, problems }))
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
}

fn problem(problem: DefinitionProblem) -> v1::DefinitionProblem {
    v1::DefinitionProblem { file: problem.file, error: problem.error }
}

fn version(status: VersionInfo) -> v1::ProjectionVersion {
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
            .map(|c| v1::CollectionInfo { name: c.name, documents: c.documents, indexes: c.indexes })
            .collect(),
        error: status.error,
        active: status.active,
    }
}
