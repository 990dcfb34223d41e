//! Values as texts of headers: hexadecimal, percent-encoded, lists of tags, traces.
//!
//! Invariant: a value has one text only. What is read is written again and compared, so that a text which means the same
//! and looks different is refused.

use crate::{
    event::{Invalid, Tag},
    json::Json,
};

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// What `hex` wrote; none for anything else.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| DIGITS.iter().position(|digit| *digit == byte).map(|at| at as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    bytes.filter(|_| rest.is_empty())
}

/// A text as CloudEvents have it in headers: all but printable ASCII is encoded, and so are space, quote and percent.
pub(super) fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, 0x21..=0x7e) && byte != b'"' && byte != b'%' {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)].to_ascii_uppercase()));
            out.push(char::from(DIGITS[usize::from(byte & 15)].to_ascii_uppercase()));
        }
    }
    out
}

/// What `percent_encoded` wrote; none for anything else.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' { digit(rest.next()?)? << 4 | digit(rest.next()?)? } else { byte });
    }
    String::from_utf8(bytes).ok().filter(|decoded| percent_encoded(decoded) == text)
}

/// Tags as a JSON array.
pub(super) fn tags_text(tags: &[Tag]) -> String {
    let items = tags.iter().map(|tag| Json::Text(tag.as_str().into())).collect();
    Json::Array(items).to_string()
}

/// What `tags_text` wrote of sorted tags without repeats.
pub(super) fn tags_of(text: &str) -> Result<Vec<Tag>, Invalid> {
    let expected = || Invalid("a JSON array of tags, sorted, each once, without white space".to_owned());
    let Ok(Json::Array(items)) = Json::parse(text.as_bytes()) else {
        return Err(expected());
    };
    let tag = |item: Json| match item {
        Json::Text(tag) => Tag::parse(&tag),
        _ => Err(expected()),
    };
    let tags: Vec<Tag> = items.into_iter().map(tag).collect::<Result<_, _>>()?;
    let sorted = tags.is_sorted_by(|a, b| a < b);
    if sorted && !tags.is_empty() && tags_text(&tags) == text { Ok(tags) } else { Err(expected()) }
}
