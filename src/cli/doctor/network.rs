//! Ports, or the node that has them; and NATS.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use tokio::{net::TcpListener, runtime::Handle, time::Instant};

use super::Finding;
use crate::{
    api::proto::v1::GetNodeRequest,
    cli::{Session, error::CliError},
    clock::SystemClock,
    config::{Config, Listen},
    disk::real::RealDisk,
    mesh::{
        bus::{Bus as _, BusEvent},
        nats::{NatsBus, NatsSettings},
    },
};

/// How long a node may take to say who it is.
const NODE_WAIT: Duration = Duration::from_secs(5);
/// How long NATS may take to be reached.
const NATS_WAIT: Duration = Duration::from_secs(5);
/// How often it is looked whether it was.
const NATS_LOOK: Duration = Duration::from_millis(20);

/// Whether the ports are free, or a node answers there.
pub(super) async fn ports(config: &Config, session: &Session) -> Vec<Finding> {
    let mut findings = Vec::new();
    let listens = match &config.grpc.listen {
        Listen::Tcp(addr) => Some(("grpc.listen", *addr)),
        // A socket that nobody listens on is replaced at start.
        Listen::Unix(path) => {
            findings.push(socket(path, config, session).await);
            None
        }
    };
    for (check, addr) in listens.into_iter().chain([("http.listen", config.http.listen)]) {
        findings.push(match TcpListener::bind(addr).await {
            Ok(_) => Finding::ok(check, format!("{addr} is free")),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                taken(check, addr, config, session).await
            }
            Err(error) => Finding::failed(
                check,
                format!("{addr}: {error}"),
                "name an address of this machine; ports below 1024 need privileges",
            ),
        });
    }
    findings
}

async fn taken(check: &'static str, addr: SocketAddr, config: &Config, session: &Session) -> Finding {
    let remedy = "choose another address or stop what listens there";
    let reached = match &config.grpc.listen {
        Listen::Tcp(grpc) if addr.ip().is_unspecified() => {
            SocketAddr::from(([127, 0, 0, 1], grpc.port())).to_string()
        }
        Listen::Tcp(grpc) => SocketAddr::new(addr.ip(), grpc.port()).to_string(),
        unix @ Listen::Unix(_) => unix.to_string(),
    };
    match node(session, &reached).await {
        Ok((name, version, phase)) if name == config.node => {
            Finding::ok(check, format!("the node {name} {version} runs there, {phase}"))
        }
        Ok((name, ..)) => Finding::failed(check, format!("another node, {name}, has {addr}"), remedy),
        Err(error) => {
            let found = format!("{addr} is taken, and no node answers on {reached}: {}", error.lines());
            Finding::failed(check, found, remedy)
        }
    }
}

/// Whether a node has the socket; none may.
async fn socket(path: &Path, config: &Config, session: &Session) -> Finding {
    let (check, found) = ("grpc.listen", format!("unix:{}", path.display()));
    match RealDisk.is_socket(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Finding::ok(check, format!("{found} is free"))
        }
        Err(error) => {
            Finding::failed(check, format!("{found}: {error}"), "name a path that the node can use")
        }
        Ok(false) => {
            let remedy = "name another path, or remove the file";
            Finding::failed(check, format!("{found} is a file that is no socket"), remedy)
        }
        Ok(true) => match node(session, &found).await {
            Ok((name, version, phase)) if name == config.node => {
                Finding::ok(check, format!("the node {name} {version} runs there, {phase}"))
            }
            Ok((name, ..)) => {
                let remedy = "choose another path or stop what listens there";
                Finding::failed(check, format!("another node, {name}, has {found}"), remedy)
            }
            Err(_) => Finding::ok(check, format!("{found} was left behind; a start replaces it")),
        },
    }
}

async fn node(session: &Session, addr: &str) -> Result<(String, String, String), CliError> {
    let asked = async {
        let mut client = session.node.at(addr).admin().await?;
        let node = client.get_node(GetNodeRequest {}).await?.into_inner();
        Ok((node.node, node.version, node.lifecycle))
    };
    // What listens there may be no gRPC server, and never answer.
    let asked = tokio::time::timeout(NODE_WAIT, asked).await;
    asked.unwrap_or_else(|_| {
        Err(CliError::failed(format!("it did not answer within {} s", NODE_WAIT.as_secs())))
    })
}

/// Whether NATS can be reached and does what is needed: version, size of messages, flags of the node's stream.
pub(super) async fn nats(config: &Config) -> Option<Finding> {
    let url = config.mesh.nats_url.as_ref()?;
    let settings = NatsSettings {
        credentials_file: config.mesh.nats_creds_file.clone(),
        ..NatsSettings::new(&config.node, url)
    };
    let bus = NatsBus::start(settings, &Handle::current(), Arc::new(SystemClock), Arc::new(RealDisk));
    let deadline = Instant::now() + NATS_WAIT;
    let mut reason = "there was no answer".to_owned();
    while Instant::now() < deadline {
        for event in bus.poll(0) {
            match event {
                BusEvent::Connected => {
                    let bytes = bus.message_bytes_max().unwrap_or_default();
                    let found = format!("a server that fits answers, and takes messages of {bytes} bytes");
                    return Some(Finding::ok("NATS", found));
                }
                BusEvent::Disconnected { reason: why } => reason = why,
                _ => {}
            }
        }
        tokio::time::sleep(NATS_LOOK).await;
    }
    let found = format!("not usable within {} s: {reason}", NATS_WAIT.as_secs());
    let remedy = "see that the server runs, is 2.12 or newer, lets these credentials in and has this node's stream \
                  (`outrigger mesh provision`); local work does not need it";
    Some(Finding::failed("NATS", found, remedy))
}
