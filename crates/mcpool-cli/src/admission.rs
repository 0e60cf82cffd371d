//! The question that every command asks before it does what a project's file says.

mod question;

use std::io;

use mcpool::config::{Admission, Loaded, TrustRequest, TrustStore};

use crate::{exit::Failure, off_thread::off_thread, text};

pub(crate) use question::Answer;

/// Lets a command go on when everything that it would do is trusted: asks on a terminal, refuses
/// elsewhere.
pub(crate) async fn admit(loaded: Loaded) -> Result<Loaded, Failure> {
    off_thread(move || {
        let store = TrustStore::of_user()?;
        let requests = match store.admit(&loaded)? {
            Admission::Granted(loaded) => return Ok(*loaded),
            Admission::Asked(requests) => requests,
            _ => Vec::new(),
        };
        for request in &requests {
            match asked(request)? {
                Answer::Yes { refused } => store.approve_except(request, refused)?,
                Answer::No | Answer::Nobody => return Err(TrustStore::refusal(&requests).into()),
            }
        }
        match store.admit(&loaded)? {
            Admission::Granted(loaded) => Ok(*loaded),
            // It changed while the person looked at it.
            Admission::Asked(requests) => Err(TrustStore::refusal(&requests).into()),
            _ => Err(Failure::internal(text!("the answer is of an unknown kind"))),
        }
    })
    .await?
}

/// Asks a person whether this may be used. Blocks.
pub(crate) fn asked(request: &TrustRequest) -> Result<Answer, Failure> {
    question::ask(request).map_err(not_asked)
}

/// Shows what a person would be asked, without the question.
pub(crate) fn show(request: &TrustRequest) -> Result<(), Failure> {
    question::show(request).map_err(not_asked)
}

fn not_asked(error: io::Error) -> Failure {
    Failure::internal(text!("cannot ask: {}", error))
}
