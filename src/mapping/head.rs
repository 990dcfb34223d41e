//! What the heads of definition files have in common: names, versions, policies, lists of texts.
//!
//! Each reader refuses what it does not take, with its place, and gives nothing then.

use super::{
    OnError,
    source::{Content, Source, Yaml},
};
use crate::{event::Invalid, limits::NAME_BYTES_MAX};

const VERSION_MAX: u32 = 1 << 31;

/// The name of what the file defines.
pub(crate) fn read_name(source: &mut Source<'_>, node: &Yaml) -> Option<Box<str>> {
    let refused = match &node.value {
        Content::Text(name) => match check_name(name) {
            Ok(()) => return Some(name.as_str().into()),
            Err(Invalid(message)) => message,
        },
        found => refused_name(found),
    };
    source.refuse(&node.referenced, refused);
    None
}

/// A DNS label.
pub(crate) fn check_name(name: &str) -> Result<(), Invalid> {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let good = name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|byte| letter(byte) || byte == b'-')
        && name.bytes().next().is_some_and(letter)
        && name.bytes().last().is_some_and(letter);
    if good { Ok(()) } else { Err(Invalid(refused_name(&Content::Text(name.to_owned())))) }
}

fn refused_name(found: &Content) -> String {
    format!(
        "expected a name of a-z 0-9 - that begins and ends with a letter or digit, at most {NAME_BYTES_MAX} bytes, \
         found {found}"
    )
}

/// The version of what the file defines.
pub(crate) fn read_version(source: &mut Source<'_>, node: &Yaml) -> Option<u32> {
    let version = match node.value {
        Content::Int(version) => {
            u32::try_from(version).ok().filter(|version| (1..=VERSION_MAX).contains(version))
        }
        _ => None,
    };
    if version.is_none() {
        let message = format!("expected a whole number from 1 to {VERSION_MAX}, found {}", node.value);
        source.refuse(&node.referenced, message);
    }
    version
}

/// What is to be done about an event that cannot be applied.
pub(crate) fn read_on_error(source: &mut Source<'_>, node: &Yaml) -> Option<OnError> {
    let named = match &node.value {
        Content::Text(word) => OnError::ALL.into_iter().find(|policy| policy.as_str() == word),
        _ => None,
    };
    if named.is_none() {
        let words = OnError::ALL.map(OnError::as_str).join(", ");
        source.refuse(&node.referenced, format!("expected one of {words}, found {}", node.value));
    }
    named
}

/// A text of which `check` thinks well; its error says what was expected.
pub(crate) fn read_text<T, E: std::fmt::Display>(
    source: &mut Source<'_>,
    node: &Yaml,
    expected: &str,
    check: impl FnOnce(&str) -> Result<T, E>,
) -> Option<T> {
    let message = match &node.value {
        Content::Text(text) => match check(text) {
            Ok(value) => return Some(value),
            Err(error) => error.to_string(),
        },
        found => format!("expected {expected}, found {found}"),
    };
    source.refuse(&node.referenced, message);
    None
}
