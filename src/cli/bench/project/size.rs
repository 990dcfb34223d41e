//! Weighs a version: its file against the keys, documents and index entries that it holds.
//!
//! All documents are read over gRPC; the entries of their indexes are computed here.

use super::ServedNode;
use crate::{
    api::proto::v1::{Document, ListRequest},
    cli::{error::CliError, text},
    json::{Json, Object},
    limits::PAGE_SIZE_MAX,
    projection::{
        definition::{Collection, Definition},
        entries::entries,
        key::Key,
    },
};

/// What a version holds, and what it takes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weight {
    pub(super) documents: u64,
    pub(super) index_entries: u64,
    /// Encoded keys, canonical JSON and encoded index entries.
    pub(super) content_bytes: u64,
    pub(super) file_bytes: u64,
}

/// Reads every document of the definition's version.
pub(super) async fn weigh(node: &ServedNode, definition: &Definition) -> Result<Weight, CliError> {
    let mut weight = Weight {
        file_bytes: node.version_bytes(definition.name(), definition.version())?,
        ..Weight::default()
    };
    let mut query = node.server.node.query().await?;
    for collection in definition.collections() {
        let mut request = ListRequest {
            projection: definition.name().to_owned(),
            collection: collection.name.to_string(),
            page_size: Some(PAGE_SIZE_MAX),
            ..ListRequest::default()
        };
        loop {
            let page = query.list(request.clone()).await?.into_inner();
            for document in &page.documents {
                add(&mut weight, collection, document)?;
            }
            match page.next_page_token {
                Some(token) => request.page_token = Some(token),
                None => break,
            }
        }
    }
    Ok(weight)
}

fn add(weight: &mut Weight, collection: &Collection, document: &Document) -> Result<(), CliError> {
    let (key, object) = read(document)
        .ok_or_else(|| CliError::failed(format!("a document of {} cannot be read", collection.name)))?;
    weight.documents += 1;
    weight.content_bytes += (key.len() + document.value.len()) as u64;
    for index in &collection.indexes {
        for entry in entries(index, &object, &key) {
            weight.index_entries += 1;
            weight.content_bytes += entry.len() as u64;
        }
    }
    Ok(())
}

/// The encoded key and the document.
fn read(document: &Document) -> Option<(Vec<u8>, Object)> {
    let key = text::key_json(document.key.as_ref()?);
    let key = Key::from_json(&Json::parse(key.get().as_bytes()).ok()?).ok()?;
    match Json::parse_stored(&document.value).ok()? {
        Json::Object(object) => Some((key.encode(), object)),
        _ => None,
    }
}
