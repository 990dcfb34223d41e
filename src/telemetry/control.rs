//! The filter of log lines, which can be changed while the process runs.
//!
//! Invariants: a change that is limited in time is taken back by whoever made it, unless another one has followed; what is
//! configured is never forgotten. Does not know timers or calls.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use tracing_subscriber::{EnvFilter, Registry, reload};

use super::recent::Recent;
use crate::{config::value::log_filter, event::Invalid};

/// Changes the filter. Clones change the same.
#[derive(Clone)]
pub struct LogControl {
    handle: reload::Handle<EnvFilter, Registry>,
    configured: Arc<str>,
    state: Arc<Mutex<State>>,
    /// The newest warnings and errors.
    pub recent: Recent,
}

#[derive(Debug)]
struct State {
    filter: Arc<str>,
    /// Counts changes.
    change: u64,
}

/// The filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filters {
    /// In force.
    pub filter: Arc<str>,
    /// What the settings say.
    pub configured: Arc<str>,
}

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogControl").field("filters", &self.filters()).finish_non_exhaustive()
    }
}

impl LogControl {
    pub(super) fn new(handle: reload::Handle<EnvFilter, Registry>, configured: &str, recent: Recent) -> Self {
        let configured: Arc<str> = configured.into();
        let state = Arc::new(Mutex::new(State { filter: Arc::clone(&configured), change: 0 }));
        Self { handle, configured, state, recent }
    }

    /// As they are.
    pub fn filters(&self) -> Filters {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Filters { filter: Arc::clone(&state.filter), configured: Arc::clone(&self.configured) }
    }

    /// From now on this filter is in force; none: the configured one. Gives the number of the change.
    pub fn set(&self, filter: Option<&str>) -> Result<u64, Invalid> {
        let filter = log_filter(filter.unwrap_or(&self.configured))?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.put(&mut state, &filter)?;
        Ok(state.change)
    }

    /// Takes a change back, unless another one has followed; whether it did.
    pub fn revert(&self, change: u64) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.change == change && self.put(&mut state, &self.configured).is_ok()
    }

    fn put(&self, state: &mut State, filter: &str) -> Result<(), Invalid> {
        let parsed = EnvFilter::try_new(filter).map_err(|error| Invalid(error.to_string()))?;
        let reloaded = self.handle.reload(parsed);
        reloaded.map_err(|error| Invalid(format!("this process writes no log: {error}")))?;
        (state.filter, state.change) = (filter.into(), state.change + 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn a_filter_is_changed_and_taken_back() {
        let (layer, handle) = reload::Layer::new(EnvFilter::new("error"));
        let control = LogControl::new(handle, "error", Recent::default());
        let subscriber = tracing_subscriber::registry().with(layer).with(control.recent.clone());
        tracing::subscriber::with_default(subscriber, || {
            let lines = || control.recent.lines().len();
            tracing::warn!("not written");
            let first = control.set(Some("warn")).unwrap();
            tracing::warn!("written");
            assert_eq!((lines(), &*control.filters().filter), (1, "warn"));
            let second = control.set(Some("info")).unwrap();
            assert!(!control.revert(first), "another change has followed");
            assert!(control.revert(second));
            tracing::warn!("not written");
            assert_eq!((lines(), &*control.filters().filter), (1, "error"));
            assert!(control.set(Some("no=such=filter")).is_err());
            control.set(Some("warn")).unwrap();
            control.set(None).unwrap();
            assert_eq!(&*control.filters().filter, "error");
        });
    }
}
