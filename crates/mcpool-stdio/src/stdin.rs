//! The writing end: every message whole and in order, or not at all.
//!
//! A sender writes its message itself, in one system call, when nobody waits before it; this
//! never blocks. What does not fit into the pipe is queued, and the pump writes it as the server
//! reads. The message belongs to the queue, so dropping a send's future never cuts it in half:
//! a message of which nothing was written is then left out, any other is finished.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mcpool_core::Delivery;
use tokio::sync::{Notify, oneshot};

use crate::{monitor::StdioMonitor, pipes::Input};

/// Writes of the pump before it lets the runtime do something else.
const WRITES_PER_TURN: usize = 16;

/// Why a message was not written.
#[derive(Debug)]
pub(crate) struct WriteFailure {
    /// What is known of the message that failed.
    pub(crate) delivery: Delivery,
    /// The error of the pipe; `None` when the connection was ended from our side or by the
    /// server's exit.
    pub(crate) source: Option<io::Error>,
}

type Outcome = Result<(), WriteFailure>;

/// What became of a message that was handed in.
#[derive(Debug)]
pub(crate) enum Submitted {
    Done(Outcome),
    Queued(oneshot::Receiver<Outcome>),
}

/// A server's stdin.
pub(crate) struct Stdin {
    state: Mutex<State>,
    /// Wakes the pump: there is work, or it is over.
    wake: Notify,
    monitor: Arc<StdioMonitor>,
}

struct State {
    pipe: Option<Arc<Input>>,
    queue: VecDeque<Job>,
    /// Whether the server closed its end.
    broken: bool,
}

struct Job {
    bytes: Vec<u8>,
    written: usize,
    done: oneshot::Sender<Outcome>,
}

impl Job {
    fn fail(self, source: Option<io::Error>) {
        let delivery = if self.written == 0 {
            Delivery::NotSent
        } else {
            Delivery::Unknown
        };
        // Nobody waits when the send was dropped.
        let _ = self.done.send(Err(WriteFailure { delivery, source }));
    }
}

impl Stdin {
    pub(crate) fn new(pipe: Input, monitor: Arc<StdioMonitor>) -> Self {
        Self {
            state: Mutex::new(State {
                pipe: Some(Arc::new(pipe)),
                queue: VecDeque::new(),
                broken: false,
            }),
            wake: Notify::new(),
            monitor,
        }
    }

    /// Writes a line, or queues what of it cannot be written at once.
    pub(crate) fn submit(&self, bytes: Vec<u8>) -> Submitted {
        let mut state = self.state();
        let Some(pipe) = state.pipe.clone() else {
            return Submitted::Done(Err(WriteFailure {
                delivery: Delivery::NotSent,
                source: None,
            }));
        };
        let mut written = 0;
        if Input::DIRECT && state.queue.is_empty() {
            match write_some(&pipe, &bytes) {
                Ok(count) if count == bytes.len() => {
                    self.monitor.count_sent();
                    return Submitted::Done(Ok(()));
                }
                Ok(count) => written = count,
                Err(error) => {
                    state.pipe = None;
                    state.broken = true;
                    self.wake.notify_one();
                    return Submitted::Done(Err(WriteFailure {
                        delivery: Delivery::NotSent,
                        source: Some(error),
                    }));
                }
            }
        }
        let (done, outcome) = oneshot::channel();
        state.queue.push_back(Job {
            bytes,
            written,
            done,
        });
        drop(state);
        self.wake.notify_one();
        Submitted::Queued(outcome)
    }

    /// Closes the pipe; what is still queued fails. Idempotent.
    pub(crate) fn close(&self) {
        let jobs = {
            let mut state = self.state();
            state.pipe = None;
            std::mem::take(&mut state.queue)
        };
        for job in jobs {
            job.fail(None);
        }
        self.wake.notify_one();
    }

    /// Writes what is queued until the pipe is closed. Gives whether the server closed it.
    pub(crate) async fn pump(&self) -> bool {
        loop {
            let pipe = {
                let state = self.state();
                match (&state.pipe, state.queue.is_empty()) {
                    (None, _) => return state.broken,
                    (Some(_), true) => None,
                    (Some(pipe), false) => Some(Arc::clone(pipe)),
                }
            };
            let Some(pipe) = pipe else {
                self.wake.notified().await;
                continue;
            };
            let ready = tokio::select! {
                ready = pipe.writable() => ready,
                // More work, or the end: look again. It keeps no copy of a closed pipe.
                () = self.wake.notified() => continue,
            };
            if let Err(error) = ready.and_then(|()| self.write_queued(&pipe)) {
                self.fail(error);
                return true;
            }
            drop(pipe);
            tokio::task::yield_now().await;
        }
    }

    /// Writes from the queue what fits, at most for one turn.
    fn write_queued(&self, pipe: &Input) -> io::Result<()> {
        let mut state = self.state();
        for _ in 0..WRITES_PER_TURN {
            let Some(job) = state.queue.front_mut() else {
                return Ok(());
            };
            let dropped = job.written == 0 && job.done.is_closed();
            if !dropped {
                match write_some(pipe, &job.bytes[job.written..])? {
                    0 => return Ok(()),
                    count => job.written += count,
                }
                if job.written < job.bytes.len() {
                    continue;
                }
                self.monitor.count_sent();
            }
            if let Some(job) = state.queue.pop_front() {
                let _ = job.done.send(Ok(()));
            }
        }
        Ok(())
    }

    /// Ends the pipe after an error.
    fn fail(&self, error: io::Error) {
        let jobs = {
            let mut state = self.state();
            state.pipe = None;
            state.broken = true;
            std::mem::take(&mut state.queue)
        };
        let kind = error.kind();
        let mut first = Some(error);
        for job in jobs {
            job.fail(Some(first.take().unwrap_or_else(|| kind.into())));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what fits now; 0 when the pipe is full.
fn write_some(pipe: &Input, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match pipe.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
