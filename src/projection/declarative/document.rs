//! The bounds of a document.

use crate::{
    json::{Json, Object},
    limits::{DOCUMENT_BYTES_MAX, DOCUMENT_DEPTH_MAX},
};

/// Whether the document is small and flat enough to be stored.
pub(crate) fn check(document: &Object) -> Result<(), String> {
    let mut size_at_most = 2;
    for (key, value) in document.iter() {
        size_at_most += text_at_most(key) + 2 + measure(value, DOCUMENT_DEPTH_MAX - 1)?;
    }
    if size_at_most <= DOCUMENT_BYTES_MAX {
        return Ok(());
    }
    match Json::Object(document.clone()).to_string().len() {
        size if size > DOCUMENT_BYTES_MAX => {
            Err(format!("expected a document of at most {DOCUMENT_BYTES_MAX} bytes, found {size}"))
        }
        _ => Ok(()),
    }
}

/// How many bytes the canonical text has at most: counting it exactly would mean to write it.
fn measure(value: &Json, depth_left: usize) -> Result<usize, String> {
    let deeper = || {
        let too_deep = || format!("the document nests deeper than {DOCUMENT_DEPTH_MAX} arrays and objects");
        depth_left.checked_sub(1).ok_or_else(too_deep)
    };
    let mut size = 2;
    match value {
        Json::Null | Json::Bool(_) => size = 5,
        Json::Int(_) | Json::Double(_) => size = 25,
        Json::Text(text) => size = text_at_most(text),
        Json::Array(items) => {
            let depth_left = deeper()?;
            for item in items {
                size += 1 + measure(item, depth_left)?;
            }
        }
        Json::Object(fields) => {
            let depth_left = deeper()?;
            for (key, value) in fields.iter() {
                size += text_at_most(key) + 2 + measure(value, depth_left)?;
            }
        }
    }
    Ok(size)
}

/// A control character takes six bytes.
const fn text_at_most(text: &str) -> usize {
    2 + 6 * text.len()
}
