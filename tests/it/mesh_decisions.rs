//! Decisions about a running mesh, through the API and the command line: what each changes, and when it is refused.

use std::{fs, path::Path, process::Command, sync::Arc};

use outrigger::{
    api::proto::v1::{self, ImportErrorKind as Kind, ImportState, mesh_client::MeshClient},
    app,
    disk::real::RealDisk,
    mesh::{
        memory::{Faults, MemoryBroker},
        trust::SigningKey,
    },
};
use tonic::{Code, transport::Channel};

use crate::{
    mesh_two_nodes::{events, import, pair},
    support::{Node, append, binary, check_refused, config, event},
};

const EXPORT: &str = "export: departures\nversion: 1\nevents:\n  flight.departed: {keep: [flight, delay]}\n";
const IMPORT: &str = "import: flights\nfrom: {node: flights, export: departures, version: 1}\nstreams: 'flights/*'\n\
                      on_error: quarantine\nevents:\n  flight.departed:\n    append:\n    - {type: board.flight, data: {late: \
                      \"${data.delay > 15}\"}}\n";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

/// An owner and an importer that can be started again.
struct Place {
    broker: MemoryBroker,
    dir: tempfile::TempDir,
}

impl Place {
    fn new(seed: u64) -> Self {
        let (dir, key) = (tempfile::tempdir().unwrap(), SigningKey::generate());
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("exports/departures.yaml", EXPORT);
        put("imports/flights.yaml", IMPORT);
        put("trust.yaml", &format!("flights: [{{key: {}}}]\n", key.public()));
        RealDisk.create_private(&dir.path().join("flights.nk"), key.seed().as_bytes()).unwrap();
        Self { broker: MemoryBroker::new(seed, Faults::none()), dir }
    }

    /// A node of this name whose data are in a directory of this name.
    async fn start(&self, name: &str, data: &str, exports: bool) -> Node {
        let mut config = config(&self.dir.path().join(data), &[]);
        name.clone_into(&mut config.node);
        if exports {
            config.exports_dir = Some(self.dir.path().join("exports"));
            config.mesh.key_file = Some(self.dir.path().join("flights.nk"));
        } else {
            config.imports_dir = Some(self.dir.path().join("imports"));
            config.mesh.trust_file = Some(self.dir.path().join("trust.yaml"));
        }
        let running = app::start_on(config, Some(Arc::new(self.broker.connect(name)))).await.unwrap();
        Node::around(running, tempfile::tempdir().unwrap()).await
    }

    async fn flights(&self) -> Node {
        self.start("flights", "flights", true).await
    }

    async fn operations(&self) -> Node {
        self.start("operations", "operations", false).await
    }
}

fn mesh(node: &Node) -> MeshClient<Channel> {
    MeshClient::new(node.channel.clone())
}

async fn depart(node: &Node, flight: &str, delay: &str) -> u64 {
    let data = format!("{{\"flight\":\"{flight}\"{delay}}}");
    let departed = event("flight.departed", flight, &data);
    node.log().append(append(vec![departed])).await.unwrap().into_inner().events[0].position
}

/// The command line: exit code and everything that it says.
async fn cli(node: &Node, words: &[&str]) -> (i32, String) {
    let mut command = Command::new(binary());
    command.env_clear().env("OUTRIGGER_ADDR", node.grpc_addr().to_string()).args(words);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

async fn out(node: &Node, words: &[&str]) -> String {
    let (code, said) = cli(node, words).await;
    assert_eq!(code, 0, "{words:?}: {said}");
    said
}

async fn errors(node: &Node, page_size: u32) -> Vec<v1::ImportError> {
    let (mut errors, mut page_token) = (Vec::new(), None);
    loop {
        let request = v1::ListImportErrorsRequest {
            import: "flights".into(),
            page_size: Some(page_size),
            page_token: page_token.clone(),
        };
        let page = mesh(node).list_import_errors(request).await.unwrap().into_inner();
        errors.extend(page.errors);
        page_token = page.next_page_token;
        if page_token.is_none() {
            return errors;
        }
    }
}

fn kinds(errors: &[v1::ImportError]) -> Vec<(Kind, u64)> {
    errors.iter().map(|error| (error.kind(), error.position)).collect()
}

async fn retry(node: &Node) -> Result<tonic::Response<v1::RetryImportResponse>, tonic::Status> {
    mesh(node).retry_import(v1::RetryImportRequest { import: "flights".into(), reason: None }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_events_are_listed_retried_and_skipped() {
    let place = Place::new(3);
    let (flights, operations) = (place.flights().await, place.operations().await);
    check_refused(retry(&operations).await, Code::FailedPrecondition, "NOTHING_TO_RETRY", "");
    let broken = [depart(&flights, "UA1", "").await, depart(&flights, "UA2", "").await];
    let behind = depart(&flights, "UA1", ",\"delay\":20").await;
    depart(&flights, "UA3", ",\"delay\":1").await;
    assert_eq!(events(&operations, 1).await[0].stream, "flights/UA3");
    let parked = import(&mut mesh(&operations), |import| {
        import.parked_events == 3 && import.state() == ImportState::Following
    })
    .await;
    assert_eq!((parked.parked_streams, parked.skipped_events), (2, 0));

    let listed = errors(&operations, 2).await;
    let expected = [(Kind::Parked, broken[0]), (Kind::Parked, broken[1]), (Kind::Waiting, behind)];
    assert_eq!(kinds(&listed), expected);
    assert!(listed[0].error.as_ref().unwrap().contains("`data.delay` is missing"), "{listed:?}");
    let public = listed[2].event.as_ref().unwrap();
    assert_eq!((public.stream.as_str(), public.r#type.as_str()), ("UA1", "flight.departed"));
    assert_eq!(public.data.as_deref(), Some("{\"delay\":20,\"flight\":\"UA1\"}"));
    let table = out(&operations, &["mesh", "errors", "flights"]).await;
    assert!(table.contains("waits behind the first parked event of its stream"), "{table}");
    assert!(out(&operations, &["mesh", "status"]).await.contains("parked events: 3, streams: 2"));
    let token = v1::ListImportErrorsRequest {
        import: "flights".into(),
        page_token: Some("x".into()),
        ..v1::ListImportErrorsRequest::default()
    };
    let refused = mesh(&operations).list_import_errors(token).await;
    check_refused(refused, Code::InvalidArgument, "PAGE_TOKEN_MISMATCH", "page_token");

    // A restart keeps it all, once; one that waits is not skipped, the first of a stream is.
    operations.stop().await;
    let operations = place.operations().await;
    import(&mut mesh(&operations), |import| import.parked_events == 3).await;
    let position = |position: u64| position.to_string();
    let skip = |position: String| {
        ["mesh".to_owned(), "skip".into(), "flights".into(), "--expect-position".into(), position]
    };
    let words = skip(position(behind));
    let (code, said) = cli(&operations, &words.each_ref().map(String::as_str)).await;
    assert!(code == 1 && said.contains("OTHER_POSITION"), "{said}");
    let words = skip(position(broken[1]));
    assert!(out(&operations, &words.each_ref().map(String::as_str)).await.contains("decided at position"));
    import(&mut mesh(&operations), |import| import.parked_events == 2 && import.skipped_events == 1).await;

    // The directory is watched: a mended file is in force within moments, and a retry applies what waits, in order.
    let mended = IMPORT.replace("${data.delay > 15}", "${has(data.delay) && data.delay > 15}");
    assert_ne!(mended, IMPORT);
    fs::write(place.dir.path().join("imports/flights.yaml"), mended).unwrap();
    assert!(
        out(&operations, &["mesh", "retry", "flights", "--reason", "mended"]).await.contains("tries again")
    );
    // In vain until the file is in force, and refused while parked events are being applied.
    while errors(&operations, 100).await.iter().any(|error| error.kind() != Kind::Skipped) {
        drop(retry(&operations).await);
    }
    let (code, said) = cli(&operations, &["mesh", "retry", "flights"]).await;
    assert!(code == 1 && said.contains("NOTHING_TO_RETRY"), "{said}");
    let found = events(&operations, 3).await;
    let streams: Vec<&str> = found.iter().map(|event| event.stream.as_str()).collect();
    assert_eq!(streams, ["flights/UA3", "flights/UA1", "flights/UA1"]);
    assert_eq!((&found[1].data[..], &found[2].data[..]), (&b"{\"late\":false}"[..], &b"{\"late\":true}"[..]));
    let origin = |event: &v1::Event| event.origin.as_ref().unwrap().position;
    assert_eq!((origin(&found[1]), origin(&found[2])), (broken[0], behind));
    let skipped = errors(&operations, 100).await;
    assert_eq!(kinds(&skipped), [(Kind::Skipped, broken[1])]);
    assert!(skipped[0].is_decided && skipped[0].event.as_ref().unwrap().stream == "UA2");
    flights.stop().await;
    operations.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_refused_twice_and_a_skip_names_where_the_import_stands() {
    let broker = MemoryBroker::new(4, Faults::none());
    let (flights, operations) = pair(&broker).await;
    let resume = || v1::ResumeImportRequest { import: "flights".into(), reason: None };
    check_refused(
        mesh(&operations).resume_import(resume()).await,
        Code::FailedPrecondition,
        "IMPORT_STATE",
        "",
    );
    assert!(out(&operations, &["mesh", "pause", "flights", "--reason", "x"]).await.contains("is paused"));
    import(&mut mesh(&operations), |import| import.state() == ImportState::Paused).await;
    let (code, said) = cli(&operations, &["mesh", "pause", "flights"]).await;
    assert!(code == 1 && said.contains("paused already"), "{said}");
    let broken = depart(&flights, "UA1", "").await;
    out(&operations, &["mesh", "resume", "flights"]).await;
    let stopped = import(&mut mesh(&operations), |import| import.state() == ImportState::Stopped).await;
    assert_eq!(stopped.stop.unwrap().position, broken);
    let paused = errors(&operations, 100).await;
    assert_eq!(kinds(&paused), [(Kind::Paused, broken)]);
    // Of two that skip at once one decides; the other finds nothing to skip any more.
    let skip =
        || v1::SkipImportEventRequest { import: "flights".into(), expect_position: broken, reason: None };
    let (mut one, mut other) = (mesh(&operations), mesh(&operations));
    let (one, other) = tokio::join!(one.skip_import_event(skip()), other.skip_import_event(skip()));
    assert_eq!(
        [one.is_ok(), other.is_ok()].into_iter().filter(|is_ok| *is_ok).count(),
        1,
        "{one:?} {other:?}"
    );
    depart(&flights, "UA2", ",\"delay\":1").await;
    assert_eq!(events(&operations, 1).await[0].data, "{\"flight\":\"UA2\",\"late\":false}");
    let skipped = errors(&operations, 100).await;
    assert_eq!(kinds(&skipped), [(Kind::Skipped, broken)]);
    let resync = v1::ResyncImportRequest { import: "flights".into(), reason: None };
    check_refused(
        mesh(&operations).resync_import(resync).await,
        Code::FailedPrecondition,
        "IMPORT_STATE",
        "",
    );
    let resync = v1::ResyncNodeRequest { reason: None };
    check_refused(mesh(&flights).resync_node(resync).await, Code::FailedPrecondition, "IMPORT_STATE", "");
    flights.stop().await;
    operations.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_owner_and_its_importer_resync() {
    let place = Place::new(5);
    let data = |name: &str| place.dir.path().join(name);
    let (flights, operations) = (place.flights().await, place.operations().await);
    depart(&flights, "UA1", ",\"delay\":1").await;
    events(&operations, 1).await;
    flights.stop().await;
    copy(&data("flights"), &data("backup"));
    let flights = place.flights().await;
    for n in 2..5 {
        depart(&flights, &format!("UA{n}"), ",\"delay\":1").await;
    }
    events(&operations, 4).await;
    flights.stop().await;
    fs::rename(data("flights"), data("newer")).unwrap();
    fs::rename(data("backup"), data("flights")).unwrap();

    let flights = place.flights().await;
    let rewound = loop {
        let status = mesh(&flights).get_mesh_status(v1::GetMeshStatusRequest {}).await.unwrap().into_inner();
        if let Some(rewound) = status.rewound {
            assert_eq!(status.exports[0].state(), v1::ExportState::LogRewound);
            break rewound;
        }
    };
    assert_eq!((rewound.seq, rewound.export.unwrap().export.as_str()), (4, "departures"));
    let refused = flights.log().append(append(vec![event("flight.departed", "UA9", "{}")])).await;
    assert!(refused.unwrap_err().message().contains("LOG_REWOUND"));
    let shown = out(&flights, &["mesh", "status"]).await;
    assert!(shown.contains("LOG_REWOUND: flights/departures v1 was published up to position"), "{shown}");
    let said = out(&flights, &["mesh", "resync", "--node", "--reason", "the disk is lost"]).await;
    assert!(said.contains("this node's log is what counts"), "{said}");
    depart(&flights, "UA7", ",\"delay\":99").await;

    let is_stale =
        |import: &v1::MeshImport| import.stop.as_ref().is_some_and(|stop| stop.reason == "STALE_EPOCH");
    let stop = import(&mut mesh(&operations), is_stale).await.stop.unwrap();
    assert_eq!(stop.divergence.unwrap().seq, 1);
    assert!(out(&operations, &["mesh", "imports"]).await.contains("STALE_EPOCH"));
    assert!(out(&operations, &["mesh", "resync", "flights"]).await.contains("goes on from the last event"));
    let found = events(&operations, 5).await;
    assert_eq!((found[4].stream.as_str(), found[4].data.as_ref()), ("flights/UA7", &b"{\"late\":true}"[..]));
    let import = import(&mut mesh(&operations), |import| import.state() == ImportState::Following).await;
    assert_eq!((import.cursor.unwrap().generation, import.stop), (1, None));
    flights.stop().await;
    operations.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_of_a_name_says_so() {
    let place = Place::new(6);
    let flights = place.flights().await;
    depart(&flights, "UA1", ",\"delay\":1").await;
    let published = |status: &v1::GetMeshStatusResponse| status.exports[0].acknowledged_seq == 1;
    let get = || v1::GetMeshStatusRequest {};
    while !published(&mesh(&flights).get_mesh_status(get()).await.unwrap().into_inner()) {}
    let second = place.start("flights", "second", true).await;
    depart(&second, "UA2", ",\"delay\":1").await;
    loop {
        let status = mesh(&second).get_mesh_status(get()).await.unwrap().into_inner();
        if status.exports[0].state() == v1::ExportState::NodeNameTaken {
            break;
        }
    }
    assert!(out(&second, &["mesh", "status"]).await.contains("NODE_NAME_TAKEN"));
    // Local work goes on; whoever is right is decided, not guessed.
    depart(&second, "UA3", ",\"delay\":1").await;
    let said = out(&second, &["mesh", "resync", "--node", "--reason", "it replaced the other"]).await;
    assert!(said.contains("what counts"), "{said}");
    while mesh(&second).get_mesh_status(get()).await.unwrap().into_inner().exports[0].acknowledged_seq < 2 {}
    flights.stop().await;
    second.stop().await;
}
