//! Where connections of gRPC come from: a TCP listener, the same behind TLS, or a Unix socket.
//!
//! Invariants: TLS handshakes go on beside each other, a bounded number of them and each for a bounded time, so that a peer that says
//! nothing keeps nobody out; one that fails is told in the log and ends that connection alone. Does not know what is served.

use std::{io, pin::Pin, time::Duration};

use futures_util::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener},
    sync::mpsc,
    task::JoinSet,
};
use tokio_stream::{
    StreamExt as _,
    wrappers::{ReceiverStream, UnixListenerStream},
};
use tonic::transport::server::{Connected, TcpIncoming};

use super::tls::Tls;
use crate::{
    lifecycle::Lifecycle,
    limits::{TLS_HANDSHAKE_MAX, TLS_HANDSHAKES_MAX},
};

/// Connections that are ready and not taken yet.
const READY_MAX: usize = 16;
/// How long to wait after a listener could not accept: what it lacks, file handles say, comes back with time.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Something that listens.
#[derive(Debug)]
pub(crate) enum Listener {
    /// Plain TCP.
    Tcp(TcpListener),
    /// TCP, and TLS on it.
    Tls(TcpListener, Tls),
    /// A Unix socket.
    Unix(UnixListener),
}

/// A connection, whatever it goes over.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Connected for Box<dyn Io> {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

/// Connections as they come.
pub(crate) type Connections = Pin<Box<dyn Stream<Item = io::Result<Box<dyn Io>>> + Send>>;

impl Listener {
    /// Takes connections in until the node stops.
    pub(crate) fn connections(self, lifecycle: &Lifecycle) -> Connections {
        match self {
            Self::Tcp(listener) => {
                Box::pin(tcp(listener).map(|accepted| accepted.map(|stream| Box::new(stream) as Box<dyn Io>)))
            }
            Self::Tls(listener, tls) => {
                let (ready, connections) = mpsc::channel(READY_MAX);
                let stop = lifecycle.stop().clone();
                lifecycle.tasks().spawn(async move {
                    tokio::select! {
                        () = shake_hands(listener, tls, ready) => {}
                        () = stop.cancelled() => {}
                    }
                });
                Box::pin(ReceiverStream::new(connections))
            }
            Self::Unix(listener) => Box::pin(
                UnixListenerStream::new(listener)
                    .map(|accepted| accepted.map(|stream| Box::new(stream) as Box<dyn Io>)),
            ),
        }
    }
}

fn tcp(listener: TcpListener) -> TcpIncoming {
    // The builder's own setting does not reach listeners that come from outside. Without it a large request waits for the
    // acknowledgement of its first packets, 40 ms each time.
    TcpIncoming::from(listener).with_nodelay(Some(true))
}

/// Accepts and shakes hands until nobody takes connections any more.
async fn shake_hands(listener: TcpListener, tls: Tls, ready: mpsc::Sender<io::Result<Box<dyn Io>>>) {
    let mut incoming = tcp(listener);
    let mut handshakes = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = handshakes.join_next(), if !handshakes.is_empty() => {}
            accepted = incoming.next(), if handshakes.len() < TLS_HANDSHAKES_MAX => match accepted {
                Some(Ok(stream)) => {
                    handshakes.spawn(shake_hand(stream, tls.clone(), ready.clone()));
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
                None => return,
            },
        }
    }
}

async fn shake_hand(stream: TcpStream, tls: Tls, ready: mpsc::Sender<io::Result<Box<dyn Io>>>) {
    let peer = stream.peer_addr().ok();
    match tokio::time::timeout(TLS_HANDSHAKE_MAX, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            if ready.send(Ok(Box::new(stream))).await.is_err() {
                tracing::debug!(?peer, "the node stops; a new connection is closed");
            }
        }
        Ok(Err(error)) => tracing::info!(?peer, %error, "a TLS handshake failed"),
        Err(_) => tracing::info!(?peer, waited = ?TLS_HANDSHAKE_MAX, "a TLS handshake did not end in time"),
    }
}
