//! Who may call what: one table over every method of every service, and the layer that holds every call against it.
//!
//! Invariants: a method without a row is open to administrators only; a service of ours without a row for each of its methods does
//! not start (`check_complete`). Health and reflection are open to everybody, since they tell nothing but names and whether the
//! node serves. Does not know how a caller is told from another (`auth`).

use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::{
    Code, Status,
    body::Body,
    codegen::http::{Request, Response, header::AUTHORIZATION},
};
use tower::{Layer, Service};

use super::auth::{Role, Tokens};
use crate::api::{proto, status::Refusal};

const PACKAGE: &str = "outrigger.v1.";

/// Services that everybody may call.
const OPEN: [&str; 2] = ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"];

/// What a service offers to the app, and what to administrators alone.
struct Row {
    service: &'static str,
    app: &'static [&'static str],
    admin: &'static [&'static str],
}

/// The app may do what a service does by itself: append, read, query, project, deploy, name a release. What decides for
/// everybody, gives events up, or takes the log away is for administrators.
const TABLE: &[Row] = &[
    Row {
        service: "EventLog",
        app: &[
            "Append",
            "AppendStream",
            "Read",
            "Subscribe",
            "GetEvent",
            "GetHead",
            "ListStreams",
            "GetTracking",
        ],
        admin: &[],
    },
    Row {
        service: "Query",
        app: &["Get", "BatchGet", "List", "Explain", "ListStream", "Count", "Watch"],
        admin: &[],
    },
    Row {
        service: "Projections",
        app: &[
            "ListProjections",
            "GetProjection",
            "Process",
            "VerifyProjection",
            "CompareVersions",
            "ListErrors",
            "Deploy",
        ],
        admin: &[
            "BuildStandingVersion",
            "RemoveStandingVersion",
            "Retry",
            "Skip",
            "Promote",
            "Rollback",
            "Retire",
            "Pause",
            "Resume",
        ],
    },
    Row {
        service: "Releases",
        app: &["ApplyRelease", "GetRelease", "ListReleases"],
        admin: &["PromoteRelease", "RollbackRelease", "RemoveRelease"],
    },
    Row {
        service: "Mesh",
        app: &["GetMeshStatus", "ListPeers", "ExplainOwnership", "ListImportErrors"],
        admin: &[
            "PauseImport",
            "ResumeImport",
            "RetryImport",
            "SkipImportEvent",
            "ResyncImport",
            "ResyncNode",
        ],
    },
    Row {
        service: "Admin",
        app: &["GetNode", "GetLogFilter"],
        admin: &["Backup", "FinishBackup", "SetLogFilter", "GetDiagnostics"],
    },
];

/// As what one has to come to call a method; none: everybody may. `path` is that of the request, `/package.Service/Method`.
fn required(path: &str) -> Option<Role> {
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
    if OPEN.contains(&service) {
        return None;
    }
    let row = TABLE.iter().find(|row| service.strip_prefix(PACKAGE) == Some(row.service));
    match row {
        Some(row) if row.app.contains(&method) => Some(Role::App),
        _ => Some(Role::Admin),
    }
}

/// Every method of our protos has exactly one row, and no row is without a method.
pub(crate) fn check_complete() {
    let described = FileDescriptorSet::decode(proto::DESCRIPTORS).expect("they were compiled with the crate");
    let mut offered: Vec<(String, String)> = Vec::new();
    for file in described.file.iter().filter(|file| file.package() == PACKAGE.trim_end_matches('.')) {
        for service in &file.service {
            let methods = service.method.iter();
            offered.extend(methods.map(|method| (service.name().to_owned(), method.name().to_owned())));
        }
    }
    let mut listed: Vec<(String, String)> = Vec::new();
    for row in TABLE {
        let methods = row.app.iter().chain(row.admin);
        listed.extend(methods.map(|method| (row.service.to_owned(), (*method).to_owned())));
    }
    offered.sort();
    listed.sort();
    assert_eq!(offered, listed, "src/api/middleware/access.rs must say of every method who may call it");
}

impl<S> Layer<S> for Tokens {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, tokens: self.clone() }
    }
}

/// Lets through what its caller may call.
#[derive(Debug, Clone)]
pub(crate) struct Guarded<S> {
    inner: S,
    tokens: Tokens,
}

impl<S, B> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match judge(&self.tokens, &request) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(status) => Either::Right(ready(Ok(status.into_http()))),
        }
    }
}

fn judge<B>(tokens: &Tokens, request: &Request<B>) -> Result<(), Status> {
    let Some(required) = required(request.uri().path()) else { return Ok(()) };
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let role = tokens.admit(header.and_then(|value| value.strip_prefix("Bearer ")));
    let refusal = match (role, required) {
        (Some(Role::Admin), _) | (Some(Role::App), Role::App) => return Ok(()),
        (Some(Role::App), Role::Admin) => Refusal::new(
            Code::PermissionDenied,
            "ADMIN_REQUIRED",
            "only administrators may do this: expected the token `admin` of the node's token file, found `app`",
        ),
        (None, _) => {
            let message = match header {
                None => {
                    "expected the header `authorization: Bearer TOKEN` with a token of the node's token file, found none"
                }
                Some(_) => "the token is not one of the node's token file; ask for the token in force",
            };
            Refusal::new(Code::Unauthenticated, "UNAUTHENTICATED", message)
        }
    };
    Err(refusal.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_a_row() {
        check_complete();
    }

    #[test]
    fn what_the_table_does_not_name_is_for_administrators() {
        assert_eq!(required("/outrigger.v1.EventLog/Append"), Some(Role::App));
        assert_eq!(required("/outrigger.v1.Projections/Promote"), Some(Role::Admin));
        assert_eq!(required("/outrigger.v1.EventLog/Truncate"), Some(Role::Admin));
        assert_eq!(required("/outrigger.v2.EventLog/Append"), Some(Role::Admin));
        assert_eq!(required("/EventLog/Append"), Some(Role::Admin));
        assert_eq!(required("Append"), Some(Role::Admin));
        assert_eq!(required("/grpc.health.v1.Health/Check"), None);
    }

    #[test]
    fn a_call_is_judged_by_its_token() {
        let tokens = Tokens::default();
        let check = |path: &str, header: Option<&str>, expected: Option<Code>| {
            let mut request = Request::builder().uri(format!("http://node{path}"));
            if let Some(header) = header {
                request = request.header(AUTHORIZATION, header);
            }
            let judged = judge(&tokens, &request.body(()).unwrap());
            assert_eq!(judged.err().map(|status| status.code()), expected, "{path} {header:?}");
        };
        let (append, promote) = ("/outrigger.v1.EventLog/Append", "/outrigger.v1.Projections/Promote");
        check(promote, None, None);
        tokens.set("app-secret", "admin-secret");
        check(append, None, Some(Code::Unauthenticated));
        check(append, Some("Bearer other"), Some(Code::Unauthenticated));
        check(append, Some("app-secret"), Some(Code::Unauthenticated));
        check(append, Some("Bearer app-secret"), None);
        check(promote, Some("Bearer app-secret"), Some(Code::PermissionDenied));
        check(promote, Some("Bearer admin-secret"), None);
        check("/grpc.health.v1.Health/Check", None, None);
    }
}
