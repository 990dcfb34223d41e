//! The checkers by name, and what they say: every wrong thing that a story sees is some checker's finding.

use std::fmt;

/// What is held against a node's promises. The table of deliberate bugs names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Checker {
    /// A node opens after any stop, and works on a disk that does.
    Opens,
    /// What was acknowledged or seen is there, for ever, byte for byte.
    Durability,
    /// Nothing is there that was not sent, and it is what was sent.
    Content,
    /// Positions and revisions are dense, ids unique, requests in order.
    Order,
    /// A request is there as a whole or not at all.
    Atomicity,
    /// The hash chain over all groups is the one computed from their records.
    Chain,
    /// At its place in the log every condition of every appended request held.
    Conditions,
    /// A source's position only ever advances, and is what the log says.
    Tracking,
    /// Whatever an answer named is there after a crash.
    Answers,
    /// What a reader at the head was shown is in order, and there after a crash.
    Readers,
    /// An answer is what a naive model says.
    Judgement,
    /// After a failed write or sync nothing more is appended.
    Poison,
    /// The index says what the log says.
    Index,
    /// Documents, their hash and the cursor are those of a replay.
    Projection,
    /// What was deployed stays deployed.
    Meta,
    /// Nothing panics.
    Panics,
}

/// Why a look at a node ended early.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    /// A promise is broken.
    Broken(Checker, String),
    /// The node gave an error; whether it may depends on what the disk did.
    Refused(Checker, String),
}

pub(crate) type Checked<T = ()> = Result<T, Trouble>;

impl Checker {
    /// A finding, if it is one.
    pub(crate) fn holds(self, holds: bool, what: impl FnOnce() -> String) -> Checked {
        if holds { Ok(()) } else { Err(Trouble::Broken(self, what())) }
    }

    /// An error of the node.
    pub(crate) fn refused(self, error: impl fmt::Display) -> Trouble {
        Trouble::Refused(self, error.to_string())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(checker, what) => write!(f, "{checker:?}: {what}"),
            Self::Refused(checker, what) => write!(f, "{checker:?}: unexpected error: {what}"),
        }
    }
}
