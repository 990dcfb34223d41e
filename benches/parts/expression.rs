//! Expressions as projections run them: one evaluation over an event's data and a document.

use divan::{Bencher, black_box};
use outrigger::{
    expression::{Arena, Environment, Expression, Value},
    json::Json,
};

const DATA: &str = r#"{"flight":"UA1545-EWR-2013-01-01","origin":"EWR","dest":"IAH","carrier":"UA","number":1545,"delay_minutes":7}"#;
const DOC: &str = r#"{"departures":41,"delay_sum":305,"status":"scheduled"}"#;

/// What steps are made of: constants, paths, comparisons, arithmetic, counters, texts.
const SOURCES: [&str; 8] = [
    "1",
    "data.delay_minutes",
    "data.flight",
    "data.carrier != 'ZZ'",
    "doc.delay_sum + data.delay_minutes",
    "has(doc.departures) && doc.departures > 40",
    "data.carrier + ' ' + data.dest",
    "doc.?arrivals.orValue(0) + 1",
];

#[divan::bench(args = SOURCES)]
fn evaluate(bencher: Bencher<'_, '_>, source: &str) {
    let expression = Expression::compile(source, &["data", "doc"]);
    let expression = expression.unwrap();
    let (data, doc) = (Json::parse(DATA.as_bytes()).unwrap(), Json::parse(DOC.as_bytes()).unwrap());
    let values = [Value::from(&data), Value::from(&doc)];
    let arena = Arena::default();
    bencher.bench_local(|| {
        let mut environment = Environment { arena: &arena, lookup: None, steps_left: 1_000 };
        drop(black_box(expression.run(black_box(&values), &mut environment)));
    });
}
