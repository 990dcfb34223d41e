//! The I/O call sites of a node: what the campaign crashes at, each at least a hundred times.

use outrigger::disk::sim::Action;

/// Phase, action, place.
pub(crate) type Named = (&'static str, Action, &'static str);

pub(crate) const SITES: &[Named] = &[("opening", Action::Sync, "manifest")];
