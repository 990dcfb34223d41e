//! The loop that tells readers at the head of new events.
//!
//! One task for the whole node. It sleeps while no seat is taken and while no event comes. Does not know what waking a
//! reader leads to.

use std::{pin::pin, time::Duration};

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Events, live::Dispatched};
use crate::limits::ADVANCE_WAIT;

/// Runs until the node stops; `woken` hears how many readers were woken.
pub async fn run(events: Events, stop: CancellationToken, woken: impl Fn(usize)) {
    let mut heads = events.head().subscribe();
    let mut nap = pin!(sleep_until(Instant::now() + Duration::ZERO));
    // Somebody was passed by and is to be told at the end of the nap.
    let mut someone_passed = false;
    let mut seats = 0;
    loop {
        let dispatched = tokio::select! {
            () = stop.cancelled() => return,
            () = events.live().occupied() => dispatch(&events),
            changed = heads.changed(), if seats > 0 => match changed {
                Ok(()) => dispatch(&events),
                Err(_) => return,
            },
            () = &mut nap, if someone_passed => {
                someone_passed = false;
                events.live().wake_passed()
            }
        };
        seats = dispatched.seats;
        woken(dispatched.woken);
        if dispatched.passed && !someone_passed {
            someone_passed = true;
            nap.as_mut().reset(Instant::now() + ADVANCE_WAIT);
        }
    }
}

fn dispatch(events: &Events) -> Dispatched {
    events.live().dispatch(events.recent(), events.head().get())
}
