//! When somebody was answering a question of the server, so that the clock of the request in whose
//! course it came stood still.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mcpool_core::RequestId;
use tokio::time::Instant;

/// How many answered questions are remembered. Requests that are older than the oldest of them
/// have a little less time.
const REMEMBERED: usize = 256;

/// Shorter ones do not count.
const SHORT: Duration = Duration::from_millis(1);

/// The questions that are being answered, and those that were.
#[derive(Debug, Default)]
pub(crate) struct Pauses(Mutex<PauseState>);

#[derive(Debug, Default)]
struct PauseState {
    next: u64,
    open: Vec<Question>,
    past: VecDeque<(Question, Instant)>,
}

#[derive(Debug, Clone, Copy)]
struct Question {
    number: u64,
    /// The request that it belongs to; `None`: any of those in flight.
    related: Option<RequestId>,
    asked: Instant,
}

/// A question that is being answered, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Pause<'a> {
    pauses: &'a Pauses,
    question: Question,
}

impl Pauses {
    /// Somebody begins to answer a question that came in the course of this request, or in that
    /// of some request.
    pub(crate) fn begin(&self, related: Option<RequestId>) -> Pause<'_> {
        let mut state = self.state();
        state.next = state.next.wrapping_add(1);
        let question = Question {
            number: state.next,
            related,
            asked: Instant::now(),
        };
        state.open.push(question);
        drop(state);
        Pause {
            pauses: self,
            question,
        }
    }

    /// For how long between two moments the clock of this request stood still, and whether it
    /// stands still now. A question of no known request stops every clock.
    pub(crate) fn of(&self, request: Option<RequestId>, from: Instant, to: Instant) -> Duration {
        let state = self.state();
        let concerns = |question: &Question| question.is_of(request);
        let open = state.open.iter().filter(|question| concerns(question));
        let past = state.past.iter().filter(|(question, _)| concerns(question));
        let spans = open
            .map(|question| (question.asked, to))
            .chain(past.map(|(question, answered)| (question.asked, *answered)));
        let mut spans: Vec<_> = spans
            .map(|(begin, end)| (begin.max(from), end.min(to)))
            .filter(|(begin, end)| begin < end)
            .collect();
        drop(state);
        spans.sort_unstable();
        let mut total = Duration::ZERO;
        let mut counted = from;
        for (begin, end) in spans {
            total += end.saturating_duration_since(begin.max(counted));
            counted = counted.max(end);
        }
        total
    }

    /// Whether somebody is answering a question that stops the clock of this request.
    pub(crate) fn is_open(&self, request: Option<RequestId>) -> bool {
        let state = self.state();
        state.open.iter().any(|question| question.is_of(request))
    }

    fn state(&self) -> MutexGuard<'_, PauseState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Question {
    fn is_of(&self, request: Option<RequestId>) -> bool {
        self.related.is_none() || self.related == request
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut state = self.pauses.state();
        let number = self.question.number;
        state.open.retain(|question| question.number != number);
        if now.saturating_duration_since(self.question.asked) >= SHORT {
            if state.past.len() >= REMEMBERED {
                state.past.pop_front();
            }
            state.past.push_back((self.question, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn overlapping_questions_count_once_and_only_for_their_request() {
        let pauses = Pauses::default();
        let one = Some(RequestId::new(1));
        let began = Instant::now();
        let first = pauses.begin(one);
        tokio::time::advance(SECOND * 10).await;
        let second = pauses.begin(None);
        tokio::time::advance(SECOND * 5).await;
        drop(first);
        tokio::time::advance(SECOND).await;
        let now = Instant::now();
        assert_eq!(pauses.of(one, began, now), SECOND * 16);
        assert_eq!(pauses.of(Some(RequestId::new(2)), began, now), SECOND * 6);
        assert_eq!(pauses.of(one, now - SECOND * 2, now), SECOND * 2);
        assert!(pauses.is_open(one) && pauses.is_open(None));
        drop(second);
        tokio::time::advance(SECOND * 100).await;
        assert_eq!(pauses.of(one, began, Instant::now()), SECOND * 16);
        assert!(!pauses.is_open(one));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let pauses = Pauses::default();
        let began = Instant::now();
        for _ in 0..1_000 {
            let pause = pauses.begin(None);
            tokio::time::advance(SECOND).await;
            drop(pause);
            // Answered at once.
            drop(pauses.begin(None));
        }
        let total = pauses.of(None, began, Instant::now());
        assert_eq!(total, SECOND * u32::try_from(REMEMBERED).unwrap());
    }
}
