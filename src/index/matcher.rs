//! Finds the offsets that a filter asks for in one part or run, by walking several posting lists at once.
//!
//! Invariant: memory is bounded by the lists, which hold a block each; results are handed out one at a time. Lists leap
//! over each other's gaps, so the work follows the shortest of them. Does not know positions, parts or files.

use super::{
    Direction, Filter, IndexError,
    codec::hash,
    postings::Postings,
    run::Run,
    terms::{source_key, stream_key, system_key, tag_key, type_key},
};

/// Offsets that lie in all lists of `all`, in one of `any` (if it has lists at all) and not in `except`.
#[derive(Debug, Default)]
pub(super) struct Matcher<'a> {
    pub(super) all: Vec<Postings<'a>>,
    pub(super) any: Vec<Postings<'a>>,
    pub(super) except: Option<Postings<'a>>,
}

/// A stretch of offsets to look at, both ends included, and in which direction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    pub(super) low: u32,
    pub(super) high: u32,
    pub(super) direction: Direction,
}

/// Whether a search may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// The whole stretch was looked at.
    Done,
    /// Results or steps are used up; everything before this offset, in the direction of the search, was looked at.
    StoppedBefore(u32),
}

impl<'a> Matcher<'a> {
    /// What finds the events of a filter in a run; `None` if there can be none.
    pub(super) fn of_run(run: &'a Run, filter: &Filter, hash_seed: u64) -> Result<Option<Self>, IndexError> {
        let list = |key: Vec<u8>| match run.term(&key, hash(hash_seed, &key))? {
            Some(term) => Postings::of_term(run, &term).map(Some),
            None => Ok(None),
        };
        let mut matcher = Self::default();
        let keys = filter.stream.iter().map(stream_key).chain(filter.tags.iter().map(tag_key));
        let keys = keys.chain(filter.source.iter().map(source_key));
        for key in keys {
            let Some(list) = list(key)? else { return Ok(None) };
            matcher.all.push(list);
        }
        for key in filter.types.iter().map(type_key) {
            matcher.any.extend(list(key)?);
        }
        if matcher.any.is_empty() && !filter.types.is_empty() {
            return Ok(None);
        }
        if !filter.include_system && run.header().system_events > 0 {
            matcher.except = list(system_key())?;
        }
        Ok(Some(matcher))
    }

    /// Hands the offsets of a stretch to `found` until it has `results` of them or made as many `steps`, which are seeks
    /// in lists; both count down.
    pub(super) fn search(
        &mut self,
        stretch: Stretch,
        results: &mut usize,
        steps: &mut usize,
        mut found: impl FnMut(u32),
    ) -> Result<Progress, IndexError> {
        let seeks = (self.all.len() + self.any.len()).max(1);
        let mut next = Some(stretch.start());
        while let Some(candidate) = next.filter(|candidate| stretch.contains(*candidate)) {
            if *results == 0 || *steps == 0 {
                return Ok(Progress::StoppedBefore(candidate));
            }
            *steps = steps.saturating_sub(seeks);
            next = match self.nearest(candidate, stretch.direction)? {
                Some(near) if near == candidate => {
                    let shown = match &mut self.except {
                        Some(except) => except.seek(candidate, stretch.direction)? != Some(candidate),
                        None => true,
                    };
                    if shown {
                        found(candidate);
                        *results -= 1;
                    }
                    stretch.behind(candidate)
                }
                leap => leap,
            };
        }
        Ok(Progress::Done)
    }

    /// `candidate` if all lists agree on it, or else an offset that no match lies before.
    fn nearest(&mut self, candidate: u32, direction: Direction) -> Result<Option<u32>, IndexError> {
        for list in &mut self.all {
            match list.seek(candidate, direction)? {
                Some(near) if near == candidate => {}
                leap => return Ok(leap),
            }
        }
        if self.any.is_empty() {
            return Ok(Some(candidate));
        }
        let mut nearest: Option<u32> = None;
        for list in &mut self.any {
            nearest = match (nearest, list.seek(candidate, direction)?) {
                (Some(a), Some(b)) if direction == Direction::Forward => Some(a.min(b)),
                (Some(a), Some(b)) => Some(a.max(b)),
                (a, b) => a.or(b),
            };
            if nearest == Some(candidate) {
                break;
            }
        }
        Ok(nearest)
    }
}

impl Stretch {
    fn start(&self) -> u32 {
        match self.direction {
            Direction::Forward => self.low,
            Direction::Backward => self.high,
        }
    }

    fn contains(&self, offset: u32) -> bool {
        (self.low..=self.high).contains(&offset)
    }

    fn behind(&self, offset: u32) -> Option<u32> {
        match self.direction {
            Direction::Forward => offset.checked_add(1),
            Direction::Backward => offset.checked_sub(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offsets() -> impl Strategy<Value = Vec<u32>> {
        prop::collection::btree_set(0_u32..120, 1..60).prop_map(|offsets| offsets.into_iter().collect())
    }

    proptest! {
        #[test]
        fn a_search_that_stops_and_goes_on_equals_a_linear_one(
            all in prop::collection::vec(offsets(), 0..3),
            any in prop::collection::vec(offsets(), 0..4),
            except in prop::option::of(offsets()),
            (low, high) in (0_u32..120, 0_u32..120),
            forward: bool,
            (results_max, steps_max) in (1_usize..9, 1_usize..9),
        ) {
            let matches = |offset: &u32| {
                all.iter().all(|list| list.contains(offset))
                    && (any.is_empty() || any.iter().any(|list| list.contains(offset)))
                    && !except.as_ref().is_some_and(|list| list.contains(offset))
            };
            let mut expected: Vec<u32> = (low..=high).filter(matches).collect();
            let direction = if forward { Direction::Forward } else { Direction::Backward };
            if !forward {
                expected.reverse();
            }
            let mut stretch = Stretch { low, high, direction };
            let mut found = Vec::new();
            loop {
                let mut matcher = Matcher {
                    all: all.iter().map(|list| Postings::memory(list)).collect(),
                    any: any.iter().map(|list| Postings::memory(list)).collect(),
                    except: except.as_ref().map(|list| Postings::memory(list)),
                };
                let (before, mut results, mut steps) = (found.len(), results_max, steps_max);
                let progress = matcher.search(stretch, &mut results, &mut steps, |offset| found.push(offset)).unwrap();
                prop_assert_eq!(found.len() - before, results_max - results);
                match progress {
                    Progress::Done => break,
                    Progress::StoppedBefore(offset) => {
                        prop_assert!(results == 0 || steps == 0);
                        let bound = if forward { &mut stretch.low } else { &mut stretch.high };
                        prop_assert_ne!(offset, std::mem::replace(bound, offset), "the search makes progress");
                    }
                }
            }
            prop_assert_eq!(found, expected);
        }
    }
}
