//! The composition root.

use std::{future::Future, net::SocketAddr};

use crate::config::Config;

/// Why a node does not run.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AppError(String);

/// A running node.
#[derive(Debug)]
pub struct Running {
    /// Where the gRPC API listens.
    pub grpc_addr: SocketAddr,
    /// Where probes and metrics are.
    pub http_addr: SocketAddr,
}

impl Running {
    /// Stops the node.
    pub async fn stop(self) -> Result<(), AppError> {
        std::future::ready(Ok(())).await
    }
}

/// Starts a node.
pub async fn start(config: Config) -> Result<Running, AppError> {
    std::future::ready(Err(AppError(format!("{} cannot start", config.node)))).await
}

/// Runs a node until `shutdown` resolves.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), AppError> {
    let running = start(config).await?;
    shutdown.await;
    running.stop().await
}
