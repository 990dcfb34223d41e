//! Simulation tests: one binary.
