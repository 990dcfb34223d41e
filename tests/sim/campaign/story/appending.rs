//! The working part of a round: batches of requests, what is answered, and what a subscriber is shown meanwhile.

use outrigger::{
    append::{Answer, AppendError, Request},
    clock::Clock as _,
    events::EventsError,
    log::LogError,
};
use tokio::sync::oneshot::Receiver;

use super::Story;
use crate::campaign::{
    check::{Checked, Checker, Trouble},
    model::Judged,
    node::Node,
    request::{below, event_type, stream},
};

const BATCH_MAX: u64 = 4;

/// Answers to requests that were queued one by one or together.
#[derive(Debug)]
enum Waiting {
    One(Receiver<Answer>),
    All(Receiver<Vec<Answer>>),
}

impl Waiting {
    fn answers(&mut self) -> Vec<Answer> {
        match self {
            Self::One(answer) => answer.try_recv().into_iter().collect(),
            Self::All(answers) => answers.try_recv().unwrap_or_default(),
        }
    }
}

impl Story {
    /// A batch of requests, and what was answered.
    pub(super) fn append(&mut self, node: &mut Node) -> Checked {
        self.disk.enter("appending");
        let first = self.sent.len();
        for _ in 0..=below(&self.clock, BATCH_MAX) {
            let next = self.requests().next();
            self.sent.push(next);
        }
        let requests: Vec<Request> =
            self.sent[first..].iter().map(|sent| self.looked_ahead(node, sent.request.clone())).collect();
        let mut waiting = self.submit(node, requests)?;
        let committed = node.commit();
        let answers: Vec<Answer> = waiting.iter_mut().flat_map(Waiting::answers).collect();
        Checker::Answers.holds(answers.len() == self.sent.len() - first, || {
            format!("{} answers to {} requests", answers.len(), self.sent.len() - first)
        })?;
        let mut before_failure = Ok(());
        for (at, answer) in answers.iter().enumerate() {
            before_failure = before_failure.and(self.take(first + at, answer, committed.is_ok()));
        }
        before_failure?;
        self.follow(node)?;
        match committed {
            Ok(_) => {
                let edge = self.known.model.entries.len();
                self.known.edges.push(edge);
                Checker::Order.holds(node.reader.head() == self.known.model.head(), || {
                    format!("the head is {}, expected {edge}", node.reader.head())
                })
            }
            Err(error) => {
                self.check_poison(node, &error)?;
                Err(Checker::Opens.refused(error))
            }
        }
    }

    /// Queues requests one by one or together, as unary calls and streams do.
    fn submit(&self, node: &Node, requests: Vec<Request>) -> Checked<Vec<Waiting>> {
        let refused = |error| Checker::Answers.refused(error);
        if below(&self.clock, 2) == 0 {
            return Ok(vec![Waiting::All(node.appender.submit_all(requests).map_err(refused)?)]);
        }
        let submit = |request| Ok(Waiting::One(node.appender.submit(request).map_err(refused)?));
        requests.into_iter().map(submit).collect()
    }

    /// The subscriber reads up to the visible head. What it was shown must be there after any stop.
    fn follow(&mut self, node: &mut Node) -> Checked {
        match node.subscriber.follow(&node.events) {
            Ok(shown) => self.known.show(shown),
            Err(trouble @ Trouble::Broken(..)) => Err(trouble),
            // The disk may be gone by now.
            Err(Trouble::Refused(..)) if self.is_excused() => Ok(()),
            Err(refused) => Err(refused),
        }
    }

    /// Boundaries may be looked at before they are queued, or not.
    fn looked_ahead(&self, node: &Node, mut request: Request) -> Request {
        if below(&self.clock, 2) == 0 {
            let head = node.reader.head();
            // What could not be looked at is left to the committer.
            drop(request.look_ahead(&node.index, head));
        }
        request
    }

    fn take(&mut self, at: usize, answer: &Answer, is_committed: bool) -> Checked {
        self.histogram.count(name_of(answer));
        self.known.note(answer);
        let Some(judged) = Judged::of(answer) else {
            return match answer {
                Err(AppendError::OutcomeUnknown(_)) if !is_committed => Ok(()),
                Err(AppendError::DiskFull(_) | AppendError::Unreadable(_)) if self.is_excused() => Ok(()),
                Err(AppendError::Unreadable(_)) if self.damaged.index => Ok(()),
                other => Checker::Answers.holds(false, || format!("{other:?}")),
            };
        };
        if !is_committed {
            // It was answered all the same: what it names must be there after the stop.
            return Ok(());
        }
        let model = &mut self.known.model;
        let (sent, upto) = (&self.sent[at], model.entries.len());
        if let Judged::Applied(places) = &judged
            && places.iter().any(|(_, _, existed)| !existed)
        {
            let failed = model.failed(sent, upto);
            Checker::Conditions.holds(failed.is_empty(), || {
                format!("request {at} was appended behind position {upto}, where {failed:?}")
            })?;
        }
        let expected = model.judge(sent);
        Checker::Judgement.holds(judged == expected, || {
            format!("request {at} behind position {upto}: {judged:?}, expected {expected:?}; {sent:?}")
        })?;
        if let Judged::Applied(places) = expected {
            model.apply(sent, &places);
            self.known.promised = model.entries.len();
        }
        Ok(())
    }

    /// After a failed write or sync nothing more is appended.
    fn check_poison(&mut self, node: &mut Node, error: &EventsError) -> Checked {
        if self.disk.is_crashed() || !matches!(error, EventsError::Log(LogError::Io { .. })) {
            return Ok(());
        }
        let number = self.sent.len() as u64;
        let mut next = self.requests().next();
        next.request = Request { tracking: None, ..Request::of(next.request.events) };
        next.queries.clear();
        for event in &mut next.request.events {
            let random = self.clock.random() | 1;
            event.id = outrigger::event::EventId::from_slice(&random.to_be_bytes()).unwrap();
            event.stream = stream(0);
            event.event_type = event_type(0);
        }
        let request = next.request.clone();
        self.sent.push(next);
        let before = node.reader.head();
        let answer = node.appender.submit(request);
        let committed = node.commit();
        drop(answer);
        Checker::Poison.holds(committed.is_err() && node.reader.head() == before, || {
            format!("request {number} moved the head from {before} to {} after {error}", node.reader.head())
        })
    }
}

fn name_of(answer: &Answer) -> &'static str {
    use outrigger::append::FailedCondition::{Match, Stream, Tracking};
    match answer {
        Ok(appended) if appended.already_applied() => "answer: already applied",
        Ok(appended) if appended.events.iter().any(|event| event.already_existed) => {
            "answer: new ones appended"
        }
        Ok(_) => "answer: appended",
        Err(AppendError::IdReused { .. }) => "answer: id reused",
        Err(AppendError::PartlyApplied { .. }) => "answer: partly applied",
        Err(AppendError::ConditionsFailed(failed)) => match failed[0] {
            Stream(_) => "answer: stream elsewhere",
            Match { .. } => "answer: events match",
            Tracking { .. } => "answer: tracking behind",
        },
        Err(AppendError::AfterBeyondHead { .. }) => "answer: after beyond head",
        Err(AppendError::OutcomeUnknown(_)) => "answer: outcome unknown",
        Err(AppendError::DiskFull(_)) => "answer: disk full",
        Err(AppendError::Unreadable(_)) => "answer: unreadable",
        Err(_) => "answer: other",
    }
}
