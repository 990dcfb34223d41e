//! The bytes of a simulated file, in pages that copies share: a file of zeros, and a copy, cost next to nothing.
//!
//! Invariants: a missing page is zero; bytes behind the length are zero. Does not know sectors, caches or crashes.

use std::sync::Arc;

const PAGE: usize = 4_096;
const ZEROS: Page = [0; PAGE];

type Page = [u8; PAGE];

/// A file's bytes. Clones share pages until one of them writes.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    len: usize,
    pages: Vec<Option<Arc<Page>>>,
}

impl Content {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Reads as much as there is; gives how much.
    pub(super) fn read(&self, buf: &mut [u8], offset: usize) -> usize {
        let from = self.len.min(offset);
        let count = buf.len().min(self.len - from);
        let mut done = 0;
        while done < count {
            let (page, at) = ((from + done) / PAGE, (from + done) % PAGE);
            let bytes = (PAGE - at).min(count - done);
            let source = self.pages[page].as_deref().unwrap_or(&ZEROS);
            buf[done..done + bytes].copy_from_slice(&source[at..at + bytes]);
            done += bytes;
        }
        count
    }

    /// Writes inside the length.
    pub(super) fn write(&mut self, data: &[u8], offset: usize) {
        assert!(offset + data.len() <= self.len, "a write reaches to {}, the file is {}", offset, self.len);
        let mut done = 0;
        while done < data.len() {
            let (page, at) = ((offset + done) / PAGE, (offset + done) % PAGE);
            let bytes = (PAGE - at).min(data.len() - done);
            let source = &data[done..done + bytes];
            if self.pages[page].is_some() || source != &ZEROS[..bytes] {
                let page = Arc::make_mut(self.pages[page].get_or_insert_with(|| Arc::new(ZEROS)));
                page[at..at + bytes].copy_from_slice(source);
            }
            done += bytes;
        }
    }

    /// Cuts, or grows with zeros.
    pub(super) fn resize(&mut self, len: usize) {
        self.pages.resize(len.div_ceil(PAGE), None);
        if len < self.len
            && let (Some(Some(page)), true) = (self.pages.last_mut(), !len.is_multiple_of(PAGE))
        {
            Arc::make_mut(page)[len % PAGE..].fill(0);
        }
        self.len = len;
    }

    /// Takes over `from..upto` from another content, as far as both reach.
    pub(super) fn copy(&mut self, source: &Self, from: usize, upto: usize) {
        let upto = upto.min(self.len).min(source.len);
        let mut at = from;
        while at < upto {
            let page = at / PAGE;
            let bytes = (PAGE - at % PAGE).min(upto - at);
            if bytes == PAGE {
                self.pages[page].clone_from(&source.pages[page]);
            } else if let Some(there) = source.pages[page].as_deref() {
                let range = at % PAGE..at % PAGE + bytes;
                self.write(&there[range], at);
            } else {
                self.write(&ZEROS[..bytes], at);
            }
            at += bytes;
        }
    }

    /// Turns over one bit, if it lies inside.
    pub(super) fn flip_bit(&mut self, bit: u64) {
        let at = (bit / 8) as usize;
        let mut byte = [0];
        if self.read(&mut byte, at) == 1 {
            self.write(&[byte[0] ^ (1 << (bit % 8))], at);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Change {
        Write(usize, Vec<u8>),
        Resize(usize),
        Copy(usize, usize),
    }

    fn change() -> impl Strategy<Value = Change> {
        let data = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..9_000),
            (0_usize..9_000).prop_map(|len| vec![0; len])
        ];
        prop_oneof![
            (0_usize..12_000, data).prop_map(|(at, data)| Change::Write(at, data)),
            (0_usize..20_000).prop_map(Change::Resize),
            (0_usize..20_000, 0_usize..20_000).prop_map(|(from, upto)| Change::Copy(from, upto)),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_vector_of_bytes(changes in prop::collection::vec(change(), 1..12)) {
            let (mut content, mut bytes): (Content, Vec<u8>) = Default::default();
            let mut other = Content::default();
            other.resize(15_000);
            other.write(&[7; 6_000], 5_000);
            let mut other_bytes = vec![0; 15_000];
            other_bytes[5_000..11_000].fill(7);
            for change in changes {
                match change {
                    Change::Write(at, data) if at + data.len() <= bytes.len() => {
                        content.write(&data, at);
                        bytes[at..at + data.len()].copy_from_slice(&data);
                    }
                    Change::Write(..) => {}
                    Change::Resize(len) => {
                        content.resize(len);
                        bytes.resize(len, 0);
                    }
                    Change::Copy(from, upto) => {
                        content.copy(&other, from, upto);
                        let upto = upto.min(bytes.len()).min(15_000);
                        if from < upto {
                            bytes[from..upto].copy_from_slice(&other_bytes[from..upto]);
                        }
                    }
                }
                let mut read = vec![1; 20_000];
                let count = content.read(&mut read, 0);
                prop_assert_eq!(&read[..count], &bytes[..]);
                prop_assert_eq!(content.len(), bytes.len());
            }
        }
    }
}
