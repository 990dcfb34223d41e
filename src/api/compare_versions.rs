//! The call `CompareVersions`: two versions at one position, and what they have in common.
//!
//! Does not know how versions are brought to one position, or compared.

use tonic::Code;

use super::{
    long_work::{self, Piece},
    outbox::Responses,
    projections::ProjectionsService,
    proto::v1::{self, compare_versions_response::Content},
    status::Refusal,
};
use crate::projection::compare::{
    CollectionComparison, CompareError, CompareQuery, CompareStep, Comparing, FieldDifference, Kind, Sample,
    VersionComparison,
};

type Message = v1::CompareVersionsResponse;

/// A comparison and the versions that it was asked of.
struct Work {
    comparing: Comparing,
    left: u32,
    right: u32,
}

/// Begins a comparison and answers with its stream. What cannot be compared is refused before.
pub(super) async fn start(
    service: &ProjectionsService,
    request: v1::CompareVersionsRequest,
) -> Result<Responses<Message>, Refusal> {
    let (left, right) = (request.left, request.right);
    for (field, version) in [("left", left), ("right", right)] {
        if version == 0 {
            return Err(Refusal::field("INVALID_ARGUMENT", field, "expected a version from 1, found 0"));
        }
    }
    let query = CompareQuery { left, right, collections: request.collections, ignore: request.ignore };
    let comparing = service.projections.compare(&request.projection, &query).await?;
    Ok(long_work::stream(service, Work { comparing, left, right }, piece))
}

fn piece(work: &mut Work) -> Piece<Message> {
    let position = work.comparing.position().get();
    let (content, over) = match work.comparing.step()? {
        CompareStep::Progress { compared, total } => {
            (Content::Progress(v1::CompareProgress { position, compared, total }), false)
        }
        CompareStep::Done(comparison) => (Content::Result(result(work, *comparison)), true),
    };
    Ok((Message { content: Some(content) }, over))
}

fn result(work: &Work, comparison: VersionComparison) -> v1::CompareResult {
    let VersionComparison { position, collections, samples } = comparison;
    v1::CompareResult {
        left: work.left,
        right: work.right,
        position: position.get(),
        collections: collections.into_iter().map(collection).collect(),
        samples: samples.into_iter().map(sample).collect(),
    }
}

fn collection(comparison: CollectionComparison) -> v1::CollectionComparison {
    let CollectionComparison { name, equal, different, only_left, only_right } = comparison;
    v1::CollectionComparison { name, equal, different, only_left, only_right }
}

fn sample(sample: Sample) -> v1::DocumentComparison {
    let kind = match sample.kind {
        Kind::Different => v1::ComparisonKind::Different,
        Kind::OnlyLeft => v1::ComparisonKind::OnlyLeft,
        Kind::OnlyRight => v1::ComparisonKind::OnlyRight,
    };
    let field = |FieldDifference { path, left, right }| v1::FieldDifference { path, left, right };
    v1::DocumentComparison {
        collection: sample.collection,
        key: sample.key,
        kind: kind.into(),
        fields: sample.fields.into_iter().map(field).collect(),
        more_fields: sample.more_fields,
    }
}

impl From<CompareError> for Refusal {
    fn from(error: CompareError) -> Self {
        let message = error.to_string();
        match error {
            CompareError::Query(error) => error.into(),
            CompareError::Busy => Self::new(Code::ResourceExhausted, "COMPARISON_RUNNING", message),
            CompareError::CannotMeet { version, behind, .. } => {
                Self::new(Code::FailedPrecondition, "CANNOT_MEET", message)
                    .with("version", version)
                    .with("behind", behind)
            }
            CompareError::File(_) => Self::new(Code::Unavailable, "PROJECTION_UNAVAILABLE", message),
            CompareError::TooLong { compared, total } => {
                Self::new(Code::ResourceExhausted, "COMPARISON_TOO_LONG", message)
                    .with("compared", compared)
                    .with("total", total)
            }
        }
    }
}
