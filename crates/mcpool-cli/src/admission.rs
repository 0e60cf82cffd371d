//! The question that every command asks before it does what a project's file says.

mod question;

use std::io;

use mcpool::config::{Admission, Loaded, TrustRequest, TrustStore};

use crate::{exit::Failure, off_thread::off_thread, render::text::Text, text};

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
                Answer::No => return Err(said_no(request)),
                Answer::Nobody => return Err(not_trusted(&requests)),
            }
        }
        match store.admit(&loaded)? {
            Admission::Granted(loaded) => Ok(*loaded),
            // It changed while the person looked at it.
            Admission::Asked(requests) => Err(not_trusted(&requests)),
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

/// Nothing is done that these files say: nobody has approved them as they are.
fn not_trusted(requests: &[TrustRequest]) -> Failure {
    let files = requests.iter().map(|request| text!("{}", request.file));
    let mut message = text!("not trusted, and so not used: {}", Text::join(files, ", "));
    if requests.iter().any(|request| request.changed) {
        message.push(&text!(", which has changed since it was trusted"));
    }
    let hints = requests.iter().flat_map(|request| {
        [
            text!("`{}` shows what it would do", request.look_command()),
            text!("`{}` approves it as it is now", request.approve_command()),
        ]
    });
    Failure::from(TrustStore::refusal(requests))
        .saying(message)
        .with_hints(hints)
}

/// A person was shown the file and said no.
pub(crate) fn said_no(request: &TrustRequest) -> Failure {
    Failure::from(TrustStore::refusal(std::slice::from_ref(request)))
        .saying(text!("not trusted, and so not used: {}", request.file))
        .with_hint(text!("`{}` asks once more", request.look_command()))
}

/// The file was shown, and nobody could be asked.
pub(crate) fn only_shown(request: &TrustRequest) -> Failure {
    Failure::from(TrustStore::refusal(std::slice::from_ref(request)))
        .saying(text!(
            "there is no terminal to ask at, so this is not trusted: {}",
            request.file
        ))
        .with_hint(text!(
            "`{}` approves what stands above",
            request.approve_command()
        ))
}

fn not_asked(error: io::Error) -> Failure {
    Failure::internal(text!("cannot ask: {}", error))
}
