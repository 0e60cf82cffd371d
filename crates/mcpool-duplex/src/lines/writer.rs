//! The writing half over a stream of bytes: every message whole and in order, or not at all.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use async_trait::async_trait;
use futures::task::AtomicWaker;
use mcpool_core::{Delivery, Error, ErrorKind, Result};
use tokio::{io::AsyncWrite, runtime::Handle, sync::watch};

use crate::{
    departure::Departure,
    halves::{Outgoing, WriteError, WriteHalf},
};

/// Messages that are handed to the system at once.
const MAX_SLICES: usize = 32;
/// How often a caller writes in a row, for others who come meanwhile; then a task does.
const MAX_WRITES: usize = 8;

type Written = std::result::Result<(), WriteError>;

/// Writes messages as lines.
///
/// A caller writes its line itself, in one system call, when nobody waits before it; this never
/// blocks. When other requests wait for their answers as well, it lets every other task of its
/// runtime run once before, and then writes for all that have come meanwhile. What does not fit is
/// queued, and a task, which lives while something is stuck, writes it as the server reads.
///
/// A queued message belongs to the queue: when its future is dropped, it is left out if nothing of
/// it was written, and finished if something was.
///
/// The queue needs no bound of its own: it holds what requests, answers and cancellations in
/// flight put there, and of those that were dropped at most one.
///
/// Dropping it closes the stream.
pub struct LineWriter<W: AsyncWrite + Unpin + Send + 'static> {
    queue: Arc<Queue<W>>,
}

struct Queue<W> {
    /// Held for a moment, never while something is written: whoever comes while another writes
    /// must not wait for the system.
    waiting: Mutex<Waiting>,
    /// Held while something is written. Taken before `waiting` by whoever needs both.
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
#[derive(Clone, Copy)]
enum End {
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
    /// Whoever waits for more than the writing is not woken when it is done.
    awaits_answer: bool,
}

impl<W: AsyncWrite + Unpin + Send + 'static> LineWriter<W> {
    /// Writes to this stream. What is queued is written on the runtime that runs now.
    #[must_use]
    pub fn new(stream: W) -> Self {
        Self::with_direct(stream, true)
    }

    /// Writes to a stream that may only be written to on a runtime, by the task alone: one whose
    /// writes are done by a thread, such as a pipe on Windows.
    #[must_use]
    pub fn queued(stream: W) -> Self {
        Self::with_direct(stream, false)
    }

    fn with_direct(stream: W, direct: bool) -> Self {
        Self {
            queue: Arc::new(Queue {
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
                runtime: Handle::try_current().ok(),
                direct,
                broken: watch::Sender::new(false),
            }),
        }
    }

    /// Closes the stream by dropping it; what is queued fails. May be called again.
    pub fn shut(&self) {
        let stream = {
            let mut writing = self.queue.writing();
            self.queue.end(&mut writing, End::Closed);
            writing.stream.take()
        };
        drop(stream);
        self.queue.pump.wake();
    }

    /// Waits until a write failed because the server no longer reads. Cancel-safe.
    pub async fn broken(&self) {
        let mut broken = self.queue.broken.subscribe();
        // It fails only when the sender is gone, and we hold it.
        let _ = broken.wait_for(|broken| *broken).await;
    }
}

impl<W: AsyncWrite + Unpin + Send + 'static> Drop for LineWriter<W> {
    fn drop(&mut self) {
        self.shut();
    }
}

#[async_trait]
impl<W: AsyncWrite + Unpin + Send + 'static> WriteHalf for LineWriter<W> {
    async fn write(&self, message: Outgoing) -> Written {
        match self.queue.submit(message)? {
            Submitted::Written => Ok(()),
            Submitted::Queued(queued) => queued.await,
            Submitted::First(first, queued) => {
                tokio::task::yield_now().await;
                first.write();
                queued.await
            }
        }
    }

    /// Fails what is queued and shuts the stream down.
    async fn close(&self) -> Result<()> {
        self.queue.end(&mut self.queue.writing(), End::Closed);
        let shut = std::future::poll_fn(|cx| match &mut self.queue.writing().stream {
            Some(stream) => Pin::new(stream).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        });
        // A server that is gone already is as good as one that was told.
        let _ = shut.await;
        self.shut();
        Ok(())
    }

    fn abandon(&self) {
        self.shut();
    }
}

impl<W: AsyncWrite + Unpin + Send + 'static> std::fmt::Debug for LineWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineWriter")
            .field("waiting", &self.queue.waiting().jobs.len())
            .finish_non_exhaustive()
    }
}

/// What became of a message that was handed in.
enum Submitted<W: AsyncWrite + Unpin + Send + 'static> {
    Written,
    Queued(Queued<W>),
    /// It is queued, and its caller is to write what is queued soon.
    First(First<W>, Queued<W>),
}

impl<W: AsyncWrite + Unpin + Send + 'static> Queue<W> {
    /// Writes a line, or queues what of it is not written at once.
    fn submit(
        self: &Arc<Self>,
        message: Outgoing,
    ) -> std::result::Result<Submitted<W>, WriteError> {
        let awaits_answer = message.awaits_answer();
        let in_company = message.in_company();
        let (mut line, departure) = message.split();
        line.push('\n');
        let mut waiting = self.waiting();
        if let Some(end) = waiting.end {
            return Err(end.error(Delivery::NotSent));
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.jobs.push_back(Job {
            number,
            line,
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
            Poll::Ready(Err(kind)) => Err(broken(queued.forget().delivery(), kind)),
            Poll::Pending => Ok(Submitted::Queued(queued)),
        }
    }

    /// Writes what is queued as far as it fits now; the rest is the pump's. For whose turn it is.
    fn write_now(self: &Arc<Self>) -> Poll<std::result::Result<(), io::ErrorKind>> {
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

impl End {
    /// The error of a message that can no longer be written.
    fn error(self, delivery: Delivery) -> WriteError {
        match self {
            Self::Broken(kind) => broken(delivery, kind),
            Self::Closed => WriteError::closed(delivery),
        }
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

/// Whoever queued first and lets others come before it writes for all. When it is dropped before
/// that, the task does it.
struct First<W: AsyncWrite + Unpin + Send + 'static> {
    queue: Arc<Queue<W>>,
    done: bool,
}

impl<W: AsyncWrite + Unpin + Send + 'static> First<W> {
    fn write(mut self) {
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
struct Queued<W: AsyncWrite + Unpin + Send + 'static> {
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
    type Output = Written;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Written> {
        std::task::ready!(self.departure.poll_end(cx));
        self.ended = true;
        // It was written, or the stream has ended.
        let end = self.queue.waiting().end;
        let error = end.map(|end| end.error(self.departure.delivery()));
        Poll::Ready(error.map_or(Ok(()), Err))
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

fn broken(delivery: Delivery, kind: io::ErrorKind) -> WriteError {
    let error = Error::new(ErrorKind::ConnectionLost, "the server no longer reads");
    WriteError::ended(
        error
            .with_delivery(delivery)
            .with_source(io::Error::from(kind)),
    )
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, DuplexStream};

    use super::*;

    fn writer(room: usize) -> (LineWriter<DuplexStream>, DuplexStream) {
        let (near, far) = tokio::io::duplex(room);
        (LineWriter::new(near), far)
    }

    fn request(text: &str, in_company: bool) -> Outgoing {
        Outgoing::new(text).awaiting_answer(in_company)
    }

    #[tokio::test]
    async fn those_that_come_together_are_written_together_and_in_order() {
        let (writer, mut far) = writer(1024);
        let (first, second) = tokio::join!(
            writer.write(request("one", true)),
            writer.write(Outgoing::new("two")),
        );
        first.and(second).unwrap();
        writer.write(request("three", false)).await.unwrap();
        let mut read = [0; 14];
        far.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"one\ntwo\nthree\n");
    }

    #[tokio::test]
    async fn the_first_may_go_before_it_wrote_for_the_others() {
        let (writer, mut far) = writer(1024);
        let mut first = writer.write(request("one", true));
        assert!(futures::poll!(&mut first).is_pending());
        let mut second = writer.write(request("two", true));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        let mut read = [0; 4];
        far.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"two\n");
        // Whoever waits for an answer is not woken for it, and knows when it looks.
        second.await.unwrap();
        // And nobody's turn is forgotten.
        writer.write(request("three", false)).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_stuck_is_written_as_the_server_reads() {
        let (writer, mut far) = writer(4);
        let notes: Vec<_> = (0..50).map(|n| Outgoing::new(format!("{n:03}"))).collect();
        let all = futures::future::join_all(notes.into_iter().map(|note| writer.write(note)));
        let mut read = vec![0; 200];
        let (written, got) = tokio::join!(all, far.read_exact(&mut read));
        got.unwrap();
        assert!(written.iter().all(Result::is_ok));
        let wanted: String = (0..50).map(|n| format!("{n:03}\n")).collect();
        assert_eq!(read, wanted.as_bytes());
    }

    #[tokio::test]
    async fn a_dropped_one_is_left_out_or_finished() {
        let (writer, mut far) = writer(4);
        let begun = Outgoing::new("begun and long");
        let waiting = Outgoing::new("waiting");
        {
            let (begun, waiting) = (writer.write(begun), writer.write(waiting));
            tokio::pin!(begun, waiting);
            assert!(futures::poll!(&mut begun).is_pending());
            assert!(futures::poll!(&mut waiting).is_pending());
        }
        let mut last = writer.write(Outgoing::new("last"));
        let mut read = [0; 20];
        let (written, got) = tokio::join!(&mut last, far.read_exact(&mut read));
        written.unwrap();
        got.unwrap();
        assert_eq!(&read, b"begun and long\nlast\n");
    }

    #[tokio::test]
    async fn the_end_says_what_became_of_each() {
        for close in [false, true] {
            let (writer, far) = writer(4);
            let begun = writer.write(Outgoing::new("begun and long"));
            let waiting = writer.write(Outgoing::new("waiting"));
            tokio::pin!(begun, waiting);
            assert!(futures::poll!(&mut begun).is_pending());
            assert!(futures::poll!(&mut waiting).is_pending());
            let kind = if close {
                writer.shut();
                ErrorKind::Closed
            } else {
                drop(far);
                writer.broken().await;
                ErrorKind::ConnectionLost
            };
            for (written, delivery) in [
                (begun.await, Delivery::Unknown),
                (waiting.await, Delivery::NotSent),
                (writer.write(Outgoing::new("late")).await, Delivery::NotSent),
            ] {
                let failure = written.unwrap_err();
                assert!(failure.is_end());
                let error = failure.error();
                assert_eq!((error.kind(), error.delivery()), (kind, delivery));
            }
        }
    }

    #[test]
    fn when_the_runtime_goes_what_is_queued_fails() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let (writer, _far) = runtime.block_on(async { writer(4) });
        let mut stuck = writer.write(Outgoing::new("does not fit"));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut stuck).poll(&mut cx).is_pending());
        drop(runtime);
        let Poll::Ready(Err(failure)) = Pin::new(&mut stuck).poll(&mut cx) else {
            panic!("it waits still");
        };
        assert_eq!(failure.error().delivery(), Delivery::Unknown);
    }
}
