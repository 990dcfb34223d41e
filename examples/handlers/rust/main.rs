//! The projection `departures` as a service in Rust. `cargo run --example handler -- --help` says how.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its reader")]

mod airport;
mod kit;

use std::process::ExitCode;

use outrigger::api::proto::v1;
use tonic::{Status, transport::Channel};

const HELP: &str = "\
handler [--addr HOST:PORT] [--version N] [--worker NAME] [--credits N]

Handles the events of the projection departures for a node that serves at --addr (127.0.0.1:7400), as version N (2),
under the name NAME (rust-1), with at most --credits (2048) events at a time. Ends when the node does.";

struct Options {
    addr: String,
    version: u32,
    worker: String,
    credits: u32,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(wrong) => {
            eprintln!("{wrong}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match work(&options).await {
        Ok(answered) => {
            println!("answered {answered} events");
            ExitCode::SUCCESS
        }
        Err(status) => {
            eprintln!("{}: {}", status.code(), status.message());
            ExitCode::FAILURE
        }
    }
}

async fn work(options: &Options) -> Result<u64, Status> {
    let unreachable = |error: tonic::transport::Error| Status::unavailable(error.to_string());
    let endpoint = Channel::from_shared(format!("http://{}", options.addr));
    let endpoint = endpoint.map_err(|error| Status::invalid_argument(error.to_string()))?;
    // A node that is gone without a word is noticed.
    let endpoint = endpoint.http2_keep_alive_interval(std::time::Duration::from_secs(10)).tcp_nodelay(true);
    let channel = endpoint.connect().await.map_err(unreachable)?;
    let definition = airport::DEFINITION.replace("version: 2", &format!("version: {}", options.version));
    let attach = v1::AttachWorker {
        projection: "departures".into(),
        version: options.version,
        worker: options.worker.clone(),
        credits: options.credits,
        deadline: None,
        definition: Some(definition),
    };
    let mut worker = kit::Worker::attach(channel, attach).await?;
    println!("attached to departures version {} as {}", options.version, options.worker);
    worker.work(&mut airport::Departures).await?;
    Ok(worker.answered)
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let (addr, worker) = ("127.0.0.1:7400".to_owned(), "rust-1".to_owned());
    let mut options = Options { addr, version: 2, worker, credits: 2_048 };
    while let Some(word) = words.next() {
        if word == "--help" || word == "-h" {
            return Ok(None);
        }
        let value = words.next().ok_or_else(|| format!("{word}: expected a value behind it, found none"))?;
        let number = || value.parse().map_err(|_| format!("{word}: expected a number, found {value:?}"));
        match word.as_str() {
            "--addr" => options.addr = value,
            "--version" => options.version = number()?,
            "--worker" => options.worker = value,
            "--credits" => options.credits = number()?,
            _ => return Err(format!("unknown option {word}")),
        }
    }
    Ok(Some(options))
}
