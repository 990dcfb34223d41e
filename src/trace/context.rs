//! The context of a trace in the form of W3C Trace Context, and in the metadata of events.
//!
//! Invariant: metadata that names a trace, or that is no JSON object, is left as it is. Does not know spans.

use bytes::Bytes;

use crate::json::Json;

/// Under which name metadata and headers have it.
const NAME: &str = "traceparent";

/// Which trace, and which span of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// Not 0.
    pub trace_id: u128,
    /// Not 0.
    pub span_id: u64,
    /// Whether the trace is recorded.
    pub is_sampled: bool,
}

impl TraceContext {
    /// Reads `00-<32 hex digits>-<16>-<2>`; nothing where it is something else or an id is 0.
    pub fn parse(text: &str) -> Option<Self> {
        if !is_traceparent(text) || text.starts_with("ff") {
            return None;
        }
        let trace_id = u128::from_str_radix(&text[3..35], 16).ok()?;
        let span_id = u64::from_str_radix(&text[36..52], 16).ok()?;
        let flags = u8::from_str_radix(&text[53..55], 16).ok()?;
        let is_there = trace_id != 0 && span_id != 0;
        is_there.then_some(Self { trace_id, span_id, is_sampled: flags & 1 == 1 })
    }

    /// The context that an event's metadata names.
    pub fn of_metadata(metadata: Option<&[u8]>) -> Option<Self> {
        Self::parse(&traceparent_of(metadata?)?)
    }
}

impl std::fmt::Display for TraceContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.is_sampled))
    }
}

/// Whether a text is a trace in the form of W3C Trace Context: `<2 digits>-<32 digits>-<16 digits>-<2 digits>`.
pub fn is_traceparent(text: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let parts: Vec<&str> = text.split('-').collect();
    parts.iter().map(|part| part.len()).eq([2, 32, 16, 2])
        && parts.iter().all(|part| part.bytes().all(is_digit))
}

/// The trace in which an event was appended, where its metadata names one in that form. Anything else under that name is
/// private text.
pub fn traceparent_of(metadata: &[u8]) -> Option<String> {
    if !names_one(metadata) {
        return None;
    }
    let Ok(Json::Object(metadata)) = Json::parse(metadata) else {
        return None;
    };
    match metadata.get(NAME) {
        Some(Json::Text(text)) if is_traceparent(text) => Some(text.to_string()),
        _ => None,
    }
}

/// An event's metadata with the trace in which it is appended, unless it names one.
pub fn with_traceparent(metadata: Option<Bytes>, context: &TraceContext) -> Option<Bytes> {
    let Some(metadata) = metadata else {
        return Some(format!("{{\"{NAME}\":\"{context}\"}}").into());
    };
    let start = metadata.iter().position(|byte| *byte == b'{');
    let Some(start) = start.filter(|_| !names_one(&metadata)) else { return Some(metadata) };
    let rest = &metadata[start + 1..];
    let is_empty = rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'}');
    let mut with = Vec::with_capacity(metadata.len() + 80);
    with.extend_from_slice(&metadata[..=start]);
    with.extend_from_slice(format!("\"{NAME}\":\"{context}\"").as_bytes());
    if !is_empty {
        with.push(b',');
    }
    with.extend_from_slice(rest);
    Some(with.into())
}

fn names_one(metadata: &[u8]) -> bool {
    metadata.windows(NAME.len()).any(|part| part == NAME.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_is_written_as_it_is_read() {
        let context = TraceContext::parse(TEXT).unwrap();
        assert!(context.is_sampled);
        assert_eq!(context.to_string(), TEXT);
        let zero = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        let long = format!("{TEXT}-more");
        let upper = TEXT.to_uppercase();
        let next = TEXT.replacen("00", "ff", 1);
        for text in ["", "00", zero, &long, &upper, &next, &TEXT[1..]] {
            assert_eq!(TraceContext::parse(text), None, "{text}");
        }
    }

    #[test]
    fn metadata_gets_the_trace_unless_it_names_one() {
        let context = TraceContext::parse(TEXT).unwrap();
        let check = |metadata: Option<&str>, expected: &str| {
            let with = with_traceparent(metadata.map(|text| Bytes::from(text.to_owned())), &context).unwrap();
            assert_eq!(with, expected);
            crate::json::check_object(&with).unwrap();
            TraceContext::of_metadata(Some(&with))
        };
        assert_eq!(check(None, &format!("{{\"traceparent\":\"{TEXT}\"}}")), Some(context));
        assert_eq!(check(Some("{ }"), &format!("{{\"traceparent\":\"{TEXT}\" }}")), Some(context));
        let with = format!(" {{\"traceparent\":\"{TEXT}\",\"a\":{{}}}}");
        assert_eq!(check(Some(" {\"a\":{}}"), &with), Some(context));
        let own = "{\"traceparent\":\"00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00\"}";
        assert_eq!(check(Some(own), own).map(|context| context.is_sampled), Some(false));
        assert_eq!(check(Some("{\"a\":\"traceparent\"}"), "{\"a\":\"traceparent\"}"), None);
    }
}
