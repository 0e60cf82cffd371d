//! The three pipes to a server, as the runtime sees them.

#[cfg(unix)]
mod imp {
    use std::{io, os::fd::OwnedFd};

    use mcpool_duplex::lines::LineWriter;
    use tokio::net::unix::pipe;

    /// The pipes of a process that was just started.
    pub(crate) struct Streams {
        pub(crate) stdin: OwnedFd,
        pub(crate) stdout: OwnedFd,
        pub(crate) stderr: OwnedFd,
    }

    pub(crate) type Stdin = LineWriter<pipe::Sender>;
    pub(crate) type Stdout = pipe::Receiver;
    pub(crate) type Stderr = pipe::Receiver;

    impl Streams {
        /// Hands the pipes to the runtime that is running.
        pub(crate) fn register(self) -> io::Result<(Stdin, Stdout, Stderr)> {
            Ok((
                LineWriter::new(pipe::Sender::from_owned_fd(self.stdin)?),
                pipe::Receiver::from_owned_fd(self.stdout)?,
                pipe::Receiver::from_owned_fd(self.stderr)?,
            ))
        }
    }
}

#[cfg(windows)]
mod imp {
    use std::{io, process};

    use mcpool_duplex::lines::LineWriter;
    use tokio::process::{ChildStderr, ChildStdin, ChildStdout};

    /// The pipes of a process that was just started.
    pub(crate) struct Streams {
        pub(crate) stdin: process::ChildStdin,
        pub(crate) stdout: process::ChildStdout,
        pub(crate) stderr: process::ChildStderr,
    }

    pub(crate) type Stdin = LineWriter<ChildStdin>;
    pub(crate) type Stdout = ChildStdout;
    pub(crate) type Stderr = ChildStderr;

    impl Streams {
        /// Hands the pipes to the runtime that is running.
        pub(crate) fn register(self) -> io::Result<(Stdin, Stdout, Stderr)> {
            Ok((
                // Threads of the runtime write to it.
                LineWriter::queued(ChildStdin::from_std(self.stdin)?),
                ChildStdout::from_std(self.stdout)?,
                ChildStderr::from_std(self.stderr)?,
            ))
        }
    }
}

pub(crate) use imp::{Stderr, Stdin, Stdout, Streams};
