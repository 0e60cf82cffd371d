//! Lines for standard error that nobody waits for: a program that serves must not stand still
//! because a pipe is full that nobody reads.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How many lines may wait to be written; what comes then is counted, and left out.
const MAX_WAITING: usize = 4096;

/// Lines that wait for a thread of their own, which writes them.
pub(super) struct Aside {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<String>,
    left_out: u64,
    /// Whether something that was taken out is being written.
    is_writing: bool,
}

impl Aside {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Puts a text behind those that wait, unless too many do. Never blocks on the writer.
    pub(super) fn push(&self, text: String) {
        let mut state = self.state();
        if state.waiting.len() < MAX_WAITING {
            state.waiting.push_back(text);
        } else {
            state.left_out = state.left_out.saturating_add(1);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Writes the next text, once there is one.
    pub(super) fn write_next(&self, write: impl FnOnce(&str)) {
        let has_none = |state: &mut State| state.waiting.is_empty() && state.left_out == 0;
        let state = self.changed.wait_while(self.state(), has_none);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        let next = state.waiting.pop_front().unwrap_or_else(|| {
            let left_out = std::mem::take(&mut state.left_out);
            format!("{left_out} lines were left out here: nobody read this\n")
        });
        state.is_writing = true;
        drop(state);
        write(&next);
        self.state().is_writing = false;
        self.changed.notify_all();
    }

    /// Waits until all is written, but no longer than this.
    pub(super) fn settle(&self, patience: Duration) {
        let is_busy =
            |state: &mut State| state.is_writing || !state.waiting.is_empty() || state.left_out > 0;
        // Nobody reads what is left, perhaps.
        let _ = self
            .changed
            .wait_timeout_while(self.state(), patience, is_busy);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_reads_holds_up_nobody_and_is_counted() {
        let aside = Aside::new();
        for at in 0..MAX_WAITING + 7 {
            aside.push(format!("{at}\n"));
        }
        // With nobody who writes, the wait at the end is over all the same.
        aside.settle(Duration::ZERO);
        let mut written = Vec::new();
        for _ in 0..=MAX_WAITING {
            aside.write_next(|text| written.push(text.to_owned()));
        }
        assert_eq!(
            (written[0].as_str(), written.len()),
            ("0\n", MAX_WAITING + 1)
        );
        assert_eq!(
            written[MAX_WAITING],
            "7 lines were left out here: nobody read this\n"
        );
        aside.settle(Duration::MAX);
    }
}
