//! What goes wrong on a simulated disk, and when: crashes and errors by number or by site, reads that come short or
//! from elsewhere.
//!
//! Owns the plan and its wear: what happens once is taken out. Does not know how an operation is carried out.

use std::{collections::BTreeMap, io};

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Makes a directory.
    CreateDirectory,
    /// Makes a file.
    Create,
    /// Gives a file another name.
    Rename,
    /// Takes a name away.
    Remove,
    /// Makes names durable.
    SyncDirectory,
    /// Writes bytes.
    Write,
    /// Cuts or grows a file.
    SetLength,
    /// Makes bytes durable.
    Sync,
    /// Opens a file.
    Open,
    /// Reads bytes.
    Read,
    /// Asks for a length, a listing, an existence or for free bytes.
    Look,
}

impl Action {
    /// Whether it may change what a crash leaves.
    pub const fn is_change(self) -> bool {
        !matches!(self, Self::Open | Self::Read | Self::Look)
    }
}

/// Where an operation comes from, as far as a disk can see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    /// In which part of its user's life, as the user said.
    pub phase: &'static str,
    /// What it does.
    pub action: Action,
    /// On what, as the user's classifier says.
    pub place: &'static str,
}

/// Names what a path holds; `write` has the bytes of a write and where they go.
pub type Classify = fn(path: &std::path::Path, write: Option<(&[u8], u64)>) -> &'static str;

/// What is wrong with a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadFault {
    Error(io::ErrorKind),
    Misdirected,
}

/// The number of a read, and the places it may be at.
type Misdirection = (u64, fn(&str) -> bool);

/// What is to go wrong. Numbers count changing operations, or reads, over the life of a disk.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) crash_at: Option<u64>,
    /// At the n-th operation of a site from now, counted down.
    pub(super) crash_at_site: Option<(Site, u64)>,
    pub(super) once: BTreeMap<u64, io::ErrorKind>,
    pub(super) always_from: Option<(u64, io::ErrorKind)>,
    pub(super) sync_from: Option<(u64, io::ErrorKind)>,
    pub(super) reads: BTreeMap<u64, io::ErrorKind>,
    pub(super) reads_from: Option<(u64, io::ErrorKind)>,
    /// The first read of one of these places at or after this number.
    pub(super) misdirected: Option<Misdirection>,
    pub(super) short_reads: bool,
    /// Syncs of these places are answered and not done.
    pub(super) deaf_to: Option<fn(&Site) -> bool>,
}

impl Plan {
    /// Whether the machine stops here.
    pub(super) fn crashes(&mut self, number: u64, site: &Site) -> bool {
        let by_number = self.crash_at.is_some_and(|crash| crash <= number);
        let by_site = match &mut self.crash_at_site {
            Some((wanted, left)) if wanted == site => {
                let due = *left == 0;
                *left = left.saturating_sub(1);
                due
            }
            _ => false,
        };
        by_number || by_site
    }

    /// The error of a changing operation, if it is to fail.
    pub(super) fn of_change(&mut self, number: u64, action: Action) -> Option<io::ErrorKind> {
        let always = self.always_from.filter(|(from, _)| *from <= number).map(|(_, kind)| kind);
        let fault = self.once.remove(&number).or(always);
        if fault.is_some() || action != Action::Sync {
            return fault;
        }
        self.sync_from.take_if(|(from, _)| *from <= number).map(|(_, kind)| kind)
    }

    /// What is wrong with a read, if anything.
    pub(super) fn of_read(&mut self, number: u64, site: &Site) -> Option<ReadFault> {
        let always = self.reads_from.filter(|(from, _)| *from <= number).map(|(_, kind)| kind);
        if let Some(kind) = self.reads.remove(&number).or(always) {
            return Some(ReadFault::Error(kind));
        }
        let is_due =
            |due: &mut Misdirection| site.action == Action::Read && due.0 <= number && (due.1)(site.place);
        self.misdirected.take_if(is_due).map(|_| ReadFault::Misdirected)
    }
}
