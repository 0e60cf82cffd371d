//! The proxy does to connections what its name says.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{io::ErrorKind, time::Duration};

use mcpool_testkit::{
    eventually,
    faults::{Fault, Step, TcpProxy},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const LONG: Duration = Duration::from_secs(20);

/// A server that gives back what it reads.
async fn echo() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

async fn say(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(text).await?;
    let mut heard = vec![0; text.len()];
    tokio::time::timeout(LONG, stream.read_exact(&mut heard))
        .await
        .expect("an answer, or an end")?;
    Ok(heard)
}

#[tokio::test]
async fn passes_and_counts() {
    let proxy = TcpProxy::start(echo().await).unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(say(&mut stream, b"hello").await.unwrap(), b"hello");
    assert_eq!((proxy.accepted(), proxy.open()), (1, 1));
    assert!(eventually(LONG, || proxy.bytes_from_server() == 5).await);
    drop(stream);
    assert!(eventually(LONG, || proxy.open() == 0).await);
}

#[tokio::test]
async fn resets_and_refuses() {
    let proxy = TcpProxy::start(echo().await).unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    say(&mut stream, b"hello").await.unwrap();
    proxy.reset_all();
    let read = tokio::time::timeout(LONG, stream.read(&mut [0; 1])).await;
    assert_eq!(
        read.unwrap().unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    proxy.set(Fault::Refuse);
    // The reset may come before `connect` has returned.
    if let Ok(mut stream) = TcpStream::connect(proxy.address()).await {
        assert!(say(&mut stream, b"hello").await.is_err());
    }
    proxy.set(Fault::Pass);
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    say(&mut stream, b"hello").await.unwrap();
    proxy.close_all();
    let read = tokio::time::timeout(LONG, stream.read(&mut [0; 1])).await;
    assert_eq!(read.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn a_black_hole_holds_and_tells_nobody() {
    let proxy = TcpProxy::start(echo().await).unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    say(&mut stream, b"hello").await.unwrap();
    proxy.set(Fault::Blackhole);
    stream.write_all(b"lost?").await.unwrap();
    let mut heard = [0; 5];
    let silent = tokio::time::timeout(Duration::from_millis(200), stream.read_exact(&mut heard));
    assert!(silent.await.is_err());
    assert_eq!(proxy.open(), 1);
    proxy.set(Fault::Pass);
    tokio::time::timeout(LONG, stream.read_exact(&mut heard))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&heard, b"lost?");
}

#[tokio::test]
async fn cuts_after_so_many_bytes_and_delays() {
    let proxy = TcpProxy::start(echo().await).unwrap();
    proxy.set(Fault::CutAfter(3));
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut heard = Vec::new();
    let end = tokio::time::timeout(LONG, stream.read_to_end(&mut heard)).await;
    assert!(end.unwrap().is_err(), "it was cut, not closed");
    assert!(heard.len() <= 3);
    let pause = Duration::from_millis(50);
    proxy.set(Fault::Delay(pause));
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    let start = std::time::Instant::now();
    say(&mut stream, b"hello").await.unwrap();
    assert!(start.elapsed() >= pause * 2, "once each way");
}

#[tokio::test]
async fn half_open_connections_swallow_and_new_ones_are_served() {
    let proxy = TcpProxy::start(echo().await).unwrap();
    let mut old = TcpStream::connect(proxy.address()).await.unwrap();
    say(&mut old, b"hello").await.unwrap();
    proxy.half_open_all();
    // It takes effect behind the call's back: until then bytes pass.
    let mut heard = [0; 4];
    let swallowed = async {
        loop {
            old.write_all(b"lost").await.unwrap();
            let answer = old.read_exact(&mut heard);
            if tokio::time::timeout(Duration::from_millis(200), answer)
                .await
                .is_err()
            {
                return;
            }
        }
    };
    tokio::time::timeout(LONG, swallowed).await.unwrap();
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    say(&mut new, b"hello").await.unwrap();
    assert_eq!(proxy.open(), 2);
    // The client is not notified, not even now; the proxy closes when the client does.
    proxy.set(Fault::Pass);
    let silent = tokio::time::timeout(Duration::from_millis(200), old.read(&mut heard));
    assert!(silent.await.is_err());
    drop((old, new));
    assert!(eventually(LONG, || proxy.open() == 0).await);
}

#[tokio::test]
async fn truncates_drips_and_duplicates() {
    let proxy = TcpProxy::start(echo().await).unwrap();
    proxy.set(Fault::TruncateAfter(3));
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut heard = Vec::new();
    let end = tokio::time::timeout(LONG, stream.read_to_end(&mut heard)).await;
    end.unwrap().expect("it is closed, not cut");
    assert_eq!(heard, b"hel");

    let pause = Duration::from_millis(20);
    proxy.set(Fault::Drip { bytes: 0, pause });
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    let start = std::time::Instant::now();
    assert_eq!(say(&mut stream, b"hello").await.unwrap(), b"hello");
    assert!(start.elapsed() >= pause * 4, "a byte at a time");

    proxy.set(Fault::Duplicate);
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    stream.write_all(b"ab").await.unwrap();
    let mut heard = [0; 4];
    tokio::time::timeout(LONG, stream.read_exact(&mut heard))
        .await
        .unwrap()
        .unwrap();
    assert!(heard == *b"abab" || heard == *b"aabb", "{heard:?}");
}

#[tokio::test]
async fn a_cycle_goes_on_until_it_is_ended() {
    let proxy = TcpProxy::start(echo().await).unwrap();
    proxy.cycle(vec![
        Step::During(Fault::Pass, Duration::from_millis(20)),
        Step::Reset,
        Step::During(Fault::Refuse, Duration::from_millis(5)),
    ]);
    let mut resets = 0;
    let many = async {
        while resets < 3 {
            let Ok(mut stream) = TcpStream::connect(proxy.address()).await else {
                continue;
            };
            // Silent until the next reset.
            if stream.read(&mut [0; 1]).await.is_err() {
                resets += 1;
            }
        }
    };
    tokio::time::timeout(LONG, many).await.unwrap();
    proxy.set(Fault::Pass);
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    let mut heard = [0; 1];
    let rest = tokio::time::timeout(Duration::from_millis(200), stream.read(&mut heard));
    assert!(rest.await.is_err(), "the cycle goes on");
}
