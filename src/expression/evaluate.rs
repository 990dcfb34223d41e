//! Runs a tree over values.
//!
//! Invariants: no panic and no unbounded work on any input (every node and item costs a step, large texts cost more);
//! the same tree over the same values gives the same result everywhere. Does not know what the variables mean.

use std::{cmp::Ordering, rc::Rc};

use super::{
    EvaluateError, Found,
    arena::Arena,
    arithmetic::{self, Trouble},
    call,
    explain::{missing, named, one_sided, prefix, two_sided},
    meter::Meter,
    tree::{Fold, FoldKind, Item, Node, Operator, Path, Root},
    value::{Described, Text, Value},
};
use crate::json::Json;

type Outcome<T> = Result<T, EvaluateError>;

/// Gives `lookup("collection", key)` its documents.
pub trait Lookup {
    /// The document of the collection with this number, as of now.
    fn lookup(&mut self, collection: usize, key: &Json) -> Result<Found, EvaluateError>;
}

/// One evaluation.
pub(super) struct Machine<'a, 'm> {
    pub(super) variables: &'m [Value<'a>],
    pub(super) locals: Vec<Value<'a>>,
    pub(super) arena: &'a Arena,
    pub(super) lookup: Option<&'m mut dyn Lookup>,
    pub(super) meter: Meter,
}

impl<'a> Machine<'a, '_> {
    pub(super) fn run(&mut self, node: &'a Node) -> Outcome<Value<'a>> {
        self.meter.charge(1)?;
        match node {
            Node::Constant(value) => Ok(Value::from(value)),
            Node::Path(path) => self.path(path),
            Node::Select(operand, field) => {
                let value = self.run(operand)?;
                select(value, operand, field)
            }
            Node::OptionalSelect(operand, field) => {
                let value = self.run(operand)?;
                Ok(optional(opened(value).and_then(|value| value.field(field))))
            }
            Node::Index(sides) => self.index(&sides.0, &sides.1),
            Node::OptionalIndex(sides) => {
                let (value, at) = (self.run(&sides.0)?, self.plain(&sides.1)?);
                Ok(optional(opened(value).and_then(|value| at_index(&value, &at))))
            }
            Node::Has(operand, field) => {
                let value = self.present(operand)?;
                Ok(Value::Bool(value.and_then(|value| value.field(field)).is_some()))
            }
            Node::Not(operand) => Ok(Value::Bool(!self.truth(operand)?)),
            Node::Negate(operand) => {
                let value = self.run(operand)?;
                arithmetic::negate(&value).map_err(|trouble| one_sided(trouble, operand, &value))
            }
            Node::And(sides) => self.logic(sides, false).map(Value::Bool),
            Node::Or(sides) => self.logic(sides, true).map(Value::Bool),
            Node::Conditional(parts) => {
                let branch = if self.truth(&parts.0)? { &parts.1 } else { &parts.2 };
                self.run(branch)
            }
            Node::Binary(operator, sides) => self.binary(*operator, sides),
            Node::List(items) => self.list(items),
            Node::Map(entries) => self.map(entries),
            Node::Call(function, arguments) => {
                let values: Outcome<Vec<_>> = arguments.iter().map(|argument| self.run(argument)).collect();
                call::call(*function, &values?, &mut self.meter)
                    .map_err(|fault| named(fault, node, arguments))
            }
            Node::OrValue(sides) => match self.run(&sides.0)? {
                Value::Optional(Some(value)) => Ok(Rc::unwrap_or_clone(value)),
                Value::Optional(None) => self.run(&sides.1),
                value => refuse(format!("`{}` is {}, not an optional", sides.0, Described(&value))),
            },
            Node::Matches(operand, pattern) => {
                let value = self.run(operand)?;
                let Some(text) = value.as_text() else {
                    return refuse(format!("`{operand}` is {}, expected a text", Described(&value)));
                };
                self.meter.charge_bytes(text.len())?;
                Ok(Value::Bool(pattern.is_match(text)))
            }
            Node::Lookup(collection, _, key) => self.look_up(*collection, key),
            Node::Fold(fold) => self.fold(fold),
        }
    }

    /// A value that is no optional.
    fn plain(&mut self, node: &'a Node) -> Outcome<Value<'a>> {
        match self.run(node)? {
            value @ Value::Optional(_) => refuse(format!("`{node}` is {}", Described(&value))),
            value => Ok(value),
        }
    }

    fn root(&self, root: Root) -> &Value<'a> {
        match root {
            Root::Variable(number) => &self.variables[number],
            Root::Local(number) => &self.locals[number],
        }
    }

    fn path(&self, path: &'a Path) -> Outcome<Value<'a>> {
        let mut value = self.root(path.root).clone();
        for (at, field) in path.fields.iter().enumerate() {
            value = match value.field(field) {
                Some(value) => value,
                None => return Err(missing(&value, &prefix(path, at), field)),
            };
        }
        Ok(value)
    }

    /// The value, or none if a field on the way is missing.
    fn present(&mut self, node: &'a Node) -> Outcome<Option<Value<'a>>> {
        self.meter.charge(1)?;
        match node {
            Node::Path(path) => {
                let root = self.root(path.root).clone();
                Ok(path.fields.iter().try_fold(root, |value, field| value.field(field)))
            }
            Node::Select(operand, field) => {
                Ok(self.present(operand)?.and_then(opened).and_then(|value| value.field(field)))
            }
            node => Ok(opened(self.run(node)?)),
        }
    }

    fn index(&mut self, operand: &'a Node, index: &'a Node) -> Outcome<Value<'a>> {
        let (value, at) = (self.run(operand)?, self.plain(index)?);
        if let Value::Optional(inner) = &value {
            return Ok(optional(inner.as_ref().and_then(|inner| at_index(inner, &at))));
        }
        if let Some(found) = at_index(&value, &at) {
            return Ok(found);
        }
        match (value.items(), &at) {
            (Some(items), Value::Int(_)) => {
                let (length, at) = (items.len(), Described(&at));
                refuse(format!("`{operand}` has {length} items, and none at {at} (they count from 0)"))
            }
            (Some(_), _) => refuse(format!("`{index}` is {}, expected an integer", Described(&at))),
            (None, Value::Text(name)) => Err(missing(&value, &operand.to_string(), name.as_str())),
            (None, _) if value.is_map() => {
                refuse(format!("`{index}` is {}, expected a text", Described(&at)))
            }
            (None, _) => refuse(format!("`{operand}` is {}, expected a list or map", Described(&value))),
        }
    }

    fn truth(&mut self, node: &'a Node) -> Outcome<bool> {
        match self.run(node)? {
            Value::Bool(value) => Ok(value),
            value => refuse(format!("`{node}` is {}, expected a boolean", Described(&value))),
        }
    }

    /// `&&` and `||`: a side that decides the result takes away the other side's error.
    fn logic(&mut self, sides: &'a (Node, Node), decides: bool) -> Outcome<bool> {
        match self.truth(&sides.0) {
            Ok(left) if left == decides => Ok(decides),
            Ok(_) => self.truth(&sides.1),
            Err(error) if error.fatal => Err(error),
            Err(error) => match self.truth(&sides.1) {
                Ok(right) if right == decides => Ok(decides),
                Err(worse) if worse.fatal => Err(worse),
                _ => Err(error),
            },
        }
    }

    fn binary(&mut self, operator: Operator, sides: &'a (Node, Node)) -> Outcome<Value<'a>> {
        let equality = matches!(operator, Operator::Equal | Operator::NotEqual | Operator::In);
        let (left, right) = if equality {
            (self.plain(&sides.0)?, self.plain(&sides.1)?)
        } else {
            (self.run(&sides.0)?, self.run(&sides.1)?)
        };
        let ordered = |wanted: fn(Ordering) -> bool| {
            let order =
                arithmetic::order(&left, &right).ok_or(Trouble::Kinds("numbers, texts, booleans or times"));
            order.map(|order| Value::Bool(wanted(order)))
        };
        let result = match operator {
            Operator::Equal => return Ok(Value::Bool(arithmetic::equal(&left, &right, &mut self.meter)?)),
            Operator::NotEqual => {
                return Ok(Value::Bool(!arithmetic::equal(&left, &right, &mut self.meter)?));
            }
            Operator::In => return self.contained(&left, &right, sides),
            Operator::Less => ordered(Ordering::is_lt),
            Operator::LessEqual => ordered(Ordering::is_le),
            Operator::Greater => ordered(Ordering::is_gt),
            Operator::GreaterEqual => ordered(Ordering::is_ge),
            Operator::Add => arithmetic::add(&left, &right, &mut self.meter),
            Operator::Subtract => arithmetic::subtract(&left, &right),
            Operator::Multiply => arithmetic::multiply(&left, &right),
            Operator::Divide => arithmetic::divide(&left, &right),
            Operator::Modulo => arithmetic::modulo(&left, &right),
        };
        result.map_err(|trouble| two_sided(trouble, operator, sides, &left, &right))
    }

    fn contained(&mut self, item: &Value<'a>, all: &Value<'a>, sides: &(Node, Node)) -> Outcome<Value<'a>> {
        if let Some(items) = all.items() {
            for candidate in items.iter() {
                if arithmetic::equal(item, &candidate, &mut self.meter)? {
                    return Ok(Value::Bool(true));
                }
            }
            return Ok(Value::Bool(false));
        }
        match (all.is_map(), item.as_text()) {
            (true, Some(key)) => Ok(Value::Bool(all.field(key).is_some())),
            (true, None) => Ok(Value::Bool(false)),
            (false, _) => refuse(format!("`{}` is {}, expected a list or map", sides.1, Described(all))),
        }
    }

    /// The value of an element, or none if it is left out.
    fn item(&mut self, item: &'a Item) -> Outcome<Option<Value<'a>>> {
        if !item.optional {
            return self.plain(&item.value).map(Some);
        }
        match self.run(&item.value)? {
            Value::Optional(value) => Ok(value.map(Rc::unwrap_or_clone)),
            value => refuse(format!("`{}` is {}, not an optional", item.value, Described(&value))),
        }
    }

    fn list(&mut self, items: &'a [Item]) -> Outcome<Value<'a>> {
        let mut made = Vec::with_capacity(items.len());
        for item in items {
            made.extend(self.item(item)?);
        }
        Ok(Value::list(made))
    }

    fn map(&mut self, entries: &'a [(Node, Item)]) -> Outcome<Value<'a>> {
        let mut made: Vec<(Text<'a>, Value<'a>)> = Vec::with_capacity(entries.len());
        for (key_node, item) in entries {
            let key = match self.run(key_node)? {
                Value::Text(key) => key,
                other => {
                    return refuse(format!("`{key_node}` is {}, expected a text as key", Described(&other)));
                }
            };
            if let Some(value) = self.item(item)? {
                made.push((key, value));
            }
        }
        made.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        match made.windows(2).find(|pair| pair[0].0.as_str() == pair[1].0.as_str()) {
            Some(pair) => refuse(format!("the key {:?} comes twice in a map", pair[0].0.as_str())),
            None => Ok(Value::Map(Rc::new(made))),
        }
    }

    fn look_up(&mut self, collection: usize, key: &'a Node) -> Outcome<Value<'a>> {
        let key = self.plain(key)?.to_json();
        let Some(lookup) = &mut self.lookup else {
            return refuse("lookup is not known here".into());
        };
        let found = lookup.lookup(collection, &key)?;
        Ok(found.map_or(Value::Null, |document| Value::Object(self.arena.keep(document))))
    }

    fn fold(&mut self, fold: &'a Fold) -> Outcome<Value<'a>> {
        let range = match self.plain(&fold.range)? {
            Value::Object(object) => {
                self.meter.charge(object.len() as u64)?;
                Value::list(object.iter().map(|(key, _)| Value::Text(Text::Borrowed(key))).collect())
            }
            Value::Map(entries) => {
                self.meter.charge(entries.len() as u64)?;
                Value::list(entries.iter().map(|(key, _)| Value::Text(key.clone())).collect())
            }
            range => range,
        };
        let Some(items) = range.items() else {
            return refuse(format!("`{}` is {}, expected a list or map", fold.range, Described(&range)));
        };
        let local = self.locals.len();
        self.locals.push(Value::Null);
        let items = items.iter().map(|item| (local, item));
        let result = match fold.kind {
            FoldKind::All => self.quantify(fold, items, false),
            FoldKind::Exists => self.quantify(fold, items, true),
            FoldKind::ExistsOne => self.count(fold, items).map(|count| Value::Bool(count == 1)),
            FoldKind::Map | FoldKind::Filter => self.transform(fold, items),
        };
        self.locals.truncate(local);
        result
    }

    /// `exists` and `all`: an item that decides the result takes away the errors of the others.
    fn quantify(
        &mut self,
        fold: &'a Fold,
        items: impl Iterator<Item = (usize, Value<'a>)>,
        decides: bool,
    ) -> Outcome<Value<'a>> {
        let mut first_error = None;
        for (local, item) in items {
            self.locals[local] = item;
            match self.truth(&fold.body) {
                Ok(found) if found == decides => return Ok(Value::Bool(decides)),
                Ok(_) => {}
                Err(error) if error.fatal => return Err(error),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error.map_or(Ok(Value::Bool(!decides)), Err)
    }

    fn count(&mut self, fold: &'a Fold, items: impl Iterator<Item = (usize, Value<'a>)>) -> Outcome<usize> {
        let mut count = 0;
        for (local, item) in items {
            self.locals[local] = item;
            count += usize::from(self.truth(&fold.body)?);
        }
        Ok(count)
    }

    fn transform(
        &mut self,
        fold: &'a Fold,
        items: impl Iterator<Item = (usize, Value<'a>)>,
    ) -> Outcome<Value<'a>> {
        let mut made = Vec::new();
        for (local, item) in items {
            self.locals[local] = item;
            let taken = match &fold.only {
                Some(only) => self.truth(only)?,
                None => true,
            };
            if taken {
                made.push(self.plain(&fold.body)?);
            }
        }
        Ok(Value::list(made))
    }
}

pub(super) fn refuse<T>(message: String) -> Outcome<T> {
    Err(EvaluateError::new(message))
}

/// The value inside an optional, or the value itself.
fn opened(value: Value<'_>) -> Option<Value<'_>> {
    match value {
        Value::Optional(value) => value.map(Rc::unwrap_or_clone),
        value => Some(value),
    }
}

fn optional(value: Option<Value<'_>>) -> Value<'_> {
    value.map_or(Value::Optional(None), Value::some)
}

fn select<'a>(value: Value<'a>, operand: &Node, field: &str) -> Outcome<Value<'a>> {
    if let Value::Optional(inner) = value {
        return Ok(optional(inner.and_then(|inner| inner.field(field))));
    }
    value.field(field).ok_or_else(|| missing(&value, &operand.to_string(), field))
}

fn at_index<'a>(value: &Value<'a>, at: &Value<'a>) -> Option<Value<'a>> {
    match (value.items(), at) {
        (Some(items), Value::Int(at)) => items.get(usize::try_from(*at).ok()?),
        (None, Value::Text(name)) => value.field(name.as_str()),
        _ => None,
    }
}
