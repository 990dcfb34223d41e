//! The compiled form of an expression, and its printing.
//!
//! Names are resolved to numbers of variables; names of fields are kept as they are. Printing a tree gives its normal
//! form: every operator in brackets, one way to write each thing; compiling that text gives the same tree again.

use std::fmt::{self, Display, Write as _};

use regex::Regex;

use super::function::{Function, Style};
use crate::json::Json;

#[derive(Debug)]
pub(super) enum Node {
    /// A scalar.
    Constant(Json),
    /// A variable and fields of it.
    Path(Path),
    Select(Box<Node>, Box<str>),
    OptionalSelect(Box<Node>, Box<str>),
    Index(Box<(Node, Node)>),
    OptionalIndex(Box<(Node, Node)>),
    Has(Box<Node>, Box<str>),
    Not(Box<Node>),
    Negate(Box<Node>),
    And(Box<(Node, Node)>),
    Or(Box<(Node, Node)>),
    Conditional(Box<(Node, Node, Node)>),
    Binary(Operator, Box<(Node, Node)>),
    List(Vec<Item>),
    Map(Vec<(Node, Item)>),
    /// The receiver, where there is one, is the first argument.
    Call(Function, Vec<Node>),
    /// `optional.orValue(fallback)`; the fallback is evaluated only if it is needed.
    OrValue(Box<(Node, Node)>),
    /// The pattern is a constant and compiled once.
    Matches(Box<Node>, Box<Regex>),
    /// A document of the collection with this number.
    Lookup(usize, Box<str>, Box<Node>),
    Fold(Box<Fold>),
}

#[derive(Debug)]
pub(super) struct Path {
    pub(super) root: Root,
    pub(super) name: Box<str>,
    pub(super) fields: Vec<Box<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Root {
    /// By its number among the variables of the expression.
    Variable(usize),
    /// By its number among the folds around it, from the outermost.
    Local(usize),
}

/// An element of a list or map literal.
#[derive(Debug)]
pub(super) struct Item {
    /// Whether it was written with `?`: left out if its value is an empty optional.
    pub(super) optional: bool,
    pub(super) value: Node,
}

/// What a macro does over the items of a list or the keys of a map.
#[derive(Debug)]
pub(super) struct Fold {
    pub(super) kind: FoldKind,
    pub(super) range: Node,
    pub(super) variable: Box<str>,
    /// The condition, or the item of the new list.
    pub(super) body: Node,
    /// For `map` with three arguments and `filter`: which items.
    pub(super) only: Option<Node>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FoldKind {
    All,
    Exists,
    ExistsOne,
    Map,
    /// `only` is the condition, `body` the item itself.
    Filter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
}

impl Operator {
    pub(super) const fn sign(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::In => "in",
        }
    }
}

/// The normal form.
impl Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Not(operand) => write!(f, "!{}", Operand(operand)),
            Self::Negate(operand) => match Operand(operand).to_string() {
                // `-1.f()` would be the function of -1.
                text if text.starts_with(|first: char| first.is_ascii_digit()) => write!(f, "-({text})"),
                text => write!(f, "-{text}"),
            },
            Self::And(sides) => write!(f, "{} && {}", Operand(&sides.0), Operand(&sides.1)),
            Self::Or(sides) => write!(f, "{} || {}", Operand(&sides.0), Operand(&sides.1)),
            Self::Binary(operator, sides) => {
                let sign = operator.sign();
                write!(f, "{} {sign} {}", Operand(&sides.0), Operand(&sides.1))
            }
            Self::Conditional(parts) => {
                let (condition, then, otherwise) = &**parts;
                write!(f, "{} ? {} : {}", Operand(condition), Operand(then), Operand(otherwise))
            }
            Self::Constant(value) => write_constant(f, value),
            Self::Path(path) => {
                f.write_str(&path.name)?;
                path.fields.iter().try_for_each(|field| write!(f, ".{}", Name(field)))
            }
            Self::Select(operand, field) => write!(f, "{}.{}", Operand(operand), Name(field)),
            Self::OptionalSelect(operand, field) => write!(f, "{}.?{}", Operand(operand), Name(field)),
            Self::Index(sides) => write!(f, "{}[{}]", Operand(&sides.0), sides.1),
            Self::OptionalIndex(sides) => write!(f, "{}[?{}]", Operand(&sides.0), sides.1),
            Self::Has(operand, field) => write!(f, "has({}.{})", Operand(operand), Name(field)),
            Self::OrValue(sides) => write!(f, "{}.orValue({})", Operand(&sides.0), sides.1),
            Self::Matches(operand, pattern) => {
                write!(f, "{}.matches({})", Operand(operand), Quoted(pattern.as_str()))
            }
            Self::Lookup(_, collection, key) => write!(f, "lookup({}, {key})", Quoted(collection)),
            Self::List(items) => {
                f.write_char('[')?;
                separated(f, items, |f, item| {
                    write!(f, "{}{}", if item.optional { "?" } else { "" }, item.value)
                })?;
                f.write_char(']')
            }
            Self::Map(entries) => {
                f.write_char('{')?;
                separated(f, entries, |f, (key, item)| {
                    write!(f, "{}{key}: {}", if item.optional { "?" } else { "" }, item.value)
                })?;
                f.write_char('}')
            }
            Self::Call(function, arguments) => write_call(f, *function, arguments),
            Self::Fold(fold) => write_fold(f, fold),
        }
    }
}

fn write_call(f: &mut fmt::Formatter<'_>, function: Function, arguments: &[Node]) -> fmt::Result {
    let signature = function.signature();
    let rest = match signature.style {
        Style::Global => {
            write!(f, "{}(", signature.name)?;
            arguments
        }
        Style::Math => {
            write!(f, "math.{}(", signature.name)?;
            arguments
        }
        Style::Method => {
            let (receiver, rest) = arguments.split_first().ok_or(fmt::Error)?;
            write!(f, "{}.{}(", Operand(receiver), signature.name)?;
            rest
        }
    };
    separated(f, rest, |f, argument| argument.fmt(f))?;
    f.write_char(')')
}

fn write_fold(f: &mut fmt::Formatter<'_>, fold: &Fold) -> fmt::Result {
    let name = match fold.kind {
        FoldKind::All => "all",
        FoldKind::Exists => "exists",
        FoldKind::ExistsOne => "exists_one",
        FoldKind::Map => "map",
        FoldKind::Filter => "filter",
    };
    write!(f, "{}.{name}({}", Operand(&fold.range), fold.variable)?;
    if let Some(only) = &fold.only {
        write!(f, ", {only}")?;
    }
    if fold.kind != FoldKind::Filter {
        write!(f, ", {}", fold.body)?;
    }
    f.write_char(')')
}

fn write_constant(f: &mut fmt::Formatter<'_>, value: &Json) -> fmt::Result {
    match value {
        Json::Text(text) => Quoted(text).fmt(f),
        Json::Double(number) => write!(f, "{number:?}"),
        other => other.fmt(f),
    }
}

fn separated<T>(
    f: &mut fmt::Formatter<'_>,
    items: &[T],
    mut write: impl FnMut(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            f.write_str(", ")?;
        }
        write(f, item)?;
    }
    Ok(())
}

/// A part of a larger expression: in brackets where it must be.
struct Operand<'n>(&'n Node);

impl Display for Operand<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = !matches!(
            self.0,
            Node::Not(_)
                | Node::Negate(_)
                | Node::And(_)
                | Node::Or(_)
                | Node::Binary(..)
                | Node::Conditional(_)
                | Node::Constant(Json::Int(_) | Json::Double(_))
        );
        match self.0 {
            Node::Constant(Json::Int(0..)) => self.0.fmt(f),
            Node::Constant(Json::Double(number)) if number.is_sign_positive() => self.0.fmt(f),
            node if bare => node.fmt(f),
            node => write!(f, "({node})"),
        }
    }
}

/// A field's name: in backticks where it is no plain word.
struct Name<'n>(&'n str);

impl Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_word(self.0) && !matches!(self.0, "in" | "true" | "false" | "null") {
            f.write_str(self.0)
        } else {
            write!(f, "`{}`", self.0)
        }
    }
}

/// Whether the text is an identifier by its letters.
pub(super) fn is_word(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A text literal.
struct Quoted<'t>(&'t str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for letter in self.0.chars() {
            match letter {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                letter if letter.is_control() => write!(f, "\\U{:08x}", u32::from(letter))?,
                letter => f.write_char(letter)?,
            }
        }
        f.write_char('"')
    }
}

impl Node {
    /// Visits the parts of a node, not the parts of parts.
    pub(super) fn for_each_part(&self, visit: &mut dyn FnMut(&Node)) {
        match self {
            Self::Constant(_) | Self::Path(_) => {}
            Self::Select(operand, _)
            | Self::OptionalSelect(operand, _)
            | Self::Has(operand, _)
            | Self::Not(operand)
            | Self::Negate(operand)
            | Self::Matches(operand, _)
            | Self::Lookup(_, _, operand) => visit(operand),
            Self::Index(sides)
            | Self::OptionalIndex(sides)
            | Self::OrValue(sides)
            | Self::And(sides)
            | Self::Or(sides)
            | Self::Binary(_, sides) => {
                visit(&sides.0);
                visit(&sides.1);
            }
            Self::Conditional(parts) => {
                visit(&parts.0);
                visit(&parts.1);
                visit(&parts.2);
            }
            Self::List(items) => items.iter().for_each(|item| visit(&item.value)),
            Self::Map(entries) => entries.iter().for_each(|(key, item)| {
                visit(key);
                visit(&item.value);
            }),
            Self::Call(_, arguments) => arguments.iter().for_each(visit),
            Self::Fold(fold) => {
                visit(&fold.range);
                visit(&fold.body);
                fold.only.iter().for_each(visit);
            }
        }
    }
}
