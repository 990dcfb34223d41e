//! `outrigger healthcheck`: asks a page of a node's probes, and is the exit code of Docker's HEALTHCHECK and of `helm test`.
//!
//! Invariants: one request and one line; it ends within its time, whatever the other side does, and reads a bounded
//! answer. Does not know what makes a node ready, and speaks no TLS: probes have none.

use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, Uri, client::conn::http1, header::HOST, http::uri::PathAndQuery};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpStream;

use super::{
    Session,
    error::CliError,
    output::{Format, print_lines},
    text::to_line,
};

/// A page of probes is a word and some warnings.
const PAGE_BYTES_MAX: usize = 64 * 1_024;

/// What `healthcheck` takes.
#[derive(Debug, Args)]
pub struct HealthcheckArgs {
    /// The node's probes: http://HOST:PORT, or the whole address of a page
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7480")]
    pub url: String,
    /// What to ask, where the URL names no page
    #[arg(long, value_enum, default_value_t)]
    pub probe: Probe,
    /// Seconds that it may take
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub timeout: u64,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
Prints what the page says and exits with 0 if it answers 200, else with 1. It needs no token.

Examples:
  outrigger healthcheck
  outrigger healthcheck --probe startup --timeout 2
  outrigger healthcheck --url http://flights-outrigger:7480/readyz";

/// The pages of probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Probe {
    /// /readyz: appends and reads are served
    #[default]
    Ready,
    /// /startupz: the log is recovered
    Startup,
    /// /healthz: the process runs
    Live,
}

impl Probe {
    const fn path(self) -> &'static str {
        match self {
            Self::Ready => "/readyz",
            Self::Startup => "/startupz",
            Self::Live => "/healthz",
        }
    }
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    url: &'a str,
    status: u16,
    text: &'a str,
}

/// Asks once; an answer other than 200 and no answer are errors.
pub async fn run(session: &Session, args: &HealthcheckArgs) -> Result<(), CliError> {
    let target = Target::parse(&args.url, args.probe)?;
    let wait = Duration::from_secs(args.timeout);
    let asked = tokio::time::timeout(wait, target.ask()).await;
    let late = |_| Err(format!("no answer within {} s", args.timeout));
    let (status, text) = asked.unwrap_or_else(late).map_err(|reason| {
        CliError::failed(format!(
            "{}: {reason}; is a node running there, and is this the address of http.listen?",
            target.url
        ))
    })?;
    if status != StatusCode::OK {
        return Err(CliError::failed(format!("{} answers {}: {}", target.url, status.as_u16(), text.trim())));
    }
    let answer = Answer { url: &target.url, status: status.as_u16(), text: text.trim() };
    print_lines(&[match session.output {
        Format::Table => answer.text.lines().collect::<Vec<_>>().join("; "),
        Format::Json => to_line(&answer),
    }])
}

/// A page of a node.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    url: String,
    /// Host and port, as the request names them.
    authority: String,
    path: String,
}

impl Target {
    fn parse(text: &str, probe: Probe) -> Result<Self, CliError> {
        let invalid = || {
            CliError::Usage(format!(
                "--url: expected http://HOST:PORT or http://HOST:PORT/PAGE, found {text:?}"
            ))
        };
        let uri: Uri = text.parse().map_err(|_| invalid())?;
        let authority = uri.authority().ok_or_else(invalid)?;
        if uri.scheme_str() != Some("http") || authority.port_u16().is_none() || text.contains('@') {
            return Err(invalid());
        }
        let path = match uri.path_and_query().map(PathAndQuery::as_str) {
            None | Some("/") => probe.path(),
            Some(path) => path,
        };
        let (authority, path) = (authority.as_str().to_owned(), path.to_owned());
        Ok(Self { url: format!("http://{authority}{path}"), authority, path })
    }

    async fn ask(&self) -> Result<(StatusCode, String), String> {
        let stream = TcpStream::connect(&self.authority).await.map_err(|error| error.to_string())?;
        let talking = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = talking.map_err(|error| error.to_string())?;
        let request = Request::get(&self.path).header(HOST, &self.authority).body(Empty::<Bytes>::new());
        let request = request.map_err(|error| error.to_string())?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let status = response.status();
            let body = Limited::new(response.into_body(), PAGE_BYTES_MAX).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            Ok((status, String::from_utf8_lossy(&body).into_owned()))
        };
        // The connection moves the bytes of the answer; it may end before the answer is put together.
        let driver = async {
            drop(connection.await);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            answer = answer => answer,
            () = driver => Err("the connection ended".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_page_or_the_probe_does() {
        let parsed = |url: &str, probe| {
            let target = Target::parse(url, probe).unwrap();
            (target.authority, target.path)
        };
        let is = |authority: &str, path: &str| (authority.to_owned(), path.to_owned());
        assert_eq!(parsed("http://127.0.0.1:7480", Probe::Ready), is("127.0.0.1:7480", "/readyz"));
        assert_eq!(parsed("http://[::1]:7480/", Probe::Startup), is("[::1]:7480", "/startupz"));
        assert_eq!(parsed("http://flights:1/healthz", Probe::Ready), is("flights:1", "/healthz"));
    }

    #[test]
    fn other_texts_are_refused_with_what_is_expected() {
        for url in ["", "127.0.0.1:7480", "https://a:1", "http://a", "http://a:b", "http://u@a:1", "/readyz"]
        {
            let error = Target::parse(url, Probe::Ready).unwrap_err();
            assert!(error.to_string().contains("expected http://HOST:PORT"), "{url}: {error}");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
