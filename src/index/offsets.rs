//! The offsets of one term in memory: a few of them stand in place, more take memory of their own.
//!
//! Most streams and tags of a part have one or two events, so that most terms cost no allocation but their name's.
//! Invariant: offsets ascend. Does not know what they mean.

/// Offsets that stand in place.
const FEW: usize = 3;
/// Room that the first allocation has.
const MANY: usize = 8;

/// Ascending offsets.
#[derive(Debug)]
pub(super) enum Offsets {
    Few { len: u32, offsets: [u32; FEW] },
    Many(Vec<u32>),
}

impl Offsets {
    /// Adds an offset behind the others; does nothing if it is the last one already.
    #[inline]
    pub(super) fn push(&mut self, offset: u32) {
        match self {
            Self::Many(offsets) if offsets.last() == Some(&offset) => {}
            Self::Many(offsets) => offsets.push(offset),
            Self::Few { len, offsets } => {
                let count = *len as usize;
                if count > 0 && offsets[count - 1] == offset {
                } else if count < FEW {
                    offsets[count] = offset;
                    *len += 1;
                } else {
                    let mut many = Vec::with_capacity(MANY);
                    many.extend_from_slice(offsets);
                    many.push(offset);
                    *self = Self::Many(many);
                }
            }
        }
    }

    /// All of them.
    #[inline]
    pub(super) fn as_slice(&self) -> &[u32] {
        match self {
            Self::Few { len, offsets } => &offsets[..*len as usize],
            Self::Many(offsets) => offsets,
        }
    }

    /// The last one.
    pub(super) fn last(&self) -> Option<u32> {
        self.as_slice().last().copied()
    }
}

impl Default for Offsets {
    fn default() -> Self {
        Self::Few { len: 0, offsets: [0; FEW] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_kept_in_order_and_once() {
        let mut offsets = Offsets::default();
        assert_eq!(offsets.last(), None);
        for count in 1..20 {
            offsets.push(count * 7);
            offsets.push(count * 7);
            let expected: Vec<u32> = (1..=count).map(|number| number * 7).collect();
            assert_eq!(offsets.as_slice(), expected);
            assert_eq!(offsets.last(), Some(count * 7));
        }
        assert_eq!(size_of::<Offsets>(), 24, "as small as the vector alone");
    }
}
