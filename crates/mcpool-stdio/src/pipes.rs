//! The three pipes to a server, as the runtime sees them.

#[cfg(unix)]
mod imp {
    use std::{io, os::fd::OwnedFd};

    use tokio::net::unix::pipe;

    /// The pipes of a process that was just started.
    pub(crate) struct Streams {
        pub(crate) stdin: OwnedFd,
        pub(crate) stdout: OwnedFd,
        pub(crate) stderr: OwnedFd,
    }

    pub(crate) type Stdout = pipe::Receiver;
    pub(crate) type Stderr = pipe::Receiver;

    /// The writing end of a server's stdin.
    #[derive(Debug)]
    pub(crate) struct Input(pipe::Sender);

    impl Input {
        /// Whether a sender may write by itself when nobody else does.
        pub(crate) const DIRECT: bool = true;

        /// Waits until a write may succeed. Cancel-safe.
        pub(crate) async fn writable(&self) -> io::Result<()> {
            self.0.writable().await
        }

        /// Writes what fits now.
        pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
            self.0.try_write(bytes)
        }
    }

    impl Streams {
        /// Hands the pipes to the runtime that is running.
        pub(crate) fn register(self) -> io::Result<(Input, Stdout, Stderr)> {
            Ok((
                Input(pipe::Sender::from_owned_fd(self.stdin)?),
                pipe::Receiver::from_owned_fd(self.stdout)?,
                pipe::Receiver::from_owned_fd(self.stderr)?,
            ))
        }
    }
}

#[cfg(windows)]
mod imp {
    use std::{io, process};

    use futures::FutureExt;
    use tokio::{
        io::AsyncWriteExt,
        process::{ChildStderr, ChildStdin, ChildStdout},
        sync::Mutex,
    };

    /// The pipes of a process that was just started.
    pub(crate) struct Streams {
        pub(crate) stdin: process::ChildStdin,
        pub(crate) stdout: process::ChildStdout,
        pub(crate) stderr: process::ChildStderr,
    }

    pub(crate) type Stdout = ChildStdout;
    pub(crate) type Stderr = ChildStderr;

    /// The writing end of a server's stdin. Only the pump writes, so the mutex is never waited
    /// for.
    #[derive(Debug)]
    pub(crate) struct Input(Mutex<ChildStdin>);

    impl Input {
        /// Whether a sender may write by itself when nobody else does.
        pub(crate) const DIRECT: bool = false;

        /// Waits until the write before this is done. Cancel-safe.
        pub(crate) async fn writable(&self) -> io::Result<()> {
            self.0.lock().await.flush().await
        }

        /// Hands over what fits now; the pipe is written by a thread.
        pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
            let blocked = || Err(io::ErrorKind::WouldBlock.into());
            match self.0.try_lock() {
                Ok(mut stdin) => stdin.write(bytes).now_or_never().unwrap_or_else(blocked),
                Err(_) => blocked(),
            }
        }
    }

    impl Streams {
        /// Hands the pipes to the runtime that is running.
        pub(crate) fn register(self) -> io::Result<(Input, Stdout, Stderr)> {
            Ok((
                Input(Mutex::new(ChildStdin::from_std(self.stdin)?)),
                ChildStdout::from_std(self.stdout)?,
                ChildStderr::from_std(self.stderr)?,
            ))
        }
    }
}

pub(crate) use imp::{Input, Stderr, Stdout, Streams};
