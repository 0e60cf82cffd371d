use serde::{Deserialize, Serialize};

/// Which protocol eras a fixture server speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Era {
    /// `initialize` only (up to 2025-11-25).
    #[default]
    Legacy,
    /// `server/discover` only (2026-07-28).
    Modern,
    /// Both.
    Both,
}

/// What a server that does not know `server/discover` does with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DiscoverReaction {
    /// Answers −32601, as most do.
    #[default]
    MethodNotFound,
    /// Answers −32602.
    InvalidParams,
    /// Says nothing.
    Silent,
    /// Exits.
    Exit,
    /// Answers `result: {}`, which is no DiscoverResult.
    EmptyResult,
    /// Answers −32601 and from then on refuses `initialize` as already initialized.
    Poisoned,
    /// Answers −32001 with `id: "server-error"` (HTTP: with status 400).
    ServerError,
}

/// What a fixture server does, good and bad. The default is a well-behaved legacy server.
///
/// It travels to the `mcpool-fixture` process as JSON; each field is also a flag of it
/// (`--start-delay-ms 500`, `--ignore-sigterm`).
///
/// ```
/// use mcpool_testkit::Behavior;
/// let behavior = Behavior::new().with(|b| { b.ignore_sigterm = true; b.pages = 500; });
/// assert_eq!(behavior.pages, 500);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Behavior {
    /// The name in `serverInfo`. Default `fixture`.
    pub name: String,
    /// The version in `serverInfo`; may be empty, as one real server's is. Default `1.0.0`.
    pub version: String,
    /// Which eras it speaks. Default legacy.
    pub era: Era,
    /// What a legacy server does with `server/discover`.
    pub discover: DiscoverReaction,
    /// The version in the answer to `initialize`, whatever was asked for; `1999-01-01` must be
    /// refused by a client. Default: what was asked for, at most 2025-11-25.
    pub protocol_version: Option<String>,

    /// Time from start to the first read, in milliseconds.
    pub start_delay_ms: u64,
    /// Time before each answer, in milliseconds.
    pub answer_delay_ms: u64,
    /// Bytes on stderr before anything else, in lines.
    pub startup_stderr_bytes: usize,
    /// Exits at once with this code, its usage on stderr.
    pub exit_at_start: Option<i32>,
    /// Writes noise on stdout for ever and reads nothing.
    pub garbage_only: bool,
    /// Reads, and never answers anything.
    pub never_answer: bool,
    /// Answers `initialize` and nothing else.
    pub mute_after_initialize: bool,

    /// Ignores SIGTERM.
    pub ignore_sigterm: bool,
    /// Stays after the end of stdin.
    pub ignore_eof: bool,
    /// Time from the end of stdin to the exit, in milliseconds.
    pub eof_linger_ms: u64,
    /// Leaves a child behind that runs in its own session.
    pub detached_child: bool,
    /// Is a launcher like `npx`: the server is its child, which inherits stdin and stdout.
    pub wrapper: bool,
    /// Ends itself after so long, so that a failed test leaves nothing. Default 10 min.
    pub max_lifetime_ms: u64,

    /// Lines of noise, invalid UTF-8 among them, around each message on stdout.
    pub noise: bool,
    /// Blank lines around each message, and CRLF as line end.
    pub crlf: bool,
    /// Each message in three writes with this pause between them, in milliseconds.
    pub split_ms: u64,
    /// Answers with the id as a string.
    pub string_ids: bool,
    /// Answers each request twice.
    pub answer_twice: bool,
    /// Sends a `ping` so often, in milliseconds; 0 is never.
    pub ping_every_ms: u64,

    /// Has the tools, prompts and resources of the official conformance suite instead of its own.
    pub conforming: bool,
    /// Adds tools whose `inputSchema` is missing, null, an array, a boolean.
    pub bad_schemas: bool,
    /// Lists `echo` twice.
    pub duplicate_tools: bool,
    /// Gives the same cursor for ever.
    pub repeat_cursor: bool,
    /// The list of tools comes in so many pages. Default 1.
    pub pages: usize,
    /// The first cursor is the empty string, which is a cursor like any other.
    pub empty_cursor: bool,
    /// Tools beside the fixed ones, named `tool_0`, `tool_1` …
    pub extra_tools: usize,
    /// Padding in each description of those, in bytes.
    pub description_bytes: usize,
    /// Sends `notifications/tools/list_changed` after each call.
    pub list_changed_after_call: bool,
    /// `ttlMs` of lists and of DiscoverResult (2026-07-28).
    pub ttl_ms: u64,

    /// Dies on the N-th `tools/call` of the process, before it runs, without an answer.
    pub crash_on_call: Option<u64>,
    /// Never answers the N-th `tools/call` of the process.
    pub hang_on_call: Option<u64>,
    /// Refuses a call while another one runs.
    pub one_call_at_a_time: bool,
    /// Where the tool `count` appends a line each time it runs.
    pub effects_file: Option<String>,
    /// A directory in which the process leaves a file named as its process id.
    pub pid_dir: Option<String>,
    /// A file that the process locks while it lives, and to which it appends every 5 ms that it
    /// does: its process id with its start, and the nanoseconds of `CLOCK_MONOTONIC`, which all
    /// processes of a machine share. A further word `beside` is there while another has the lock.
    pub alive_file: Option<String>,
}

impl Default for Behavior {
    fn default() -> Self {
        Self {
            name: "fixture".into(),
            version: "1.0.0".into(),
            era: Era::Legacy,
            discover: DiscoverReaction::MethodNotFound,
            protocol_version: None,
            start_delay_ms: 0,
            answer_delay_ms: 0,
            startup_stderr_bytes: 0,
            exit_at_start: None,
            garbage_only: false,
            never_answer: false,
            mute_after_initialize: false,
            ignore_sigterm: false,
            ignore_eof: false,
            eof_linger_ms: 0,
            detached_child: false,
            wrapper: false,
            max_lifetime_ms: 600_000,
            noise: false,
            crlf: false,
            split_ms: 0,
            string_ids: false,
            answer_twice: false,
            ping_every_ms: 0,
            conforming: false,
            bad_schemas: false,
            duplicate_tools: false,
            repeat_cursor: false,
            pages: 1,
            empty_cursor: false,
            extra_tools: 0,
            description_bytes: 0,
            list_changed_after_call: false,
            ttl_ms: 0,
            crash_on_call: None,
            hang_on_call: None,
            one_call_at_a_time: false,
            effects_file: None,
            pid_dir: None,
            alive_file: None,
        }
    }
}

impl Behavior {
    /// A well-behaved legacy server.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A well-behaved server of 2026-07-28.
    #[must_use]
    pub fn modern() -> Self {
        Self::new().with(|behavior| behavior.era = Era::Modern)
    }

    /// Changes it in place, for use in a chain.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Reads it from the flags of a command line: `--field-name VALUE`, or `--field-name` alone
    /// for `true`, or `--behavior JSON` for all at once.
    ///
    /// # Errors
    /// Says which flag is wrong.
    pub fn from_args(args: impl IntoIterator<Item = String>) -> Result<Self, String> {
        use serde_json::{Map, Value};
        let mut fields = Map::new();
        let mut args = args.into_iter().peekable();
        while let Some(flag) = args.next() {
            let Some(name) = flag.strip_prefix("--") else {
                return Err(format!("{flag:?} is not a flag"));
            };
            let value = args.next_if(|next| !next.starts_with("--"));
            if name == "behavior" {
                let text = value.ok_or("--behavior wants JSON")?;
                let Value::Object(all) = serde_json::from_str(&text).map_err(|e| e.to_string())?
                else {
                    return Err("--behavior wants a JSON object".into());
                };
                fields.extend(all);
                continue;
            }
            let value = match value {
                None => Value::Bool(true),
                Some(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
            };
            fields.insert(name.replace('-', "_"), value);
        }
        serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())
    }

    /// The arguments that [`Behavior::from_args`] reads back.
    #[must_use]
    pub fn to_args(&self) -> Vec<String> {
        let json = serde_json::to_string(self).unwrap_or_default();
        vec!["--behavior".into(), json]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_and_json_are_read_back() {
        let flags = ["--era", "both", "--ignore-sigterm", "--pages", "500"];
        let behavior = Behavior::from_args(flags.map(str::to_owned)).unwrap();
        assert_eq!(behavior.era, Era::Both);
        assert!(behavior.ignore_sigterm);
        assert_eq!(behavior.pages, 500);
        assert_eq!(Behavior::from_args(behavior.to_args()).unwrap(), behavior);
        assert!(Behavior::from_args(["--no-such-thing".to_owned()]).is_err());
        assert!(Behavior::from_args(["pages".to_owned()]).is_err());
    }
}
