//! Answers of the node's own log to what its mesh appends.
//!
//! Invariant: whoever was told that an answer is not there yet is woken when it comes. The head of the log is no such
//! sign: it moves before the answer is given, and never for a refusal.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::sync::oneshot;

use crate::append::{Answer, AppendError};

/// The answer, once; none: it is under way, and the waker is called when it comes.
pub(super) fn poll(answer: &mut oneshot::Receiver<Answer>, waker: &Waker) -> Option<Answer> {
    match Future::poll(Pin::new(answer), &mut Context::from_waker(waker)) {
        Poll::Pending => None,
        Poll::Ready(answered) => Some(answered.unwrap_or(Err(AppendError::Stopping))),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn whoever_saw_no_answer_is_woken_by_it_and_by_its_loss() {
        let counted = Arc::new(Counted::default());
        let waker = Waker::from(Arc::clone(&counted));
        let (reply, mut answer) = oneshot::channel();
        assert!(poll(&mut answer, &waker).is_none());
        assert_eq!(counted.0.load(Ordering::Relaxed), 0);
        reply.send(Err(AppendError::Stopping)).unwrap();
        assert_eq!(counted.0.load(Ordering::Relaxed), 1);
        assert!(matches!(poll(&mut answer, &waker), Some(Err(AppendError::Stopping))));

        let (reply, mut answer) = oneshot::channel();
        assert!(poll(&mut answer, &waker).is_none());
        drop(reply);
        assert_eq!(counted.0.load(Ordering::Relaxed), 2);
        assert!(matches!(poll(&mut answer, &waker), Some(Err(AppendError::Stopping))));
    }
}
