//! The pages against the code: every metric, every setting and every reason is told, nothing else is, and links lead
//! somewhere.

use std::{collections::BTreeSet, fs, path::PathBuf};

use outrigger::config::KEYS;
use regex::Regex;

use crate::support::repository;

fn text(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap()
}

fn found(pattern: &str, text: &str) -> BTreeSet<String> {
    let pattern = Regex::new(pattern).unwrap();
    pattern.captures_iter(text).map(|found| found[1].to_owned()).collect()
}

#[test]
fn the_page_of_telemetry_has_every_count_of_the_index() {
    let page = text("docs/telemetry.md");
    let counts = found(r#"\("([a-z_]+)", (?:status|filter_bits)"#, &text("src/app/gauges.rs"));
    assert!(counts.len() >= 11, "{counts:?}");
    for count in counts {
        assert!(
            page.contains(&format!("`{count}`")),
            "the count {count} of the index is not in docs/telemetry.md"
        );
    }
}

#[test]
fn the_page_of_settings_has_every_key_with_its_flag_and_default() {
    let page = text("docs/configuration.md");
    let loaded = outrigger::config::load(
        &outrigger::config::Flags::default(),
        &outrigger::config::Environment::default(),
        &outrigger::disk::real::RealDisk,
    );
    let effective = loaded.unwrap().effective;
    assert_eq!(effective.len(), KEYS.len());
    for (key, default, _) in effective {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{}` |", key.name)));
        let row = row.unwrap_or_else(|| panic!("{} is not in docs/configuration.md", key.name));
        let default = default.map_or("not set".to_owned(), |default| format!("`{default}`"));
        let flag = key.flag.map_or(String::new(), |flag| format!("`{flag}` "));
        assert!(row.contains(&format!("| {flag}| {default} |")), "expected {flag:?} and {default} in {row}");
    }
    let keys: BTreeSet<&str> = KEYS.iter().map(|key| key.name).collect();
    for name in found(r"(?m)^\| `([a-z_.]+)` \|", &page) {
        assert!(keys.contains(name.as_str()), "docs/configuration.md has {name}, which is no key");
    }
}

#[test]
fn the_page_of_operating_has_every_reason_of_a_refused_append_that_is_no_bad_request() {
    let page = text("docs/operating.md");
    let source = text("src/api/status.rs");
    let start = source.find("impl From<AppendError> for Refusal").unwrap();
    let end = source.find("fn condition_text").unwrap();
    let kinds = ["EVENT_EXISTS", "EXPECTED_REVISION", "EVENTS_MATCH", "TRACKING"];
    let reasons = found(r#""([A-Z]+(?:_[A-Z]+)*)""#, &source[start..end]);
    assert!(reasons.len() >= 10, "{reasons:?}");
    for reason in reasons.iter().filter(|reason| !kinds.contains(&reason.as_str())) {
        assert!(page.contains(&format!("`{reason}`")), "{reason} is not in docs/operating.md");
    }
}

#[test]
fn the_page_of_blue_green_has_every_reason_of_a_refused_decision() {
    let page = text("docs/blue-green.md");
    let versions = text("src/api/projections/versions.rs");
    let releases = text("src/api/releases.rs");
    let of = |source: &str, start: &str| {
        let start = source.find(start).unwrap();
        found(r#"(?:failed\(|Code::[A-Za-z]+, |field\(\s*)"([A-Z]+(?:_[A-Z]+)+)""#, &source[start..])
    };
    let mut reasons = of(&versions, "fn deploy_refusal");
    reasons.extend(of(&releases, "impl From<ReleaseError> for Refusal"));
    reasons.remove("INVALID_ARGUMENT");
    assert!(reasons.len() >= 14, "{reasons:?}");
    for reason in reasons {
        assert!(page.contains(&format!("`{reason}`")), "{reason} is not in docs/blue-green.md");
    }
}

fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(repository().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let others = [
        "README.md",
        "CHANGELOG.md",
        "examples/airport/README.md",
        "examples/handlers/README.md",
        "examples/kubernetes/README.md",
        "charts/outrigger/README.md",
        "charts/outrigger-lib/README.md",
    ];
    docs.chain(others.map(|name| repository().join(name))).collect()
}

/// The anchors of a page's headings, as code hosts make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let line = line.trim_start_matches('#').trim().to_lowercase();
        let kept = line.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut links = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in found(r"\]\(([^)\s]+)\)", &text) {
            if link.contains("://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
            if !anchor.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                assert!(anchors(&text).contains(anchor), "{}: {link} has no such heading", page.display());
            }
            links += 1;
        }
    }
    assert!(links > 20, "{links}");
}
