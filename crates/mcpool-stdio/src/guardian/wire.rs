//! What an application and its guardian say to each other, over a socket that only they have.
//!
//! A frame is its length in four bytes, least significant first, and so many bytes of JSON.
//! Descriptors travel with the length (`SCM_RIGHTS`, unix(7)), so that they cannot be taken for
//! those of another frame.

use std::{
    ffi::OsString,
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
};

use crate::{clock::MachineTime, command::Plan, shutdown::Ladder};

/// The longest frame. No system takes a command of this size, its environment included, so it
/// bounds nothing that could work.
const MAX_FRAME: usize = 32 << 20;

/// The ends of a server's pipes: the server's own three, then ours of stdout and stderr, which
/// the guardian reads away once the application is gone.
pub(super) const STREAMS: usize = 5;

/// To the guardian.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Start a server. Answered by `Started` or `Refused`. The only one with descriptors.
    Start(Box<Start>),
    /// Send SIGTERM to the server's group.
    Terminate { server: u64 },
    /// Kill what does not end by itself within `linger`. Answered by `Ended`.
    End {
        server: u64,
        linger: Duration,
        patience: Duration,
    },
    /// Take the server through its ladder; the application asks for it no more.
    Release { server: u64 },
    /// Kill all servers at this moment, and start none after it, unless another one is set before.
    Deadline { at: MachineTime },
}

/// A server to be started.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) server: u64,
    program: OsString,
    args: Vec<String>,
    env: Vec<(OsString, OsString)>,
    cwd: Option<OsString>,
    pub(super) marker: String,
    pub(super) ladder: Ladder,
}

impl Start {
    pub(super) fn new(server: u64, plan: &Plan, marker: String, ladder: Ladder) -> Self {
        // Without a directory of its own a server starts in the application's, which the
        // guardian does not share.
        let cwd = match (&plan.cwd, std::env::current_dir()) {
            (Some(cwd), Ok(own)) => Some(own.join(cwd)),
            (Some(cwd), Err(_)) => Some(cwd.clone()),
            (None, own) => own.ok(),
        };
        Self {
            server,
            program: plan.program.clone().into(),
            args: plan.args.clone(),
            env: plan.env.clone().into_iter().collect(),
            cwd: cwd.map(OsString::from),
            marker,
            ladder,
        }
    }

    pub(super) fn plan(&self) -> Plan {
        Plan {
            program: self.program.clone().into(),
            args: self.args.clone(),
            env: self.env.iter().cloned().collect(),
            cwd: self.cwd.clone().map(Into::into),
        }
    }
}

/// From the guardian.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// The guardian runs; the first thing that it says.
    Ready {
        /// Whether it adopts what the servers' processes leave.
        adopts: bool,
    },
    /// The server runs, and leads the group of this number.
    Started { server: u64, pid: i32 },
    /// The server could not be started.
    Refused { server: u64, why: Refusal },
    /// The leader has exited.
    Exited { server: u64 },
    /// All of the server are dead, if that was possible; the leader's wait status.
    Ended {
        server: u64,
        status: Option<i32>,
        killed: u64,
    },
}

impl Report {
    /// Which server it is about.
    pub(super) fn server(&self) -> Option<u64> {
        match self {
            Self::Ready { .. } => None,
            Self::Started { server, .. }
            | Self::Refused { server, .. }
            | Self::Exited { server }
            | Self::Ended { server, .. } => Some(*server),
        }
    }
}

/// Why a server could not be started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Refusal {
    /// The system's error number.
    System(i32),
    /// Something else, in words.
    Other(String),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(code) => Self::System(code),
            None => Self::Other(error.to_string()),
        }
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::System(code) => Self::from_raw_os_error(code),
            Refusal::Other(message) => Self::other(message),
        }
    }
}

/// A message as it is sent.
pub(super) struct Frame {
    header: [u8; 4],
    body: Vec<u8>,
}

impl Frame {
    /// # Errors
    /// When the message is too long.
    pub(super) fn new(message: &impl Serialize) -> io::Result<Self> {
        let body = serde_json::to_vec(message)?;
        match u32::try_from(body.len()) {
            Ok(length) if body.len() <= MAX_FRAME => Ok(Self {
                header: length.to_le_bytes(),
                body,
            }),
            _ => Err(io::Error::new(
                io::ErrorKind::ArgumentListTooLong,
                "the command and its environment are too long",
            )),
        }
    }
}

fn length(header: [u8; 4]) -> io::Result<usize> {
    usize::try_from(u32::from_le_bytes(header))
        .ok()
        .filter(|length| *length <= MAX_FRAME)
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn from_frame<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    serde_json::from_slice(body).map_err(io::Error::from)
}

/// The application's way to say something. Bounded by the socket's write timeout; after an error
/// the socket is of no use.
pub(super) fn send(
    mut socket: &UnixStream,
    Frame { header, body }: &Frame,
    streams: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(STREAMS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !streams.is_empty() && !control.push(SendAncillaryMessage::ScmRights(streams)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    let sent = loop {
        match sendmsg(socket, &[IoSlice::new(header)], &mut control, send_flags()) {
            Err(rustix::io::Errno::INTR) => {}
            sent => break sent?,
        }
    };
    // The rest of a length goes without the descriptors, which were sent with its beginning.
    socket.write_all(&header[sent..])?;
    socket.write_all(body)
}

/// No SIGPIPE where the system can leave it out; Rust programs ignore it anyway.
fn send_flags() -> SendFlags {
    #[cfg(target_os = "linux")]
    return SendFlags::NOSIGNAL;
    #[cfg(not(target_os = "linux"))]
    SendFlags::empty()
}

/// The application's way to hear something. An error is the end.
pub(super) fn receive(mut socket: &UnixStream) -> io::Result<Report> {
    let mut header = [0; 4];
    socket.read_exact(&mut header)?;
    let mut body = vec![0; length(header)?];
    socket.read_exact(&mut body)?;
    from_frame(&body)
}

/// The guardian's way to hear something. Not cancel-safe. An error is the end: the application is
/// gone.
pub(super) async fn hear(socket: &mut OwnedReadHalf) -> io::Result<(Request, Vec<OwnedFd>)> {
    let mut header = [0; 4];
    let mut streams = Vec::new();
    let mut read = 0;
    while read < header.len() {
        let stream: &tokio::net::UnixStream = socket.as_ref();
        let count = stream
            .async_io(Interest::READABLE, || {
                read_header(stream.as_fd(), &mut header[read..], &mut streams)
            })
            .await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read += count;
    }
    let mut body = vec![0; length(header)?];
    socket.read_exact(&mut body).await?;
    Ok((from_frame(&body)?, streams))
}

fn read_header(
    socket: BorrowedFd<'_>,
    header: &mut [u8],
    streams: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(STREAMS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(header)];
    let received = recvmsg(socket, &mut parts, &mut control, RecvFlags::empty())?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            streams.extend(descriptors);
        }
    }
    // Not every system can do this in the same step; servers are started by this very task, so
    // none is started in between.
    for stream in &*streams {
        rustix::io::fcntl_setfd(stream, rustix::io::FdFlags::CLOEXEC)?;
    }
    Ok(received.bytes)
}

/// The guardian's way to say something.
pub(super) async fn say(socket: &mut OwnedWriteHalf, report: &Report) -> io::Result<()> {
    let frame = Frame::new(report)?;
    socket.write_all(&frame.header).await?;
    socket.write_all(&frame.body).await
}
