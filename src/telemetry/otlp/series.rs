//! The series of the metrics page as OTLP has them: the same names, the same instruments.
//!
//! Invariants: a counter is a cumulative, monotonic sum since the node started; a histogram has the same bounds, its buckets
//! not added up; units are those of the name.

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{InstrumentationScope, KeyValue},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
        ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point,
    },
    resource::v1::Resource,
};

use super::text;
use crate::metrics::{Bucket, MetricFamily, MetricType, Series};

/// One export. `times` are the node's start and now, in nanoseconds since 1970.
pub(super) fn request(
    resource: &Resource,
    families: &[MetricFamily],
    times: (i64, i64),
) -> ExportMetricsServiceRequest {
    let times = (times.0.unsigned_abs(), times.1.unsigned_abs());
    let scope = InstrumentationScope {
        name: "outrigger".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..InstrumentationScope::default()
    };
    let metrics = families.iter().map(|family| metric(family, times)).collect();
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }];
    let metrics =
        ResourceMetrics { resource: Some(resource.clone()), scope_metrics, ..ResourceMetrics::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![metrics] }
}

fn metric(family: &MetricFamily, times: (u64, u64)) -> Metric {
    let cumulative = AggregationTemporality::Cumulative.into();
    let series = family.get_metric();
    let numbers = |value: fn(&Series) -> f64| {
        series.iter().map(|series| number(series, value(series), times)).collect()
    };
    let data = match family.get_field_type() {
        MetricType::COUNTER => Data::Sum(Sum {
            data_points: numbers(|series| series.get_counter().get_value()),
            aggregation_temporality: cumulative,
            is_monotonic: true,
        }),
        MetricType::HISTOGRAM => Data::Histogram(Histogram {
            data_points: series.iter().map(|series| histogram(series, times)).collect(),
            aggregation_temporality: cumulative,
        }),
        _ => Data::Gauge(Gauge { data_points: numbers(|series| series.get_gauge().get_value()) }),
    };
    let name = family.name();
    Metric {
        name: name.to_owned(),
        description: family.help().to_owned(),
        unit: unit(name).to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

/// In the code of UCUM.
fn unit(name: &str) -> &'static str {
    let name = name.strip_suffix("_total").unwrap_or(name);
    if name.ends_with("_seconds") {
        "s"
    } else if name.ends_with("_bytes") {
        "By"
    } else {
        "1"
    }
}

fn labels(series: &Series) -> Vec<KeyValue> {
    series.get_label().iter().map(|label| text(label.name(), label.value())).collect()
}

fn number(series: &Series, value: f64, (start, now): (u64, u64)) -> NumberDataPoint {
    NumberDataPoint {
        attributes: labels(series),
        start_time_unix_nano: start,
        time_unix_nano: now,
        value: Some(number_data_point::Value::AsDouble(value)),
        ..NumberDataPoint::default()
    }
}

fn histogram(series: &Series, (start, now): (u64, u64)) -> HistogramDataPoint {
    let of = series.get_histogram();
    let finite = || of.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite());
    let mut below = 0;
    let mut counts: Vec<u64> = finite()
        .map(|bucket| {
            let count = bucket.cumulative_count().saturating_sub(below);
            below = bucket.cumulative_count();
            count
        })
        .collect();
    counts.push(of.get_sample_count().saturating_sub(below));
    HistogramDataPoint {
        attributes: labels(series),
        start_time_unix_nano: start,
        time_unix_nano: now,
        count: of.get_sample_count(),
        sum: Some(of.get_sample_sum()),
        bucket_counts: counts,
        explicit_bounds: finite().map(Bucket::upper_bound).collect(),
        ..HistogramDataPoint::default()
    }
}
