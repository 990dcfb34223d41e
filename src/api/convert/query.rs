//! Queries on their way in, and documents on their way out.

use bytes::Bytes;

use crate::{
    api::{proto::v1, status::Refusal},
    json::Json,
    projection::{
        key::{Key, KeyPart},
        query::{Document, ListQuery, ReadContext, ReadOptions, Selection},
        watch::{Change, Told},
    },
};

/// Which version answers and how fresh it must be.
pub(crate) fn read_options(options: Option<v1::ReadOptions>) -> Result<ReadOptions, Refusal> {
    let options = options.unwrap_or_default();
    if options.version == Some(0) {
        return Err(Refusal::field(
            "INVALID_ARGUMENT",
            "options.version",
            "expected a version from 1, found 0",
        ));
    }
    let at_least = options.at_least.map(|token| super::token(&token, "options.at_least")).transpose()?;
    let timeout = options.timeout.map(|timeout| {
        std::time::Duration::try_from(timeout).map_err(|_| {
            let what = format!("expected a time above 0, found {} s {} ns", timeout.seconds, timeout.nanos);
            Refusal::field("INVALID_ARGUMENT", "options.timeout", what)
        })
    });
    let timeout = timeout.transpose()?;
    let v1::ReadOptions { version, label, release, allow_stale, .. } = options;
    Ok(ReadOptions { version, label, release, at_least, timeout, allow_stale })
}

/// A document's key that must be there.
pub(crate) fn key(key: Option<v1::Key>, field: &str) -> Result<Key, Refusal> {
    let Some(key) = key else {
        return Err(Refusal::field("MISSING_FIELD", field, "expected a key, found none"));
    };
    let mut parts = Vec::with_capacity(key.parts.len());
    for (index, part) in key.parts.into_iter().enumerate() {
        use v1::key_part::Part;
        parts.push(match part.part {
            Some(Part::Text(text)) => KeyPart::Text(text.into()),
            Some(Part::Integer(integer)) => KeyPart::Int(integer),
            Some(Part::Boolean(boolean)) => KeyPart::Bool(boolean),
            None => {
                let what = "expected text, integer or boolean, found nothing";
                return Err(Refusal::field("MISSING_FIELD", format!("{field}.parts[{index}]"), what));
            }
        });
    }
    Key::new(parts).map_err(|invalid| Refusal::field("INVALID_KEY", field, invalid))
}

/// What a List asks for, but for projection and freshness.
pub(crate) fn list(request: v1::ListRequest) -> Result<ListQuery, Refusal> {
    use v1::list_request::Selection as Wire;
    let selection = selection(request.selection.map(|selection| match selection {
        Wire::Keys(range) => Selected::Keys(range),
        Wire::Index(range) => Selected::Index(range),
    }))?;
    Ok(ListQuery {
        collection: request.collection,
        selection,
        filter: request.filter,
        descending: request.descending,
        page_size: request.page_size,
        page_token: request.page_token,
        fields: request.fields,
        label: request.options.and_then(|options| options.label),
    })
}

/// What a Count asks for, but for projection and freshness.
pub(crate) fn count(request: v1::CountRequest) -> Result<ListQuery, Refusal> {
    use v1::count_request::Selection as Wire;
    let selection = selection(request.selection.map(|selection| match selection {
        Wire::Keys(range) => Selected::Keys(range),
        Wire::Index(range) => Selected::Index(range),
    }))?;
    let (collection, filter, page_token) = (request.collection, request.filter, request.page_token);
    let label = request.options.and_then(|options| options.label);
    Ok(ListQuery { collection, selection, filter, page_token, label, ..ListQuery::default() })
}

/// What a Watch asks for, but for projection, freshness and resume token.
pub(crate) fn watch(request: v1::WatchRequest) -> Result<ListQuery, Refusal> {
    use v1::watch_request::Selection as Wire;
    let selection = selection(request.selection.map(|selection| match selection {
        Wire::Keys(range) => Selected::Keys(range),
        Wire::Index(range) => Selected::Index(range),
    }))?;
    let (collection, filter, fields) = (request.collection, request.filter, request.fields);
    let label = request.options.and_then(|options| options.label);
    Ok(ListQuery { collection, selection, filter, fields, label, ..ListQuery::default() })
}

/// What the requests' selections have in common.
enum Selected {
    Keys(v1::KeyRange),
    Index(v1::IndexRange),
}

fn selection(selected: Option<Selected>) -> Result<Selection, Refusal> {
    let bound = |bound: Option<v1::Key>, field| bound.map(|bound| key(Some(bound), field)).transpose();
    let value = |value: Option<Bytes>, field: &str| value.map(|value| json(&value, field)).transpose();
    Ok(match selected {
        None => Selection::all(),
        Some(Selected::Keys(range)) => Selection::Keys {
            prefix: bound(range.prefix, "keys.prefix")?,
            from: bound(range.from, "keys.from")?,
            to: bound(range.to, "keys.to")?,
        },
        Some(Selected::Index(range)) => {
            let equals = range.equals.iter().enumerate();
            let equals = equals.map(|(at, value)| json(value, &format!("index.equals[{at}]")));
            Selection::Index {
                equals: equals.collect::<Result<_, _>>()?,
                from: value(range.from, "index.from")?,
                to: value(range.to, "index.to")?,
                index: range.index,
            }
        }
    })
}

fn json(text: &[u8], field: &str) -> Result<Json, Refusal> {
    Json::parse(text).map_err(|invalid| Refusal::field("INVALID_JSON", field, invalid))
}

/// A document as the API shows it.
pub(crate) fn document(document: Document) -> v1::Document {
    v1::Document {
        key: Some(key_out(&document.key)),
        value: document.value,
        position: document.position.get(),
    }
}

/// A key as the API shows it.
pub(crate) fn key_out(key: &Key) -> v1::Key {
    use v1::key_part::Part;
    let part = |part: &KeyPart| v1::KeyPart {
        part: Some(match part {
            KeyPart::Text(text) => Part::Text(text.to_string()),
            KeyPart::Int(integer) => Part::Integer(*integer),
            KeyPart::Bool(boolean) => Part::Boolean(*boolean),
        }),
    };
    v1::Key { parts: key.parts().iter().map(part).collect() }
}

/// A snapshot's context as the API shows it.
pub(crate) fn context(context: &ReadContext) -> v1::ReadContext {
    v1::ReadContext {
        projection: context.projection.to_string(),
        version: context.version,
        as_of: context.as_of.get(),
        head: context.head.get(),
        stale: context.stale,
        incomplete: context.incomplete,
    }
}

/// What a watcher is told as the API shows it.
pub(crate) fn told(told: Told) -> v1::WatchResponse {
    use v1::watch_response::Content;
    let (content, resume) = match told {
        Told::Reset(reason) => (Content::Reset(v1::WatchReset { reason: reason.as_str().into() }), None),
        Told::Documents(documents) => {
            let documents = documents.into_iter().map(document).collect();
            (Content::Documents(v1::WatchDocuments { documents }), None)
        }
        Told::SnapshotComplete { context: of, resume } => {
            let complete =
                v1::WatchSnapshotComplete { position: of.as_of.get(), context: Some(context(&of)) };
            (Content::SnapshotComplete(complete), Some(resume))
        }
        Told::Changes { changes, resume } => {
            let changes = changes.into_iter().map(change).collect();
            let position = resume.as_ref().map(|resume| resume.log.position.get());
            (Content::Changes(v1::WatchChanges { changes, position }), resume)
        }
    };
    v1::WatchResponse { content: Some(content), resume_token: resume.map(|resume| resume.encode()) }
}

fn change(change: Change) -> v1::DocumentChange {
    use v1::document_change::Change as Wire;
    let change = match change {
        Change::Put(put) => Wire::Put(document(put)),
        Change::Deleted { key, position } => {
            Wire::Deleted(v1::DocumentDeleted { key: Some(key_out(&key)), position: position.get() })
        }
    };
    v1::DocumentChange { change: Some(change) }
}
