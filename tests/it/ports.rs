//! Ports for programs that have to listen where they listened before, or whose ports are told before they start.
//!
//! Invariant: none is one that the system gives away by itself, to a listener on port 0 or to the near end of a
//! connection: another test could have it while its program is down. Does not know who listens.

use std::{
    net::{IpAddr, Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

/// Below what Linux gives away, which begins at 32,768.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;
/// Tests are processes of their own that run side by side, with numbers near each other: each begins somewhere else.
const OF_A_PROCESS: u32 = 8;

/// A port on which nobody listens, and that this process has not had before.
pub(crate) fn free() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id() * OF_A_PROCESS % u32::from(COUNT);
    let start = u16::try_from(start).unwrap();
    for _ in 0..COUNT {
        let port = FIRST + (start + TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if TcpListener::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)).is_ok() {
            return port;
        }
    }
    panic!("no free port in {COUNT} from {FIRST}")
}
