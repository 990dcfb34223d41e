//! Benches of the parts that an append passes (encoding, judgement, commit, index) and of expressions. `cargo bench` runs
//! them; `outrigger
//! bench` measures the whole.
//!
//! One binary. Figures are for comparing two builds on one machine, one after the other; nothing is asserted.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up ends")]

mod commit;
mod decide;
mod encode;
mod expression;
mod index;
mod support;

fn main() {
    divan::main();
}
