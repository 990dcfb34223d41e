//! The gRPC clients that commands talk through.
//!
//! Owns addresses, the bearer token, TLS and the connection. Does not know what is asked.

use std::fmt;

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::error::CliError;
use crate::{
    api::proto::v1::{
        admin_client::AdminClient, event_log_client::EventLogClient, mesh_client::MeshClient,
        projections_client::ProjectionsClient, query_client::QueryClient, releases_client::ReleasesClient,
    },
    limits::{CONNECT_WAIT_MAX, MESSAGE_BYTES_MAX},
};

/// Where commands find their node if nothing else is said.
pub const ADDR_DEFAULT: &str = "127.0.0.1:7400";

/// A connection that presents the token, if there is one.
pub type Connection = InterceptedService<Channel, Bearer>;

/// Which node to talk to, and as whom.
#[derive(Debug, Clone)]
pub struct Node {
    /// As the user named it.
    pub addr: String,
    token: Option<MetadataValue<Ascii>>,
    tls: Option<ClientTlsConfig>,
}

/// What TLS of a client needs, as PEM texts.
#[derive(Clone)]
pub struct ClientTls {
    /// Who vouches for the node.
    pub ca: Vec<u8>,
    /// The certificate to present, and its key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("identity", &self.identity.is_some()).finish_non_exhaustive()
    }
}

impl Node {
    /// A node by its address: `HOST:PORT`, the same behind `http://`, or `unix:PATH`.
    pub fn new(addr: &str, token: Option<&str>) -> Result<Self, CliError> {
        let token = token.map(|token| format!("Bearer {token}").parse());
        Ok(Self {
            addr: addr.to_owned(),
            token: token
                .transpose()
                .map_err(|_| CliError::Usage("--token: expected visible ASCII characters".into()))?,
            tls: None,
        })
    }

    /// The same, over TLS. A Unix socket stays as it is.
    #[must_use]
    pub fn with_tls(self, ClientTls { ca, identity }: ClientTls) -> Self {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
        let tls = match identity {
            Some((cert, key)) => tls.identity(Identity::from_pem(cert, key)),
            None => tls,
        };
        Self { tls: Some(tls), ..self }
    }

    /// Another node, as the same caller.
    #[must_use]
    pub fn at(&self, addr: &str) -> Self {
        Self { addr: addr.to_owned(), ..self.clone() }
    }

    /// Connects, or says why not.
    pub async fn connect(&self) -> Result<Connection, CliError> {
        let channel = self.endpoint()?.connect().await.map_err(|error| {
            CliError::failed(format!(
                "cannot reach a node at {}: {}; start one with `outrigger serve`, or name another with --addr",
                self.addr,
                innermost(&error)
            ))
        })?;
        Ok(InterceptedService::new(channel, Bearer(self.token.clone())))
    }

    fn endpoint(&self) -> Result<Endpoint, CliError> {
        let invalid =
            || CliError::Usage(format!("--addr: expected HOST:PORT or unix:PATH, found {:?}", self.addr));
        let uri = uri(&self.addr, self.tls.is_some()).ok_or_else(invalid)?;
        if uri.starts_with("https://") && self.tls.is_none() {
            let what = "--addr: https needs --tls-ca, the authority of the node's certificate";
            return Err(CliError::Usage(what.into()));
        }
        let is_socket = uri.starts_with("unix:");
        let endpoint = Endpoint::from_shared(uri).map_err(|_| invalid())?.connect_timeout(CONNECT_WAIT_MAX);
        match &self.tls {
            Some(tls) if !is_socket => endpoint.tls_config(tls.clone()).map_err(|error| {
                CliError::failed(format!("--tls-ca, --tls-cert, --tls-key: {}", innermost(&error)))
            }),
            _ => Ok(endpoint),
        }
    }

    /// A client of the event log.
    pub async fn event_log(&self) -> Result<EventLogClient<Connection>, CliError> {
        let client = EventLogClient::new(self.connect().await?);
        Ok(client.max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// A client of queries.
    pub async fn query(&self) -> Result<QueryClient<Connection>, CliError> {
        let client = QueryClient::new(self.connect().await?);
        Ok(client.max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// A client of the releases.
    pub async fn releases(&self) -> Result<ReleasesClient<Connection>, CliError> {
        let client = ReleasesClient::new(self.connect().await?);
        Ok(client.max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// A client of the node itself.
    pub async fn admin(&self) -> Result<AdminClient<Connection>, CliError> {
        let client = AdminClient::new(self.connect().await?);
        Ok(client.max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// A client of the mesh.
    pub async fn mesh(&self) -> Result<MeshClient<Connection>, CliError> {
        let client = MeshClient::new(self.connect().await?);
        Ok(client.max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// A client of the projections.
    pub async fn projections(&self) -> Result<ProjectionsClient<Connection>, CliError> {
        let client = ProjectionsClient::new(self.connect().await?);
        Ok(client.max_decoding_message_size(MESSAGE_BYTES_MAX))
    }
}

fn uri(addr: &str, is_tls: bool) -> Option<String> {
    if addr.starts_with("unix:") {
        return Some(addr.to_owned());
    }
    let (scheme, rest) = match addr.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
        Some(_) => return None,
        None => ("http", addr),
    };
    let scheme = if is_tls { "https" } else { scheme };
    let authority = rest.trim_end_matches('/');
    let (host, port) = authority.rsplit_once(':')?;
    (!host.is_empty() && port.parse::<u16>().is_ok()).then(|| format!("{scheme}://{authority}"))
}

/// The cause behind all wrappings.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Presents a bearer token with every call.
#[derive(Debug, Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(addr: &str, expected: Option<&str>) {
        assert_eq!(uri(addr, false).as_deref(), expected, "{addr:?}");
    }

    #[test]
    fn addresses_are_hosts_with_ports_or_sockets() {
        check("127.0.0.1:7400", Some("http://127.0.0.1:7400"));
        check("http://flights:7400/", Some("http://flights:7400"));
        check("[::1]:7400", Some("http://[::1]:7400"));
        check("unix:/run/outrigger.sock", Some("unix:/run/outrigger.sock"));
        check("https://flights:7400", Some("https://flights:7400"));
        assert_eq!(uri("flights:7400", true).as_deref(), Some("https://flights:7400"));
        assert_eq!(uri("http://flights:7400", true).as_deref(), Some("https://flights:7400"));
        check("ftp://flights:7400", None);
        check("flights", None);
        check(":7400", None);
        check("a:b", None);
        check("a:70000", None);
    }

    #[test]
    fn a_token_is_one_header_value() {
        assert!(Node::new(ADDR_DEFAULT, Some("secret")).is_ok());
        assert!(Node::new(ADDR_DEFAULT, Some("a\nb")).is_err());
    }
}
