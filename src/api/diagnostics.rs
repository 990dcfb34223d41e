//! The calls of `Admin` that help to find the reason of trouble: which log lines are written, and what the node tells of itself.
//!
//! Knows logs and metrics by a handle that `app` builds. Who may ask is said in `middleware::access`.

use std::{fmt, sync::Arc, time::Duration};

use tonic::{Code, Request, Response, Status};

use super::{proto::v1, status::Refusal};
use crate::limits::LOG_FILTER_FOR_MAX;

/// The filter in force, and the configured one.
pub(crate) type Filters = (String, String);

/// Changes the filter, for a time or for good; none: the configured one.
pub(crate) type SetFilter =
    Arc<dyn Fn(Option<&str>, Option<Duration>) -> Result<Filters, String> + Send + Sync>;

/// Logs and metrics as the API sees them. Clones share it.
#[derive(Clone)]
pub(crate) struct Handle {
    /// None where the process writes no log that could be changed.
    pub(crate) filters: Arc<dyn Fn() -> Option<Filters> + Send + Sync>,
    pub(crate) set_filter: SetFilter,
    pub(crate) diagnostics: Arc<dyn Fn() -> v1::GetDiagnosticsResponse + Send + Sync>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Handle {
    pub(crate) fn get_filter(&self) -> Result<Response<v1::GetLogFilterResponse>, Status> {
        let (filter, configured) = (self.filters)().ok_or_else(|| no_log("its log is not its own"))?;
        Ok(Response::new(v1::GetLogFilterResponse { filter, configured }))
    }

    pub(crate) fn set_filter(
        &self,
        request: Request<v1::SetLogFilterRequest>,
    ) -> Result<Response<v1::SetLogFilterResponse>, Status> {
        let v1::SetLogFilterRequest { filter, revert_after_seconds } = request.into_inner();
        if (self.filters)().is_none() {
            return Err(no_log("its log is not its own").into());
        }
        let max = LOG_FILTER_FOR_MAX.as_secs();
        if revert_after_seconds.is_some_and(|seconds| seconds == 0 || u64::from(seconds) > max) {
            let found = revert_after_seconds.unwrap_or_default();
            let what = format!("expected 1 to {max} seconds, found {found}");
            return Err(Refusal::field("INVALID_DURATION", "revert_after_seconds", what).into());
        }
        let after = revert_after_seconds.map(|seconds| Duration::from_secs(seconds.into()));
        let set = (self.set_filter)(filter.as_deref(), after);
        let (filter, configured) = set.map_err(|what| Refusal::field("INVALID_FILTER", "filter", what))?;
        Ok(Response::new(v1::SetLogFilterResponse { filter, configured }))
    }

    pub(crate) async fn get(&self) -> Result<Response<v1::GetDiagnosticsResponse>, Status> {
        let diagnostics = Arc::clone(&self.diagnostics);
        // It reads files.
        let told = tokio::task::spawn_blocking(move || diagnostics()).await;
        let told = told.map_err(|error| {
            Refusal::new(Code::Internal, "INTERNAL", format!("the diagnostics did not end: {error}"))
        });
        Ok(Response::new(told?))
    }
}

fn no_log(why: &str) -> Refusal {
    let message = format!("the log of this node cannot be changed: {why}");
    Refusal::new(Code::FailedPrecondition, "NO_LOG_CONTROL", message)
}
