//! One event to bytes and back, the check of its data, and a checksum over it.

use bytes::Bytes;
use divan::{Bencher, black_box, counter::BytesCount};
use outrigger::{
    event::{Position, RecordedEvent},
    json,
};

use crate::support::Source;

fn recorded() -> RecordedEvent {
    Source::new().recorded(0, 1).remove(0)
}

#[divan::bench]
fn event_encode(bencher: Bencher) {
    let event = recorded();
    bencher.bench(|| black_box(&event).encode());
}

#[divan::bench]
fn event_decode(bencher: Bencher) {
    let payload = Bytes::from(recorded().encode());
    bencher.bench(|| RecordedEvent::decode(Position::new(1), black_box(payload.clone())));
}

#[divan::bench]
fn data_check(bencher: Bencher) {
    let data = recorded().event.data;
    bencher.counter(BytesCount::new(data.len())).bench(|| json::check(black_box(&data)));
}

#[divan::bench(args = [384, 4_096])]
fn checksum(bencher: Bencher, len: usize) {
    let bytes = vec![7; len];
    bencher.counter(BytesCount::new(len)).bench(|| crc32c::crc32c(black_box(&bytes)));
}
