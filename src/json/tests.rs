//! Tests of JSON: canonical text, refusals, sameness.

use super::*;

fn check_canonical(text: &str, expected: &str) {
    let value = Json::parse(text.as_bytes()).unwrap();
    assert_eq!(value.to_string(), expected, "canonical text of {text}");
    let again = Json::parse_stored(expected.as_bytes()).unwrap();
    assert_eq!(again, value.normalized(), "what {expected} reads back as");
}

#[test]
fn canonical_text_sorts_keys_and_writes_integral_numbers_as_integers() {
    check_canonical(r#"{"b":1,"a":[1.0,-2.50,1e3]}"#, r#"{"a":[1,-2.5,1000],"b":1}"#);
    check_canonical("9223372036854775807", "9223372036854775807");
    check_canonical("9223372036854775808", "9.223372036854776e+18");
    check_canonical("-0", "0");
    check_canonical("1e300", "1e+300");
    check_canonical("9007199254740993.0", "9007199254740992");
    check_canonical(r#""é\n\u0001""#, r#""é\n\u0001""#);
}

fn check_refused(text: &str, expected: &str) {
    for refused in [Json::parse(text.as_bytes()).map(drop), check(text.as_bytes())] {
        let message = refused.expect_err(text).0;
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn what_is_not_one_json_value_is_refused_with_its_place() {
    check_refused("", "line 1 column 0");
    check_refused("{\n\"a\": }", "line 2 column 6");
    check_refused("1 2", "trailing");
    check_refused(r#"{"a":{"k":1,"k":2}}"#, "\"k\" is repeated");
    check_refused(r#"{"a":1,"\u0061":2}"#, "\"a\" is repeated");
    check_refused("NaN", "expected");
    check_refused("1e999", "out of range");
    check_refused("\"\\ud800\"", "line 1");
    check_refused(&format!("{}{}", "[".repeat(101), "]".repeat(101)), "nest too deep");
    assert!(check(format!("{}{}", "[".repeat(100), "]".repeat(100)).as_bytes()).is_ok());
}

#[test]
fn values_compare_by_what_they_stand_for() {
    let same =
        |a: &str, b: &str| Json::parse(a.as_bytes()).unwrap().same_value(&Json::parse(b.as_bytes()).unwrap());
    assert!(same(r#"{"a":1,"b":[2.0]}"#, r#"{"b":[2],"a":1.0}"#));
    assert!(!same("9007199254740993", "9007199254740992.0"));
    assert!(!same("1", "true"));
}
