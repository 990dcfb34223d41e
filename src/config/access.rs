//! Who can reach the gRPC listener, and what it must then ask for.
//!
//! Pure: judges settings against each other. Does not open files.

use super::{
    Config, Listen, Problem, Tls,
    settings::{Checked, Given},
    value,
};

const CERT: &str = "grpc.tls.cert_file";
const KEY: &str = "grpc.tls.key_file";
const CLIENT_CA: &str = "grpc.tls.client_ca_file";

/// The files of TLS, where a certificate and its key are named.
pub(super) fn tls(checked: &mut Checked<'_>) -> Option<Tls> {
    let [cert, key, client_ca] = [CERT, KEY, CLIENT_CA].map(|name| checked.optional(name, value::path));
    Some(Tls { cert_file: cert?, key_file: key?, client_ca_file: client_ca })
}

/// Adds what is wrong with them.
pub(super) fn check(given: &Given, config: &Config, problems: &mut Vec<Problem>) {
    check_tls(given, config, problems);
    check_exposure(given, config, problems);
}

fn check_tls(given: &Given, config: &Config, problems: &mut Vec<Problem>) {
    let mut problem = |name: &str, message: String| {
        problems.push(Problem { source_of_value: given.source(name), message });
    };
    for (name, needed) in [(CERT, KEY), (KEY, CERT), (CLIENT_CA, CERT)] {
        if given.has(name) && !given.has(needed) {
            problem(
                name,
                format!("{name} needs {needed}: a listener with TLS has a certificate and its key"),
            );
        }
    }
    if let Listen::Unix(_) = config.grpc.listen
        && given.has(CERT)
    {
        problem(CERT, format!("{CERT} goes with a TCP address; a Unix socket has no TLS"));
    }
}

/// A gRPC listener that other machines can reach must ask for tokens or for certificates.
fn check_exposure(given: &Given, config: &Config, problems: &mut Vec<Problem>) {
    let Listen::Tcp(listen) = config.grpc.listen else { return };
    if listen.ip().is_loopback() || given.has("grpc.token_file") || given.has(CLIENT_CA) {
        return;
    }
    problems.push(Problem {
        source_of_value: given.source("grpc.listen"),
        message: format!(
            "grpc.listen {listen} can be reached from other machines and no token or certificate is asked for; \
             set grpc.token_file or {CLIENT_CA}, or listen on 127.0.0.1"
        ),
    });
}
