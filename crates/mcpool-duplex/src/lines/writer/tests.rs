use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use mcpool_core::RequestId;
use tokio::io::{AsyncReadExt, DuplexStream};

use super::*;

fn writer(room: usize) -> (LineWriter<DuplexStream>, DuplexStream) {
    let (near, far) = tokio::io::duplex(room);
    (LineWriter::new(near), far)
}

fn request(text: &str, in_company: bool) -> Outgoing {
    Outgoing::new(text).awaiting_answer(RequestId::new(1), in_company, None)
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
    // Anybody who waits for an answer is not woken for it, and knows when it looks.
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
