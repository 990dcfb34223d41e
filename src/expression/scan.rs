//! Looks over an expression's text before the parser sees it.
//!
//! Owns the bounds that keep the parser's recursion within its stack, and the messages for what no token can be:
//! open brackets and texts, unknown escapes, stray characters. Also finds where an expression that stands inside
//! another text ends. Does not know what the tokens mean.

use crate::limits::{
    EXPRESSION_BRACKETS_MAX, EXPRESSION_BYTES_MAX, EXPRESSION_CHAIN_MAX, EXPRESSION_CHOICES_MAX,
};

/// What is wrong, and at which byte.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) message: String,
}

fn fault<T>(at: usize, message: impl Into<String>) -> Result<T, Fault> {
    let message = message.into();
    Err(Fault { at, message })
}

/// Whether the parser may have the text.
pub(super) fn check(source: &str) -> Result<(), Fault> {
    if source.len() > EXPRESSION_BYTES_MAX {
        let found = source.len();
        return fault(
            0,
            format!("expected an expression of at most {EXPRESSION_BYTES_MAX} bytes, found {found}"),
        );
    }
    let mut nesting = Nesting::default();
    let mut at = 0;
    let mut empty = true;
    while let Some(token) = next_token(source, at)? {
        at = token.end;
        empty = false;
        nesting.take(source, &token)?;
    }
    match nesting.open.last() {
        _ if empty => fault(0, "expected an expression, found none"),
        Some(level) => fault(level.at, format!("`{}` is not closed", char::from(level.bracket))),
        None => Ok(()),
    }
}

/// Where the bracket `}` stands that closes an expression which begins at `from`, inside another text.
pub(super) fn end_of_embedded(text: &str, from: usize) -> Result<usize, Fault> {
    let mut braces = 0_usize;
    let mut at = from;
    while let Some(token) = next_token(text, at)? {
        match (token.kind, text.as_bytes()[token.start]) {
            (Kind::Open, b'{') => braces += 1,
            (Kind::Close, b'}') if braces == 0 => return Ok(token.start),
            (Kind::Close, b'}') => braces -= 1,
            _ => {}
        }
        at = token.end;
    }
    fault(from.saturating_sub(2), "`${` is not closed by `}`")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A word, number or text.
    Value,
    Open,
    Close,
    Comma,
    /// `&&` or `||`: the parser balances rows of these.
    Logic,
    Choice,
    Operator,
}

#[derive(Debug)]
struct Token {
    kind: Kind,
    start: usize,
    end: usize,
}

/// How deep the tree can be at the place reached, from above.
#[derive(Debug, Default)]
struct Nesting {
    outermost: Row,
    open: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    bracket: u8,
    at: usize,
    row: Row,
}

/// What stands in one row between brackets and commas.
#[derive(Debug, Default)]
struct Row {
    chain: usize,
    choices: usize,
}

impl Nesting {
    fn take(&mut self, source: &str, token: &Token) -> Result<(), Fault> {
        let byte = source.as_bytes()[token.start];
        let row = self.open.last_mut().map_or(&mut self.outermost, |level| &mut level.row);
        match token.kind {
            Kind::Value => return Ok(()),
            Kind::Comma => *row = Row::default(),
            Kind::Logic => row.chain = 0,
            Kind::Choice => row.choices += 1,
            Kind::Operator => row.chain += 1,
            Kind::Open => {
                row.chain += 1;
                let (at, row) = (token.start, Row::default());
                self.open.push(Level { bracket: byte, at, row });
            }
            Kind::Close => match self.open.pop().map(|level| level.bracket) {
                Some(b'(') if byte == b')' => {}
                Some(b'[') if byte == b']' => {}
                Some(b'{') if byte == b'}' => {}
                _ => {
                    let found = char::from(byte);
                    return fault(token.start, format!("`{found}` closes no bracket"));
                }
            },
        }
        self.check(token.start)
    }

    fn check(&self, at: usize) -> Result<(), Fault> {
        let rows = || std::iter::once(&self.outermost).chain(self.open.iter().map(|level| &level.row));
        let brackets = self.open.len();
        let choices = brackets + rows().map(|row| row.choices).sum::<usize>();
        let chain = choices + rows().map(|row| row.chain).sum::<usize>();
        let bounds = [
            (brackets, EXPRESSION_BRACKETS_MAX, "open brackets"),
            (choices, EXPRESSION_CHOICES_MAX, "conditionals and open brackets"),
            (chain, EXPRESSION_CHAIN_MAX, "operators, fields and calls in a row"),
        ];
        match bounds.iter().find(|(found, most, _)| found > most) {
            Some((_, most, what)) => {
                fault(at, format!("the expression nests too deep: at most {most} {what}"))
            }
            None => Ok(()),
        }
    }
}

/// The token that begins at or behind `from`, over white space and comments.
fn next_token(source: &str, from: usize) -> Result<Option<Token>, Fault> {
    let bytes = source.as_bytes();
    let start = skip_blank(bytes, from);
    let Some(&first) = bytes.get(start) else {
        return Ok(None);
    };
    let token = |kind, end| Ok(Some(Token { kind, start, end }));
    match first {
        b'A'..=b'Z' | b'a'..=b'z' | b'_' => {
            let end = word_end(bytes, start);
            match (&source[start..end], bytes.get(end)) {
                ("r" | "R", Some(b'"' | b'\'')) => token(Kind::Value, text_end(source, end, true)?),
                ("b" | "B" | "br" | "bR" | "Br" | "BR", Some(b'"' | b'\'')) => {
                    fault(start, "bytes are not supported: write a text")
                }
                _ => token(Kind::Value, end),
            }
        }
        b'0'..=b'9' => token(Kind::Value, number_end(bytes, start)),
        b'"' | b'\'' => token(Kind::Value, text_end(source, start, false)?),
        b'`' => match source[start + 1..].find('`') {
            Some(length) => token(Kind::Value, start + length + 2),
            None => fault(start, "a quoted name is not closed by a backtick"),
        },
        b'(' | b'[' | b'{' => token(Kind::Open, start + 1),
        b')' | b']' | b'}' => token(Kind::Close, start + 1),
        b',' => token(Kind::Comma, start + 1),
        b'&' | b'|' if bytes.get(start + 1) == Some(&first) => token(Kind::Logic, start + 2),
        b'?' => token(Kind::Choice, start + 1),
        b'=' | b'!' | b'<' | b'>' if bytes.get(start + 1) == Some(&b'=') => token(Kind::Operator, start + 2),
        b'.' | b':' | b'+' | b'-' | b'*' | b'/' | b'%' | b'!' | b'<' | b'>' => {
            token(Kind::Operator, start + 1)
        }
        _ => {
            let found = source[start..].chars().next().unwrap_or_default();
            fault(start, format!("unexpected character {found:?}"))
        }
    }
}

fn skip_blank(bytes: &[u8], mut at: usize) -> usize {
    loop {
        match &bytes[at.min(bytes.len())..] {
            [b' ' | b'\t' | b'\r' | b'\n' | 0x0C, ..] => at += 1,
            [b'/', b'/', rest @ ..] => {
                at += 2 + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            }
            _ => return at,
        }
    }
}

fn word_end(bytes: &[u8], start: usize) -> usize {
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    start + bytes[start..].iter().take_while(|byte| word(byte)).count()
}

fn number_end(bytes: &[u8], start: usize) -> usize {
    let mut end = word_end(bytes, start);
    if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
        end = word_end(bytes, end + 1);
    }
    let exponent = matches!(bytes[end - 1], b'e' | b'E') && !bytes[start..end].starts_with(b"0x");
    if exponent && matches!(bytes.get(end), Some(b'+' | b'-')) {
        end = word_end(bytes, end + 1);
    }
    end
}

/// Behind the closing quote of the text whose opening quote stands at `open`.
fn text_end(source: &str, open: usize, raw: bool) -> Result<usize, Fault> {
    let quote = &source[open..=open];
    let triple = source[open..].starts_with(&quote.repeat(3));
    let closing = if triple { quote.repeat(3) } else { quote.to_owned() };
    let mut at = open + closing.len();
    loop {
        let rest = &source[at..];
        if rest.starts_with(&closing) {
            return Ok(at + closing.len());
        }
        match rest.chars().next() {
            Some('\\') if !raw => at += escape_length(rest, at)?,
            Some('\n' | '\r') if !triple => break,
            Some(other) => at += other.len_utf8(),
            None => break,
        }
    }
    fault(open, format!("a text is not closed by `{closing}`"))
}

/// The length of the escape that `rest` begins with.
fn escape_length(rest: &str, at: usize) -> Result<usize, Fault> {
    let (digits, radix) = match rest.as_bytes().get(1) {
        Some(b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'"' | b'\'' | b'\\' | b'?' | b'`') => {
            return Ok(2);
        }
        Some(b'x' | b'X') => (2..4, 16),
        Some(b'u') => (2..6, 16),
        Some(b'U') => (2..10, 16),
        Some(b'0'..=b'3') => (1..4, 8),
        _ => return fault(at, "unknown escape in a text: write `\\\\` for a backslash"),
    };
    let code = rest
        .get(digits.clone())
        .filter(|code| code.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        .and_then(|code| u32::from_str_radix(code, radix).ok());
    match code.and_then(char::from_u32) {
        Some(_) => Ok(digits.end),
        None => fault(at, "an escape in a text names no character"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_refused(source: &str, at: usize, expected: &str) {
        let found = check(source).expect_err(source);
        assert!(found.at == at && found.message.contains(expected), "{source}: {found:?}");
    }

    #[test]
    fn what_no_parser_can_read_is_refused_with_its_place() {
        check_refused("", 0, "found none");
        check_refused("  // nothing", 0, "found none");
        check_refused("a + 'b", 4, "not closed by `'`");
        check_refused("'a\nb'", 0, "not closed");
        check_refused("'''a\n'", 0, "not closed by `'''`");
        check_refused("(a + [b)", 7, "closes no bracket");
        check_refused("(a", 0, "`(` is not closed");
        check_refused("'a\\q'", 2, "unknown escape");
        check_refused("'\\ud800'", 1, "names no character");
        check_refused("'\\u00'", 1, "names no character");
        check_refused("ä", 0, "unexpected character 'ä'");
        check_refused("a = b", 2, "unexpected character '='");
        check_refused("b'x'", 0, "bytes are not supported");
        check_refused(&"(".repeat(40), 32, "at most 32 open brackets");
        check_refused(&format!("a{}", ".b".repeat(300)), 501, "at most 250 operators");
        check_refused(&"a ? b : ".repeat(70), 2 + 8 * 64, "at most 64 conditionals");
        check_refused(&"a".repeat(5_000), 0, "at most 4096 bytes, found 5000");
    }

    #[test]
    fn long_rows_of_logic_and_lists_are_fine() {
        for source in [
            "'a' + r'\\' + \"\"\"x\ny\"\"\" // end",
            "'\\u00e4\\x41\\101\\U0001F600'",
            "1.5e-3 + 0x1f + .5",
            "a.`b c`[0]",
        ] {
            assert_eq!(check(source), Ok(()), "{source}");
        }
        assert_eq!(check(&format!("a.b.c == 1{}", " && a.b.c == 1".repeat(200))), Ok(()));
        assert_eq!(check(&format!("[1{}]", ", a.b.c".repeat(500))), Ok(()));
    }

    #[test]
    fn an_embedded_expression_ends_at_its_own_brace() {
        let text = "x ${ {'}': \"}\"}['}'] } y";
        assert_eq!(end_of_embedded(text, 4), Ok(text.len() - 3));
        assert_eq!(end_of_embedded("${a", 2).map_err(|found| found.at), Err(0));
    }
}
