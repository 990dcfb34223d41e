//! Dashboards, alerts and runbook against the metrics that there are, and against each other.

use std::{collections::BTreeSet, fs};

use outrigger::metrics::Metrics;
use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use crate::support::repository;

fn text(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

const ALERTS: &str = "charts/outrigger/alerts/outrigger.yaml";
const DASHBOARDS: [&str; 2] =
    ["charts/outrigger/dashboards/node.json", "charts/outrigger/dashboards/fleet.json"];

#[derive(Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    alert: String,
    expr: String,
    labels: Labels,
    annotations: Annotations,
}

#[derive(Deserialize)]
struct Labels {
    severity: String,
}

#[derive(Deserialize)]
struct Annotations {
    summary: String,
    description: String,
    runbook_url: String,
}

fn rules() -> Vec<Rule> {
    let rules: Rules = serde_saphyr::from_str(&text(ALERTS)).unwrap();
    rules.groups.into_iter().flat_map(|group| group.rules).collect()
}

/// The names in a text that a metric can have, as far as they are ours.
fn names(text: &str) -> BTreeSet<String> {
    let name = Regex::new(r"\b((?:outrigger|process)_[a-z_]+)\b").unwrap();
    name.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

fn check_known(place: &str, names: BTreeSet<String>) {
    let metrics = Metrics::new();
    let described = metrics.described();
    let is_known = |name: &str| {
        let is = |metric: &outrigger::metrics::Described| {
            let suffix = name.strip_prefix(&metric.name);
            suffix.is_some_and(|suffix| {
                suffix.is_empty()
                    || (metric.kind == "histogram" && ["_bucket", "_sum", "_count"].contains(&suffix))
            })
        };
        described.iter().any(is)
    };
    for name in names {
        assert!(is_known(&name), "{place} names {name}, which no node tells");
    }
}

#[test]
fn alerts_name_metrics_that_there_are_and_have_all_that_is_needed() {
    let rules = rules();
    let mut seen = BTreeSet::new();
    assert!(rules.len() >= 20, "{}", rules.len());
    for rule in rules {
        let Rule { alert, expr, labels, annotations } = rule;
        assert!(seen.insert(alert.clone()), "{alert} is there twice");
        let found = names(&expr);
        assert!(!found.is_empty(), "{alert}: {expr}");
        check_known(&alert, found);
        assert!(["info", "warning", "critical"].contains(&labels.severity.as_str()), "{alert}");
        assert!(annotations.summary.len() > 10 && annotations.description.contains("{{"), "{alert}");
        assert_eq!(annotations.runbook_url, format!("docs/runbook.md#{}", alert.to_lowercase()));
    }
}

#[test]
fn every_alert_has_its_section_and_every_section_its_alert() {
    let runbook = text("docs/runbook.md");
    let sections: Vec<&str> = runbook.split("\n## ").skip(1).collect();
    let titles: BTreeSet<String> =
        sections.iter().map(|section| section.lines().next().unwrap().to_owned()).collect();
    let rules = rules();
    assert_eq!(titles, rules.iter().map(|rule| rule.alert.clone()).collect::<BTreeSet<_>>());
    for section in sections {
        for part in ["**Meaning.** ", "**Check.**", "**Remedy.** "] {
            let behind = section.split_once(part).unwrap_or_else(|| panic!("no {part}in {section}")).1;
            assert!(behind.trim().len() > 20, "{section}");
        }
        let rule = rules.iter().find(|rule| section.lines().next() == Some(&rule.alert)).unwrap();
        assert!(section.contains(&rule.expr) && section.contains(&rule.labels.severity), "{section}");
    }
    check_known("docs/runbook.md", names(&runbook).into_iter().filter(|name| !name.ends_with('_')).collect());
}

#[test]
fn dashboards_have_panels_with_units_over_metrics_that_there_are() {
    let variable = Regex::new(r"\$([a-z_]+)").unwrap();
    for path in DASHBOARDS {
        let board: Value = serde_json::from_str(&text(path)).unwrap();
        let variables: BTreeSet<&str> = board["templating"]["list"]
            .as_array()
            .unwrap()
            .iter()
            .map(|of| of["name"].as_str().unwrap())
            .collect();
        assert!(variables.is_superset(&["datasource", "namespace"].into()), "{path}: {variables:?}");
        let (mut ids, mut places, mut panels) = (BTreeSet::new(), BTreeSet::new(), 0);
        for panel in board["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{path}: an id is there twice: {panel}");
            let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(
                        x < 24 && places.insert((x, y)),
                        "{path}: {} lies on another panel",
                        panel["title"]
                    );
                }
            }
            if panel["type"] == "row" {
                continue;
            }
            panels += 1;
            assert!(panel["title"].as_str().is_some_and(|title| !title.is_empty()), "{panel}");
            assert!(panel["description"].as_str().is_some_and(|about| !about.is_empty()), "{panel}");
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{panel}");
            for target in panel["targets"].as_array().unwrap() {
                let expression = target["expr"].as_str().unwrap();
                let found = names(expression);
                assert!(!found.is_empty(), "{path}: {expression}");
                check_known(path, found);
                for used in variable.captures_iter(expression) {
                    let is_known = variables.contains(&used[1]) || &used[1] == "__rate_interval";
                    assert!(is_known, "{path}: ${} in {expression}", &used[1]);
                }
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{path}: {expression}");
            }
        }
        assert!(panels >= 15, "{path}: {panels}");
    }
}
