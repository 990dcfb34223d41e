//! Tests of the workload: what is written by hand is what the protocol says, and the families are as promised.

use std::collections::{HashMap, HashSet};

use prost::Message as _;

use super::*;
use crate::api::proto::v1::{AppendRequest, expected_revision::Expected};

fn shape(batch: usize, conditional: Conditional) -> Shape {
    Shape { batch, size: 256, conditional, writers: 4, seed: 11, events_max: None }
}

fn requests(writer: &mut Writer, count: usize) -> Vec<(AppendRequest, Vec<Sent>)> {
    let request = |_| {
        let (mut out, mut sent) = (Vec::new(), Vec::new());
        assert!(writer.request(&mut out, &mut sent));
        (AppendRequest::decode(&out[..]).unwrap(), sent)
    };
    (0..count).map(request).collect()
}

#[test]
fn an_event_is_as_promised() {
    let mut writer = Writer::new(&Workload::new(shape(10, Conditional::None)), 0, 0);
    let mut ids = HashSet::new();
    for (request, sent) in requests(&mut writer, 100) {
        assert_eq!((request.events.len(), sent.len()), (10, 10));
        assert!(request.expected_revisions.is_empty() && request.fail_if_events_match.is_empty());
        for (event, sent) in request.events.iter().zip(&sent) {
            assert_eq!(event.id.as_deref(), Some(&sent.id[..]));
            assert!(ids.insert(sent.id));
            assert_eq!((event.data.len(), event.tags.len()), (256, 2));
            assert!(serde_json::from_slice::<String>(&event.data).is_ok());
            assert!(TYPES.contains(&event.r#type.as_str()));
            assert_eq!(event.stream.len(), "stream-00000".len());
        }
    }
}

#[test]
fn every_tag_of_the_family_has_its_events_whoever_writes_them() {
    let workload = Workload::new(shape(7, Conditional::None));
    let mut writers: Vec<_> = (0..4).map(|number| Writer::new(&workload, number, 0)).collect();
    let mut counts: HashMap<String, u64> = HashMap::new();
    let mut newest = Vec::new();
    for at in 0..2 * BLOCK_EVENTS / 7 + 2 {
        for (request, _) in requests(&mut writers[at as usize % 4], 1) {
            for event in request.events {
                *counts.entry(event.tags[1].clone()).or_default() += 1;
                newest = event.tags;
            }
        }
    }
    let full = counts.values().filter(|count| **count == TAG_EVENTS).count() as u64;
    assert_eq!(full, 2 * TAGS_OPEN);
    let names = Names::of_log(&newest).unwrap();
    let mut random = Random::new(1, 0);
    for _ in 0..1_000 {
        assert_eq!(counts[&names.tag(&mut random).unwrap()], TAG_EVENTS);
    }
}

#[test]
fn a_log_without_the_family_is_told() {
    assert!(Names::of_log(&["a".into()]).unwrap_err().contains("bench append"));
    let first = Names::of_log(&["customer-00001".into(), order_tag(7, 99)]).unwrap();
    assert_eq!(first.tag(&mut Random::new(1, 0)), None);
}

#[test]
fn revisions_follow_each_other_in_streams_of_the_writer_alone() {
    let workload = Workload::new(shape(3, Conditional::Revision));
    let mut all: HashMap<String, (u64, usize)> = HashMap::new();
    for number in 0..4 {
        for (request, sent) in requests(&mut Writer::new(&workload, number, 0), 500) {
            let first = &request.expected_revisions[0];
            assert_eq!((request.expected_revisions.len(), &first.stream), (1, &request.events[0].stream));
            let before = all.get(&first.stream).map_or(0, |(revision, _)| *revision);
            let expected = first.expected.unwrap();
            assert!(match expected {
                Expected::Revision(revision) => revision == before && before > 0,
                Expected::None(_) => before == 0,
                _ => false,
            });
            for (event, sent) in request.events.iter().zip(&sent) {
                let (revision, writer) = all.entry(event.stream.clone()).or_insert((0, number));
                *revision += 1;
                assert_eq!((sent.revision, *writer), (*revision, number));
            }
        }
    }
    assert!(all.len() > 500 && all.values().any(|(revision, _)| *revision > 20));
}

#[test]
fn queries_ask_for_both_tags_behind_the_known_head() {
    let workload = Workload::new(shape(2, Conditional::Query));
    for known_head in [0, 1, 300] {
        for (request, _) in requests(&mut Writer::new(&workload, 3, known_head), 20) {
            let condition = &request.fail_if_events_match[0];
            assert_eq!((request.fail_if_events_match.len(), condition.after), (1, Some(known_head)));
            let items = &condition.query.as_ref().unwrap().items;
            assert_eq!((items.len(), &items[0].tags), (1, &request.events[0].tags));
            let customer: u32 = request.events[0].tags[0]["customer-".len()..].parse().unwrap();
            assert_eq!(customer % 4, 3);
        }
    }
}

#[test]
fn a_run_of_some_events_ends_behind_them() {
    let mut shape = shape(30, Conditional::None);
    shape.events_max = Some(100);
    let mut writer = Writer::new(&Workload::new(shape), 0, 0);
    let sizes: Vec<usize> = requests(&mut writer, 4).iter().map(|(_, sent)| sent.len()).collect();
    assert_eq!(sizes, [30, 30, 30, 10]);
    assert!(!writer.request(&mut Vec::new(), &mut Vec::new()));
}

#[test]
fn data_can_begin_with_a_text() {
    let mut writer = Writer::new(&Workload::new(shape(1, Conditional::None)), 0, 0);
    let (mut out, mut sent) = (Vec::new(), Vec::new());
    assert!(writer.request_with(b"0123456789abcdef", &mut out, &mut sent));
    let request = AppendRequest::decode(&out[..]).unwrap();
    assert!(request.events[0].data.starts_with(b"\"0123456789abcdef"));
    assert_eq!((request.events[0].data.len(), sent.len()), (256, 1));
}
