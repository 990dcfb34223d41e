//! What every command takes: which node to talk to, as whom, over what, and how answers are printed.
//!
//! A flag comes before its environment variable. Reads the files of TLS; does not connect.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{
    client::{self, ClientTls, Node},
    error::CliError,
    output::Format,
};
use crate::{
    config::ClientDefaults,
    disk::{self, real::RealDisk},
    limits::TLS_FILE_BYTES_MAX,
};

const ADDR_HELP: &str =
    "The node to talk to: HOST:PORT or unix:PATH [env: OUTRIGGER_ADDR] [default: 127.0.0.1:7400]";
const TOKEN_HELP: &str = "The token to present, where the node asks for one [env: OUTRIGGER_TOKEN]";
const CA_HELP: &str =
    "The authority of the node's certificate, in PEM form; connects with TLS [env: OUTRIGGER_TLS_CA]";
const CERT_HELP: &str =
    "The certificate to present, where the node asks for one, in PEM form [env: OUTRIGGER_TLS_CERT]";
const KEY_HELP: &str = "The key of that certificate, in PEM form [env: OUTRIGGER_TLS_KEY]";

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Common options")]
pub(super) struct Common {
    #[arg(long, global = true, help = ADDR_HELP)]
    addr: Option<String>,
    #[arg(long, global = true, help = TOKEN_HELP)]
    token: Option<String>,
    #[arg(long, global = true, value_name = "FILE", help = CA_HELP)]
    tls_ca: Option<PathBuf>,
    #[arg(long, global = true, value_name = "FILE", help = CERT_HELP)]
    tls_cert: Option<PathBuf>,
    #[arg(long, global = true, value_name = "FILE", help = KEY_HELP)]
    tls_key: Option<PathBuf>,
    /// For people, or for programs
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(super) output: Format,
}

impl Common {
    /// The node that these name.
    pub(super) fn node(self, defaults: ClientDefaults) -> Result<Node, CliError> {
        let addr = self.addr.or(defaults.addr);
        let token = self.token.or(defaults.token);
        let node = Node::new(addr.as_deref().unwrap_or(client::ADDR_DEFAULT), token.as_deref())?;
        let ca = self.tls_ca.or(defaults.tls_ca);
        let cert = self.tls_cert.or(defaults.tls_cert);
        let key = self.tls_key.or(defaults.tls_key);
        let Some(ca) = ca else {
            return match cert.or(key) {
                None => Ok(node),
                Some(_) => Err(CliError::Usage(
                    "--tls-cert and --tls-key need --tls-ca: the authority of the node's certificate".into(),
                )),
            };
        };
        let identity = match (cert, key) {
            (Some(cert), Some(key)) => Some((read("--tls-cert", &cert)?, read("--tls-key", &key)?)),
            (None, None) => None,
            _ => return Err(CliError::Usage("--tls-cert and --tls-key go together".into())),
        };
        Ok(node.with_tls(ClientTls { ca: read("--tls-ca", &ca)?, identity }))
    }
}

fn read(flag: &str, path: &Path) -> Result<Vec<u8>, CliError> {
    let bytes = disk::read_file(&RealDisk, path, TLS_FILE_BYTES_MAX);
    bytes.map_err(|error| CliError::failed(format!("{flag}: cannot read {}: {error}", path.display())))
}
