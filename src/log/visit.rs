//! Reading many records through one buffer: a stretch of them, or some that are named.
//!
//! Records are shown to the caller one by one and not kept, so that whoever copies what it needs out of them pays for
//! that copy alone. What lies together is read in one go. Each record is checked as `reader` does. Does not know what
//! payloads mean.

use std::ops::ControlFlow;

use super::{LogError, LogReader, offsets::Starts, reader::Segment};
use crate::{
    event::Position,
    limits::{
        LOG_READ_BYTES_MAX, LOG_READ_GAP_BYTES, LOG_READ_RECORDS_MAX, LOG_VISIT_BYTES_MAX,
        LOG_VISIT_POSITIONS,
    },
};

/// What is read into, again and again. It grows to what was needed at most at a time.
#[derive(Debug, Default)]
pub struct Buffer(Vec<u8>);

impl Buffer {
    /// The bytes of a segment from `base` up to `end`.
    fn load(&mut self, segment: &Segment, base: u64, end: u64) -> Result<&[u8], LogError> {
        let len = (end - base) as usize;
        if self.0.len() < len {
            self.0.resize(len, 0);
        }
        let bytes = &mut self.0[..len];
        segment.file.read_exact_at(bytes, base).map_err(LogError::io("read", &segment.path))?;
        Ok(bytes)
    }
}

impl LogReader {
    /// Shows the records above `after` up to `upto`, ascending: at least one if there is one, then as many as
    /// `records_max` and `bytes_max` (which counts framing too) allow.
    pub fn visit<E: From<LogError>>(
        &self,
        (after, upto): (Position, Position),
        (bytes_max, records_max): (usize, usize),
        buffer: &mut Buffer,
        mut each: impl FnMut(Position, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (shared, head) = (self.shared(), self.head());
        let upto = upto.min(head);
        let mut next = after.next().max(self.first_position());
        let (mut bytes_left, mut records_left) = (bytes_max, records_max);
        while next <= upto && records_left > 0 {
            let (segment, last) = shared.locate(next, head)?;
            let there = (last.min(upto).get() - next.get()) as usize + 1;
            let count = there.min(records_left).min(LOG_READ_RECORDS_MAX);
            let mut span = segment.span(next, count)?;
            let limit = bytes_left.min(LOG_READ_BYTES_MAX);
            let fitting = span.records_in(limit);
            let is_full = fitting < count && limit == bytes_left;
            span.truncate(fitting.max(usize::from(records_left == records_max)));
            if span.starts.is_empty() {
                break;
            }
            bytes_left = bytes_left.saturating_sub(span.bytes());
            let base = segment.check_ascends(next, &span)?;
            let bytes = buffer.load(&segment, base, span.end)?;
            for start in &span.starts {
                let record = &bytes[(u64::from(*start) - base) as usize..];
                let payload = segment.record(shared.seed(), next, record, *start)?;
                each(next, &record[payload])?;
                next = next.next();
            }
            records_left -= span.starts.len();
            if is_full {
                break;
            }
        }
        Ok(())
    }

    /// Shows the records at these positions, which ascend or descend and are there, until `each` breaks off.
    pub fn visit_each<E: From<LogError>>(
        &self,
        positions: &[Position],
        buffer: &mut Buffer,
        mut each: impl FnMut(Position, &[u8]) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let (shared, head) = (self.shared(), self.head());
        let mut left = positions;
        while let Some(first) = left.first() {
            let (segment, last) = shared.locate(*first, head)?;
            let there = segment.first..=last;
            let is_near = |position: &&Position| {
                there.contains(*position) && position.get().abs_diff(first.get()) < LOG_VISIT_POSITIONS
            };
            let near = left.iter().take_while(is_near).count();
            let (mut wanted, behind) = left.split_at(near);
            left = behind;
            let (low, high) = ends(wanted);
            let span = segment.span(low, (high.get() - low.get()) as usize + 1)?;
            segment.check_ascends(low, &span)?;
            while !wanted.is_empty() {
                let (cluster, behind) = wanted.split_at(cluster_len(wanted, low, &span));
                wanted = behind;
                let (first, last) = ends(cluster);
                let base = begin_of(first, low, &span);
                let bytes = buffer.load(&segment, base, end_of(last, low, &span))?;
                for position in cluster {
                    let start = begin_of(*position, low, &span);
                    let record = &bytes[(start - base) as usize..];
                    let payload = segment.record(shared.seed(), *position, record, start as u32)?;
                    if each(*position, &record[payload])?.is_break() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}

/// The lowest and the highest of positions that ascend or descend.
fn ends(positions: &[Position]) -> (Position, Position) {
    let (first, last) = (positions[0], positions[positions.len() - 1]);
    (first.min(last), first.max(last))
}

/// Where a record begins; the span's first record is `low`.
fn begin_of(position: Position, low: Position, span: &Starts) -> u64 {
    u64::from(span.starts[(position.get() - low.get()) as usize])
}

/// Where a record ends at the latest.
fn end_of(position: Position, low: Position, span: &Starts) -> u64 {
    let next = span.starts.get((position.get() - low.get()) as usize + 1);
    next.map_or(span.end, |next| u64::from(*next))
}

/// How many of the first positions lie so close together that they are read in one go; at least one.
fn cluster_len(positions: &[Position], low: Position, span: &Starts) -> usize {
    let place = |position: Position| (begin_of(position, low, span), end_of(position, low, span));
    let (mut begin, mut end) = place(positions[0]);
    let mut len = 1;
    for position in &positions[1..] {
        let (next_begin, next_end) = place(*position);
        let gap = next_begin.saturating_sub(end).max(begin.saturating_sub(next_end));
        (begin, end) = (begin.min(next_begin), end.max(next_end));
        if gap > LOG_READ_GAP_BYTES || end - begin > LOG_VISIT_BYTES_MAX {
            break;
        }
        len += 1;
    }
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(positions: &[u64], expected: &[usize]) {
        // Records 10 to 15; 12 is large.
        let span = Starts { starts: vec![100, 200, 300, 9_000, 9_100, 9_200], end: 9_300 };
        let positions: Vec<Position> = positions.iter().copied().map(Position::new).collect();
        let (mut left, mut clusters) = (&positions[..], Vec::new());
        while !left.is_empty() {
            let len = cluster_len(left, Position::new(10), &span);
            clusters.push(len);
            left = &left[len..];
        }
        assert_eq!(clusters, expected, "{positions:?}");
    }

    #[test]
    fn records_close_together_are_read_in_one_go() {
        check(&[10], &[1]);
        check(&[10, 11, 12, 13, 14, 15], &[6]);
        check(&[10, 13], &[1, 1]);
        check(&[10, 11, 13, 15], &[2, 2]);
        check(&[15, 13, 11, 10], &[2, 2]);
        check(&[15, 12, 10], &[3]);
    }
}
