//! One connection through the proxy, and what its fault does to its bytes.

use std::sync::{Arc, atomic::Ordering};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{Fault, ProxyState};
use crate::fixtures::engine::lock;

/// How a connection ends before its sides want it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    None,
    Close,
    Reset,
    HalfOpen,
}

pub(super) async fn accept(listener: TcpListener, shared: Arc<ProxyState>) {
    while let Ok((client, _)) = listener.accept().await {
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        if *shared.fault.borrow() == Fault::Refuse {
            reset(&client);
            continue;
        }
        let ends = lock(&shared.ends).subscribe();
        tokio::spawn(carry(client, ends, Arc::clone(&shared)));
    }
}

fn reset(stream: &TcpStream) {
    // Closing with zero linger sends RST instead of FIN.
    let _ = stream.set_zero_linger();
}

struct Open<'a>(&'a ProxyState);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn carry(mut client: TcpStream, mut ends: watch::Receiver<End>, shared: Arc<ProxyState>) {
    shared.open.fetch_add(1, Ordering::SeqCst);
    let _open = Open(&shared);
    let Ok(mut server) = TcpStream::connect(shared.target).await else {
        return reset(&client);
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let end = {
        let (mut client_read, mut client_write) = client.split();
        let (mut server_read, mut server_write) = server.split();
        let up = pump(&mut client_read, &mut server_write, &shared, false);
        let down = pump(&mut server_read, &mut client_write, &shared, true);
        let both = async { tokio::try_join!(up, down) };
        tokio::select! {
            both = both => match both {
                Ok(_) => End::Close,
                Err(end) => end,
            },
            ended = ends.wait_for(|end| *end != End::None) => {
                ended.map_or(End::Close, |end| *end)
            }
        }
    };
    match end {
        End::Reset => {
            reset(&client);
            reset(&server);
        }
        End::HalfOpen => {
            // Held until the client itself is done with it; the server never hears of that.
            let mut vanishing = vec![0; 4 * 1024];
            while client.read(&mut vanishing).await.is_ok_and(|read| read > 0) {}
        }
        End::None | End::Close => {}
    }
}

/// Passes bytes on until the end of the reader, or until the fault ends the connection.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    shared: &ProxyState,
    from_server: bool,
) -> Result<(), End> {
    let mut fault = shared.fault.subscribe();
    let mut buffer = vec![0; 64 * 1024];
    let mut passed = 0_u64;
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => {
                let _ = to.shutdown().await;
                return Ok(());
            }
            Ok(read) => read,
        };
        let now = loop {
            let now = *fault.borrow_and_update();
            if now != Fault::Blackhole {
                break now;
            }
            if fault.changed().await.is_err() {
                return Ok(());
            }
        };
        let left = |limit: u64| usize::try_from(limit.saturating_sub(passed)).unwrap_or(usize::MAX);
        let (allowed, end) = match now {
            Fault::CutAfter(limit) if from_server => (read.min(left(limit)), End::Reset),
            Fault::TruncateAfter(limit) if from_server => (read.min(left(limit)), End::Close),
            _ => (read, End::None),
        };
        let bytes = &buffer[..allowed];
        let written = match now {
            Fault::Delay(pause) => {
                tokio::time::sleep(pause).await;
                to.write_all(bytes).await
            }
            Fault::Drip { bytes: size, pause } => {
                async {
                    for piece in bytes.chunks(size.max(1)) {
                        to.write_all(piece).await?;
                        tokio::time::sleep(pause).await;
                    }
                    Ok(())
                }
                .await
            }
            Fault::Duplicate if from_server => {
                async {
                    to.write_all(bytes).await?;
                    to.write_all(bytes).await
                }
                .await
            }
            _ => to.write_all(bytes).await,
        };
        if written.is_err() {
            return Ok(());
        }
        passed += allowed as u64;
        if from_server {
            shared
                .from_server
                .fetch_add(allowed as u64, Ordering::SeqCst);
        }
        if allowed < read {
            let _ = to.flush().await;
            return Err(end);
        }
    }
}
