//! Binding the listeners: TCP addresses, and Unix sockets, which are files that outlive their process.
//!
//! Invariants: a socket that somebody answers on is never taken away; one that nobody answers on is replaced in one step; a socket can
//! be used by its owner and group alone, from its first moment on. Does not know what is served.

use std::{
    ffi::OsString,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::AppError;
use crate::{
    api::{listen::Listener, tls::Tls},
    config::Listen,
    disk::{Disk as _, real::RealDisk},
};

/// Owner and group, whichever way a pod's containers share the directory.
const SOCKET_MODE: u32 = 0o660;

/// Something bound, not yet served.
#[derive(Debug)]
pub(super) enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Bound {
    /// Binds what a setting names.
    pub(super) async fn bind(setting: &'static str, listen: &Listen) -> Result<Self, AppError> {
        match listen {
            Listen::Tcp(addr) => Ok(Self::Tcp(bind_tcp(setting, *addr).await?)),
            Listen::Unix(path) => {
                let bound = bind_socket(path).await;
                let listener =
                    bound.map_err(|error| AppError::Bind { setting, addr: listen.clone(), error })?;
                Ok(Self::Unix(listener, path.clone()))
            }
        }
    }

    /// Where it listens: the port that was taken where any was asked for.
    pub(super) fn addr(&self) -> Result<Listen, AppError> {
        match self {
            Self::Tcp(listener) => local_addr(listener).map(Listen::Tcp),
            Self::Unix(_, path) => Ok(Listen::Unix(path.clone())),
        }
    }

    /// Ready to be served, with TLS where that is configured.
    pub(super) fn listener(self, tls: Option<Tls>) -> Listener {
        match (self, tls) {
            (Self::Tcp(listener), None) => Listener::Tcp(listener),
            (Self::Tcp(listener), Some(tls)) => Listener::Tls(listener, tls),
            (Self::Unix(listener, _), _) => Listener::Unix(listener),
        }
    }
}

/// Binds a TCP address.
pub(super) async fn bind_tcp(setting: &'static str, addr: SocketAddr) -> Result<TcpListener, AppError> {
    TcpListener::bind(addr).await.map_err(|error| AppError::Bind { setting, addr: Listen::Tcp(addr), error })
}

pub(super) fn local_addr(listener: &TcpListener) -> Result<SocketAddr, AppError> {
    listener.local_addr().map_err(|error| AppError::Thread(format!("a listener has no address: {error}")))
}

/// Binds under another name, sets the mode, and gives it its name: who can connect under that name may.
async fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    match UnixStream::connect(path).await {
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody answers on it")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && RealDisk.is_socket(path)? => {
            tracing::info!(path = %path.display(), "the socket of a process that is gone is replaced");
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        Err(error) => return Err(error),
    }
    let mut new = OsString::from(path);
    new.push(".new");
    let new = PathBuf::from(new);
    match RealDisk.remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    RealDisk.set_mode(&new, SOCKET_MODE)?;
    RealDisk.rename(&new, path)?;
    Ok(listener)
}

/// Takes the socket of a node that has stopped away; it would be replaced anyway.
pub(super) fn remove_socket(listen: &Listen) {
    if let Listen::Unix(path) = listen
        && let Err(error) = RealDisk.remove_file(path)
    {
        tracing::warn!(path = %path.display(), %error, "the socket could not be removed; the next start replaces it");
    }
}
