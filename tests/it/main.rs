//! Integration tests: one binary.

mod cli_offline;
