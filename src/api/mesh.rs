//! The service `Mesh`: how events are shared, who may append what, and decisions about imports.
//!
//! Knows the mesh by a handle that `app` builds, in the words of the protocol; this page adds checks of arguments
//! and refusals. Decides nothing itself.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use tonic::{Code, Request, Response, Status};

use super::{
    convert,
    proto::v1::{self, mesh_server},
    status::Refusal,
};
use crate::{limits::DECISION_REASON_BYTES_MAX, ownership::InForce};

/// What somebody wants of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MeshCommand {
    /// An import is to stand still.
    Pause { import: String },
    /// A paused or stopped import is to go on.
    Resume { import: String },
    /// An import is to try again what it could not map.
    Retry { import: String },
    /// An import is to pass an event by.
    Skip { import: String, expect_position: u64 },
    /// An import is to go on from the last place that it and the owner have.
    ResyncImport { import: String },
    /// This node's log is what counts.
    ResyncNode,
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MeshRefusal {
    /// There is no such import.
    NoImport(String),
    /// It does not fit what the import or node is doing.
    Precondition(String),
    /// Nothing failed.
    NothingToRetry(String),
    /// The import stands elsewhere.
    OtherPosition { expected: u64, actual: u64, message: String },
    /// Nobody can carry it out now.
    Unavailable(String),
}

/// What comes of a command: where its decision stands in this node's log.
pub(crate) type Decided = Pin<Box<dyn Future<Output = Result<u64, MeshRefusal>> + Send>>;

/// What comes of a question for what an import could not map.
pub(crate) type Errors =
    Pin<Box<dyn Future<Output = Result<v1::ListImportErrorsResponse, MeshRefusal>> + Send>>;

/// The mesh as the API sees it. Clones share it.
#[derive(Clone)]
pub(crate) struct Handle {
    /// How it stands.
    pub(crate) status: Arc<dyn Fn() -> v1::GetMeshStatusResponse + Send + Sync>,
    /// Who is trusted.
    pub(crate) peers: Arc<dyn Fn() -> v1::ListPeersResponse + Send + Sync>,
    /// Carries a command out; the text says why it was given.
    pub(crate) decide: Arc<dyn Fn(MeshCommand, String) -> Decided + Send + Sync>,
    /// What an import could not map, behind a position of this node's log, so much at the most.
    pub(crate) errors: Arc<dyn Fn(String, Option<u64>, usize) -> Errors + Send + Sync>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// What the service needs.
#[derive(Debug, Clone)]
pub(crate) struct MeshService {
    pub(crate) node: Arc<str>,
    pub(crate) ownership: InForce,
    pub(crate) mesh: Handle,
}

impl MeshService {
    async fn decide(&self, command: MeshCommand, reason: Option<String>) -> Result<u64, Refusal> {
        let reason = reason.unwrap_or_default();
        if reason.len() > DECISION_REASON_BYTES_MAX {
            return Err(Refusal::limit("reason", DECISION_REASON_BYTES_MAX, reason.len(), "bytes"));
        }
        let named = match &command {
            MeshCommand::Pause { import }
            | MeshCommand::Resume { import }
            | MeshCommand::Retry { import }
            | MeshCommand::Skip { import, .. }
            | MeshCommand::ResyncImport { import } => import.as_str(),
            MeshCommand::ResyncNode => "-",
        };
        check_named(named)?;
        Ok((self.mesh.decide)(command, reason).await?)
    }
}

fn check_named(import: &str) -> Result<(), Refusal> {
    if import.is_empty() {
        let what = "expected the name of an import, found none";
        return Err(Refusal::field("MISSING_FIELD", "import", what));
    }
    Ok(())
}

impl From<MeshRefusal> for Refusal {
    fn from(refusal: MeshRefusal) -> Self {
        match refusal {
            MeshRefusal::NoImport(message) => Self::new(Code::NotFound, "IMPORT_NOT_FOUND", message),
            MeshRefusal::Precondition(message) => Self::new(
                Code::FailedPrecondition,
                "IMPORT_STATE",
                message.clone(),
            )
            .precondition("IMPORT_STATE", "import", message),
            MeshRefusal::NothingToRetry(message) => {
                Self::new(Code::FailedPrecondition, "NOTHING_TO_RETRY", message)
            }
            MeshRefusal::OtherPosition { expected, actual, message } => {
                Self::new(Code::Aborted, "OTHER_POSITION", message)
                    .with("expected_position", expected)
                    .with("position", actual)
            }
            MeshRefusal::Unavailable(message) => Self::new(Code::Unavailable, "MESH_UNAVAILABLE", message)
                .retry_after(std::time::Duration::from_secs(1)),
        }
    }
}

#[tonic::async_trait]
impl mesh_server::Mesh for MeshService {
    async fn get_mesh_status(
        &self,
        _request: Request<v1::GetMeshStatusRequest>,
    ) -> Result<Response<v1::GetMeshStatusResponse>, Status> {
        Ok(Response::new((self.mesh.status)()))
    }

    async fn list_peers(
        &self,
        _request: Request<v1::ListPeersRequest>,
    ) -> Result<Response<v1::ListPeersResponse>, Status> {
        Ok(Response::new((self.mesh.peers)()))
    }

    async fn explain_ownership(
        &self,
        request: Request<v1::ExplainOwnershipRequest>,
    ) -> Result<Response<v1::ExplainOwnershipResponse>, Status> {
        let v1::ExplainOwnershipRequest { r#type, stream } = request.into_inner();
        let ownership = self.ownership.get();
        let explained = ownership.explain(r#type.as_deref(), stream.as_deref());
        let texts = |patterns: &Option<Vec<crate::ownership::Pattern>>| {
            patterns.iter().flatten().map(ToString::to_string).collect()
        };
        Ok(Response::new(v1::ExplainOwnershipResponse {
            node: self.node.to_string(),
            may_append: explained.iter().all(|rule| rule.is_own),
            rules: explained
                .into_iter()
                .map(|rule| v1::OwnershipRule {
                    field: rule.field.as_str().to_owned(),
                    value: rule.value,
                    is_own: rule.is_own,
                    owner: rule.owner,
                    why: rule.why,
                })
                .collect(),
            owned_types: texts(&ownership.types),
            types_are_named: ownership.types.is_some(),
            owned_streams: texts(&ownership.streams),
            streams_are_named: ownership.streams.is_some(),
            imported: ownership
                .imports
                .iter()
                .map(|import| v1::ImportedStreams {
                    import: import.import.clone(),
                    owner: import.owner.clone(),
                    streams: import.streams.to_string(),
                })
                .collect(),
        }))
    }

    async fn pause_import(
        &self,
        request: Request<v1::PauseImportRequest>,
    ) -> Result<Response<v1::PauseImportResponse>, Status> {
        let v1::PauseImportRequest { import, reason } = request.into_inner();
        let position = self.decide(MeshCommand::Pause { import }, reason).await?;
        Ok(Response::new(v1::PauseImportResponse { position }))
    }

    async fn resume_import(
        &self,
        request: Request<v1::ResumeImportRequest>,
    ) -> Result<Response<v1::ResumeImportResponse>, Status> {
        let v1::ResumeImportRequest { import, reason } = request.into_inner();
        let position = self.decide(MeshCommand::Resume { import }, reason).await?;
        Ok(Response::new(v1::ResumeImportResponse { position }))
    }

    async fn list_import_errors(
        &self,
        request: Request<v1::ListImportErrorsRequest>,
    ) -> Result<Response<v1::ListImportErrorsResponse>, Status> {
        let v1::ListImportErrorsRequest { import, page_size, page_token } = request.into_inner();
        check_named(&import)?;
        let count = convert::page_size(page_size)?;
        let after = page_token.map(|token| {
            token.parse().map_err(|_| {
                let what = "expected a next_page_token of this call, found something else";
                Refusal::field("PAGE_TOKEN_MISMATCH", "page_token", what)
            })
        });
        let errors = (self.mesh.errors)(import, after.transpose()?, count).await;
        Ok(Response::new(errors.map_err(Refusal::from)?))
    }

    async fn retry_import(
        &self,
        request: Request<v1::RetryImportRequest>,
    ) -> Result<Response<v1::RetryImportResponse>, Status> {
        let v1::RetryImportRequest { import, reason } = request.into_inner();
        let position = self.decide(MeshCommand::Retry { import }, reason).await?;
        Ok(Response::new(v1::RetryImportResponse { position }))
    }

    async fn skip_import_event(
        &self,
        request: Request<v1::SkipImportEventRequest>,
    ) -> Result<Response<v1::SkipImportEventResponse>, Status> {
        let v1::SkipImportEventRequest { import, expect_position, reason } = request.into_inner();
        if expect_position == 0 {
            let what = "expected the position of the event at which the import stands, found 0";
            return Err(Refusal::field("INVALID_POSITION", "expect_position", what).into());
        }
        let position = self.decide(MeshCommand::Skip { import, expect_position }, reason).await?;
        Ok(Response::new(v1::SkipImportEventResponse { position }))
    }

    async fn resync_import(
        &self,
        request: Request<v1::ResyncImportRequest>,
    ) -> Result<Response<v1::ResyncImportResponse>, Status> {
        let v1::ResyncImportRequest { import, reason } = request.into_inner();
        let position = self.decide(MeshCommand::ResyncImport { import }, reason).await?;
        Ok(Response::new(v1::ResyncImportResponse { position }))
    }

    async fn resync_node(
        &self,
        request: Request<v1::ResyncNodeRequest>,
    ) -> Result<Response<v1::ResyncNodeResponse>, Status> {
        let position = self.decide(MeshCommand::ResyncNode, request.into_inner().reason).await?;
        Ok(Response::new(v1::ResyncNodeResponse { position }))
    }
}
