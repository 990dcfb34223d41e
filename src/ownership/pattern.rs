//! Patterns of names: one name, or all that begin alike.

use std::fmt;

use crate::event::Invalid;

/// A name, or the beginning of names: `flight.departed`, `flight.*`, `flights/*`, `*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pattern {
    /// This name.
    Exact(Box<str>),
    /// Every name that begins so.
    Prefix(Box<str>),
}

impl Pattern {
    /// Reads a pattern: a name, in which a `*` may stand at the end for anything.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let (name, prefix) = match text.strip_suffix('*') {
            Some(start) => (start, true),
            None => (text, false),
        };
        let why = if text.is_empty() {
            "found none"
        } else if name.contains('*') {
            "found a `*` that is not at the end, or more than one"
        } else if name.starts_with('$') {
            "found one that begins with $, which is the system's own"
        } else if name.chars().any(char::is_control) {
            "found control characters"
        } else {
            let name = name.into();
            return Ok(if prefix { Self::Prefix(name) } else { Self::Exact(name) });
        };
        Err(Invalid(format!("expected a name, or the beginning of names and a `*`, {why}: {text:?}")))
    }

    /// Whether a name fits.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *name,
            Self::Prefix(start) => name.starts_with(&**start),
        }
    }

    /// The text before the `*`, or the name.
    pub fn start(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Prefix(text) => text,
        }
    }

    /// Whether some name fits both.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Prefix(a), Self::Prefix(b)) => a.starts_with(&**b) || b.starts_with(&**a),
            (Self::Exact(name), pattern) | (pattern, Self::Exact(name)) => pattern.matches(name),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => f.write_str(text),
            Self::Prefix(text) => write!(f, "{text}*"),
        }
    }
}
