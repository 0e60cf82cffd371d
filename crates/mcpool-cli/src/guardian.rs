//! The program as the guardian of its own servers: it starts itself once more, and that process is
//! their parent, adopts what they leave, and ends them when the program has ended.

use mcpool::stdio::{GuardianProgram, run_guardian};

use crate::{exit::Exit, render::out, text};

/// The first argument of the guardian. It is no command of the command line: nobody has a use for
/// it but the program itself.
const ROLE: &str = "__guardian";

/// The guardian, whose servers get this soft limit of open files.
pub(crate) fn program(open_files: Option<u64>) -> GuardianProgram {
    let role = std::iter::once(ROLE.to_owned());
    GuardianProgram::this_program(role.chain(open_files.map(|limit| limit.to_string())))
}

/// Is the guardian, when the program was started as that. To be called before anything else.
pub(crate) fn run_if_asked() -> Option<Exit> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != ROLE {
        return None;
    }
    let open_files = arguments
        .next()
        .and_then(|limit| limit.to_str()?.parse().ok());
    Some(match run_guardian(open_files) {
        Ok(()) => Exit::Good,
        Err(error) => {
            out::tell(&text!(
                "error: {} is for mcpool itself to start: {}\n",
                ROLE,
                error
            ));
            Exit::Usage
        }
    })
}
