//! The part of the demo about several services: two that own their events, and one that imports both and joins them.
//!
//! Three nodes of this process, like any others but that the bus between them is in memory instead of NATS. Definitions and
//! settings are those of `examples/airport`. Every figure is read from documents of the importing node.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use super::{FLIGHTS, Questions, WEATHER, any_port, print, story};
use crate::{
    api::proto::v1::{GetHeadRequest, GetMeshStatusRequest, GetMeshStatusResponse},
    app::{self, Running},
    cli::{
        Session,
        client::Node,
        error::CliError,
        load::{self, source::Input},
        mesh::graph,
        output::{Format, Out},
        serve::failed,
    },
    config::Config,
    disk::{self, Disk as _, real::RealDisk},
    mesh::{
        memory::{Faults, MemoryBroker},
        trust::SigningKey,
    },
    ownership::Pattern,
};

/// A node, the types it owns, and its definitions: folder, file, text.
type Service = (&'static str, &'static str, &'static [(&'static str, &'static str, &'static [u8])]);

const SERVICES: [Service; 3] = [
    (
        "flights",
        "flight.*",
        &[(
            "exports",
            "departures-v1.yaml",
            include_bytes!("../../../examples/airport/flights/exports/departures-v1.yaml"),
        )],
    ),
    (
        "weather",
        "weather.*",
        &[(
            "exports",
            "observations-v1.yaml",
            include_bytes!("../../../examples/airport/weather/exports/observations-v1.yaml"),
        )],
    ),
    (
        "operations",
        "operations.*",
        &[
            (
                "imports",
                "flights.yaml",
                include_bytes!("../../../examples/airport/operations/imports/flights.yaml"),
            ),
            (
                "imports",
                "weather.yaml",
                include_bytes!("../../../examples/airport/operations/imports/weather.yaml"),
            ),
            (
                "projections",
                "board-v1.yaml",
                include_bytes!("../../../examples/airport/operations/projections/board-v1.yaml"),
            ),
        ],
    ),
];
/// How long until the importing node has everything.
const ARRIVE_MAX: Duration = Duration::from_secs(60);
/// How often it is asked.
const LOOK: Duration = Duration::from_millis(20);

/// Starts three nodes below `dir`, tells the story, and stops them.
pub(super) async fn tell(dir: &Path) -> Result<(), CliError> {
    let broker = MemoryBroker::new(0, Faults::none());
    let mut running = Vec::new();
    let told = tell_with(dir, &broker, &mut running).await;
    for node in running {
        node.stop().await.map_err(failed)?;
    }
    told
}

async fn tell_with(dir: &Path, broker: &MemoryBroker, running: &mut Vec<Running>) -> Result<(), CliError> {
    let mut trust = Vec::new();
    let mut sessions = Vec::new();
    for (name, ..) in &SERVICES[..2] {
        let key = SigningKey::generate();
        let written = RealDisk.create_private(&dir.join(format!("{name}.nk")), key.seed().as_bytes());
        written.map_err(|error| unwritable(dir, &error))?;
        trust.push(format!("{name}: [{{key: {}}}]\n", key.public()));
    }
    disk::replace_file(&RealDisk, &dir.join("trust.yaml"), trust.concat().as_bytes())
        .map_err(|error| unwritable(dir, &error))?;
    for service in &SERVICES {
        let config = prepare(service, dir).map_err(|error| unwritable(dir, &error))?;
        let node = app::start_on(config, Some(Arc::new(broker.connect(service.0)))).await.map_err(failed)?;
        let client = Node::new(&node.grpc_addr.to_string(), None)?;
        sessions.push(Session { node: client, output: Format::Table });
        running.push(node);
    }
    let [flights, weather, operations] = &sessions[..] else {
        unreachable!("three services were started");
    };
    print(&[
        String::new(),
        "Three more nodes: flights and weather own their events and export some of them; operations imports both into".into(),
        "a model of its own. Between services there is NATS; here it is a bus in memory.".into(),
        String::new(),
    ])?;
    for (name, owner, bytes) in [("flights", flights, FLIGHTS), ("weather", weather, WEATHER)] {
        let (loaded, _, head) = load::load_all(owner, Input::memory(name, bytes)).await?;
        print(&[format!("{name}: loaded {loaded} events, head {head}")])?;
    }
    let arrived = timeout(ARRIVE_MAX, arrive(&[flights, weather], operations)).await;
    arrived.map_err(|_| CliError::failed("operations did not receive everything within a minute"))??;
    print(&[String::new()])?;
    graph::draw(&[status(flights).await?, status(weather).await?, status(operations).await?])?;
    let head = operations.node.event_log().await?.get_head(GetHeadRequest {}).await?.into_inner();
    let mut questions = Questions { query: operations.node.query().await?, at_least: head.token };
    let airports = questions.list(super::all("board", "airports")).await?;
    let mut out = Out::standard();
    out.line("")?;
    out.line("Delays and weather, joined by operations (collection airports of the projection board)")?;
    out.table(&story::joined_table(&airports))?;
    out.flush()
}

/// Waits until the importing node has taken all that the owners export of their logs.
async fn arrive(owners: &[&Session; 2], importer: &Session) -> Result<(), CliError> {
    for owner in owners {
        let head = owner.node.event_log().await?.get_head(GetHeadRequest {}).await?.into_inner().head;
        loop {
            let (exported, imported) = (status(owner).await?, status(importer).await?);
            let taken = imported
                .imports
                .iter()
                .filter(|import| import.from.as_ref().is_some_and(|from| from.owner == exported.node));
            let taken: u64 = taken.filter_map(|import| import.cursor.as_ref()).map(|cursor| cursor.seq).sum();
            if exported.exports.iter().all(|export| export.position >= head && export.seq == taken) {
                break;
            }
            sleep(LOOK).await;
        }
    }
    Ok(())
}

async fn status(session: &Session) -> Result<GetMeshStatusResponse, CliError> {
    let mut client = session.node.mesh().await?;
    Ok(client.get_mesh_status(GetMeshStatusRequest {}).await?.into_inner())
}

/// Writes a service's definitions and says how its node is to run.
fn prepare((name, owns, files): &Service, dir: &Path) -> std::io::Result<Config> {
    let home = dir.join(name);
    let mut config = Config { node: (*name).to_owned(), data_dir: home.join("data"), ..Config::default() };
    config.grpc.listen = any_port().into();
    config.http.listen = any_port();
    config.owns.types = Some(vec![Pattern::parse(owns).expect("the demo's patterns are valid")]);
    config.mesh.trust_file = Some(dir.join("trust.yaml"));
    for (folder, file, text) in *files {
        let folder_path = home.join(folder);
        RealDisk.create_dir_all(&folder_path)?;
        disk::replace_file(&RealDisk, &folder_path.join(file), text)?;
        match *folder {
            "exports" => {
                config.mesh.key_file = Some(dir.join(format!("{name}.nk")));
                config.exports_dir = Some(folder_path);
            }
            "imports" => config.imports_dir = Some(folder_path),
            _ => config.projections.dir = Some(folder_path),
        }
    }
    Ok(config)
}

fn unwritable(dir: &Path, error: &std::io::Error) -> CliError {
    CliError::failed(format!("cannot write into {}: {error}; set TMPDIR", dir.display()))
}
