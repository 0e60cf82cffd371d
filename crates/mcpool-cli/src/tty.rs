//! The modes of the terminal that is typed into. A prompt changes them while it reads, and the program
//! may end meanwhile.

#[cfg(unix)]
use nix::{
    sys::termios::{SetArg, Termios, tcgetattr, tcsetattr},
    unistd::{getpgrp, tcgetpgrp},
};

/// The modes as they were at some time; none where standard input is no terminal.
pub(crate) struct Modes {
    #[cfg(unix)]
    found: Option<Termios>,
}

impl Modes {
    /// As they are now.
    pub(crate) fn now() -> Self {
        Self {
            #[cfg(unix)]
            found: tcgetattr(std::io::stdin()).ok(),
        }
    }

    /// Makes them what they were, from the foreground: a process in the background that changes a
    /// terminal is stopped.
    pub(crate) fn give_back(&self) {
        #[cfg(unix)]
        if let Some(found) = &self.found
            && tcgetpgrp(std::io::stdin()) == Ok(getpgrp())
        {
            // A terminal that has gone needs none.
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, found);
        }
    }
}

/// Gives them back when it is dropped.
pub(crate) struct Guard(Modes);

impl Guard {
    pub(crate) fn now() -> Self {
        Self(Modes::now())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.give_back();
    }
}
