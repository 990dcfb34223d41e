//! Who may call what: every method as everybody, over tokens that change while the node runs.

use std::path::Path;

use outrigger::{api::proto::DESCRIPTORS, app, config::Config};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::{
    Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, metadata::MetadataValue,
    transport::Channel,
};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

use crate::support::{Node, config};

pub(crate) const APP: &str = "the-token-of-the-app";
pub(crate) const ADMIN: &str = "the-token-of-an-admin";

/// What only administrators may do; everything else is open to the app.
const FOR_ADMINISTRATORS: [&str; 22] = [
    "Projections/BuildStandingVersion",
    "Projections/RemoveStandingVersion",
    "Projections/Retry",
    "Projections/Skip",
    "Projections/Promote",
    "Projections/Rollback",
    "Projections/Retire",
    "Projections/Pause",
    "Projections/Resume",
    "Releases/PromoteRelease",
    "Releases/RollbackRelease",
    "Releases/RemoveRelease",
    "Mesh/PauseImport",
    "Mesh/ResumeImport",
    "Mesh/RetryImport",
    "Mesh/SkipImportEvent",
    "Mesh/ResyncImport",
    "Mesh/ResyncNode",
    "Admin/Backup",
    "Admin/FinishBackup",
    "Admin/GetDiagnostics",
    "Admin/SetLogFilter",
];

fn write_tokens(dir: &Path, app: &str, admin: &str) {
    std::fs::write(dir.join("tokens"), format!("app: {app}\nadmin: {admin}\n")).unwrap();
}

pub(crate) fn with_tokens(dir: &Path) -> Config {
    write_tokens(dir, APP, ADMIN);
    let mut config = config(dir, &[]);
    config.grpc.token_file = Some(dir.join("tokens"));
    config
}

/// Calls a method with an empty request and gives what comes first; an answer is no refusal.
async fn call(channel: &Channel, path: &str, token: Option<&str>) -> Option<Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let mut request = Request::new(tokio_stream::once(()));
    if let Some(token) = token {
        let header = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
        request.metadata_mut().insert("authorization", header);
    }
    let codec = ProstCodec::<(), ()>::default();
    client.streaming(request, PathAndQuery::try_from(path).unwrap(), codec).await.err()
}

/// The code and reason with which a caller is turned away, if it is.
fn turned_away(status: Option<&Status>) -> Option<(Code, String)> {
    let status = status?;
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    let is_about_callers = ["UNAUTHENTICATED", "ADMIN_REQUIRED"].contains(&reason.as_str());
    is_about_callers.then(|| (status.code(), reason))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_lets_in_whom_it_should_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::around(app::start(with_tokens(dir.path())).await.unwrap(), dir).await;
    let described = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let (nobody, no_admin) = (
        (Code::Unauthenticated, "UNAUTHENTICATED".to_owned()),
        (Code::PermissionDenied, "ADMIN_REQUIRED".to_owned()),
    );
    let (mut methods, mut for_administrators) = (0, Vec::new());
    for file in described.file.iter().filter(|file| file.package() == "outrigger.v1") {
        for service in &file.service {
            for method in &service.method {
                let name = format!("{}/{}", service.name(), method.name());
                let path = format!("/outrigger.v1.{name}");
                methods += 1;
                for token in [None, Some("another-token-altogether"), Some("")] {
                    let status = call(&node.channel, &path, token).await;
                    assert_eq!(turned_away(status.as_ref()), Some(nobody.clone()), "{name} as nobody");
                }
                let as_app = call(&node.channel, &path, Some(APP)).await;
                let expected = FOR_ADMINISTRATORS.contains(&name.as_str()).then(|| no_admin.clone());
                assert_eq!(turned_away(as_app.as_ref()), expected, "{name} as the app");
                if expected.is_some() {
                    for_administrators.push(name.clone());
                }
                // What ends the mesh's or a projection's state is asked with an empty request, which is refused for that.
                let as_admin = call(&node.channel, &path, Some(ADMIN)).await;
                assert_eq!(turned_away(as_admin.as_ref()), None, "{name} as an administrator");
                let is_served = as_admin.is_none_or(|status| status.code() != Code::Unimplemented);
                assert!(is_served, "{name} is in the protos and not served");
            }
        }
    }
    assert!(methods > 40, "{methods}");
    for name in FOR_ADMINISTRATORS {
        assert!(for_administrators.iter().any(|found| found == name), "{name} is no method");
    }
    for open in ["/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"]
    {
        assert_eq!(turned_away(call(&node.channel, open, None).await.as_ref()), None, "{open}");
    }
    let unknown = call(&node.channel, "/outrigger.v1.EventLog/Truncate", Some(APP)).await;
    assert_eq!(turned_away(unknown.as_ref()), Some(no_admin));
    drop(node.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_change_are_in_force_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::around(app::start(with_tokens(dir.path())).await.unwrap(), dir).await;
    let head = "/outrigger.v1.EventLog/GetHead";
    let is_admitted =
        async |token: &str| turned_away(call(&node.channel, head, Some(token)).await.as_ref()).is_none();
    assert!(is_admitted(APP).await);
    write_tokens(node.dir.path(), "short", ADMIN);
    write_tokens(node.dir.path(), "another-token-of-the-app", ADMIN);
    while !is_admitted("another-token-of-the-app").await {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(!is_admitted(APP).await);
    assert!(is_admitted(ADMIN).await);
    drop(node.stop().await);
}
