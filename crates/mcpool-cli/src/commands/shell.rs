//! `mcpool shell SERVER`: a prompt for trying a server.

use std::path::PathBuf;

use clap::Args;
use etcetera::{BaseStrategy as _, choose_base_strategy};
use mcpool::{Refresh, ServerHandle, ServerName};
use rustyline::{
    CompletionType, Config, Context, Editor, Helper, completion::Completer, error::ReadlineError,
    highlight::Highlighter, hint::Hinter, history::FileHistory, validate::Validator,
};

use super::{Outcome, call, tools};
use crate::{
    app::App,
    arguments::Given,
    exit::{Exit, Failure, unknown},
    off_thread::off_thread,
    render::{content::Form, out, problems::counted},
    shell::{self, Known, Line},
    text, tty,
};

/// How many lines are kept for later sessions.
const MAX_HISTORY: usize = 1000;

/// `mcpool shell`
#[derive(Debug, Args)]
pub(crate) struct ShellArgs {
    /// The server
    pub(crate) server: Option<String>,
    /// Let the server ask you for a model's reply and for directories too
    #[arg(long)]
    pub(crate) interactive: bool,
}

/// What completes a line.
struct Words(Vec<Known>);

impl Completer for Words {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(shell::complete(line.get(..at).unwrap_or(line), &self.0))
    }
}

impl Helper for Words {}
impl Highlighter for Words {}
impl Hinter for Words {
    type Hint = String;
}
impl Validator for Words {}

/// The line editor, and where its lines are kept.
struct Prompt {
    editor: Editor<Words, FileHistory>,
    history: Option<PathBuf>,
}

impl Prompt {
    fn new() -> rustyline::Result<Self> {
        let config = Config::builder()
            .max_history_size(MAX_HISTORY)?
            // What begins with a space is not kept: a secret, for example.
            .history_ignore_space(true)
            .auto_add_history(true)
            .completion_type(CompletionType::List)
            .build();
        let mut editor = Editor::with_config(config)?;
        let history = choose_base_strategy()
            .ok()
            .and_then(|dirs| Some(dirs.state_dir()?.join("mcpool").join("history")));
        if let Some(file) = &history {
            // There is none at first.
            let _ = editor.load_history(file);
        }
        Ok(Self { editor, history })
    }

    /// Keeps the lines, in a file of the user's alone.
    fn keep(&mut self) {
        let Some(file) = &self.history else { return };
        let folder = file.parent().map(std::fs::create_dir_all);
        let saved = match folder {
            Some(Err(error)) => Err(ReadlineError::from(error)),
            _ => self.editor.save_history(file),
        };
        if let Err(error) = saved {
            tracing::warn!(%error, "the lines are not kept");
        }
    }
}

/// Runs it until `quit` or the end of the input.
pub(crate) async fn run(app: &App, args: ShellArgs) -> Outcome {
    let name = args
        .server
        .ok_or_else(|| Failure::usage(text!("which server? write SERVER, a URL or --stdio")))?;
    let server = app.connected(&name).await?.server(&name)?;
    let name = ServerName::new(&name)?;
    // A signal may end the program while a line is read.
    let _modes = tty::Guard::now();
    let mut prompt = off_thread(Prompt::new).await?.map_err(no_prompt)?;
    let words = format!("{name}> ");
    out::tell(&text!(
        "{}: {}; `help` lists what you can type\n",
        name,
        counted(known(&server).await.len(), "tool")
    ));
    let mut last = Exit::Good;
    loop {
        prompt.editor.set_helper(Some(Words(known(&server).await)));
        let shown = words.clone();
        let (read, used) = off_thread(move || (prompt.editor.readline(&shown), prompt)).await?;
        prompt = used;
        let line = match read {
            Ok(line) => line,
            // The line is given up, as in every shell.
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(no_prompt(error)),
        };
        // Ctrl-C ends what the line does, and not the session.
        let stop = app.on_interrupt();
        let outcome = tokio::select! {
            outcome = run_line(app, (&name, &server), &line) => outcome,
            () = stop.cancelled() => {
                out::tell(&text!("given up\n"));
                Ok(Some(Exit::Signal(2)))
            }
        };
        app.take_interrupt();
        match outcome {
            Ok(Some(exit)) => last = exit,
            Ok(None) => break,
            Err(failure) => {
                last = failure.exit();
                app.report(&failure);
            }
        }
    }
    off_thread(move || prompt.keep()).await?;
    Ok(last)
}

/// Does what a line says; `None` ends the session.
async fn run_line(
    app: &App,
    (name, server): (&ServerName, &ServerHandle),
    line: &str,
) -> Result<Option<Exit>, Failure> {
    let line = Line::read(line).map_err(|what| Failure::usage(text!("{}", what)))?;
    match line {
        Line::Empty => {}
        Line::Quit => return Ok(None),
        Line::Help => {
            out::print(&text!(
                "TOOL KEY=VALUE …   calls a tool; arguments as for `mcpool call`\n\
                 tools              lists the tools\n\
                 tools TOOL         shows one in full\n\
                 call TOOL …        calls a tool whose name is one of these words\n\
                 quit               or exit, or Ctrl-D\n\
                 --no-check         after a call: sends the arguments as they are\n\
                 Tab completes tools, keys and values. A line that begins with a space is not\n\
                 kept. Ctrl-C ends a call.\n"
            ))?;
        }
        Line::Tools(tool) => {
            let listed = server.tools(Refresh::IfStale).await?;
            match tool {
                None => {
                    for tool in listed.items.iter() {
                        out::print(&tools::brief(&tool.name, tool, out::columns()))?;
                    }
                }
                Some(wanted) => {
                    let found = listed.items.iter().find(|tool| tool.name == wanted);
                    let names: Vec<&str> = listed.items.iter().map(|tool| &*tool.name).collect();
                    let tool = found.ok_or_else(|| unknown("tool", &wanted, &names))?;
                    out::print(&tools::in_full(&app.words_of(name), name, tool))?;
                }
            }
        }
        Line::Call(tool, mut pairs) => {
            let given = pairs.len();
            pairs.retain(|word| word != "--no-check");
            let is_checked = pairs.len() == given;
            let form = match app.global.json {
                true => Form::Json,
                false => Form::Text,
            };
            let given = Given::read(pairs, None).await?;
            let arguments = call::fitting(server, &tool, &given, is_checked).await?;
            let exit = call::one(app, server, &tool, arguments, None, form, None).await?;
            return Ok(Some(exit));
        }
    }
    Ok(Some(Exit::Good))
}

async fn known(server: &ServerHandle) -> Vec<Known> {
    match server.tools(Refresh::IfStale).await {
        Ok(listed) => listed
            .items
            .iter()
            .filter_map(|tool| Known::of(tool))
            .collect(),
        Err(_) => Vec::new(),
    }
}

fn no_prompt(error: ReadlineError) -> Failure {
    Failure::internal(text!("cannot read a line: {}", error.to_string()))
}
