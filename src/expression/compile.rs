//! From text to tree: the parser's tree is checked, names are resolved, what is not in the language is refused.
//!
//! Owns what the language takes. The parser expands macros into loops; here they are recognised by their shape and
//! become folds. Does not evaluate anything.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators,
};
use regex::RegexBuilder;

use super::{
    CompileError, Scope,
    function::{Function, SIGNATURES, Style, names},
    nearest::nearest,
    parse::parse,
    scan,
    tree::{Fold, FoldKind, Item, Node, Operator, Path, Root},
};
use crate::{json::Json, limits::REGEX_BYTES_MAX};

/// The tree of an expression.
pub(super) fn compile(source: &str, scope: &Scope<'_>) -> Result<Node, CompileError> {
    scan::check(source).map_err(|fault| CompileError::at(source, fault.at, fault.message))?;
    let (expression, info) = parse(source)?;
    let mut compiler = Compiler { source, info, scope, locals: Vec::new() };
    compiler.node(&expression)
}

struct Compiler<'s> {
    source: &'s str,
    info: SourceInfo,
    scope: &'s Scope<'s>,
    /// The variables of the folds around, from the outermost.
    locals: Vec<String>,
}

impl Compiler<'_> {
    fn node(&mut self, expression: &IdedExpr) -> Result<Node, CompileError> {
        match &expression.expr {
            Expr::Literal(literal) => self.literal(expression.id, literal),
            Expr::Ident(name) => self.variable(expression.id, name),
            Expr::Select(select) => {
                let operand = self.node(&select.operand)?;
                let field = select.field.as_str().into();
                Ok(match operand {
                    operand if select.test => Node::Has(operand.into(), field),
                    Node::Path(mut path) if !self.may_be_optional(&path) => {
                        path.fields.push(field);
                        Node::Path(path)
                    }
                    operand => Node::Select(operand.into(), field),
                })
            }
            Expr::Call(call) => self.call(expression.id, call),
            Expr::List(list) => {
                let elements = list.elements.iter().enumerate();
                let items =
                    elements.map(|(at, element)| self.item(element, list.optional_indices.contains(&at)));
                Ok(Node::List(items.collect::<Result<_, _>>()?))
            }
            Expr::Map(map) => {
                let entries = map.entries.iter().map(|entry| match &entry.expr {
                    EntryExpr::MapEntry(entry) => {
                        let key = self.node(&entry.key)?;
                        if matches!(&key, Node::Constant(value) if !matches!(value, Json::Text(_))) {
                            return self.refuse(entry.key.id, "expected a text as the key of a map");
                        }
                        Ok((key, self.item(&entry.value, entry.optional)?))
                    }
                    EntryExpr::StructField(_) => self.refuse(entry.id, "messages are not supported"),
                });
                Ok(Node::Map(entries.collect::<Result<_, _>>()?))
            }
            Expr::Comprehension(fold) => self.fold(expression.id, fold),
            Expr::Struct(message) => {
                let name = &message.type_name;
                self.refuse(
                    expression.id,
                    format!("messages such as {name}{{...}} are not supported: write a map"),
                )
            }
            Expr::Unspecified => self.refuse(expression.id, "expected a value"),
        }
    }

    fn item(&mut self, value: &IdedExpr, optional: bool) -> Result<Item, CompileError> {
        let id = value.id;
        let value = self.node(value)?;
        if optional && !self.optional(&value) {
            return self.refuse(id, "`?` takes an optional such as `data.?name`");
        }
        Ok(Item { optional, value })
    }

    fn literal(&self, id: u64, literal: &LiteralValue) -> Result<Node, CompileError> {
        Ok(Node::Constant(match literal {
            LiteralValue::Null => Json::Null,
            LiteralValue::Boolean(value) => Json::Bool(*value.inner()),
            LiteralValue::Int(value) => Json::Int(*value.inner()),
            LiteralValue::Double(value) => Json::Double(*value.inner()),
            LiteralValue::String(value) => Json::Text(value.inner().into()),
            LiteralValue::UInt(_) => {
                return self.refuse(id, "unsigned numbers are not supported: leave out the `u`");
            }
            LiteralValue::Bytes(_) => return self.refuse(id, "bytes are not supported: write a text"),
        }))
    }

    fn variable(&self, id: u64, name: &str) -> Result<Node, CompileError> {
        let local = self.locals.iter().rposition(|local| local == name).map(Root::Local);
        let root =
            local.or_else(|| self.scope.variables.iter().position(|at| *at == name).map(Root::Variable));
        if let Some(root) = root {
            return Ok(Node::Path(Path { root, name: name.into(), fields: Vec::new() }));
        }
        let named = self.scope.variables.iter().copied().filter(|name| !name.is_empty());
        let known: Vec<&str> = named.chain(self.locals.iter().map(String::as_str)).collect();
        let elsewhere = self.scope.hidden.iter().find(|(hidden, _)| *hidden == name);
        let hint = match (elsewhere, nearest(name, known.iter().copied())) {
            (Some((_, elsewhere)), _) => format!("it is known {elsewhere}"),
            (None, Some(near)) => format!("did you mean `{near}`?"),
            (None, None) => format!("known are {}", known.join(", ")),
        };
        self.refuse(id, format!("unknown variable `{name}`: {hint}"))
    }

    fn call(&mut self, id: u64, call: &CallExpr) -> Result<Node, CompileError> {
        let CallExpr { func_name, target, args } = call;
        match (target.as_deref(), args.as_slice()) {
            (None, [left, right]) => {
                if let Some(node) = self.two_sided(id, func_name, left, right)? {
                    return Ok(node);
                }
            }
            (None, [operand]) if func_name == operators::LOGICAL_NOT => {
                return Ok(Node::Not(self.boxed(operand)?));
            }
            (None, [operand]) if func_name == operators::NEGATE => return self.negate(operand),
            (None, [condition, then, otherwise]) if func_name == operators::CONDITIONAL => {
                let parts = (self.node(condition)?, self.node(then)?, self.node(otherwise)?);
                return Ok(Node::Conditional(Box::new(parts)));
            }
            (Some(operand), [pattern]) if func_name == "matches" => return self.matches(operand, pattern),
            (Some(operand), [fallback]) if func_name == "orValue" => return self.or_value(operand, fallback),
            _ => {}
        }
        self.function(id, call)
    }

    fn boxed(&mut self, expression: &IdedExpr) -> Result<Box<Node>, CompileError> {
        Ok(Box::new(self.node(expression)?))
    }

    fn two_sided(
        &mut self,
        id: u64,
        name: &str,
        left: &IdedExpr,
        right: &IdedExpr,
    ) -> Result<Option<Node>, CompileError> {
        let operator = match name {
            operators::ADD => Operator::Add,
            operators::SUBSTRACT => Operator::Subtract,
            operators::MULTIPLY => Operator::Multiply,
            operators::DIVIDE => Operator::Divide,
            operators::MODULO => Operator::Modulo,
            operators::EQUALS => Operator::Equal,
            operators::NOT_EQUALS => Operator::NotEqual,
            operators::LESS => Operator::Less,
            operators::LESS_EQUALS => Operator::LessEqual,
            operators::GREATER => Operator::Greater,
            operators::GREATER_EQUALS => Operator::GreaterEqual,
            operators::IN => Operator::In,
            operators::LOGICAL_AND => return Ok(Some(Node::And(self.pair(left, right)?))),
            operators::LOGICAL_OR => return Ok(Some(Node::Or(self.pair(left, right)?))),
            operators::INDEX => return Ok(Some(Node::Index(self.pair(left, right)?))),
            operators::OPT_INDEX => return Ok(Some(Node::OptionalIndex(self.pair(left, right)?))),
            operators::OPT_SELECT => {
                let Expr::Literal(LiteralValue::String(field)) = &right.expr else {
                    return self.refuse(id, "expected a field");
                };
                return Ok(Some(Node::OptionalSelect(self.boxed(left)?, field.inner().into())));
            }
            "matches" => return self.matches(left, right).map(Some),
            "lookup" => return self.lookup(id, left, right).map(Some),
            _ => return Ok(None),
        };
        Ok(Some(Node::Binary(operator, self.pair(left, right)?)))
    }

    fn pair(&mut self, left: &IdedExpr, right: &IdedExpr) -> Result<Box<(Node, Node)>, CompileError> {
        Ok(Box::new((self.node(left)?, self.node(right)?)))
    }

    fn negate(&mut self, operand: &IdedExpr) -> Result<Node, CompileError> {
        Ok(match self.node(operand)? {
            Node::Constant(Json::Int(value)) if value != i64::MIN => Node::Constant(Json::Int(-value)),
            Node::Constant(Json::Double(value)) => Node::Constant(Json::Double(-value)),
            operand => Node::Negate(Box::new(operand)),
        })
    }

    fn or_value(&mut self, operand: &IdedExpr, fallback: &IdedExpr) -> Result<Node, CompileError> {
        let node = self.node(operand)?;
        if self.optional(&node) {
            Ok(Node::OrValue(Box::new((node, self.node(fallback)?))))
        } else {
            self.refuse(
                operand.id,
                format!("`{node}` is not optional: write `.?` before the field that may be missing"),
            )
        }
    }

    fn matches(&mut self, operand: &IdedExpr, pattern: &IdedExpr) -> Result<Node, CompileError> {
        let Expr::Literal(LiteralValue::String(text)) = &pattern.expr else {
            return self.refuse(pattern.id, "expected a regular expression as a literal text");
        };
        let compiled = RegexBuilder::new(text.inner()).size_limit(REGEX_BYTES_MAX).nest_limit(50).build();
        match compiled {
            Ok(regex) => Ok(Node::Matches(self.boxed(operand)?, Box::new(regex))),
            Err(error) => {
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default();
                let reason = reason.strip_prefix("error: ").unwrap_or(reason);
                self.refuse(pattern.id, format!("not a regular expression: {reason}"))
            }
        }
    }

    fn lookup(&mut self, id: u64, collection: &IdedExpr, key: &IdedExpr) -> Result<Node, CompileError> {
        let Some(known) = self.scope.collections else {
            return self.refuse_call(id, "lookup", "lookup is not known here: only projections have it");
        };
        let Expr::Literal(LiteralValue::String(name)) = &collection.expr else {
            return self.refuse(collection.id, "expected the name of a collection as a literal text");
        };
        let name = name.inner();
        if let Some(number) = known.iter().position(|at| *at == name) {
            return Ok(Node::Lookup(number, name.into(), self.boxed(key)?));
        }
        let hint = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("known are {}", known.join(", ")),
        };
        self.refuse(collection.id, format!("unknown collection {name:?}: {hint}"))
    }

    fn function(&mut self, id: u64, call: &CallExpr) -> Result<Node, CompileError> {
        let name = call.func_name.as_str();
        let is_math = |target: &IdedExpr| matches!(&target.expr, Expr::Ident(name) if name == "math");
        let (style, receiver) = match call.target.as_deref() {
            None => (Style::Global, None),
            Some(target) if is_math(target) => (Style::Math, None),
            Some(target) => (Style::Method, Some(target)),
        };
        let mut found = SIGNATURES.iter().filter(|row| row.name == name && row.style == style);
        let Some(signature) = found.next() else {
            return self.unknown_function(id, name, style);
        };
        let (least, most, count) = (signature.arguments_min, signature.arguments_max, call.args.len());
        if count < least || count > most {
            let expected = if least == most { least.to_string() } else { format!("{least} to {most}") };
            return self.refuse_call(
                id,
                name,
                &format!("`{name}` takes {expected} arguments, found {count}"),
            );
        }
        let arguments = receiver.into_iter().chain(&call.args).map(|argument| self.node(argument));
        let arguments: Vec<Node> = arguments.collect::<Result<_, _>>()?;
        let opens = matches!(signature.function, Function::Or | Function::HasValue | Function::OptionalValue);
        match &arguments[..] {
            [receiver, ..] if opens && !self.optional(receiver) => self.refuse_call(
                id,
                name,
                &format!("`{receiver}` is not optional, so `{name}` does not apply"),
            ),
            _ => Ok(Node::Call(signature.function, arguments)),
        }
    }

    fn unknown_function<T>(&self, id: u64, name: &str, style: Style) -> Result<T, CompileError> {
        let other = [Style::Global, Style::Method]
            .into_iter()
            .find(|at| *at != style && names(*at).any(|n| n == name));
        let hint = match (other, nearest(name, names(style))) {
            _ if names(style).any(|known| known == name) => " with these arguments".to_owned(),
            (Some(Style::Global), _) => format!(": write `{name}(...)`"),
            (Some(_), _) => format!(": write `value.{name}(...)`"),
            (None, Some(near)) => format!(": did you mean `{near}`?"),
            (None, None) => String::new(),
        };
        let shown = if style == Style::Math { format!("math.{name}") } else { name.to_owned() };
        self.refuse_call(id, name, &format!("unknown function `{shown}`{hint}"))
    }

    /// A macro, by the shape that the parser gives it.
    fn fold(&mut self, id: u64, fold: &ComprehensionExpr) -> Result<Node, CompileError> {
        let unknown = |this: &Self| this.refuse(id, "unknown macro");
        let range = self.node(&fold.iter_range)?;
        let Expr::Call(step) = &fold.loop_step.expr else {
            return unknown(self);
        };
        let (kind, only, body) = match (&fold.accu_init.expr, step.args.as_slice()) {
            (Expr::Literal(LiteralValue::Boolean(all)), [_, body]) => {
                let kind = if *all.inner() { FoldKind::All } else { FoldKind::Exists };
                (kind, None, body)
            }
            (Expr::Literal(LiteralValue::Int(_)), [body, _, _]) => (FoldKind::ExistsOne, None, body),
            (Expr::List(_), [_, body]) => (FoldKind::Map, None, body),
            (Expr::List(_), [only, step, _]) => match &step.expr {
                Expr::Call(step) if step.args.len() == 2 => (FoldKind::Map, Some(only), &step.args[1]),
                _ => return unknown(self),
            },
            _ => return unknown(self),
        };
        let body = match (&body.expr, kind) {
            (Expr::List(made), FoldKind::Map) if made.elements.len() == 1 => &made.elements[0],
            (_, FoldKind::Map) => return unknown(self),
            _ => body,
        };
        self.locals.push(fold.iter_var.clone());
        let only = only.map(|only| self.node(only)).transpose();
        let body = self.node(body);
        self.locals.pop();
        let (only, body) = (only?, body?);
        let innermost = Root::Local(self.locals.len());
        let itself = matches!(&body, Node::Path(path) if path.root == innermost && path.fields.is_empty());
        let kind = if kind == FoldKind::Map && only.is_some() && itself { FoldKind::Filter } else { kind };
        Ok(Node::Fold(Box::new(Fold { kind, range, variable: fold.iter_var.as_str().into(), body, only })))
    }

    /// Whether the value can be an optional.
    fn optional(&self, node: &Node) -> bool {
        match node {
            Node::OptionalSelect(..) | Node::OptionalIndex(_) | Node::Call(Function::Or, _) => true,
            Node::Select(operand, _) => self.optional(operand),
            Node::Index(sides) => self.optional(&sides.0),
            Node::Conditional(parts) => self.optional(&parts.1) || self.optional(&parts.2),
            Node::OrValue(sides) => self.optional(&sides.1),
            Node::Path(path) => path.fields.is_empty() && self.may_be_optional(path),
            _ => false,
        }
    }

    fn may_be_optional(&self, path: &Path) -> bool {
        matches!(path.root, Root::Variable(number) if number >= self.scope.optional_from)
    }

    fn refuse<T>(&self, id: u64, message: impl Into<String>) -> Result<T, CompileError> {
        Err(CompileError::at(self.source, self.offset(id), message.into()))
    }

    /// As `refuse`, at the name of the function whose bracket has this id.
    fn refuse_call<T>(&self, id: u64, name: &str, message: &str) -> Result<T, CompileError> {
        let bracket = self.offset(id);
        let head = self.source.get(..bracket).unwrap_or_default().trim_end();
        let at = head.strip_suffix(name).map_or(bracket, str::len);
        Err(CompileError::at(self.source, at, message.to_owned()))
    }

    fn offset(&self, id: u64) -> usize {
        self.info.offset_for(id).map_or(0, |(start, _)| start as usize)
    }
}
