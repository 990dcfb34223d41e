//! Prometheus' text format, read and held to its rules: help and type before the series, no series twice, counters end in
//! `_total`, histograms add up.
//!
//! Does not know which metrics there are.

use std::collections::{BTreeMap, BTreeSet};

/// A metric with its series.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) kind: String,
    /// By name and labels as they stand on the page.
    pub(crate) series: BTreeMap<String, f64>,
}

/// A page by metric; panics where the page breaks a rule.
pub(crate) fn parse(page: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
            assert!(!help.trim().is_empty(), "{line}");
            let known = families.insert(name.to_owned(), Family::default());
            assert!(known.is_none(), "{name} is there twice");
            name.clone_into(&mut current);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("no type: {line}"));
            assert_eq!(name, current, "a type without its help");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            kind.clone_into(&mut families.get_mut(name).unwrap().kind);
        } else if !line.is_empty() {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            let family = families.get_mut(&current).unwrap_or_else(|| panic!("no metric before {line}"));
            check_series(&current, &family.kind, series);
            assert!(family.series.insert(series.to_owned(), value).is_none(), "{series} is there twice");
        }
    }
    for (name, family) in &families {
        assert!(!family.kind.is_empty(), "{name} has no type");
        assert_eq!(name.ends_with("_total"), family.kind == "counter", "{name} is a {}", family.kind);
        if family.kind == "histogram" {
            check_histogram(name, family);
        }
    }
    families
}

fn check_series(metric: &str, kind: &str, series: &str) {
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}').unwrap_or_else(|| panic!("{series}"))),
        None => (series, ""),
    };
    let suffix = name.strip_prefix(metric).unwrap_or_else(|| panic!("{series} is not of {metric}"));
    let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
    assert!(suffixes.contains(&suffix), "{series} of the {kind} {metric}");
    assert!(metric.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{metric}");
    let mut names = BTreeSet::new();
    for label in labels.split("\",").filter(|label| !label.is_empty()) {
        let (name, _) = label.split_once("=\"").unwrap_or_else(|| panic!("{series}: {label}"));
        assert!(names.insert(name.to_owned()), "{series} has {name} twice");
    }
}

/// Buckets ascend to the count.
fn check_histogram(name: &str, family: &Family) {
    let mut by_labels: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for (series, value) in &family.series {
        let Some(labels) = series.strip_prefix(&format!("{name}_bucket{{")) else { continue };
        let (others, bound) = labels.rsplit_once("le=\"").unwrap();
        let bound = bound.trim_end_matches("\"}");
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
        by_labels.entry(others.trim_end_matches(',').to_owned()).or_default().push((bound, *value));
    }
    assert!(!by_labels.is_empty(), "{name} has no buckets");
    for (labels, mut buckets) in by_labels {
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        assert!(buckets.is_sorted_by(|one, other| one.1 <= other.1), "{name}{{{labels}}}: {buckets:?}");
        let count =
            if labels.is_empty() { format!("{name}_count") } else { format!("{name}_count{{{labels}}}") };
        assert_eq!(
            buckets.last().map(|last| last.1),
            family.series.get(&count).copied(),
            "{name}{{{labels}}}"
        );
    }
}

#[test]
fn pages_that_break_a_rule_are_refused() {
    let good = "# HELP a_total A\n# TYPE a_total counter\na_total{b=\"c\"} 1\na_total{b=\"d\"} 2\n";
    assert_eq!(parse(good)["a_total"].series.len(), 2);
    let bad = [
        "# TYPE a_total counter\na_total 1\n",
        "# HELP a A\n# TYPE a counter\na 1\n",
        "# HELP a_total A\n# TYPE a_total gauge\na_total 1\n",
        "# HELP a A\n# TYPE a gauge\na 1\na 2\n",
        "# HELP a A\n# TYPE a gauge\nb 1\n",
        "# HELP a A\n# TYPE a gauge\na{c=\"1\",c=\"2\"} 1\n",
        "# HELP a A\n# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\n",
        "# HELP a A\n# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 2\n",
    ];
    for page in bad {
        assert!(std::panic::catch_unwind(|| parse(page)).is_err(), "{page}");
    }
}
