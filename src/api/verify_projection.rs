//! The call `VerifyProjection`: drives a second build of a version, and tells how far it is and what came out.
//!
//! Does not know how builds are compared.

use tonic::Code;

use super::{
    long_work::{self, Piece, blocking},
    outbox::Responses,
    projections::ProjectionsService,
    proto::v1::{self, verify_projection_response::Content},
    status::Refusal,
};
use crate::projection::{
    page::hex,
    replay::{Comparison, DocumentDifference, Replay, ReplayError, ReplayStep},
};

type Message = v1::VerifyProjectionResponse;

/// Begins a verification and answers with its stream.
pub(super) async fn start(
    service: &ProjectionsService,
    request: v1::VerifyProjectionRequest,
) -> Result<Responses<Message>, Refusal> {
    if request.version == Some(0) {
        return Err(Refusal::field("INVALID_ARGUMENT", "version", "expected a version from 1, found 0"));
    }
    let projections = std::sync::Arc::clone(&service.projections);
    let replay = blocking(move || projections.replay(&request.projection, request.version)).await??;
    Ok(long_work::stream(service, replay, piece))
}

fn piece(replay: &mut Replay) -> Piece<Message> {
    let step = replay.step()?;
    let version = replay.version();
    let (content, over) = match step {
        ReplayStep::Progress { position, target } => {
            let (position, target) = (position.get(), target.get());
            (Content::Progress(v1::VerifyProgress { version, position, target }), false)
        }
        ReplayStep::Done(comparison) => (Content::Result(result(version, *comparison)), true),
    };
    Ok((Message { content: Some(content) }, over))
}

fn result(version: u32, comparison: Comparison) -> v1::VerifyResult {
    let hash = |hash: crate::projection::content_hash::ContentHash| hex(&hash.to_bytes());
    let difference = |difference: DocumentDifference| v1::DocumentDifference {
        collection: difference.collection,
        key: difference.key,
        running: difference.running.map(Into::into),
        rebuilt: difference.rebuilt.map(Into::into),
    };
    v1::VerifyResult {
        equal: comparison.is_equal(),
        version,
        position: comparison.position.get(),
        content_hash: hash(comparison.content_hash),
        documents_hash: hash(comparison.documents_hash),
        rebuilt_hash: hash(comparison.rebuilt_hash),
        documents: comparison.documents,
        different: comparison.different,
        different_index_entries: comparison.different_entries,
        differences: comparison.differences.into_iter().map(difference).collect(),
    }
}

impl From<ReplayError> for Refusal {
    fn from(error: ReplayError) -> Self {
        let message = error.to_string();
        match error {
            ReplayError::Version(error) => error.into(),
            ReplayError::Service => Self::new(Code::FailedPrecondition, "HANDLED_BY_SERVICE", message),
            ReplayError::Busy => Self::new(Code::ResourceExhausted, "VERIFICATION_RUNNING", message),
            ReplayError::NoSpace { needed_bytes, free_bytes } => {
                Self::new(Code::ResourceExhausted, "NO_SPACE", message)
                    .with("needed_bytes", needed_bytes)
                    .with("free_bytes", free_bytes)
            }
            ReplayError::Stopped(_) => Self::new(Code::FailedPrecondition, "SECOND_BUILD_STOPPED", message),
            ReplayError::File(_) | ReplayError::Io { .. } | ReplayError::Trouble(_) => {
                Self::new(Code::Unavailable, "PROJECTION_UNAVAILABLE", message)
            }
        }
    }
}
