//! `outrigger mesh peers`: the nodes whose signatures this node believes, with their keys.

use serde::Serialize;

use super::{Client, words::time};
use crate::{
    api::proto::v1::{ListPeersRequest, ListPeersResponse, MeshPeer, PeerKey},
    cli::{
        error::CliError,
        output::{Align, Format, Out, table},
        text::to_line,
    },
};

#[derive(Debug, Serialize)]
struct Peer<'a> {
    node: &'a str,
    keys: Vec<Key<'a>>,
    imports: &'a [String],
}

#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names of the fields are those of the protocol")]
struct Key<'a> {
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<String>,
    is_in_force: bool,
}

pub(super) async fn run(client: &mut Client, format: Format) -> Result<(), CliError> {
    let ListPeersResponse { peers, own_key } = client.list_peers(ListPeersRequest {}).await?.into_inner();
    let mut out = Out::standard();
    if format == Format::Json {
        for peer in &peers {
            out.line(&to_line(&object(peer)))?;
        }
        return out.flush();
    }
    let mut rows = table(&[
        ("node", Align::Left),
        ("key", Align::Left),
        ("in force", Align::Left),
        ("from", Align::Left),
        ("until", Align::Left),
        ("imports", Align::Left),
    ]);
    for peer in &peers {
        for key in &peer.keys {
            rows.add_row([
                peer.node.clone(),
                key.key.clone(),
                if key.is_in_force { "yes" } else { "no" }.to_owned(),
                key.not_before_unix_nanos.map(time).unwrap_or_default(),
                key.not_after_unix_nanos.map(time).unwrap_or_default(),
                peer.imports.join(", "),
            ]);
        }
    }
    out.table(&rows)?;
    if peers.is_empty() {
        out.line("nobody is trusted: mesh.trust_file is not set, or the file names no node")?;
    }
    if let Some(key) = own_key {
        out.line(&format!("this node signs with {key}"))?;
    }
    out.flush()
}

fn object(peer: &MeshPeer) -> Peer<'_> {
    let keys = peer.keys.iter().map(|key: &PeerKey| Key {
        key: &key.key,
        not_before: key.not_before_unix_nanos.map(time),
        not_after: key.not_after_unix_nanos.map(time),
        is_in_force: key.is_in_force,
    });
    let keys = keys.collect();
    Peer { node: &peer.node, keys, imports: &peer.imports }
}
