//! Expressions and texts at random: nothing panics, and the normal form means the same.

use proptest::prelude::*;

use super::*;

fn token() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "data",
        "doc",
        "event",
        "item",
        "x",
        "1",
        "2.5",
        "-",
        "'a'",
        "\"ü\"",
        "null",
        "true",
        "false",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "?",
        ".",
        ".?",
        "[?",
        "+",
        "*",
        "/",
        "%",
        "&&",
        "||",
        "!",
        "==",
        "<",
        "in",
        "has(",
        "size(",
        ".map(x,",
        ".exists(x,",
        ".filter(x,",
        ".orValue(",
        ".n",
        ".list",
        ".t",
        "'",
        "\\",
        "`",
        "r'",
        "b'",
        "//",
        "\n",
        "lookup('a',",
        ".matches('a')",
        "string(",
        ".split(",
        ".format(",
        "0x",
        "u",
        "@",
        "ä",
        "1e9",
        "timestamp(",
        ";",
    ])
}

fn any_expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "1",
        "-2",
        "2.5",
        "0",
        "'a'",
        "'ü'",
        "null",
        "true",
        "false",
        "data.n",
        "data.x",
        "data.t",
        "data.list",
        "data.mixed",
        "data.nothing",
        "data.missing",
        "data.counts",
        "data.big",
        "data.?missing",
        "[]",
        "{}",
        "data.legs",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(5, 40, 3, |inner| {
        let operator = prop::sample::select(vec![
            "+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||", "in",
        ]);
        let suffix = prop::sample::select(vec![
            ".size()",
            ".sort()",
            ".distinct()",
            ".sum()",
            ".max()",
            ".reverse()",
            ".map(x, [x])",
            ".filter(x, x == 1)",
            ".exists(x, x > 1)",
            ".all(x, x != 0)",
            "[0]",
            ".a",
            ".?a",
            "[?1]",
            ".format([1])",
            ".flatten()",
        ]);
        prop_oneof![
            (inner.clone(), operator, inner.clone())
                .prop_map(|(a, operator, b)| format!("({a} {operator} {b})")),
            (inner.clone(), suffix).prop_map(|(a, suffix)| format!("({a}){suffix}")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[{a}, {{'k': {b}}}]")),
            inner.clone().prop_map(|a| format!("(!{a} || -{a} == string({a}))")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("data.list.map(x, x == {a} ? {b} : x)")),
        ]
    })
}

/// Every depth up to the bounds, on a stack as small as any thread of the node has.
#[test]
fn the_deepest_allowed_expressions_fit_the_stack() {
    let openers =
        ["(", "[", "{'a':", "-", "a ? b : ", "data.list.map(x, ", "data.n + ", "data.n.", "[0][", "size("];
    let deepest = openers.map(|open| {
        (1..=260).rev().find(|count| {
            let close: String = open.repeat(*count).chars().rev().filter_map(closing).collect();
            let found = outcome(&format!("{}data.n{close}", open.repeat(*count)));
            !found.contains("too deep") && !found.contains("at most 4096 bytes")
        })
    });
    let expected = [32, 32, 32, 249, 64, 32, 124, 124, 32, 32];
    assert_eq!(deepest, expected.map(Some));
}

fn closing(open: char) -> Option<char> {
    match open {
        '(' => Some(')'),
        '[' => Some(']'),
        '{' => Some('}'),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_soup_of_tokens_panics(tokens in prop::collection::vec(token(), 0..40)) {
        outcome(&tokens.concat());
        outcome(&tokens.join(" "));
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}") {
        outcome(&text);
    }

    #[test]
    fn the_normal_form_means_the_same(source in any_expression()) {
        let expression = match Expression::compile(&source, &["data", "doc"]) {
            Ok(expression) => expression,
            // The one thing that makes such an expression ill-formed.
            Err(error) => {
                prop_assert!(error.message.contains("optional"), "{source}: {error}");
                return Ok(());
            }
        };
        let normal = expression.normal_form();
        let again = Expression::compile(&normal, &["data", "doc"]).unwrap();
        prop_assert_eq!(again.normal_form(), normal);
        let data = data();
        let (first, second) = (expression.evaluate(&[&data, &Json::Null]), again.evaluate(&[&data, &Json::Null]));
        if let Ok(value) = &first {
            let text = value.to_string();
            prop_assert_eq!(Json::parse_stored(text.as_bytes()).unwrap(), value.clone().normalized());
        }
        prop_assert_eq!(first, second);
    }

    #[test]
    fn nesting_never_reaches_the_stack(
        open in prop::sample::select(vec!["(", "[", "{'a':", "!", "-", "a ? b : ", "[1].map(x, ", "size(", "a.b + "]),
        count in 1_usize..1_500,
    ) {
        outcome(&open.repeat(count));
        outcome(&format!("{}1", open.repeat(count)));
    }
}
