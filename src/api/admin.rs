//! The service `Admin`: what runs here.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    backup::Backups,
    diagnostics::Handle,
    outbox::Responses,
    proto::v1::{self, admin_server},
};
use crate::{
    disk::real::RealDisk,
    events::Events,
    lifecycle::Lifecycle,
    process::{self, Usage},
};

/// What the service needs.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    pub(crate) node: Arc<str>,
    pub(crate) events: Events,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) backups: Backups,
    pub(crate) diagnostics: Handle,
}

#[tonic::async_trait]
impl admin_server::Admin for Admin {
    type BackupStream = Responses<v1::BackupResponse>;

    async fn backup(
        &self,
        request: Request<v1::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        Ok(Response::new(self.backups.start(request.into_inner()).await?))
    }

    async fn finish_backup(
        &self,
        request: Request<v1::FinishBackupRequest>,
    ) -> Result<Response<v1::FinishBackupResponse>, Status> {
        Ok(Response::new(self.backups.finish(request.into_inner()).await?))
    }

    async fn get_node(
        &self,
        _request: Request<v1::GetNodeRequest>,
    ) -> Result<Response<v1::GetNodeResponse>, Status> {
        let phase = self.lifecycle.phase();
        let log = self.events.log();
        let usage = process::usage(&RealDisk, "self").ok();
        Ok(Response::new(v1::GetNodeResponse {
            node: self.node.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            log_id: bytes::Bytes::copy_from_slice(log.log_id().as_bytes()),
            epoch: log.epoch_at(self.events.head().get().next()),
            head: self.events.head().get().get(),
            lifecycle: phase.name().to_owned(),
            reason: phase.reason().map(str::to_owned),
            uptime_seconds: self.lifecycle.uptime_seconds(),
            cpu_seconds: usage.map(|Usage { cpu, .. }| cpu.as_secs_f64()),
            resident_bytes: usage.map(|Usage { resident_bytes, .. }| resident_bytes),
        }))
    }
    async fn get_log_filter(
        &self,
        _request: Request<v1::GetLogFilterRequest>,
    ) -> Result<Response<v1::GetLogFilterResponse>, Status> {
        self.diagnostics.get_filter()
    }

    async fn set_log_filter(
        &self,
        request: Request<v1::SetLogFilterRequest>,
    ) -> Result<Response<v1::SetLogFilterResponse>, Status> {
        self.diagnostics.set_filter(request)
    }

    async fn get_diagnostics(
        &self,
        _request: Request<v1::GetDiagnosticsRequest>,
    ) -> Result<Response<v1::GetDiagnosticsResponse>, Status> {
        self.diagnostics.get().await
    }
}
