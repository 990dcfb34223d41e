//! The process environment: the only place that reads it.
//!
//! Owns the names of variables. A variable `OUTRIGGER_*` that names no key is a warning, not an error, because
//! Kubernetes injects such for every service of that name.

use std::{collections::BTreeMap, env, path::PathBuf};

use super::{KEYS, Source, settings::Given};

const PREFIX: &str = "OUTRIGGER_";
const ADDR: &str = "OUTRIGGER_ADDR";
const TOKEN: &str = "OUTRIGGER_TOKEN";
const TLS_CA: &str = "OUTRIGGER_TLS_CA";
const TLS_CERT: &str = "OUTRIGGER_TLS_CERT";
const TLS_KEY: &str = "OUTRIGGER_TLS_KEY";
/// What the commands that talk to a node read, and `serve` does not.
const OF_CLIENTS: [&str; 5] = [ADDR, TOKEN, TLS_CA, TLS_CERT, TLS_KEY];
const NO_COLOR: &str = "NO_COLOR";
/// The short name of the variable of `telemetry.log`; the long one wins.
const LOG: &str = "OUTRIGGER_LOG";

/// The variables that concern Outrigger, as they were when the process began.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

/// What the environment says to the commands that talk to a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientDefaults {
    /// `OUTRIGGER_ADDR`: the node to talk to.
    pub addr: Option<String>,
    /// `OUTRIGGER_TOKEN`: the token to present.
    pub token: Option<String>,
    /// `OUTRIGGER_TLS_CA`: the authority of the node's certificate.
    pub tls_ca: Option<PathBuf>,
    /// `OUTRIGGER_TLS_CERT`: the certificate to present.
    pub tls_cert: Option<PathBuf>,
    /// `OUTRIGGER_TLS_KEY`: the key of that certificate.
    pub tls_key: Option<PathBuf>,
    /// `NO_COLOR` is set.
    pub no_colour: bool,
}

impl Environment {
    /// The variables of this process; one that is not UTF-8 is read with replacement characters.
    pub fn of_process() -> Self {
        let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
        env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
    }

    /// The defaults of client commands.
    pub fn client_defaults(&self) -> ClientDefaults {
        let value = |name| self.0.get(name).filter(|value: &&String| !value.is_empty()).cloned();
        let path = |name| value(name).map(PathBuf::from);
        ClientDefaults {
            addr: value(ADDR),
            token: value(TOKEN),
            tls_ca: path(TLS_CA),
            tls_cert: path(TLS_CERT),
            tls_key: path(TLS_KEY),
            no_colour: value(NO_COLOR).is_some(),
        }
    }

    /// Sets the keys that variables name; returns a warning for each variable that names none.
    pub(super) fn add_to(&self, given: &mut Given) -> Vec<String> {
        let mut warnings = Vec::new();
        for (name, value) in &self.0 {
            if OF_CLIENTS.contains(&name.as_str()) || !name.starts_with(PREFIX) {
                continue;
            }
            let is_named =
                |key: &&super::Key| key.variable() == *name || (name == LOG && key.name == "telemetry.log");
            match KEYS.iter().find(is_named) {
                Some(key) => given.set(key.name, value.clone(), Source::Environment(name.clone())),
                None => {
                    warnings.push(format!("the environment variable {name} names no setting and is ignored"));
                }
            }
        }
        warnings
    }
}

impl FromIterator<(String, String)> for Environment {
    /// Keeps the variables that concern Outrigger.
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        let ours = |name: &str| name.starts_with(PREFIX) || name == NO_COLOR;
        Self(variables.into_iter().filter(|(name, _)| ours(name)).collect())
    }
}
