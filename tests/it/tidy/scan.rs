//! Reads Rust source just well enough for the house rules: code without comments and literals, and the paths in it.
//!
//! Line numbers survive everything done here. Does not know any rule.

use std::sync::LazyLock;

use regex::Regex;

/// A path such as `crate::log::LogWriter` and the line (from 1) on which it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// The text with comments and the insides of string and character literals turned into blanks.
pub(crate) fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => end_of_line(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => end_of_block_comment(bytes, at),
            b'"' => end_of_string(bytes, at),
            b'r' | b'b' | b'c' if !follows_word(bytes, at) => match end_of_prefixed_literal(bytes, at) {
                Some(end) => end,
                None => end_of_word(bytes, at),
            },
            b'\'' => match end_of_char(bytes, at) {
                Some(end) => end,
                None => at + 1,
            },
            byte if is_word(byte) => end_of_word(bytes, at),
            _ => at + 1,
        };
        if matches!(bytes[at], b'/' | b'"' | b'\'') && end > at + 1 || bytes[at..end].contains(&b'"') {
            blank(&mut code[at..end]);
        }
        at = end;
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// All paths of the code: those of `use` trees written out in full, then the others.
pub(crate) fn paths_of(code: &str) -> Vec<Path> {
    static USE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\buse\s+([^;]+);").expect("the pattern is valid"));
    static INLINE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"[A-Za-z_]\w*(?:\s*::\s*[A-Za-z_]\w*)+").expect("the pattern is valid"));
    let mut paths = Vec::new();
    let mut rest = code.as_bytes().to_vec();
    for found in USE.captures_iter(code) {
        let tree = found.get(1).expect("the pattern has a group");
        expand(&code[tree.range()], tree.start(), "", &mut |offset, text| {
            paths.push(Path { line: line_of(code, offset), text });
        });
        blank(&mut rest[tree.range()]);
    }
    let rest = String::from_utf8_lossy(&rest);
    paths.extend(INLINE.find_iter(&rest).map(|found| Path {
        line: line_of(&rest, found.start()),
        text: found.as_str().split_whitespace().collect(),
    }));
    paths
}

/// The line, from 1, of a byte offset.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    1 + text[..offset].matches('\n').count()
}

/// Calls `emit` with the offset and the full path of every leaf of a `use` tree.
fn expand(tree: &str, offset: usize, prefix: &str, emit: &mut dyn FnMut(usize, String)) {
    let leading = tree.len() - tree.trim_start().len();
    let (tree, offset) = (tree.trim(), offset + leading);
    let Some(open) = tree.find('{') else {
        let name = tree.split_whitespace().next().unwrap_or("");
        if !name.is_empty() {
            emit(offset, format!("{prefix}{name}"));
        }
        return;
    };
    let prefix: String = format!("{prefix}{}", tree[..open].split_whitespace().collect::<String>());
    let inner = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
    let (mut depth, mut start) = (0_usize, 0);
    for (at, byte) in inner.bytes().chain([b',']).enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                expand(&inner[start..at], offset + open + 1 + start, &prefix, emit);
                start = at + 1;
            }
            _ => {}
        }
    }
}

fn blank(bytes: &mut [u8]) {
    for byte in bytes {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn follows_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && is_word(bytes[at - 1])
}

fn end_of_word(bytes: &[u8], at: usize) -> usize {
    at + bytes[at..].iter().take_while(|byte| is_word(**byte)).count()
}

fn end_of_line(bytes: &[u8], at: usize) -> usize {
    at + bytes[at..].iter().take_while(|byte| **byte != b'\n').count()
}

fn end_of_block_comment(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            (at, depth) = (at + 2, depth + 1);
        } else if bytes[at..].starts_with(b"*/") {
            (at, depth) = (at + 2, depth - 1);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

/// Behind the closing quote of the string that opens at `at`.
fn end_of_string(bytes: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    while end < bytes.len() {
        match bytes[end] {
            b'\\' => end += 2,
            b'"' => return end + 1,
            _ => end += 1,
        }
    }
    bytes.len()
}

/// Literals with a prefix: `r"…"`, `r#"…"#`, `b"…"`, `br"…"`, `c"…"`, `b'…'`.
fn end_of_prefixed_literal(bytes: &[u8], at: usize) -> Option<usize> {
    let prefix = bytes[at..].iter().take_while(|byte| byte.is_ascii_lowercase()).count();
    let raw = bytes[at..at + prefix].ends_with(b"r");
    let open = at + prefix;
    if prefix > 2 {
        return None;
    }
    if !raw {
        return match bytes.get(open)? {
            b'"' => Some(end_of_string(bytes, open)),
            b'\'' if prefix == 1 && bytes[at] == b'b' => end_of_char(bytes, open),
            _ => None,
        };
    }
    let hashes = bytes[open..].iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(open + hashes) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.extend(std::iter::repeat_n(b'#', hashes));
    let body = open + hashes + 1;
    let length = bytes[body..].windows(close.len()).position(|window| window == close)?;
    Some(body + length + close.len())
}

/// Behind a character literal; `None` where the quote begins a lifetime.
fn end_of_char(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at + 1) == Some(&b'\\') {
        let close = bytes[at + 3..].iter().position(|byte| *byte == b'\'')?;
        return Some(at + 3 + close + 1);
    }
    let text = std::str::from_utf8(&bytes[at + 1..]).ok()?;
    let width = text.chars().next()?.len_utf8();
    (bytes.get(at + 1 + width) == Some(&b'\'')).then_some(at + width + 2)
}

#[test]
fn comments_and_literals_are_not_code() {
    // In `expected` every `~` stands for a blank.
    let check = |text: &str, expected: &str| {
        assert_eq!(code_of(text), expected.replace('~', " "), "the code of {text}");
    };
    check("a // b\nc", "a ~~~~\nc");
    check("a /* b /* c */ d */ e", "a ~~~~~~~~~~~~~~~~~ e");
    check(r#"f("a::b \" c") + g"#, "f(~~~~~~~~~~~) + g");
    check(r##"f(r#"a " b"#) + g"##, "f(~~~~~~~~~~) + g");
    check(r#"f(b"a", 'x', '\'', '"', b'"', 'é') g"#, "f(~~~~, ~~~, ~~~~, ~~~, ~~~~, ~~~~) g");
    check("fn f<'a>(x: &'a str) -> &'static str", "fn f<'a>(x: &'a str) -> &'static str");
    check("let bar = r; crab::x", "let bar = r; crab::x");
}

#[test]
fn use_trees_are_written_out() {
    let check = |text: &str, expected: &[(usize, &str)]| {
        let found: Vec<_> = paths_of(text).into_iter().map(|path| (path.line, path.text)).collect();
        let expected: Vec<_> = expected.iter().map(|(line, text)| (*line, (*text).to_owned())).collect();
        assert_eq!(found, expected, "the paths of {text}");
    };
    check("use crate::log::LogWriter;", &[(1, "crate::log::LogWriter")]);
    check(
        "pub use crate::{\n  log::{self, Opened as O},\n  kv::*,\n};\nfn f() { std::fs::read(x) }",
        &[(2, "crate::log::self"), (2, "crate::log::Opened"), (3, "crate::kv::*"), (5, "std::fs::read")],
    );
    check("use prost;", &[(1, "prost")]);
    check("let x: Vec<crate :: app::App> = y;", &[(1, "crate::app::App")]);
}
