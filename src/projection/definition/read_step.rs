//! Reads steps: which operation on which collection, and compiles their expressions in the scope that each part has.

use std::sync::Arc;

use super::{
    Collection,
    step::{EVENT, KeyTemplate, LETS, Operation, Plan, Step, Steps},
};
use crate::{
    expression::{Expression, Scope, nearest},
    json::Json,
    limits::{KEY_PARTS_MAX, LETS_MAX, STEPS_MAX},
    mapping::{
        about::{EVENT_FIELDS, UsedFields},
        source::{Content, Fields, Source, Yaml},
        template::{Template, compile_bare},
    },
};

/// Names that `let` may not take: variables, and words that the expression syntax keeps.
const RESERVED: [&str; 27] = [
    "event",
    "data",
    "item",
    "doc",
    "math",
    "in",
    "true",
    "false",
    "null",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
    "key",
];

/// Reads the list of steps of one event type.
pub(super) fn read_steps(source: &mut Source<'_>, node: &Yaml, collections: &[Collection]) -> Steps {
    let Content::List(nodes) = &node.value else {
        source.refuse(&node.referenced, format!("expected a list of steps, found {}", node.value));
        return Steps::default();
    };
    if nodes.is_empty() || nodes.len() > STEPS_MAX {
        source.refuse(&node.referenced, format!("expected 1 to {STEPS_MAX} steps, found {}", nodes.len()));
    }
    let mut steps = Steps { steps: Vec::new(), event_fields: UsedFields::default() };
    for (at, node) in nodes.iter().enumerate() {
        let mut reader = Reader { source: &mut *source, collections, event_fields: &mut steps.event_fields };
        steps.steps.extend(reader.step(node, at + 1));
    }
    steps
}

/// The names of a `let` with their expressions.
type Lets = Vec<(Box<str>, Expression)>;

/// A part that is there and was refused, with its problems told.
struct Refused;

struct Reader<'r, 's> {
    source: &'r mut Source<'s>,
    collections: &'r [Collection],
    event_fields: &'r mut UsedFields,
}

const STEP_KEYS: [&str; 9] = ["put", "merge", "add", "delete", "key", "value", "when", "for_each", "let"];
const OPERATIONS: [&str; 4] = ["put", "merge", "add", "delete"];

impl Reader<'_, '_> {
    fn step(&mut self, node: &Yaml, number: usize) -> Option<Step> {
        let fields = Fields::of(self.source, node, "a step", &STEP_KEYS)?;
        let (operation, collection) = self.operation(node, &fields)?;
        let for_each = fields.get("for_each").map(|node| self.bare(node, false, None).ok_or(Refused));
        let in_loop = for_each.is_some();
        let (lets, names) = self.lets(&fields, in_loop);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let when = fields.get("when").map(|node| self.bare(node, in_loop, Some(&names)).ok_or(Refused));
        let key = fields.require(self.source, "key", "an expression or a list of expressions");
        let key_node = key;
        let key = key.and_then(|node| self.key(node, in_loop, &names));
        let operation = self.value(operation, &fields, in_loop, &names);
        let (lets, key, operation, collection) = (lets?, key?, operation?, collection?);
        let (for_each, when) = (for_each.transpose().ok()?, when.transpose().ok()?);
        let Some(plan) = Plan::of(&lets, when.as_ref(), &key, &operation) else {
            let message =
                "the key decides which document `doc` is: neither it nor a `let` that it uses may use `doc`";
            self.source.refuse(&key_node?.referenced, message);
            return None;
        };
        let line = node.referenced.line() as usize;
        Some(Step { number, line, operation, collection, for_each, lets, when, key, plan })
    }

    /// Which operation, and on which collection.
    fn operation(&mut self, node: &Yaml, fields: &Fields<'_>) -> Option<(&'static str, Option<usize>)> {
        let named: Vec<_> = OPERATIONS.iter().filter_map(|name| Some((*name, fields.get(name)?))).collect();
        let [(name, target)] = named[..] else {
            let found = if named.is_empty() {
                "none".to_owned()
            } else {
                named.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" and ")
            };
            let message = format!("expected a step with one of {}, found {found}", OPERATIONS.join(", "));
            self.source.refuse(&node.referenced, message);
            return None;
        };
        let Content::Text(collection) = &target.value else {
            let message = format!("expected the name of a collection, found {}", target.value);
            self.source.refuse(&target.referenced, message);
            return Some((name, None));
        };
        let number = self.collections.iter().position(|at| *at.name == **collection);
        if number.is_none() {
            let names = || self.collections.iter().map(|at| &*at.name);
            let hint = match nearest(collection, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known are {}", names().collect::<Vec<_>>().join(", ")),
            };
            self.source.refuse(&target.referenced, format!("unknown collection `{collection}`: {hint}"));
        }
        Some((name, number))
    }

    /// Calls with the names that an expression of a step may use; without `lets` only what a loop may use.
    fn with_scope<T>(
        &mut self,
        in_loop: bool,
        lets: Option<&[&str]>,
        call: impl FnOnce(&mut Source<'_>, &Scope<'_>) -> T,
    ) -> T {
        let inner = lets.is_some();
        let item = if in_loop && inner { "item" } else { "" };
        let doc = if inner { "doc" } else { "" };
        let mut variables = vec!["event", "data", item, doc];
        variables.extend(lets.into_iter().flatten());
        let names: Vec<&str> = self.collections.iter().map(|collection| &*collection.name).collect();
        let scope = Scope {
            variables: &variables,
            optional_from: LETS,
            hidden: &[
                ("item", "in steps with `for_each`, behind it"),
                ("doc", "behind `for_each`, in `let`, `when` and `value`"),
                ("key", "in filters of queries only"),
            ],
            collections: Some(&names),
        };
        call(self.source, &scope)
    }

    /// A scalar that is an expression.
    fn bare(&mut self, node: &Yaml, in_loop: bool, lets: Option<&[&str]>) -> Option<Expression> {
        let expression = self.with_scope(in_loop, lets, |source, scope| compile_bare(source, node, scope))?;
        self.note_event(node, &expression);
        Some(expression)
    }

    /// The names and expressions of `let`, and the names even where an expression is refused.
    fn lets(&mut self, fields: &Fields<'_>, in_loop: bool) -> (Option<Lets>, Vec<String>) {
        let Some(node) = fields.get("let") else {
            return (Some(Vec::new()), Vec::new());
        };
        let Content::Map(entries) = &node.value else {
            let message = format!("expected names and their expressions, a map, found {}", node.value);
            self.source.refuse(&node.referenced, message);
            return (None, Vec::new());
        };
        if entries.len() > LETS_MAX {
            let message = format!("expected at most {LETS_MAX} names, found {}", entries.len());
            self.source.refuse(&node.referenced, message);
            return (None, Vec::new());
        }
        let mut lets = Vec::new();
        let mut names: Vec<String> = Vec::new();
        for (name, expression) in entries {
            if !is_name(&name.value) || RESERVED.contains(&name.value.as_str()) {
                let message = format!(
                    "expected a name of letters, digits and _ that is not taken, found `{}`",
                    name.value
                );
                self.source.refuse(&name.referenced, message);
            }
            let former: Vec<&str> = names.iter().map(String::as_str).collect();
            let expression = self.bare(expression, in_loop, Some(&former));
            lets.push(expression.map(|expression| (name.value.as_str().into(), expression)));
            names.push(name.value.clone());
        }
        (lets.into_iter().collect(), names)
    }

    fn key(&mut self, node: &Yaml, in_loop: bool, lets: &[&str]) -> Option<KeyTemplate> {
        let Content::List(parts) = &node.value else {
            return self.bare(node, in_loop, Some(lets)).map(KeyTemplate::One);
        };
        if parts.is_empty() || parts.len() > KEY_PARTS_MAX {
            let message = format!("expected a key of 1 to {KEY_PARTS_MAX} parts, found {}", parts.len());
            self.source.refuse(&node.referenced, message);
        }
        let parts: Vec<_> = parts.iter().map(|part| self.bare(part, in_loop, Some(lets))).collect();
        parts.into_iter().collect::<Option<_>>().map(KeyTemplate::Parts)
    }

    fn value(&mut self, name: &str, fields: &Fields<'_>, in_loop: bool, lets: &[&str]) -> Option<Operation> {
        if name == "delete" {
            if let Some((key, _)) = fields.entry("value") {
                self.source.refuse(&key.referenced, "a step with `delete` has no `value`");
                return None;
            }
            return Some(Operation::Delete);
        }
        let node = fields.require(self.source, "value", "a map of fields")?;
        let is_map = matches!(node.value, Content::Map(_));
        let template = self.with_scope(in_loop, Some(lets), |source, scope| {
            if is_map {
                Template::compile_fields(source, node, scope, name == "merge").map(Template::Object)
            } else {
                Template::compile(source, node, scope)
            }
        })?;
        template.for_each_expression(&mut |expression| self.note_event(node, expression));
        match (name, template) {
            ("add", Template::Object(increments)) => self.increments(node, increments).map(Operation::Add),
            ("put", template @ (Template::Object(_) | Template::Expression(_))) => {
                Some(Operation::Put(template))
            }
            ("merge", template @ (Template::Object(_) | Template::Expression(_))) => {
                Some(Operation::Merge(template))
            }
            _ => {
                let message = format!("expected `value` to be a map of fields, found {}", node.value);
                self.source.refuse(&node.referenced, message);
                None
            }
        }
    }

    /// Increments are numbers, or expressions that are not literals of another kind.
    fn increments(
        &mut self,
        node: &Yaml,
        fields: Vec<(Arc<str>, Template)>,
    ) -> Option<Vec<(Arc<str>, Template)>> {
        let Content::Map(entries) = &node.value else {
            return None;
        };
        let number = |value: &Json| matches!(value, Json::Int(_) | Json::Double(_));
        let mut fine = true;
        for ((_, template), (key, written)) in fields.iter().zip(entries) {
            let numeric = match template {
                Template::Constant(value) => number(value),
                Template::Expression(expression) => expression.constant().is_none_or(number),
                _ => false,
            };
            if !numeric {
                let message = format!(
                    "expected a number or one ${{...}} to add to `{}`, found {}",
                    key.value, written.value
                );
                self.source.refuse(&written.referenced, message);
                fine = false;
            }
        }
        fine.then_some(fields)
    }

    /// Keeps which fields of `event` are used; refuses those that no event has.
    fn note_event(&mut self, node: &Yaml, expression: &Expression) {
        self.event_fields.note(self.source, node, expression.uses(EVENT), &EVENT_FIELDS);
    }
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
