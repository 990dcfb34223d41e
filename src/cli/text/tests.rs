//! Texts in and out.

use proptest::prelude::*;

use super::*;

#[test]
fn compacting_touches_white_space_only() {
    let check = |json: &str, expected: &str| assert_eq!(compact(json), expected);
    check("{ \"a b\" : [ 1.50 ,\n 2e3 ] }", "{\"a b\":[1.50,2e3]}");
    check(r#""x \" y""#, r#""x \" y""#);
    check(r#"{"a\\" : " "}"#, r#"{"a\\":" "}"#);
}

#[test]
fn pretty_texts_have_a_line_a_field() {
    let check = |json: &str, expected: &str| assert_eq!(pretty(json), expected);
    check(r#"{"a":1,"b":[],"c":{}}"#, "{\n  \"a\": 1,\n  \"b\": [],\n  \"c\": {}\n}");
    check(r#"[1,{"k":"a,b:{}"}]"#, "[\n  1,\n  {\n    \"k\": \"a,b:{}\"\n  }\n]");
    check("1.0", "1.0");
}

#[test]
fn verbatim_numbers_survive() {
    let data = raw(b"{\"n\": 1.000000000000000000001, \"m\": 1E400}");
    assert_eq!(data.get(), r#"{"n":1.000000000000000000001,"m":1E400}"#);
    assert_eq!(raw(b"not json").get(), "\"not json\"");
}

#[test]
fn keys_are_arrays_or_texts() {
    let check = |text: &str, expected: &str| assert_eq!(key_json(&parse_key(text).unwrap()).get(), expected);
    check("EWR", "\"EWR\"");
    check("17", "\"17\"");
    check(r#"["JFK","LAX"]"#, r#"["JFK","LAX"]"#);
    check(r#"["a", 1, true]"#, r#"["a",1,true]"#);
    check(r#"["one"]"#, "\"one\"");
    check("[1", "\"[1\"");
    check("[7]", "[7]");
    assert!(parse_key("[1.5]").is_err());
    assert!(parse_key("[]").is_err());
    assert_eq!(key_text(&parse_key("EWR").unwrap()), "EWR");
}

#[test]
fn index_values_are_json_or_texts() {
    let check = |text: &str, expected: &str| assert_eq!(parse_value(text), expected.as_bytes());
    check("EWR", "\"EWR\"");
    check("17", "17");
    check("\"17\"", "\"17\"");
    check("null", "null");
}

#[test]
fn tokens_read_back_as_they_print() {
    let token = v1::Token { log_id: Bytes::from(vec![0xAB; 16]), epoch: 3, position: 99 };
    let text = token_text(&token);
    assert_eq!(text, format!("{}:3:99", "ab".repeat(16)));
    assert_eq!(parse_at_least(&text).unwrap(), AtLeast::Token(token));
    assert_eq!(parse_at_least("17").unwrap(), AtLeast::Position(17));
    for bad in ["", "x", "1:2", "ab:1:2", &format!("{text}:1")] {
        assert!(parse_at_least(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn times_are_rfc_3339() {
    let check = |text: &str, expected: Option<&str>| {
        let time = parse_time(text).ok();
        assert_eq!(time.map(|time| time_text(Some(&time))).as_deref(), expected, "{text:?}");
    };
    check("2013-01-01T08:15:00Z", Some("2013-01-01T08:15:00Z"));
    check("2013-01-01T08:15:00.250Z", Some("2013-01-01T08:15:00.25Z"));
    check("2013-01-01T08:15:00+01:00", Some("2013-01-01T07:15:00Z"));
    check("1969-12-31T23:59:59.5Z", Some("1969-12-31T23:59:59.5Z"));
    check("2013-01-01", None);
    check("2013-01-01 08:15:00Z", None);
    check("2013-01-01T08:15:00", None);
    check("2013-13-01T08:15:00Z", None);
    assert_eq!(time_text(None), "");
}

#[test]
fn counts_are_grouped() {
    let check = |count: u64, expected: &str| assert_eq!(grouped(count), expected);
    check(0, "0");
    check(999, "999");
    check(80_491, "80 491");
    check(1_234_567, "1 234 567");
}

proptest! {
    #[test]
    fn re_spaced_json_is_the_same_json(text in "[ -~]{0,20}", number in any::<i32>()) {
        let value = serde_json::json!({ "text": text, "list": [number, null, { "k": text }], "empty": [] });
        let spaced = serde_json::to_string_pretty(&value).unwrap();
        let tight = compact(&spaced);
        prop_assert_eq!(&tight, &value.to_string());
        prop_assert_eq!(compact(&pretty(&tight)), tight);
    }
}

#[test]
fn times_of_a_table_are_as_wide_as_each_other() {
    let shown = |seconds, nanos| time_in_table(Some(&prost_types::Timestamp { seconds, nanos }));
    assert_eq!(shown(1_357_027_200, 0), "2013-01-01T08:00:00.000Z");
    assert_eq!(shown(1_357_027_200, 77_344_339), "2013-01-01T08:00:00.077Z");
    assert_eq!(shown(-1, 999_999_999), "1969-12-31T23:59:59.999Z");
    assert_eq!(time_in_table(None), "");
}

#[test]
fn positions_are_numbers() {
    assert_eq!(parse_position("17"), Ok(17));
    for bad in ["", "x", "-1", "1.5"] {
        assert!(parse_position(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn lengths_of_time_read_as_people_say_them() {
    let texts = [0.2, 59.0, 61.0, 3_599.0, 7_500.0].map(duration_text);
    assert_eq!(texts, ["1 s", "59 s", "1 min 1 s", "59 min 59 s", "2 h 5 min"]);
}
