//! A simulated disk: by seed, with crashes and faults.
