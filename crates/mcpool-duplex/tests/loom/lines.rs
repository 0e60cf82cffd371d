//! The queue of a writer: each line is written whole or not at all, and nobody waits for ever.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use loom::{future::block_on, model::Builder, sync::Mutex, thread};
use tokio::io::AsyncWrite;

use crate::{
    departure::Departure,
    queue::{Line, Queue, Submitted, Unwritten},
    sync::Handle,
};

/// A pipe that takes as many bytes as there is room for.
#[derive(Clone)]
struct Pipe(Arc<Mutex<Held>>);

struct Held {
    room: usize,
    bytes: Vec<u8>,
    /// Who waits for room.
    writer: Option<Waker>,
}

impl Pipe {
    fn new(room: usize) -> Self {
        Self(Arc::new(Mutex::new(Held {
            room,
            bytes: Vec::new(),
            writer: None,
        })))
    }

    /// The server reads: there is room again.
    fn grow(&self, room: usize) {
        let writer = {
            let mut held = self.0.lock().unwrap();
            held.room += room;
            held.writer.take()
        };
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().bytes.clone()).unwrap()
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut held = self.0.lock().unwrap();
        if held.room == 0 {
            held.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = held.room.min(bytes.len());
        held.room -= count;
        held.bytes.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn queue(pipe: &Pipe) -> Arc<Queue<Pipe>> {
    Arc::new(Queue::new(pipe.clone(), Some(Handle), true))
}

fn line(text: &str, in_company: bool) -> Line {
    Line {
        text: text.to_owned(),
        departure: Departure::default(),
        awaits_answer: false,
        in_company,
    }
}

/// As `LineWriter::write`.
async fn write(queue: &Arc<Queue<Pipe>>, line: Line) -> Result<(), Unwritten> {
    match queue.submit(line)? {
        Submitted::Written => Ok(()),
        Submitted::Queued(queued) => queued.await,
        Submitted::First(first, queued) => {
            thread::yield_now();
            first.write();
            queued.await
        }
    }
}

/// All orders of the threads but for those with more than so many switches that nothing forces.
fn orders(preemptions: usize) -> Builder {
    let mut orders = Builder::new();
    orders.preemption_bound = Some(preemptions);
    orders
}

#[test]
fn two_that_come_together_are_both_written_and_leave_the_turn_to_nobody() {
    for in_company in [false, true] {
        orders(3).check(move || {
            let pipe = Pipe::new(usize::MAX);
            let queue = queue(&pipe);
            let other = {
                let queue = Arc::clone(&queue);
                thread::spawn(move || block_on(write(&queue, line("a", in_company))).unwrap())
            };
            block_on(write(&queue, line("b", false))).unwrap();
            other.join().unwrap();
            let text = pipe.text();
            assert!(text == "a\nb\n" || text == "b\na\n", "{text:?}");
            let last = queue.submit(line("c", false));
            assert!(matches!(last, Ok(Submitted::Written)));
        });
    }
}

#[test]
fn what_is_stuck_is_written_when_there_is_room() {
    orders(2).check(|| {
        let pipe = Pipe::new(1);
        let queue = queue(&pipe);
        let server = {
            let pipe = pipe.clone();
            thread::spawn(move || pipe.grow(8))
        };
        block_on(write(&queue, line("one", false))).unwrap();
        server.join().unwrap();
        assert_eq!(pipe.text(), "one\n");
    });
}

#[test]
fn who_goes_before_it_wrote_leaves_its_turn_to_others() {
    orders(2).check(|| {
        let pipe = Pipe::new(usize::MAX);
        let queue = queue(&pipe);
        let gone = {
            let queue = Arc::clone(&queue);
            // Both parts of what it is given are dropped.
            thread::spawn(move || drop(queue.submit(line("gone", true))))
        };
        block_on(write(&queue, line("stays", false))).unwrap();
        gone.join().unwrap();
        let text = pipe.text();
        let whole = ["stays\n", "gone\nstays\n", "stays\ngone\n"];
        assert!(whole.contains(&text.as_str()), "{text:?}");
    });
}

#[test]
fn the_end_reaches_who_waits() {
    orders(2).check(|| {
        let pipe = Pipe::new(0);
        let queue = queue(&pipe);
        let closing = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.shut())
        };
        let unwritten = block_on(write(&queue, line("stuck", false))).unwrap_err();
        assert!(!unwritten.departure.has_departed());
        closing.join().unwrap();
        assert_eq!(pipe.text(), "");
    });
}
