//! The events that writers append, and the requests that carry them: the same workload for every bench.
//!
//! An event has a random id of version 4, one of 5 types, one of 10,000 streams chosen by Zipf's law, 2 tags, and data that
//! does not compress: a JSON string of random base64. The first tag is of a family of which every tag has exactly 100
//! events: event n of a run (from 0) has `order-RUN-K` with K = n / 10,000 * 100 + n % 100, so the events of one tag
//! stand 100 apart. The second is one of 10,000 customers by Zipf's law.
//!
//! Where requests have a condition, streams and customers are shared out among the writers, so that no condition of one
//! writer can be broken by another: every conflict is then an error. Does not know connections or time.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{
    random::Random,
    wire::{field_bytes, put_bytes, put_len, put_number, varint_bytes},
    zipf::Zipf,
};

/// Streams, and customers, of a run.
const NAMES: u32 = 10_000;
const TYPES: [&str; 5] = ["order.placed", "order.paid", "order.packed", "order.shipped", "order.closed"];
/// Events of every tag of the family.
pub const TAG_EVENTS: u64 = 100;
/// Tags of the family that are open at the same time.
const TAGS_OPEN: u64 = 100;
/// Bytes of an event in a request, besides its data, at the most.
const EVENT_OVERHEAD_BYTES: usize = 128;
/// Events after which a set of tags is full.
pub const BLOCK_EVENTS: u64 = TAG_EVENTS * TAGS_OPEN;

/// What every request must hold against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Conditional {
    /// No condition
    #[default]
    None,
    /// The stream of the request's first event has the revision that its writer knows
    Revision,
    /// No event with both tags of the request's first event stands behind the last position that its writer knows
    Query,
}

/// What a run appends.
#[derive(Debug)]
pub struct Workload {
    /// Events of a request.
    pub batch: usize,
    /// Bytes of an event's data.
    size: usize,
    /// The condition of every request.
    pub conditional: Conditional,
    writers: u32,
    seed: u64,
    run: u32,
    zipf: Zipf,
    /// The number of the next event.
    next: AtomicU64,
    /// The number at which the run ends.
    end: u64,
}

/// What a user may choose.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Events of a request.
    pub batch: usize,
    /// Bytes of an event's data, at least 2.
    pub size: usize,
    /// The condition of every request.
    pub conditional: Conditional,
    /// How many writers share the streams.
    pub writers: u32,
    /// From which all randomness follows.
    pub seed: u64,
    /// After how many events the run ends.
    pub events_max: Option<u64>,
}

impl Workload {
    /// A workload of this shape.
    pub fn new(shape: Shape) -> Arc<Self> {
        let Shape { batch, size, conditional, writers, seed, events_max } = shape;
        let parts = if conditional == Conditional::None { 1 } else { writers.min(NAMES) };
        Arc::new(Self {
            batch,
            size,
            conditional,
            writers: parts,
            seed,
            run: Random::new(seed, u64::MAX).bits() as u32,
            zipf: Zipf::new(NAMES / parts),
            next: AtomicU64::new(0),
            end: events_max.unwrap_or(u64::MAX),
        })
    }

    /// The numbers of the next request's events: the first and how many; `None` at the end of the run.
    fn take(&self) -> Option<(u64, usize)> {
        let first = self.next.fetch_add(self.batch as u64, Ordering::Relaxed);
        let left = self.end.checked_sub(first).filter(|left| *left > 0)?;
        Some((first, usize::try_from(left).map_or(self.batch, |left| left.min(self.batch))))
    }
}

/// One event as it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Its id.
    pub id: [u8; 16],
    /// The revision that it must get; 0 where the writer does not know.
    pub revision: u64,
}

/// One writer's requests.
#[derive(Debug)]
pub struct Writer {
    workload: Arc<Workload>,
    /// Which part of the names is this writer's own.
    part: u32,
    random: Random,
    /// The last revision of each of the writer's own streams, where it needs them.
    revisions: Vec<u64>,
    /// The last position that the writer knows of.
    pub known_head: u64,
    texts: Texts,
}

/// The texts of an event; only their digits and the data change.
#[derive(Debug)]
struct Texts {
    stream: Vec<u8>,
    order: Vec<u8>,
    customer: Vec<u8>,
    data: Vec<u8>,
}

impl Writer {
    /// The writer of this number, when the log's head is `known_head`.
    pub fn new(workload: &Arc<Workload>, number: usize, known_head: u64) -> Self {
        let revisions = match workload.conditional {
            Conditional::Revision => vec![0; (NAMES / workload.writers) as usize],
            _ => Vec::new(),
        };
        Self {
            part: number as u32 % workload.writers,
            random: Random::new(workload.seed, number as u64),
            workload: Arc::clone(workload),
            revisions,
            known_head,
            texts: Texts {
                stream: match workload.conditional {
                    Conditional::Revision => format!("stream-{:08x}-{:05}", workload.run, 0).into(),
                    _ => stream_name(0).into(),
                },
                order: order_tag(workload.run, 0).into(),
                customer: b"customer-00000".to_vec(),
                data: vec![b'"'; workload.size],
            },
        }
    }

    /// Appends the next `AppendRequest` to `out`, and its events to `sent`; false at the end of the run.
    pub fn request(&mut self, out: &mut Vec<u8>, sent: &mut Vec<Sent>) -> bool {
        let Some((first, count)) = self.workload.take() else { return false };
        out.reserve(count * (self.workload.size + EVENT_OVERHEAD_BYTES));
        for number in first..first + count as u64 {
            let event = self.choose(number);
            self.put_event(event.id, out);
            if number == first {
                self.condition(event.revision, out);
            }
            sent.push(event);
        }
        true
    }

    /// Appends a request of one event to `out` whose data begins with `text`, which is JSON inside of a string, and its
    /// event to `sent`.
    pub fn request_with(&mut self, text: &[u8], out: &mut Vec<u8>, sent: &mut Vec<Sent>) -> bool {
        let Some((number, _)) = self.workload.take() else { return false };
        let event = self.choose(number);
        let room = self.texts.data.len() - 2;
        let kept = text.len().min(room);
        self.texts.data[1..=kept].copy_from_slice(&text[..kept]);
        self.put_event(event.id, out);
        sent.push(event);
        true
    }

    /// Chooses all of an event but its type.
    fn choose(&mut self, number: u64) -> Sent {
        let Self { workload, part, random, revisions, texts, .. } = self;
        let rank = workload.zipf.choose(random);
        let stream = rank * workload.writers + *part;
        let customer = workload.zipf.choose(random) * workload.writers + *part;
        let order = number / BLOCK_EVENTS * TAGS_OPEN + number % TAGS_OPEN;
        put_digits(&mut texts.stream, 5, u64::from(stream));
        put_digits(&mut texts.customer, 5, u64::from(customer));
        put_digits(&mut texts.order, 8, order);
        let revision = revisions.get_mut(rank as usize).map_or(0, |revision| {
            *revision += 1;
            *revision
        });
        let text = 1..workload.size - 1;
        random.fill_base64(&mut texts.data[text]);
        Sent { id: random.id(), revision }
    }

    /// Writes what was chosen: field 1 of the request.
    fn put_event(&mut self, id: [u8; 16], out: &mut Vec<u8>) {
        let Texts { stream, order, customer, data } = &self.texts;
        let event_type = TYPES[self.random.below(TYPES.len() as u64) as usize];
        let texts = [event_type.as_bytes(), stream, customer, order];
        let len = field_bytes(id.len())
            + texts.iter().map(|text| field_bytes(text.len())).sum::<usize>()
            + field_bytes(data.len());
        put_len(out, 1, len);
        put_bytes(out, 1, &id);
        for (field, text) in [2, 3, 4, 4].into_iter().zip(texts) {
            put_bytes(out, field, text);
        }
        put_bytes(out, 5, data);
    }

    /// Writes the request's condition, which is about the event just written.
    fn condition(&self, revision: u64, out: &mut Vec<u8>) {
        let Texts { stream, order, customer, .. } = &self.texts;
        match self.workload.conditional {
            Conditional::None => {}
            Conditional::Revision => {
                // The writer counts the event already; none before it is said in a field of its own.
                let before = revision - 1;
                let expected = if before == 0 { 2 } else { 1 + varint_bytes(before) };
                put_len(out, 2, field_bytes(stream.len()) + expected);
                put_bytes(out, 1, stream);
                if before == 0 { put_bytes(out, 3, &[]) } else { put_number(out, 2, before) }
            }
            Conditional::Query => {
                let item = field_bytes(order.len()) + field_bytes(customer.len());
                let query = field_bytes(item);
                put_len(out, 4, field_bytes(query) + 1 + varint_bytes(self.known_head));
                put_len(out, 1, query);
                put_len(out, 1, item);
                put_bytes(out, 2, customer);
                put_bytes(out, 2, order);
                put_number(out, 2, self.known_head);
            }
        }
    }
}

/// Writes a number over the last digits of a text.
fn put_digits(text: &mut [u8], digits: usize, mut number: u64) {
    for digit in text.iter_mut().rev().take(digits) {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn stream_name(number: u32) -> String {
    format!("stream-{number:05}")
}

/// A tag of the family in which every tag has [`TAG_EVENTS`] events.
fn order_tag(run: u32, order: u64) -> String {
    format!("order-{run:08x}-{order:08}")
}

/// A part of the names: what readers choose from.
#[derive(Debug, Clone)]
pub struct Names {
    zipf: Arc<Zipf>,
    /// The family's run, and how many of its tags are full.
    orders: (u32, u64),
}

impl Names {
    /// The names in a log whose newest event has these tags; an error says what is missing.
    pub fn of_log(newest_tags: &[String]) -> Result<Self, String> {
        let number = newest_tags.iter().find_map(|tag| {
            let (run, order) = tag.strip_prefix("order-")?.split_once('-')?;
            Some((u32::from_str_radix(run, 16).ok()?, order.parse::<u64>().ok()?))
        });
        let (run, order) = number.ok_or(
            "the newest event of the log is none of `outrigger bench append`; fill the log with \
             `outrigger bench append --events 200000` first",
        )?;
        Ok(Self { zipf: Arc::new(Zipf::new(NAMES)), orders: (run, order / TAGS_OPEN * TAGS_OPEN) })
    }

    /// A random stream.
    pub fn stream(&self, random: &mut Random) -> String {
        stream_name(self.zipf.choose(random))
    }

    /// A random type.
    pub fn event_type(random: &mut Random) -> String {
        TYPES[random.below(TYPES.len() as u64) as usize].to_owned()
    }

    /// A random tag of the family, one of those that have all of their events; `None` if there is none.
    pub fn tag(&self, random: &mut Random) -> Option<String> {
        let (run, full) = self.orders;
        (full > 0).then(|| order_tag(run, random.below(full)))
    }
}

#[cfg(test)]
mod tests;
