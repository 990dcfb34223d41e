//! The conformance tests of the Common Expression Language that fall into the subset of docs/expressions.md.
//!
//! The cases are no part of this repository: `tests/run tools` puts them into `.tools/cel/cases.json`. Every case passes
//! or is left out by a rule of `left_out` with its reason; a rule that leaves out nothing, or a case that passes, fails.

mod left_out;

use std::path::PathBuf;

use outrigger::{expression::Expression, json::Json};
use serde_json::Value;

/// One case: an expression, what its variables are, and what it should give.
#[derive(Debug)]
struct Case {
    file: String,
    section: String,
    name: String,
    expression: String,
    bindings: Vec<(String, Value)>,
    expected: Expected,
}

#[derive(Debug)]
enum Expected {
    Value(Value),
    Error,
    /// Only its type is asked for.
    Type,
}

/// What came of a case.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    /// The expression, its variables or its value are not in the language: why.
    Refused(String),
    /// It gives something else: what.
    Differs(String),
}

impl Case {
    fn read(case: &Value) -> Self {
        let text = |name: &str| case[name].as_str().unwrap_or_default().to_owned();
        let expected = if case.get("evalError").is_some() {
            Expected::Error
        } else if case.get("typedResult").is_some() {
            Expected::Type
        } else {
            Expected::Value(
                case.get("value").cloned().unwrap_or_else(|| serde_json::json!({"boolValue": true})),
            )
        };
        let bindings = case["bindings"].as_object().into_iter().flatten();
        Self {
            file: text("file"),
            section: text("section"),
            name: text("name"),
            expression: text("expr"),
            bindings: bindings.map(|(name, value)| (name.clone(), value["value"].clone())).collect(),
            expected,
        }
    }

    fn id(&self) -> String {
        format!("{}/{}/{}", self.file, self.section, self.name)
    }

    fn run(&self) -> Outcome {
        let mut names = Vec::new();
        let mut values = Vec::new();
        for (name, value) in &self.bindings {
            match json(value) {
                Ok(value) => {
                    names.push(name.as_str());
                    values.push(value);
                }
                Err(kind) => return Outcome::Refused(format!("a variable is {kind}")),
            }
        }
        let expression = match Expression::compile(&self.expression, &names) {
            Ok(expression) => expression,
            Err(_) if matches!(self.expected, Expected::Error) => return Outcome::Passed,
            Err(error) => return Outcome::Refused(error.message),
        };
        let found = expression.evaluate(&values.iter().collect::<Vec<_>>());
        let expected = match &self.expected {
            Expected::Error => Err("an error".to_owned()),
            Expected::Type => return Outcome::Refused("only its type is asked for".into()),
            Expected::Value(value) => match json(value) {
                Ok(value) => Ok(value),
                Err(kind) => return Outcome::Refused(format!("the value is {kind}")),
            },
        };
        match (found, expected) {
            (Err(_), Err(_)) => Outcome::Passed,
            (Ok(found), Ok(expected)) if same(&found, &expected) => Outcome::Passed,
            (found, expected) => {
                let text = |outcome: Result<Json, String>| {
                    outcome.map_or_else(|error| error, |value| value.to_string())
                };
                let found = text(found.map_err(|error| format!("the error {:?}", error.message)));
                Outcome::Differs(format!("expected {}, found {found}", text(expected)))
            }
        }
    }
}

/// A value of the cases' format as JSON, or what it is where JSON has no such value.
fn json(value: &Value) -> Result<Json, String> {
    let object = value.as_object().ok_or("nothing")?;
    let (kind, value) = object.iter().next().ok_or("nothing")?;
    let text = value.as_str().unwrap_or_default();
    Ok(match kind.as_str() {
        "nullValue" => Json::Null,
        "boolValue" => Json::Bool(value.as_bool().ok_or("no boolean")?),
        "int64Value" => Json::Int(text.parse().map_err(|_| "no integer")?),
        "doubleValue" => Json::Double(value.as_f64().ok_or_else(|| format!("the double {value}"))?),
        "stringValue" => Json::Text(text.into()),
        "listValue" => {
            let items = value["values"].as_array().into_iter().flatten();
            Json::Array(items.map(json).collect::<Result<_, _>>()?)
        }
        "mapValue" => {
            let entries = value["entries"].as_array().into_iter().flatten();
            let entry = |entry: &Value| match json(&entry["key"])? {
                Json::Text(key) => Ok((key, json(&entry["value"])?)),
                key => Err(format!("a map with the key {key}")),
            };
            Json::Object(entries.map(entry).collect::<Result<_, String>>()?)
        }
        "objectValue" => match value["@type"].as_str() {
            Some(
                "type.googleapis.com/google.protobuf.Timestamp"
                | "type.googleapis.com/google.protobuf.Duration",
            ) => Json::Text(value["value"].as_str().ok_or("a time without value")?.into()),
            _ => return Err("a message".into()),
        },
        kind => return Err(format!("of the kind {}", kind.trim_end_matches("Value"))),
    })
}

/// Whether both are the same value; an integral double is the integer.
fn same(a: &Json, b: &Json) -> bool {
    a.clone().normalized() == b.clone().normalized()
}

/// How many cases passed, and how many each rule leaves out, in the order of the rules.
type Counts = (usize, Vec<usize>);

fn run_all(cases: &[Case]) -> (Counts, Vec<String>) {
    let mut passed = 0;
    let mut left_out = vec![0; left_out::RULES.len()];
    let mut failures = Vec::new();
    for case in cases {
        let outcome = case.run();
        match (&outcome, left_out::rule_of(case, &outcome)) {
            (Outcome::Passed, _) => passed += 1,
            (_, Some(rule)) => left_out[rule] += 1,
            (outcome, None) => failures.push(format!("{}: {:?}: {outcome:?}", case.id(), case.expression)),
        }
    }
    ((passed, left_out), failures)
}

/// What the reference says of them.
fn documented() -> Counts {
    let reference = include_str!("../../docs/expressions.md");
    let section =
        reference.split("\n## Conformance\n").nth(1).expect("the reference has a section on conformance");
    let passed =
        section.split("**").nth(1).expect("it says how many pass").parse().expect("that is a number");
    let counts = left_out::RULES.iter().map(|rule| {
        let row = section.lines().find(|line| line.starts_with(&format!("| {} |", rule.reason)));
        let row = row.unwrap_or_else(|| panic!("the reference has no row for {:?}", rule.reason));
        row.split('|').nth(2).and_then(|count| count.trim().parse().ok()).expect("a row has a count")
    });
    (passed, counts.collect())
}

#[test]
fn the_conformance_tests_of_the_subset_pass_and_the_others_are_listed() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".tools/cel/cases.json");
    let Ok(cases) = std::fs::read(path) else {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "the cases are missing: run tests/run tools");
        eprintln!("skipped: the cases are missing, tests/run tools installs them");
        return;
    };
    let cases: Vec<Value> = serde_json::from_slice(&cases).unwrap();
    let cases: Vec<Case> = cases.iter().map(Case::read).collect();
    assert!(cases.len() > 2_000, "{} cases", cases.len());
    let (counts, failures) = run_all(&cases);
    assert!(
        failures.is_empty(),
        "{} cases neither pass nor are left out:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(counts.1.iter().all(|count| *count > 0), "a rule leaves out nothing: {:?}", counts.1);
    assert_eq!(counts, documented(), "docs/expressions.md counts otherwise");
}
