//! The judgement of requests against facts that are there already.

use divan::{Bencher, black_box, counter::ItemsCount};
use outrigger::{
    append::{
        Expectation, Expected, Request,
        decide::{Facts, decide},
    },
    event::{Position, Revision},
    index::StreamHead,
};

use crate::support::Source;

const SIZES: [usize; 3] = [1, 100, 1_000];

fn request(count: usize) -> (Request, Facts) {
    let events = Source::new().events(count);
    let head = StreamHead { revision: Revision::new(7), last_position: Position::new(70) };
    let streams = events.iter().map(|event| (event.stream.clone(), head)).collect();
    let facts = Facts { known: vec![None; count], streams, head: Position::new(100), ..Facts::default() };
    (Request::of(events), facts)
}

#[divan::bench(args = SIZES)]
fn unconditional(bencher: Bencher, count: usize) {
    let (request, facts) = request(count);
    bencher.counter(ItemsCount::new(count)).bench(|| decide(black_box(&request), black_box(&facts)));
}

#[divan::bench(args = SIZES)]
fn expected_revision(bencher: Bencher, count: usize) {
    let (mut request, facts) = request(count);
    let stream = request.events[0].stream.clone();
    request.expectations = vec![Expectation { stream, expected: Expected::Revision(Revision::new(7)) }];
    bencher.counter(ItemsCount::new(count)).bench(|| decide(black_box(&request), black_box(&facts)));
}
