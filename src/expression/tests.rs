//! What expressions give, refuse and survive, as tables.

mod random;

use super::*;

const VARIABLES: [&str; 4] = ["event", "data", "doc", "item"];

fn json(text: &str) -> Json {
    Json::parse(text.as_bytes()).unwrap()
}

fn data() -> Json {
    json(
        r#"{
            "n": 7, "x": 2.5, "t": "Grüße", "yes": true, "no": false, "nothing": null,
            "list": [3, 1, 2], "mixed": [1, "a"], "nested": {"a": {"b": 1}}, "empty": [],
            "legs": [{"from": "EWR", "miles": 100}, {"from": "JFK", "miles": 250.5}],
            "counts": {"b": 2, "a": 1, "c": 3}, "two": 2.0, "big": 9223372036854775807,
            "huge": 18446744073709551616, "at": "2013-01-01T08:15:30.250Z", "odd name": 1
        }"#,
    )
}

/// The result, or the error, as text.
fn outcome(source: &str) -> String {
    let data = data();
    match Expression::compile(source, &["data", "doc"]) {
        Err(error) => format!("refused at {}: {}", error.column, error.message),
        Ok(expression) => match expression.evaluate(&[&data, &Json::Null]) {
            Ok(value) => value.to_string(),
            Err(error) => format!("error: {}", error.message),
        },
    }
}

#[track_caller]
fn check(source: &str, expected: &str) {
    assert_eq!(outcome(source), expected, "{source}");
}

#[track_caller]
fn check_error(source: &str, expected: &str) {
    let found = outcome(source);
    assert!(found.starts_with("error: ") && found.contains(expected), "{source}: {found}");
}

#[track_caller]
fn check_refused(source: &str, column: usize, expected: &str) {
    let found = outcome(source);
    let start = format!("refused at {column}: ");
    assert!(found.starts_with(&start) && found.contains(expected), "{source}: {found}");
}

/// Every example of the reference, so that the reference cannot be wrong.
#[test]
fn the_examples_of_the_reference_hold() {
    let reference = include_str!("../../docs/expressions.md");
    let examples = reference.lines().filter_map(|line| line.split_once("  ==> "));
    let mut count = 0;
    for (source, expected) in examples {
        count += 1;
        match expected.trim().strip_prefix("error: ") {
            Some(expected) => check_error(source.trim(), expected),
            None => check(source.trim(), expected.trim()),
        }
    }
    assert!(count > 150, "the reference has {count} examples");
    for name in function::names(function::Style::Global).chain(function::names(function::Style::Method)) {
        assert!(reference.contains(&format!("{name}(")), "the reference shows {name}");
    }
    for name in function::names(function::Style::Math) {
        assert!(reference.contains(&format!("math.{name}(")), "the reference shows math.{name}");
    }
}

#[test]
fn integers_stay_exact_or_fail() {
    check("data.big - 1", "9223372036854775806");
    check_error("data.big + 1", "`data.big + 1`: the result does not fit a 64-bit integer");
    check_error("-9223372036854775808 / -1", "does not fit");
    check_error("-9223372036854775808 % -1", "does not fit");
    check_error("-(-9223372036854775808)", "does not fit");
    check("-9223372036854775808", "-9223372036854775808");
    check("7 / 2", "3");
    check("-7 / 2", "-3");
    check("-7 % 2", "-1");
    check("7 / 2.0", "3.5");
    check_error("1 / 0", "division by zero");
    check_error("1.0 / 0", "division by zero");
    check_error("0.0 / -0.0", "division by zero");
    check_error("1 % 0", "modulo by zero");
    check_error("5.0 % 2", "% takes integers");
    check_error("1e308 * 10", "not a finite number");
    check("data.huge + 0", "1.8446744073709552e+19");
    check("1.5 + 1.5", "3");
    check("-0.0", "0");
}

#[test]
fn numbers_compare_by_their_exact_values() {
    check("9007199254740993 == 9007199254740992.0", "false");
    check("9007199254740993 > 9007199254740992.0", "true");
    check("data.big < 9223372036854775808.0", "true");
    check("1 == 1.0 && [1, {'a': 2.0}] == [1.0, {'a': 2}]", "true");
    check("1 == '1'", "false");
    check("null == false", "false");
    check_error("1 < 'a'", "`1` is the integer 1 and `\"a\"` is the text \"a\", and < takes");
    check("2 in data.list && 2.0 in data.list && !(9 in data.list)", "true");
    check("'a' in data.counts && !('z' in data.counts)", "true");
    check_error("1 in 2", "expected a list or map");
}

#[test]
fn an_operand_that_does_not_fit_is_named() {
    check_error("data.nothing + 1", "`data.nothing` is null and `1` is the integer 1, and + takes numbers");
    check_error("1 + data.missing", "`data.missing` is missing");
    check_error("data.nested.x.y", "`data.nested.x` is missing");
    check_error("data.nothing.x", "`data.nothing` is null, so it has no field `x`");
    check_error("data.list[3]", "`data.list` has 3 items, and none at the integer 3");
    check_error("data.list[-1]", "none at the integer -1");
    check_error("data.list['a']", "`\"a\"` is the text \"a\", expected an integer");
    check_error("data.counts['z']", "`data.counts.z` is missing");
    check_error("data.n ? 1 : 2", "`data.n` is the integer 7, expected a boolean");
    check_error("'a' + 1", "+ takes numbers, texts, lists or times");
    check_error("data.?n + 1", "is an optional (open it with .orValue(...))");
    check_error("data.?n == 7", "is an optional");
    check_error("[data.?n]", "is an optional");
    check_error("size(data.t) + data.nothing.size()", "`data.nothing` is null, expected a text, list or map");
}

#[test]
fn logic_takes_away_the_error_of_the_side_that_does_not_count() {
    check("data.no && data.missing", "false");
    check("data.missing && data.no", "false");
    check("data.yes || data.missing", "true");
    check("data.missing || data.yes", "true");
    check_error("data.missing || data.no", "missing");
    check_error("data.missing && data.yes", "missing");
    check_error("1 && true", "expected a boolean");
    check("1 && false", "false");
    check("data.mixed.exists(x, x > 0)", "true");
    check("data.mixed.all(x, x > 1)", "false");
    check_error("data.mixed.all(x, x > 0)", "> takes");
    check_error("data.mixed.exists_one(x, x > 0)", "> takes");
}

#[test]
fn missing_fields_have_their_ways() {
    check("has(data.n) && has(data.nothing) && !has(data.missing)", "true");
    check("has(data.missing.further) || has(data.n.further)", "false");
    check("data.?missing", "null");
    check("data.?n", "7");
    check("data.?missing.orValue(5) + data.?n.orValue(1)", "12");
    check("data.?missing.a.b.orValue('none')", "\"none\"");
    check("data.?nested.a.b.orValue(0)", "1");
    check("data.list[?9].orValue(0) + data.list[?0].orValue(0)", "3");
    check("data.counts[?'z'].hasValue()", "false");
    check("data.?missing.or(data.?n).value()", "7");
    check_error("data.?missing.value()", "there is no value");
    check("[?data.?missing, ?data.?n]", "[7]");
    check("{?'a': data.?missing, ?'b': data.?n}", r#"{"b":7}"#);
    check("data.?nothing.orValue(1)", "null");
    check("doc == null ? 0 : doc.count", "0");
    check("doc.?count.orValue(0)", "0");
    check("data.`odd name`", "1");
}

#[test]
fn folds_go_over_lists_and_the_keys_of_maps() {
    check("data.list.map(x, x * 2)", "[6,2,4]");
    check("data.list.map(x, x > 1, x * 2)", "[6,4]");
    check("data.list.filter(x, x > 1)", "[3,2]");
    check("data.legs.map(leg, leg.miles).sum()", "350.5");
    check("data.counts.map(key, key)", r#"["a","b","c"]"#);
    check("data.counts.filter(key, data.counts[key] > 1)", r#"["b","c"]"#);
    check("{'z': 1, 'y': 2}.map(key, key)", r#"["y","z"]"#);
    check("data.list.exists_one(x, x == 3)", "true");
    check("data.list.map(x, data.list.map(y, x * y).sum()).sum()", "36");
    check("data.list.map(data, data)", "[3,1,2]");
    check("[[1, 2], [3]].map(row, row.map(row, row + 1))", "[[2,3],[4]]");
    check("data.empty.all(x, x) && !data.empty.exists(x, x)", "true");
    check_error("data.n.map(x, x)", "expected a list or map");
    check_error("{'a': 1, 'a': 2}", "comes twice");
}

#[test]
fn what_is_not_in_the_language_is_refused_with_its_place() {
    check_refused("data.n + dta.n", 10, "unknown variable `dta`: did you mean `data`?");
    check_refused("other", 1, "known are data, doc");
    check_refused("1 + sise(data.t)", 5, "unknown function `sise`: did you mean `size`?");
    check_refused("data.t.lowerascii()", 8, "did you mean `lowerAscii`?");
    check_refused("lowerAscii(data.t)", 1, "write `value.lowerAscii(...)`");
    check_refused("data.t.string()", 8, "write `string(...)`");
    check_refused("math.sqrt(2)", 6, "unknown function `math.sqrt`");
    check_refused("data.t.split()", 8, "`split` takes 1 to 2 arguments, found 0");
    check_refused("1u", 1, "unsigned");
    check_refused("b'a'", 1, "bytes");
    check_refused("a.B{c: 1}", 4, "messages such as a.B{...} are not supported");
    check_refused("{1: 2}", 2, "expected a text as the key");
    check_refused("'ä' + +", 7, "expected a value, found '+'");
    check_refused("data.n data.x", 8, "expected an operator or the end, found 'data'");
    check_refused("data.", 6, "unexpected '.'");
    check_refused("9223372036854775808", 1, "invalid int literal");
    check_refused("if", 1, "reserved");
    check_refused("has(data)", 5, "invalid argument to has()");
    check_refused("data.list.map(1, 2)", 15, "must be a simple name");
    check_refused("['ü'].map(1, 2)", 11, "must be a simple name");
    check_refused("'ü' + nope", 7, "unknown variable");
    check_refused("data.t.matches(data.t)", 20, "literal text");
    check_refused("data.t.matches('(')", 16, "not a regular expression: unclosed group");
    check_refused("data.t.matches('a{1000}{1000}')", 16, "not a regular expression");
    check_refused("data.n.orValue(1)", 5, "`data.n` is not optional");
    check_refused("lookup('a', 'b')", 1, "lookup is not known here");
    check_refused("[?data.n]", 7, "takes an optional");
    let error = Expression::compile("1 +\n  'ü' + nope", &["data"]).unwrap_err();
    assert_eq!((error.line, error.column, error.offset_bytes), (2, 9, 13));
}

#[test]
fn work_and_size_are_bounded() {
    check_error(
        "data.list.map(a, data.list.map(b, data.list.map(c, data.t))).size() > 0 && data.nope",
        "missing",
    );
    let hundred = format!("[{}]", ["1"; 100].join(","));
    let loops = format!("{hundred}.all(a, {hundred}.all(b, {hundred}.all(c, {hundred}.all(d, true))))");
    check_error(&format!("{loops} || true"), "too many steps");
    let long = format!("'{}'", "x".repeat(1_000));
    check_error(&format!("{hundred}.map(a, {hundred}.map(b, {long}))"), "larger than");
    check_error(
        &format!("{hundred}.map(a, {hundred}.map(b, {long}).join('')).join('').size()"),
        "longer than",
    );
    check_error("'x'.replace('', 'yyyyyyyy').replace('', data.t).format([1])", "has 1 items");
}

#[test]
fn a_scope_decides_what_is_known() {
    let scope = Scope {
        variables: &["data", "total"],
        optional_from: 1,
        hidden: &[("item", "in loops")],
        collections: Some(&["airports", "flights"]),
    };
    let compile = |source| Expression::compile_in(source, &scope).map_err(|error| error.message);
    assert!(compile("total.orValue(1) + total.sub.orValue(2)").is_ok());
    assert_eq!(compile("item").unwrap_err(), "unknown variable `item`: it is known in loops");
    assert!(compile("lookup('flight', 'x')").unwrap_err().contains("did you mean \"flights\"?"));
    assert!(compile("lookup(data.x, 'x')").unwrap_err().contains("literal text"));
    assert_eq!(compile("lookup('flights', data.a)").unwrap().normal_form(), r#"lookup("flights", data.a)"#);
}

struct One;

impl Lookup for One {
    fn lookup(&mut self, collection: usize, key: &Json) -> Result<Found, EvaluateError> {
        let mut document = Object::new();
        document.insert("key", key.clone());
        document.insert("collection", Json::Int(collection as i64));
        Ok((*key != Json::Null).then(|| Arc::new(document)))
    }
}

#[test]
fn lookup_reads_documents() {
    let scope = Scope { variables: &["data"], optional_from: 1, hidden: &[], collections: Some(&["a", "b"]) };
    let source = "[lookup('b', data.n).key, lookup('b', 'x').collection, lookup('a', null)]";
    let expression = Expression::compile_in(source, &scope).unwrap();
    let (data, arena) = (data(), Arena::default());
    let mut environment = Environment { arena: &arena, lookup: Some(&mut One), steps_left: 100 };
    let value = expression.run(&[Value::from(&data)], &mut environment).unwrap();
    assert_eq!(value.to_json().to_string(), "[7,1,null]");
    assert!(environment.steps_left < 100);
}

#[test]
fn an_expression_knows_what_it_uses() {
    let uses = |source: &str| Expression::compile(source, &VARIABLES).unwrap().uses(0);
    let fields = |names: &[&str]| Uses::Fields(names.iter().map(|name| Box::from(*name)).collect());
    assert_eq!(uses("data.event"), fields(&[]));
    assert_eq!(uses("event.time + string(event.metadata.user)"), fields(&["time", "metadata"]));
    assert_eq!(uses("has(event.tags) ? event.?metadata.x.orValue(1) : 2"), fields(&["tags", "metadata"]));
    assert_eq!(uses("[1].map(x, event.id)"), fields(&["id"]));
    assert_eq!(uses("size(event)"), Uses::Whole);
    assert_eq!(uses("event['id']"), Uses::Whole);
}

#[track_caller]
fn check_normal(source: &str, expected: &str) {
    let normal = Expression::compile(source, &VARIABLES).unwrap().normal_form();
    assert_eq!(normal, expected);
    assert_eq!(Expression::compile(&normal, &VARIABLES).unwrap().normal_form(), normal);
}

#[test]
fn the_normal_form_says_what_binds() {
    check_normal("1+2*3 == 7 // seven", "(1 + (2 * 3)) == 7");
    check_normal("- data.a - -5", "(-data.a) - (-5)");
    check_normal("!(data.a&&data.b) || doc.c", "(!(data.a && data.b)) || doc.c");
    check_normal("data.a?'x':\"y'\\n\"", "data.a ? \"x\" : \"y'\\n\"");
    check_normal("data.list.filter( x , x>1 ).size()", "size(data.list.filter(x, x > 1))");
    check_normal("data.l.map(x, x.a, x.b)", "data.l.map(x, x.a, x.b)");
    check_normal("matches(data.t, r'^\\d+')", r#"data.t.matches("^\\d+")"#);
    check_normal(
        "data.?a.b[?0].orValue({'k': [1.0, ?data.?z]})",
        r#"data.?a.b[?0].orValue({"k": [1.0, ?data.?z]})"#,
    );
    check_normal("has(data.a.b) && 1 in [1]", "has(data.a.b) && (1 in [1])");
    check_normal("math.greatest(1, 2.50).format([])", "math.greatest(1, 2.5).format([])");
    check_normal("data.`odd name`[0]", "data.`odd name`[0]");
    check_normal("(-1).format([1e300])", "(-1).format([1e300])");
}
