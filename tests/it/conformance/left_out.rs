//! Which cases are left out, and why: the first rule that fits takes the case.

use super::{Case, Outcome};

/// Why cases are left out.
#[derive(Debug)]
pub(super) struct Rule {
    /// As docs/expressions.md has it.
    pub(super) reason: &'static str,
    takes: fn(&Case, &str) -> bool,
}

/// The number of the rule that leaves this case out; none where it should have passed.
pub(super) fn rule_of(case: &Case, outcome: &Outcome) -> Option<usize> {
    let (Outcome::Refused(found) | Outcome::Differs(found)) = outcome else {
        return None;
    };
    RULES.iter().position(|rule| (rule.takes)(case, found))
}

/// All rules, in the order of the reference.
pub(super) const RULES: [Rule; 18] = [
    Rule {
        reason: "Protobuf messages, enums and wrappers",
        takes: |case, found| {
            has(
                found,
                &["messages such as", "a message", "of the kind enum", "`msg`", "Enum`", "`TestAllTypes`"],
            ) || matches!(case.file.as_str(), "proto2_ext" | "enums")
        },
    },
    Rule {
        reason: "bytes",
        takes: |case, found| {
            has(found, &["bytes are", "of the kind bytes", "function `bytes`"]) || case.file == "encoders_ext"
        },
    },
    Rule {
        reason: "unsigned integers",
        takes: |_, found| has(found, &["unsigned", "of the kind uint64", "function `uint`"]),
    },
    Rule {
        reason: "types as values, and types of expressions that are not run",
        takes: |case, found| {
            has(found, &["function `type`", "only its type", "of the kind type", "function `google.protobuf"])
                || case.section == "type"
                || case.name == "type_comparison"
        },
    },
    Rule {
        reason: "maps with keys that are no texts",
        takes: |_, found| has(found, &["expected a text as the key", "a map with the key"]),
    },
    Rule {
        reason: "NaN and infinity: a result that is not finite is an error",
        takes: |case, found| {
            has(found, &["the double", "not a finite", "`math.isNaN`", "`math.isInf`", "`math.isFinite`"])
                || case.expression.contains("0.0/0.0")
        },
    },
    Rule {
        reason: "functions that the language does not have",
        takes: |_, found| {
            has(found, &["unknown function", "with these arguments", "argument must be a simple name"])
        },
    },
    Rule {
        reason: "names of time zones",
        takes: |case, found| case.section == "timestamp_selectors_tz" && found.contains("an offset"),
    },
    Rule {
        reason: "times and durations as variables: JSON has none",
        takes: |case, _| case.file == "timestamps" && !case.bindings.is_empty(),
    },
    Rule {
        reason: "clauses of `format` other than `%s`, `%d`, `%f`, and `%s` of lists, maps and null",
        takes: |case, _| case.file == "string_ext" && case.section.starts_with("format"),
    },
    Rule {
        reason: "containers, and variables with dots in their names",
        takes: |case, _| case.file == "namespace" || case.section == "qualified_identifier_resolution",
    },
    Rule {
        reason: "unknown variables: refused when an expression is compiled, not when it runs",
        takes: |case, found| case.file == "basic" && found.contains("unknown variable"),
    },
    Rule {
        reason: "`int` of the double -2^63, which is exact here and an error there",
        takes: |case, _| case.name == "double_int_min_range",
    },
    Rule {
        reason: "the last 26 hours of the year 9999",
        takes: |case, _| case.name == "toString_timestamp_nanos",
    },
    Rule {
        reason: "an integer and a double that differ by less than doubles can tell: compared exactly here",
        takes: |case, _| case.file == "comparisons" && case.expression.contains("922337203685477580"),
    },
    Rule {
        reason: "`math.ceil`, `floor`, `round` and `trunc` of integers, which are errors there",
        takes: |case, _| case.file == "math_ext" && case.name == "dyn_error",
    },
    Rule { reason: "a double as the index of a list", takes: |case, _| case.name == "zero_based_double" },
    Rule {
        reason: "a field of null behind `.?`: none here, an error there",
        takes: |case, _| case.name == "map_null_entry_no_such_key",
    },
];

fn has(text: &str, parts: &[&str]) -> bool {
    parts.iter().any(|part| text.contains(part))
}
