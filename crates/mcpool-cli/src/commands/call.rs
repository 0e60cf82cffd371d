//! `mcpool call SERVER TOOL …`: calls one tool and shows what it says.

use std::{pin::pin, time::Duration};

use mcpool::{
    CallOptions, Raw, Refresh, Reply, RequestOptions, Requester as _, ServerHandle, Verbs as _,
    model::CallToolResult,
};
use serde_json::Value;
use tokio::sync::mpsc;

use super::{Outcome, tools::signature};
use crate::{
    app::{App, Found},
    args::CallArgs,
    arguments::{self, Given, Object},
    exit::{Exit, Failure, unknown},
    named,
    render::{
        activity::Activity,
        content::{self, Files, Form},
        out,
    },
    text,
};

/// Runs it.
pub(crate) async fn run(app: &App, args: CallArgs) -> Outcome {
    let found = app
        .connected_tool(&args.server, args.tool, args.pairs, args.args, None)
        .await?;
    let Found {
        server,
        tool,
        given,
        ..
    } = found;
    let arguments = fitting(&server, &tool, &given, !args.no_check).await?;
    let form = if app.global.json {
        Form::Json
    } else {
        args.output
    };
    let files = match args.save {
        Some(dir) => Some(Files::new(dir, &tool)?),
        None => None,
    };
    one(app, &server, &tool, arguments, args.timeout, form, files).await
}

/// Calls a tool and prints its answer.
pub(crate) async fn one(
    app: &App,
    server: &ServerHandle,
    tool: &str,
    arguments: Object,
    timeout: Option<Duration>,
    form: Form,
    files: Option<Files>,
) -> Outcome {
    let result = with_activity(app, server.clone(), tool, arguments, timeout).await?;
    show(&result, form, files)?;
    match result.is_error {
        Some(true) => Ok(of_gateway(result.raw()).unwrap_or(Exit::ToolError)),
        _ => Ok(Exit::Good),
    }
}

/// The exit code of a call that a gateway could not make, or of which it knows no outcome: such a
/// result says so in its `_meta`.
fn of_gateway(result: &Raw) -> Option<Exit> {
    let result: Value = result.parse().ok()?;
    match result["_meta"]["mcpool/delivery"].as_str()? {
        "unknown" => Some(Exit::OutcomeUnknown),
        "not_sent" | "rejected" => Some(Exit::Unreachable),
        _ => None,
    }
}

/// The arguments as the tool's schema reads them, when they fit. A server that does not list its
/// tools gets them as they are.
pub(crate) async fn fitting(
    server: &ServerHandle,
    tool: &str,
    given: &Given,
    check: bool,
) -> Result<Object, Failure> {
    let listed = match server.tools(Refresh::IfStale).await {
        Ok(listed) => listed,
        Err(error) => {
            tracing::warn!(%error, "the tools are not listed, so the arguments are not checked");
            return given.to_object(None);
        }
    };
    let Some(known) = listed.items.iter().find(|known| known.name == tool) else {
        let names: Vec<&str> = listed.items.iter().map(|known| &*known.name).collect();
        let is_rejected = listed.rejected.iter().any(|item| item.name == tool);
        // A list that could not be fetched, or not to its end, says nothing of what it lacks.
        let is_whole = listed.stale.is_none() && listed.incomplete.is_none();
        if check && !is_rejected && is_whole {
            let tool = named::own_part(tool, server.server().as_str());
            return Err(unknown("tool", tool, &names)
                .with_hint(text!("nothing was sent; --no-check sends it all the same")));
        }
        return given.to_object(None);
    };
    let arguments = given.to_object(Some(&known.input_schema))?;
    let problems = match check {
        true => arguments::check(&arguments, &known.input_schema),
        false => Vec::new(),
    };
    if problems.is_empty() {
        return Ok(arguments);
    }
    Err(
        Failure::usage(text!("the arguments do not fit {}", signature(tool, known)))
            .with_hints(problems)
            .with_hint(text!(
                "nothing was sent; --no-check sends them all the same"
            )),
    )
}

/// How many notes of progress wait to be shown; of more the later ones are left out.
const PROGRESS_QUEUE: usize = 64;

/// How long messages that the server sent before its answer may come behind it: they take another
/// way through the client.
const LATE_NOTICES_TIMEOUT: Duration = Duration::from_millis(10);

/// Calls the tool, and shows what the server says meanwhile.
async fn with_activity(
    app: &App,
    server: ServerHandle,
    tool: &str,
    arguments: Object,
    timeout: Option<Duration>,
) -> Result<Reply<CallToolResult>, Failure> {
    let (sender, mut progress) = mpsc::channel(PROGRESS_QUEUE);
    let mut request = RequestOptions::new().with_progress(move |progress| {
        // It is called by the connection's reader, which must not wait.
        let _ = sender.try_send(progress);
    });
    if let Some(timeout) = timeout {
        request = request.with_timeout(timeout);
    }
    let mut notices = server.notices();
    let server = server.with_call_options(CallOptions::new().with_request(request));
    let mut activity = Activity::start(tool, app.global.verbose > 0);
    let mut call = pin!(server.call_tool(tool, arguments));
    let result = loop {
        tokio::select! {
            biased;
            Some(progress) = progress.recv() => activity.progress(&progress),
            Some(notice) = notices.next() => activity.notice(&notice),
            result = &mut call => break result,
        }
    };
    // What came before the answer, and was not shown yet.
    while let Ok(progress) = progress.try_recv() {
        activity.progress(&progress);
    }
    while let Ok(Some(notice)) = tokio::time::timeout(LATE_NOTICES_TIMEOUT, notices.next()).await {
        activity.notice(&notice);
    }
    result.map_err(Failure::call)
}

/// Prints an answer, and saves of it what is no text.
fn show(result: &Reply<CallToolResult>, form: Form, files: Option<Files>) -> Result<(), Failure> {
    if form == Form::Json && files.is_none() {
        return out::raw_answer(result.raw()).map(drop);
    }
    // As it came, for the typed content lacks blocks that are not known.
    let answer = content::value_of(result.raw());
    let blocks = match &answer["content"] {
        Value::Array(blocks) => &blocks[..],
        Value::Null => &[],
        // What should have been a list.
        one => std::slice::from_ref(one),
    };
    let structured = answer
        .get("structuredContent")
        .filter(|value| !value.is_null());
    match form {
        Form::Json => {
            content::save_all(blocks, files).and_then(|()| out::raw_answer(result.raw()).map(drop))
        }
        form => content::print(blocks, structured, form, files),
    }
}
