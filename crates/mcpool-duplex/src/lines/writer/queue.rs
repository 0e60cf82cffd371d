//! The queue in front of a stream: whose turn it is to write, and what becomes of whom.
//! `tests/loom.rs` compiles this file with the locks of loom and tries the orders of events.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{Arc, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::{io::AsyncWrite, sync::watch};

use crate::{
    departure::Departure,
    sync::{AtomicWaker, Handle, Mutex, MutexGuard},
};

/// Messages that are handed to the system at once.
const MAX_SLICES: usize = 32;
/// How often a caller writes in a row, for others who come meanwhile; then a task does.
const MAX_WRITES: usize = 8;

/// A message that is handed in.
pub(crate) struct Line {
    /// Without its line end.
    pub(crate) text: String,
    pub(crate) departure: Departure,
    pub(crate) awaits_answer: bool,
    /// Whether others are likely to come in this moment.
    pub(crate) in_company: bool,
}

/// A message that can no longer be written.
#[derive(Debug)]
pub(crate) struct Unwritten {
    pub(crate) end: End,
    pub(crate) departure: Departure,
}

pub(crate) struct Queue<W> {
    /// Held for a moment, never while something is written: anybody who comes while another writes
    /// must not wait for the system.
    waiting: Mutex<Waiting>,
    /// Held while something is written. Taken before `waiting` by anybody who needs both.
    writing: Mutex<Writing<W>>,
    /// Wakes the task that writes what is stuck.
    pump: AtomicWaker,
    /// The runtime of that task; `None` when there was none.
    runtime: Option<Handle>,
    /// Whether callers may write.
    direct: bool,
    broken: watch::Sender<bool>,
}

/// What was handed in and nobody has begun to write.
struct Waiting {
    /// By their numbers.
    jobs: VecDeque<Job>,
    /// The number of the next job.
    next: u64,
    /// Who writes what is queued.
    turn: Turn,
    end: Option<End>,
}

/// What is being written.
struct Writing<W> {
    stream: Option<W>,
    /// By their numbers, all before those that wait.
    jobs: VecDeque<Job>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Nothing is queued.
    Nobody,
    /// A caller.
    Caller,
    /// The task: something is stuck.
    Pump,
}

/// Why nothing is written any more.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// The server no longer reads: the system said so.
    Broken(io::ErrorKind),
    /// From our side.
    Closed,
}

struct Job {
    number: u64,
    line: String,
    written: usize,
    departure: Departure,
    /// Anybody who waits for more than the writing is not woken when it is done.
    awaits_answer: bool,
}

/// What became of a message that was handed in.
pub(crate) enum Submitted<W: AsyncWrite + Unpin + Send + 'static> {
    Written,
    Queued(Queued<W>),
    /// It is queued, and its caller is to write what is queued soon.
    First(First<W>, Queued<W>),
}

impl<W: AsyncWrite + Unpin + Send + 'static> Queue<W> {
    /// Takes lines for this stream. What is stuck is written on this runtime, and on the one that
    /// runs then where there is none; by that task alone unless callers may write as well.
    pub(crate) fn new(stream: W, runtime: Option<Handle>, direct: bool) -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                jobs: VecDeque::new(),
                next: 0,
                turn: Turn::Nobody,
                end: None,
            }),
            writing: Mutex::new(Writing {
                stream: Some(stream),
                jobs: VecDeque::new(),
            }),
            pump: AtomicWaker::new(),
            runtime,
            direct,
            broken: watch::Sender::new(false),
        }
    }

    /// Writes a line, or queues what of it is not written at once.
    pub(crate) fn submit(self: &Arc<Self>, line: Line) -> Result<Submitted<W>, Unwritten> {
        let Line {
            mut text,
            departure,
            awaits_answer,
            in_company,
        } = line;
        text.push('\n');
        let mut waiting = self.waiting();
        if let Some(end) = waiting.end {
            return Err(Unwritten { end, departure });
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.jobs.push_back(Job {
            number,
            line: text,
            written: 0,
            departure: departure.clone(),
            awaits_answer,
        });
        let queued = Queued {
            queue: Arc::clone(self),
            number,
            departure,
            ended: false,
        };
        if waiting.turn != Turn::Nobody {
            return Ok(Submitted::Queued(queued));
        }
        if !self.direct {
            self.begin_pump(waiting);
            return Ok(Submitted::Queued(queued));
        }
        waiting.turn = Turn::Caller;
        drop(waiting);
        if in_company {
            let first = First {
                queue: Arc::clone(self),
                done: false,
            };
            return Ok(Submitted::First(first, queued));
        }
        match self.write_now() {
            // Else the stream was shut meanwhile.
            Poll::Ready(Ok(())) if queued.departure.has_departed() => {
                queued.forget();
                Ok(Submitted::Written)
            }
            Poll::Ready(Ok(())) => Ok(Submitted::Queued(queued)),
            Poll::Ready(Err(kind)) => Err(Unwritten {
                end: End::Broken(kind),
                departure: queued.forget(),
            }),
            Poll::Pending => Ok(Submitted::Queued(queued)),
        }
    }

    /// Writes what is queued as far as it fits now; the rest is the pump's. For whose turn it is.
    fn write_now(self: &Arc<Self>) -> Poll<Result<(), io::ErrorKind>> {
        // Nobody is to be woken: what does not fit is the pump's. It must not fail for want of
        // the budget that tokio gives a task either.
        let mut cx = Context::from_waker(Waker::noop());
        let mut writing = self.writing();
        let write = std::future::poll_fn(|cx| self.poll_write(&mut writing, cx, MAX_WRITES));
        let written = pin!(tokio::task::coop::unconstrained(write)).poll(&mut cx);
        match written {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => {
                self.fail(&mut writing, error.kind());
                Poll::Ready(Err(error.kind()))
            }
            Poll::Pending => {
                drop(writing);
                self.begin_pump(self.waiting());
                Poll::Pending
            }
        }
    }

    /// Writes what is queued. Ready when nothing is any more: then it is nobody's turn. Pending
    /// after so many writes as well, with nobody to be woken.
    fn poll_write(
        &self,
        writing: &mut Writing<W>,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<io::Result<()>> {
        for _ in 0..most {
            let Writing { stream, jobs } = writing;
            {
                let mut waiting = self.waiting();
                jobs.append(&mut waiting.jobs);
                if stream.is_none() || jobs.is_empty() {
                    waiting.turn = Turn::Nobody;
                    if jobs.capacity() > MAX_SLICES {
                        jobs.shrink_to(MAX_SLICES);
                        waiting.jobs.shrink_to(MAX_SLICES);
                    }
                    return Poll::Ready(Ok(()));
                }
            }
            let Some(stream) = stream else {
                return Poll::Ready(Ok(()));
            };
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut count = 0;
            for (slice, job) in slices.iter_mut().zip(&*jobs) {
                *slice = IoSlice::new(&job.line.as_bytes()[job.written..]);
                count += 1;
            }
            let stream = Pin::new(stream);
            match std::task::ready!(stream.poll_write_vectored(cx, &slices[..count])) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => writing.advance(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Pending
    }

    /// What is queued is the task's from now on.
    fn begin_pump(self: &Arc<Self>, mut waiting: MutexGuard<'_, Waiting>) {
        waiting.turn = Turn::Pump;
        drop(waiting);
        let pump = Pump {
            queue: Arc::clone(self),
            done: false,
        };
        let runtime = self.runtime.clone().or_else(|| Handle::try_current().ok());
        // Without a runtime nothing can be written; dropping the pump fails what is queued.
        if let Some(runtime) = runtime {
            runtime.spawn(pump);
        }
    }

    /// Leaves a job out that its caller dropped, if nothing of it was written. When this returns,
    /// it departs no more.
    fn withdraw(&self, number: u64) {
        let withdrawn = {
            let mut waiting = self.waiting();
            let at = find(&waiting.jobs, number);
            at.and_then(|at| waiting.jobs.remove(at))
        };
        if withdrawn.is_some() {
            return;
        }
        // Somebody is about to write it, or does.
        let mut writing = self.writing();
        if let Some(at) = find(&writing.jobs, number)
            && writing.jobs[at].written == 0
        {
            writing.jobs.remove(at);
        }
    }

    /// Ends the stream after an error.
    fn fail(&self, writing: &mut Writing<W>, kind: io::ErrorKind) {
        self.end(writing, End::Broken(kind));
        writing.stream = None;
        self.broken.send_replace(true);
    }

    /// Takes no more lines, and fails what is queued.
    pub(crate) fn close(&self) {
        self.end(&mut self.writing(), End::Closed);
    }

    /// Shuts the stream down: it sends what it holds, and says that no more will come.
    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.writing().stream {
            Some(stream) => Pin::new(stream).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Closes the stream by dropping it; what is queued fails.
    pub(crate) fn shut(&self) {
        let stream = {
            let mut writing = self.writing();
            self.end(&mut writing, End::Closed);
            writing.stream.take()
        };
        drop(stream);
        self.pump.wake();
    }

    /// Whether a write failed because the server no longer reads.
    pub(crate) fn broken(&self) -> watch::Receiver<bool> {
        self.broken.subscribe()
    }

    /// How many lines nobody has begun to write.
    pub(crate) fn len(&self) -> usize {
        self.waiting().jobs.len()
    }

    /// Takes no more messages, and fails what is queued. The first end counts.
    fn end(&self, writing: &mut Writing<W>, end: End) {
        let waiting = {
            let mut waiting = self.waiting();
            waiting.end.get_or_insert(end);
            waiting.turn = Turn::Nobody;
            std::mem::take(&mut waiting.jobs)
        };
        for job in std::mem::take(&mut writing.jobs).into_iter().chain(waiting) {
            job.departure.end(true);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> MutexGuard<'_, Writing<W>> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find(jobs: &VecDeque<Job>, number: u64) -> Option<usize> {
    jobs.binary_search_by_key(&number, |job| job.number).ok()
}

impl<W> Writing<W> {
    /// Notes that so many bytes of the queue were written.
    fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let Some(job) = self.jobs.front_mut() else {
                return;
            };
            if job.written == 0 {
                let text = job.line.strip_suffix('\n').unwrap_or(&job.line);
                job.departure.mark(text);
            }
            let left = job.line.len() - job.written;
            if count < left {
                job.written += count;
                return;
            }
            count -= left;
            if let Some(job) = self.jobs.pop_front() {
                job.departure.end(!job.awaits_answer);
            }
        }
    }
}

/// Anybody who queued first and lets others come before it writes for all. When it is dropped before
/// that, the task does it.
pub(crate) struct First<W: AsyncWrite + Unpin + Send + 'static> {
    queue: Arc<Queue<W>>,
    done: bool,
}

impl<W: AsyncWrite + Unpin + Send + 'static> First<W> {
    pub(crate) fn write(mut self) {
        self.done = true;
        if self.queue.waiting().turn == Turn::Caller {
            // Each job hears of its own failure.
            let _ = self.queue.write_now();
        }
    }
}

impl<W: AsyncWrite + Unpin + Send + 'static> Drop for First<W> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut waiting = self.queue.waiting();
        if waiting.turn != Turn::Caller {
            return;
        }
        if waiting.jobs.is_empty() {
            waiting.turn = Turn::Nobody;
        } else {
            self.queue.begin_pump(waiting);
        }
    }
}

/// The task that writes what is stuck.
struct Pump<W: AsyncWrite + Unpin + Send + 'static> {
    queue: Arc<Queue<W>>,
    done: bool,
}

impl<W: AsyncWrite + Unpin + Send + 'static> Future for Pump<W> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let queue = Arc::clone(&self.queue);
        queue.pump.register(cx.waker());
        let mut writing = queue.writing();
        // The budget that tokio gives a task bounds it.
        let written = std::task::ready!(queue.poll_write(&mut writing, cx, usize::MAX));
        self.done = true;
        if let Err(error) = written {
            queue.fail(&mut writing, error.kind());
        }
        Poll::Ready(())
    }
}

impl<W: AsyncWrite + Unpin + Send + 'static> Drop for Pump<W> {
    fn drop(&mut self) {
        if !self.done {
            // It went away with its runtime, and nothing will be written any more.
            let mut writing = self.queue.writing();
            self.queue.fail(&mut writing, io::ErrorKind::NotConnected);
        }
    }
}

/// A line that waits to be written.
pub(crate) struct Queued<W: AsyncWrite + Unpin + Send + 'static> {
    queue: Arc<Queue<W>>,
    number: u64,
    departure: Departure,
    ended: bool,
}

impl<W: AsyncWrite + Unpin + Send + 'static> Queued<W> {
    /// Nobody waits for it.
    fn forget(mut self) -> Departure {
        self.ended = true;
        self.departure.clone()
    }
}

impl<W: AsyncWrite + Unpin + Send + 'static> Future for Queued<W> {
    type Output = Result<(), Unwritten>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        std::task::ready!(self.departure.poll_end(cx));
        self.ended = true;
        // It was written, or the stream has ended.
        let end = self.queue.waiting().end;
        Poll::Ready(match end {
            None => Ok(()),
            Some(end) => Err(Unwritten {
                end,
                departure: self.departure.clone(),
            }),
        })
    }
}

impl<W: AsyncWrite + Unpin + Send + 'static> Drop for Queued<W> {
    fn drop(&mut self) {
        // What has departed is finished by others.
        if !self.ended && !self.departure.has_departed() {
            self.queue.withdraw(self.number);
        }
    }
}
