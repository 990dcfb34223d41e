//! The NATS server's configuration for a topology: accounts, what they give each other, what a user may say.
//!
//! Invariants: the same topology gives the same text. Streams live in the operator's account, which nobody else is in;
//! a node's account reaches one subject tree of it, its own, as a service, and reads of streams that it may import. The
//! reply of a service goes back into the account of the asker, so no reply subject leads into a foreign stream; no node
//! can call a verb that makes, changes or consumes a stream. Permissions of users repeat that, as a second wall.

use std::fmt::Write as _;

use super::{Node, Topology};
use crate::{
    limits::{BUS_ASKED_TIME_MAX, BUS_MESSAGE_BYTES_MAX},
    mesh::nats::{direct_get, stream_subjects},
};

/// Parts that one answer may have.
const ANSWER_PARTS_MAX: u32 = 65_536;

const HEAD: &str = "\
# Written by `outrigger mesh nats-config`; do not edit, write it again.
# Include it in the configuration of every server of the mesh, beside `listen`, `jetstream`, `cluster` and `tls`.
";

pub(super) fn write(topology: &Topology) -> String {
    let mut text = String::from(HEAD);
    line(&mut text, 0, &format!("max_payload: {BUS_MESSAGE_BYTES_MAX}"));
    line(&mut text, 0, "accounts {");
    operator(&mut text, topology);
    for (name, node) in &topology.nodes {
        member(&mut text, topology, name, node);
    }
    line(&mut text, 0, "}");
    text
}

/// The account in which the streams live.
fn operator(text: &mut String, topology: &Topology) {
    line(text, 1, "OUTRIGGER {");
    line(text, 2, "jetstream: enabled");
    line(text, 2, "users: [");
    for key in &topology.operator_keys {
        line(text, 3, &format!("{{ nkey: {key} }}"));
    }
    line(text, 2, "]");
    line(text, 2, "exports: [");
    for name in topology.nodes.keys() {
        let readers: Vec<_> =
            std::iter::once(name.as_str()).chain(topology.importers(name)).map(account).collect();
        let owner = account(name);
        line(text, 3, &format!("{{ service: {:?}, accounts: [{owner}] }}", stream_subjects(name)));
        let readers = readers.join(", ");
        let get = direct_get(name);
        line(text, 3, &format!("{{ service: {get:?}, response_type: stream, accounts: [{readers}] }}"));
    }
    line(text, 2, "]");
    line(text, 1, "}");
}

/// The account of a node.
fn member(text: &mut String, topology: &Topology, name: &str, node: &Node) {
    line(text, 1, &format!("{} {{", account(name)));
    line(text, 2, "users: [");
    for key in &node.nats_keys {
        line(text, 3, "{");
        line(text, 4, &format!("nkey: {key}"));
        permissions(text, name, node);
        line(text, 3, "}");
    }
    line(text, 2, "]");
    let importers: Vec<_> = topology.importers(name).map(account).collect();
    if !importers.is_empty() {
        let importers = importers.join(", ");
        line(text, 2, "exports: [");
        line(text, 3, &format!("{{ stream: {:?}, accounts: [{importers}] }}", hints(name)));
        let answers = format!("response_type: stream, accounts: [{importers}]");
        line(text, 3, &format!("{{ service: {:?}, {answers} }}", repairs(name)));
        line(text, 2, "]");
    }
    line(text, 2, "imports: [");
    let from_operator =
        |subject: String| format!("{{ service: {{ account: OUTRIGGER, subject: {subject:?} }} }}");
    line(text, 3, &from_operator(stream_subjects(name)));
    line(text, 3, &from_operator(direct_get(name)));
    for import in &node.imports {
        let owner = account(import);
        line(text, 3, &from_operator(direct_get(import)));
        line(text, 3, &format!("{{ stream: {{ account: {owner}, subject: {:?} }} }}", hints(import)));
        line(text, 3, &format!("{{ service: {{ account: {owner}, subject: {:?} }} }}", repairs(import)));
    }
    line(text, 2, "]");
    line(text, 1, "}");
}

fn permissions(text: &mut String, name: &str, node: &Node) {
    let mut publish = vec![stream_subjects(name), hints(name), direct_get(name), "_INBOX.>".to_owned()];
    let mut subscribe = vec!["_INBOX.>".to_owned(), repairs(name)];
    for import in &node.imports {
        publish.extend([direct_get(import), repairs(import)]);
        subscribe.push(hints(import));
    }
    line(text, 4, "permissions {");
    line(text, 5, &format!("publish: {publish:?}"));
    line(text, 5, &format!("subscribe: {subscribe:?}"));
    let seconds = BUS_ASKED_TIME_MAX.as_secs();
    line(text, 5, &format!("allow_responses: {{ max: {ANSWER_PARTS_MAX}, expires: \"{seconds}s\" }}"));
    line(text, 4, "}");
}

fn account(node: &str) -> String {
    format!("NODE_{node}")
}

/// What a node announces.
fn hints(node: &str) -> String {
    format!("outrigger.hint.{node}.>")
}

/// Where a node is asked.
fn repairs(node: &str) -> String {
    format!("outrigger.repair.{node}")
}

fn line(text: &mut String, depth: usize, words: &str) {
    writeln!(text, "{:1$}{words}", "", 2 * depth).expect("a text takes what is written");
}
