//! The registry, and what is registered in it: every name once, with its help.
//!
//! Invariant: what is on the page was described here, also where it has no series yet. Does not know what is counted.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector, proto::MetricType,
};

/// A metric, as it is described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Its full name.
    pub name: String,
    /// What it says.
    pub help: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
}

/// Registers metrics.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) registry: Registry,
    pub(super) described: Vec<Described>,
}

impl Book {
    pub(super) fn add<M: Collector + Clone + 'static>(&mut self, metric: M) -> M {
        self.registry.register(Box::new(metric.clone())).expect("every name is registered once");
        self.described.extend(metric.collect().iter().map(|family| Described {
            name: family.name().to_owned(),
            help: family.help().to_owned(),
            kind: match family.get_field_type() {
                MetricType::COUNTER => "counter",
                MetricType::HISTOGRAM => "histogram",
                _ => "gauge",
            },
        }));
        metric
    }

    pub(super) fn counter(&mut self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::with_opts(opts(name, help)).expect("the name is valid"))
    }

    pub(super) fn counters(&mut self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(opts(name, help), labels).expect("the names are valid"))
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::with_opts(opts(name, help)).expect("the name is valid"))
    }

    pub(super) fn gauges(&mut self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(opts(name, help), labels).expect("the names are valid"))
    }

    /// The bounds begin with `start` and are multiplied by `factor`.
    pub(super) fn histogram(&mut self, name: &str, help: &str, bounds: (f64, f64, usize)) -> Histogram {
        self.add(Histogram::with_opts(bounded(name, help, bounds)).expect("the name is valid"))
    }

    pub(super) fn histograms(
        &mut self,
        name: &str,
        help: &str,
        bounds: (f64, f64, usize),
        labels: &[&str],
    ) -> HistogramVec {
        self.add(HistogramVec::new(bounded(name, help, bounds), labels).expect("the names are valid"))
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("outrigger_{name}"), help)
}

fn bounded(name: &str, help: &str, (start, factor, count): (f64, f64, usize)) -> HistogramOpts {
    let buckets = prometheus::exponential_buckets(start, factor, count).expect("the bounds ascend");
    HistogramOpts::new(format!("outrigger_{name}"), help).buckets(buckets)
}

/// Brings a counter up to a total that its owner keeps. A total that is lower than what was told begins anew.
pub fn raise(counter: &IntCounter, total: u64) {
    if total < counter.get() {
        counter.reset();
    }
    counter.inc_by(total - counter.get());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_follows_its_total() {
        let counter = IntCounter::new("a", "b").unwrap();
        for total in [0, 3, 3, 10, 2] {
            raise(&counter, total);
            assert_eq!(counter.get(), total);
        }
    }

    #[test]
    fn what_has_no_series_yet_is_described() {
        let mut book = Book::default();
        book.histograms("a_seconds", "Help", (0.1, 2.0, 3), &["b"]);
        book.counters("c_total", "Other", &["d"]);
        let described: Vec<_> =
            book.described.iter().map(|metric| (metric.name.as_str(), metric.kind)).collect();
        assert_eq!(described, [("outrigger_a_seconds", "histogram"), ("outrigger_c_total", "counter")]);
    }
}
