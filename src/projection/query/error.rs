//! Why a query was not answered, each with what an answer over the wire has to say.

use std::sync::Arc;

use crate::{event::Position, events::history::TokenError, kv::KvError};

/// Why a query was not answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// No such projection is deployed.
    #[error("projection {projection:?} is not deployed here; {}", known_names("deployed", known))]
    UnknownProjection {
        /// What was asked for.
        projection: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The projection has no such version.
    #[error("projection {projection} has no version {version}; {}", known_names("versions", known))]
    UnknownVersion {
        /// The projection.
        projection: String,
        /// What was asked for.
        version: u32,
        /// What there is.
        known: Vec<u32>,
    },
    /// The projection has no standing version of that label.
    #[error(
        "projection {projection} has no standing version {label:?}; {}",
        known_names("standing versions", known)
    )]
    UnknownLabel {
        /// The projection.
        projection: String,
        /// What was asked for.
        label: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The token is of a later point than the one where the standing version stands for good.
    #[error(
        "the standing version {label:?} of projection {projection} stands at position {until} for good, and never shows \
         position {wanted}; ask another version, or without the token"
    )]
    BeyondStanding {
        /// The projection.
        projection: String,
        /// The standing version.
        label: String,
        /// Where it stands.
        until: Position,
        /// The token's position.
        wanted: Position,
    },
    /// There is no such release.
    #[error("there is no release {release:?}; {}", known_names("releases", known))]
    UnknownRelease {
        /// What was asked for.
        release: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The release names no version of this projection.
    #[error(
        "release {release} names no version of projection {projection}; {}",
        known_names("projections in it", known)
    )]
    NotInRelease {
        /// The release.
        release: String,
        /// The projection that was asked for.
        projection: String,
        /// What the release names.
        known: Vec<String>,
    },
    /// The version that was decided to be active is not here.
    #[error(
        "version {version} of projection {projection} is active by decision and is not deployed here; deploy it, or \
         promote another one; {}",
        known_names("versions", known)
    )]
    ActiveNotDeployed {
        /// The projection.
        projection: String,
        /// The active version.
        version: u32,
        /// What there is.
        known: Vec<u32>,
    },
    /// The version has no such collection.
    #[error(
        "projection {projection} version {version} has no collection {collection:?}; {}",
        known_names("collections", known)
    )]
    UnknownCollection {
        /// The projection.
        projection: String,
        /// The version that would have answered.
        version: u32,
        /// What was asked for.
        collection: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The collection has no such index.
    #[error("collection {collection} has no index {index:?}; {}", known_names("indexes", known))]
    UnknownIndex {
        /// The collection.
        collection: String,
        /// What was asked for.
        index: String,
        /// What there is.
        known: Vec<String>,
    },
    /// There is no document of that key.
    #[error("collection {collection} of projection {projection} has no document {key}")]
    DocumentNotFound {
        /// The projection.
        projection: String,
        /// The collection.
        collection: String,
        /// The key, as text.
        key: String,
    },
    /// A field of the request is not what it should be.
    #[error("{field}: {message}")]
    InvalidArgument {
        /// The request's field.
        field: &'static str,
        /// What was expected and what was found.
        message: String,
        /// The limit it broke, where it broke one.
        limit: Option<u64>,
        /// What it was instead.
        actual: Option<u64>,
    },
    /// The page token is no text that a List answered with.
    #[error("page_token: expected the next_page_token of a page before, found another text")]
    PageTokenInvalid,
    /// The page token belongs to another query.
    #[error(
        "page_token: it belongs to another query; repeat the query of the first page, or leave the token out"
    )]
    PageTokenMismatch,
    /// The version that gave the page before is not there any more.
    #[error(
        "version {version} of projection {projection}, which gave the page before, is gone; list from the start"
    )]
    PageExpired {
        /// The projection.
        projection: String,
        /// The version of the first page.
        version: u32,
    },
    /// The resume token is no text that a watch gave.
    #[error("resume_token: expected a resume_token of a watch, found another text")]
    ResumeTokenInvalid,
    /// The resume token belongs to another watch.
    #[error(
        "resume_token: it belongs to another watch; repeat the question it came from, or leave the token out"
    )]
    ResumeTokenMismatch,
    /// The version that was watched is not followed any more.
    #[error(
        "projection {projection} version {version} is gone: {reason}; watch again with the last resume token"
    )]
    VersionGone {
        /// The projection.
        projection: String,
        /// The version that was watched.
        version: u32,
        /// Why.
        reason: Arc<str>,
    },
    /// The token names no point of this log's history.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The wait ended before the version was where it had to be.
    #[error("projection {projection} version {version} is at position {as_of}, wanted {wanted}{}",
        .failure.as_ref().map(|failure| format!(", and does not move on: {failure}")).unwrap_or_default())]
    DeadlineExceeded {
        /// The projection.
        projection: String,
        /// The version that would have answered.
        version: u32,
        /// Where it had to be.
        wanted: Position,
        /// Where it is.
        as_of: Position,
        /// Why it stopped for good, if it has.
        failure: Option<Arc<str>>,
    },
    /// The filter could not be evaluated on a document.
    #[error("filter: on document {key}: {message}; use has() or .? for fields that may be missing")]
    FilterFailed {
        /// The document's key, as text.
        key: String,
        /// What went wrong.
        message: String,
    },
    /// The version's file is being opened; the same request may succeed soon.
    #[error("projection {projection} version {version} is being opened{}; try again",
        .trouble.as_ref().map(|trouble| format!(" ({trouble})")).unwrap_or_default())]
    Unavailable {
        /// The projection.
        projection: String,
        /// The version that would have answered.
        version: u32,
        /// Why it takes so long, where that is known.
        trouble: Option<Arc<str>>,
    },
    /// The version stopped for good and has nothing to answer from.
    #[error("{failure}")]
    VersionFailed {
        /// Why it stopped, where, and what to do.
        failure: Arc<str>,
    },
    /// The version's file did not read; the runner opens it again or builds it anew.
    #[error("the projection's file could not be read: {0}; try again")]
    File(#[from] KvError),
}

impl QueryError {
    /// `UPPER_SNAKE`, as in `google.rpc.ErrorInfo`.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::UnknownProjection { .. } => "PROJECTION_NOT_FOUND",
            Self::UnknownVersion { .. } => "VERSION_NOT_FOUND",
            Self::UnknownRelease { .. } => "RELEASE_NOT_FOUND",
            Self::NotInRelease { .. } => "PROJECTION_NOT_IN_RELEASE",
            Self::UnknownLabel { .. } => "LABEL_NOT_FOUND",
            Self::BeyondStanding { .. } => "BEYOND_STANDING_POSITION",
            Self::ActiveNotDeployed { .. } => "ACTIVE_NOT_DEPLOYED",
            Self::UnknownCollection { .. } => "COLLECTION_NOT_FOUND",
            Self::UnknownIndex { .. } => "INDEX_NOT_FOUND",
            Self::DocumentNotFound { .. } => "DOCUMENT_NOT_FOUND",
            Self::InvalidArgument { .. } => "INVALID_ARGUMENT",
            Self::PageTokenInvalid => "PAGE_TOKEN_INVALID",
            Self::PageTokenMismatch => "PAGE_TOKEN_MISMATCH",
            Self::PageExpired { .. } => "PAGE_EXPIRED",
            Self::ResumeTokenInvalid => "RESUME_TOKEN_INVALID",
            Self::ResumeTokenMismatch => "RESUME_TOKEN_MISMATCH",
            Self::VersionGone { .. } => "VERSION_GONE",
            Self::Token(TokenError::OtherLog { .. }) => "TOKEN_OF_OTHER_LOG",
            Self::Token(TokenError::StaleEpoch { .. }) => "STALE_EPOCH",
            Self::DeadlineExceeded { .. } => "NOT_FRESH_ENOUGH",
            Self::FilterFailed { .. } => "FILTER_FAILED",
            Self::Unavailable { .. } | Self::File(_) => "PROJECTION_UNAVAILABLE",
            Self::VersionFailed { .. } => "PROJECTION_FAILED",
        }
    }

    pub(crate) fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::InvalidArgument { field, message: message.into(), limit: None, actual: None }
    }

    pub(crate) fn limit(field: &'static str, message: String, limit: usize, actual: usize) -> Self {
        Self::InvalidArgument { field, message, limit: Some(limit as u64), actual: Some(actual as u64) }
    }
}

fn known_names<T: ToString>(what: &str, known: &[T]) -> String {
    if known.is_empty() {
        return format!("{what}: none");
    }
    let names: Vec<String> = known.iter().map(ToString::to_string).collect();
    format!("{what}: {}", names.join(", "))
}
