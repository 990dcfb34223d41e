//! Compares all documents of two versions of one projection as they are at one position.
//!
//! Invariants: both are read in one transaction each, taken while both stood at the same position; they are walked together
//! in order of their keys, so that memory does not grow with what there is; documents are canonical, so equal bytes are
//! equal documents. Where a document was last changed does not count, nor do fields that are to be ignored. Does not know
//! how versions are brought to one position, or who asks.

use std::time::Instant;

use redb::AccessGuard;

use crate::{
    event::Position,
    json::{Json, Object},
    kv::KvError,
    limits::{
        COMPARE_FIELDS_MAX, COMPARE_SAMPLES_MAX, COMPARE_STEP_DOCUMENTS, COMPARE_TIME_MAX,
        COMPARE_VALUE_BYTES_MAX,
    },
    projection::{
        definition::Definition,
        exclusive::ExclusiveGuard,
        key::Key,
        merge::{Merge, Rows},
        query::QueryError,
        store::{Snapshot, split_document},
    },
};

mod ignored;
mod sample;

pub use ignored::Ignored;
pub use sample::{FieldDifference, Kind, Sample};

/// What is compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompareQuery {
    /// A version.
    pub left: u32,
    /// Another one.
    pub right: u32,
    /// Only these collections; none: all that either version has.
    pub collections: Vec<String>,
    /// Fields that do not count: names joined by dots.
    pub ignore: Vec<String>,
}

/// Why two versions are not compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// There is no such version, or what was asked is not right.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// Another comparison is running.
    #[error("another comparison is running; one runs at a time, try again when it is over")]
    Busy,
    /// They do not come to stand at one position.
    #[error("projection {projection} version {version} cannot be compared with version {other}: {why}")]
    CannotMeet {
        /// The projection.
        projection: String,
        /// The version that does not come to where the other one is.
        version: u32,
        /// The other one.
        other: u32,
        /// Events that it is behind the other one.
        behind: u64,
        /// Why, and what to do.
        why: String,
    },
    /// A file could not be read.
    #[error("comparing versions: {0}")]
    File(#[from] KvError),
    /// Snapshots are not kept for so long.
    #[error(
        "the comparison was ended after {COMPARE_TIME_MAX:?}, {compared} of about {total} documents being compared; \
         compare fewer collections at a time"
    )]
    TooLong {
        /// Documents that were compared.
        compared: u64,
        /// Documents that there are, about.
        total: u64,
    },
}

/// How far a comparison is.
#[derive(Debug)]
pub enum CompareStep {
    /// It goes on.
    Progress {
        /// Documents that were compared.
        compared: u64,
        /// Documents that there are, about.
        total: u64,
    },
    /// It is over.
    Done(Box<VersionComparison>),
}

/// What two versions have in common at one position.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VersionComparison {
    /// Both were compared as they are at this position.
    pub position: Position,
    /// By name.
    pub collections: Vec<CollectionComparison>,
    /// The first differences of each kind.
    pub samples: Vec<Sample>,
}

/// What two versions have in common in one collection, in documents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CollectionComparison {
    /// Its name.
    pub name: String,
    /// In both, and the same.
    pub equal: u64,
    /// In both, and not the same.
    pub different: u64,
    /// In the left version alone.
    pub only_left: u64,
    /// In the right version alone.
    pub only_right: u64,
}

/// A comparison that is under way.
#[derive(Debug)]
pub struct Comparing {
    left: Snapshot,
    right: Snapshot,
    ignored: Ignored,
    /// Those that come, the next one last.
    coming: Vec<String>,
    current: Option<Merge<Rows<&'static [u8]>>>,
    found: VersionComparison,
    compared: u64,
    total: u64,
    began: Instant,
    _turn: ExclusiveGuard,
}

/// The collections to compare, by name, each once.
pub(crate) fn collections(
    query: &CompareQuery,
    left: &Definition,
    right: &Definition,
) -> Result<Vec<String>, QueryError> {
    let both = left.collections().iter().chain(right.collections());
    let mut known: Vec<String> = both.map(|collection| collection.name.to_string()).collect();
    known.sort_unstable();
    known.dedup();
    if query.collections.is_empty() {
        return Ok(known);
    }
    if let Some(collection) = query.collections.iter().find(|name| known.binary_search(name).is_err()) {
        return Err(QueryError::UnknownCollection {
            projection: left.name().to_owned(),
            version: query.left,
            collection: collection.clone(),
            known,
        });
    }
    known.retain(|name| query.collections.contains(name));
    Ok(known)
}

impl Comparing {
    /// Of two snapshots of the same position.
    pub(crate) fn new(
        (left, right): (Snapshot, Snapshot),
        mut collections: Vec<String>,
        ignored: Ignored,
        turn: ExclusiveGuard,
    ) -> Result<Self, KvError> {
        assert_eq!(left.state().cursor, right.state().cursor, "both stand at one position");
        let mut total = 0;
        for name in &collections {
            total += count(&left, name)?.max(count(&right, name)?);
        }
        collections.reverse();
        let found = VersionComparison { position: left.state().cursor, ..VersionComparison::default() };
        let (began, coming) = (Instant::now(), collections);
        Ok(Self {
            left,
            right,
            ignored,
            coming,
            current: None,
            found,
            compared: 0,
            total,
            began,
            _turn: turn,
        })
    }

    /// The position at which both are compared.
    pub fn position(&self) -> Position {
        self.found.position
    }

    /// A bounded piece of the work; behind the last one the result.
    pub fn step(&mut self) -> Result<CompareStep, CompareError> {
        let mut left_to_do = COMPARE_STEP_DOCUMENTS;
        while left_to_do > 0 {
            if self.began.elapsed() > COMPARE_TIME_MAX {
                return Err(CompareError::TooLong { compared: self.compared, total: self.total });
            }
            match self.current.as_mut().and_then(Iterator::next) {
                Some(pair) => {
                    let (key, left, right) = pair?;
                    self.compare(&key, left.as_ref(), right.as_ref())?;
                    self.compared += 1;
                    left_to_do -= 1;
                }
                None if !self.begin_next()? => {
                    return Ok(CompareStep::Done(Box::new(std::mem::take(&mut self.found))));
                }
                None => {}
            }
        }
        Ok(CompareStep::Progress { compared: self.compared, total: self.total.max(self.compared) })
    }

    /// Begins with the next collection. Whether there is one.
    fn begin_next(&mut self) -> Result<bool, KvError> {
        let Some(name) = self.coming.pop() else {
            return Ok(false);
        };
        let rows = |snapshot: &Snapshot| {
            let at = snapshot.definition().collection(&name);
            Rows::of(at.map(|at| snapshot.documents(at)).transpose()?.as_ref())
        };
        self.current = Some(Merge::new(rows(&self.left)?, rows(&self.right)?));
        self.found.collections.push(CollectionComparison { name, ..CollectionComparison::default() });
        Ok(true)
    }

    fn compare(
        &mut self,
        key: &[u8],
        left: Option<&AccessGuard<'_, &'static [u8]>>,
        right: Option<&AccessGuard<'_, &'static [u8]>>,
    ) -> Result<(), KvError> {
        let text = |stored: Option<&AccessGuard<'_, &'static [u8]>>| -> Result<Option<Vec<u8>>, KvError> {
            stored.map(|stored| Ok(split_document(stored.value())?.1.to_vec())).transpose()
        };
        let counts = self.found.collections.last_mut().expect("a collection was begun");
        if let (Some(left), Some(right)) = (left, right)
            && split_document(left.value())?.1 == split_document(right.value())?.1
        {
            counts.equal += 1;
            return Ok(());
        }
        let (left, right) = (text(left)?, text(right)?);
        let trees = match (&left, &right) {
            (Some(left), Some(right)) => {
                let (left, right) = (self.ignored.parse(left)?, self.ignored.parse(right)?);
                if left == right {
                    counts.equal += 1;
                    return Ok(());
                }
                counts.different += 1;
                (Kind::Different, Some(left), Some(right))
            }
            (Some(left), None) => {
                counts.only_left += 1;
                (Kind::OnlyLeft, Some(self.ignored.parse(left)?), None)
            }
            (None, Some(right)) => {
                counts.only_right += 1;
                (Kind::OnlyRight, None, Some(self.ignored.parse(right)?))
            }
            (None, None) => return Ok(()),
        };
        let name = counts.name.clone();
        self.note(name, key, trees)
    }

    fn note(
        &mut self,
        collection: String,
        key: &[u8],
        (kind, left, right): (Kind, Option<Object>, Option<Object>),
    ) -> Result<(), KvError> {
        if self.found.samples.iter().filter(|sample| sample.kind == kind).count() < COMPARE_SAMPLES_MAX {
            let key = Key::decode(key).map_err(|invalid| KvError::Damaged(invalid.0))?;
            let (left, right) = (left.map(Json::Object), right.map(Json::Object));
            let (fields_max, bytes_max) = (COMPARE_FIELDS_MAX, COMPARE_VALUE_BYTES_MAX);
            self.found.samples.push(Sample::new(
                (collection, key.to_json().to_string(), kind),
                (left.as_ref(), right.as_ref()),
                (fields_max, bytes_max),
            ));
        }
        Ok(())
    }
}

fn count(snapshot: &Snapshot, collection: &str) -> Result<u64, KvError> {
    snapshot.definition().collection(collection).map_or(Ok(0), |at| snapshot.document_count(at))
}
