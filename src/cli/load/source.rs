//! From a file or standard input to batches of events.
//!
//! Owns decompression, lines and batching. Memory is bounded: one line, one batch, and the counts of derived ids. An
//! event whose id is in the batch already begins a new batch, because a request may not repeat an id. Does not know
//! nodes.

use std::{
    collections::HashSet,
    io::{self, BufRead, BufReader, Cursor, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use flate2::bufread::MultiGzDecoder;

use super::line::{self, Ids};
use crate::{
    disk::{Access, Disk, File},
    event::{Event, EventId},
    limits::{LINE_BYTES_MAX, LOAD_BATCH_BYTES_MAX, LOAD_BATCH_EVENTS_MAX},
};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Where events come from.
pub struct Input {
    /// The file's name, or `-`.
    pub name: String,
    /// Bytes as they lie there, perhaps compressed.
    pub bytes: Box<dyn Read + Send>,
    /// How many bytes there are, where that is known.
    pub bytes_total: Option<u64>,
    /// How many were read.
    pub bytes_read: Arc<AtomicU64>,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Input {
    /// A file.
    pub fn file(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let file = disk.open(path, Access::Read)?;
        let bytes_total = Some(file.len()?);
        Ok(Self::new(path.display().to_string(), FileBytes { file, offset: 0 }, bytes_total))
    }

    /// Standard input.
    pub fn standard() -> Self {
        Self::new("-".into(), io::stdin(), None)
    }

    /// Bytes that are there already.
    pub fn memory(name: &str, bytes: &'static [u8]) -> Self {
        Self::new(name.into(), Cursor::new(bytes), Some(bytes.len() as u64))
    }

    fn new(name: String, bytes: impl Read + Send + 'static, bytes_total: Option<u64>) -> Self {
        let bytes_read = Arc::new(AtomicU64::new(0));
        let counted = Counted { bytes, count: Arc::clone(&bytes_read) };
        Self { name, bytes: Box::new(counted), bytes_total, bytes_read }
    }

    /// The text, decompressed if it begins as gzip does.
    fn decoded(mut self) -> io::Result<Box<dyn BufRead + Send>> {
        let mut begin = Vec::new();
        Read::by_ref(&mut self.bytes).take(2).read_to_end(&mut begin)?;
        let compressed = begin == GZIP_MAGIC;
        let whole = BufReader::with_capacity(1 << 16, Cursor::new(begin).chain(self.bytes));
        Ok(if compressed {
            Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(whole)))
        } else {
            Box::new(whole)
        })
    }
}

/// Events that go into one request, in the order of the file.
#[derive(Debug, Default)]
pub struct Batch {
    /// At least one.
    pub events: Vec<Event>,
    /// The line of each event, from 1.
    pub lines: Vec<u64>,
    ids: HashSet<EventId>,
    bytes: usize,
}

impl Batch {
    fn takes(&self, event: &Event) -> bool {
        self.events.is_empty()
            || (self.events.len() < LOAD_BATCH_EVENTS_MAX
                && self.bytes + event.size_bytes() <= LOAD_BATCH_BYTES_MAX
                && !self.ids.contains(&event.id))
    }

    fn add(&mut self, event: Event, line: u64) {
        self.bytes += event.size_bytes();
        self.ids.insert(event.id);
        self.events.push(event);
        self.lines.push(line);
    }
}

/// What reading a source yields.
#[derive(Debug)]
pub enum Item {
    /// Events to append.
    Batch(Batch),
    /// A line that was left out: file, line, column and reason.
    Skipped(String),
    /// The end before the end of the file: what is wrong, with its place.
    Failed(String),
}

/// Reads everything, as long as `take` returns true. Batches come before the failure that follows them.
pub fn read(input: Input, skip_bad_lines: bool, mut ids: Ids, mut take: impl FnMut(Item) -> bool) {
    let name = input.name.clone();
    let mut lines = match input.decoded() {
        Ok(reader) => Lines { reader, number: 0 },
        Err(error) => {
            take(Item::Failed(format!("{name}: cannot read: {error}")));
            return;
        }
    };
    let mut batch = Batch::default();
    let mut text = Vec::new();
    let failure = loop {
        let parsed = match lines.next(&mut text) {
            Ok(Next::End) => break None,
            Ok(Next::TooLong) => Err(line::BadLine {
                column: LINE_BYTES_MAX,
                reason: format!("expected a line of at most {LINE_BYTES_MAX} bytes"),
            }),
            Ok(Next::Line) if text.iter().all(u8::is_ascii_whitespace) => continue,
            Ok(Next::Line) => line::parse(&text, &mut ids),
            Err(error) => {
                break Some(format!("{name}: cannot read after line {}: {error}", lines.number));
            }
        };
        match parsed {
            Ok(event) => {
                if !batch.takes(&event) && !take(Item::Batch(std::mem::take(&mut batch))) {
                    return;
                }
                batch.add(event, lines.number);
            }
            Err(bad) => {
                let message = format!("{name}:{}:{}: {}", lines.number, bad.column, bad.reason);
                if !skip_bad_lines {
                    break Some(message);
                }
                if !take(Item::Skipped(message)) {
                    return;
                }
            }
        }
    };
    let taken = batch.events.is_empty() || take(Item::Batch(batch));
    if let (true, Some(message)) = (taken, failure) {
        take(Item::Failed(message));
    }
}

enum Next {
    Line,
    TooLong,
    End,
}

/// Lines of bounded length.
struct Lines {
    reader: Box<dyn BufRead + Send>,
    /// Of the line read last, from 1.
    number: u64,
}

impl Lines {
    /// Reads the next line, without its end, into `line`; the rest of a line that is too long is passed over.
    fn next(&mut self, line: &mut Vec<u8>) -> io::Result<Next> {
        line.clear();
        let (mut any, mut too_long) = (false, false);
        loop {
            let available = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if available.is_empty() {
                break;
            }
            any = true;
            let end = available.iter().position(|byte| *byte == b'\n');
            let part = &available[..end.unwrap_or(available.len())];
            too_long |= line.len() + part.len() > LINE_BYTES_MAX;
            if !too_long {
                line.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            self.reader.consume(used);
            if end.is_some() {
                break;
            }
        }
        self.number += u64::from(any);
        Ok(match (any, too_long) {
            (false, _) => Next::End,
            (true, true) => Next::TooLong,
            (true, false) => Next::Line,
        })
    }
}

/// Counts what passes.
struct Counted<R> {
    bytes: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(buf)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// A file of the disk seam as a stream of bytes.
struct FileBytes {
    file: Box<dyn File>,
    offset: u64,
}

impl Read for FileBytes {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buf, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, io::Write as _};

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn event_line(number: u32) -> String {
        format!(
            "{{\"id\":\"00000000-0000-0000-0000-{number:012}\",\"type\":\"t\",\"stream\":\"s\",\"data\":{number}}}\n"
        )
    }

    fn items(bytes: Vec<u8>, skip: bool) -> Vec<Item> {
        let mut items = Vec::new();
        let input = Input::new("f".into(), Cursor::new(bytes), None);
        read(input, skip, Ids::Required, |item| {
            items.push(item);
            true
        });
        items
    }

    /// Batches by their lines, skipped lines and failures by their text.
    fn check(bytes: Vec<u8>, skip: bool, expected: &[&str]) {
        let show = |item: &Item| match item {
            Item::Batch(batch) => format!("{:?}", batch.lines),
            Item::Skipped(message) => format!("skipped {message}"),
            Item::Failed(message) => format!("failed {message}"),
        };
        let actual: Vec<String> = items(bytes, skip).iter().map(show).collect();
        let same =
            actual.len() == expected.len() && actual.iter().zip(expected).all(|(a, e)| a.starts_with(e));
        assert!(same, "expected {expected:#?}, found {actual:#?}");
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn plain_and_compressed_text_read_the_same() {
        let text = event_line(1) + "\n" + event_line(2).trim_end();
        check(text.clone().into_bytes(), false, &["[1, 3]"]);
        check(gzip(&text), false, &["[1, 3]"]);
        let members = [gzip(&event_line(1)), gzip(&event_line(2))].concat();
        check(members, false, &["[1, 2]"]);
        check(Vec::new(), false, &[]);
        check(b"\n".to_vec(), false, &[]);
    }

    #[test]
    fn a_bad_line_stops_or_is_skipped() {
        let text = event_line(1) + "{}\n" + &event_line(2);
        check(text.clone().into_bytes(), false, &["[1]", "failed f:2:2: missing field `type`"]);
        check(text.into_bytes(), true, &["skipped f:2:2:", "[1, 3]"]);
    }

    #[test]
    fn a_line_that_is_too_long_is_one_bad_line() {
        let text = "x".repeat(LINE_BYTES_MAX + 1) + "\n" + &event_line(1);
        check(text.into_bytes(), true, &["skipped f:1:2097152: expected a line of at most", "[2]"]);
    }

    #[test]
    fn batches_are_bounded_and_repeat_no_id() {
        let text: String = (1..=1_001).map(event_line).collect();
        let sizes = |items: &[Item]| -> Vec<usize> {
            let size = |item: &Item| match item {
                Item::Batch(batch) => batch.events.len(),
                _ => panic!("unexpected {item:?}"),
            };
            items.iter().map(size).collect()
        };
        assert_eq!(sizes(&items(text.into_bytes(), false)), [500, 500, 1]);
        let repeated = event_line(1) + &event_line(2) + &event_line(1);
        assert_eq!(sizes(&items(repeated.into_bytes(), false)), [2, 1]);
        let large = |number: u32| {
            event_line(number).replace("\"data\":", &format!("\"data\":\"{}\",\"x\":", "x".repeat(600_000)))
        };
        let large = |number: u32| large(number).replace(&format!(",\"x\":{number}"), "");
        assert_eq!(sizes(&items((large(1) + &large(2)).into_bytes(), false)), [1, 1]);
    }

    #[test]
    fn compressed_text_that_ends_early_fails_after_its_lines() {
        let text: String = (1..=2_000).map(event_line).collect();
        let mut bytes = gzip(&text);
        bytes.truncate(bytes.len() / 2);
        let items = items(bytes, true);
        assert!(
            matches!(items.last(), Some(Item::Failed(message)) if message.contains("f: cannot read after line"))
        );
        assert!(items.len() > 1);
    }

    #[test]
    fn reading_stops_when_nobody_takes() {
        let text: String = (1..=2_000).map(event_line).collect();
        let mut taken = 0;
        let ids = Ids::Derived(HashMap::new());
        read(Input::new("f".into(), Cursor::new(text.into_bytes()), None), false, ids, |_| {
            taken += 1;
            taken < 2
        });
        assert_eq!(taken, 2);
    }
}
