//! `mcpool prompts [SERVER] [--get NAME KEY=VALUE …]`: lists prompts; gets one.

use futures::future::join_all;
use mcpool::{ConnectionManager, Error, ServerName, Verbs as _, model::Prompt};
use serde_json::{Value, json};

use super::{
    Outcome,
    left_out::{self, LeftOut},
};
use crate::{
    app::App,
    arguments::{Given, Object},
    exit::{Exit, Failure},
    render::{content, out, table},
    text,
};

/// Runs it.
pub(crate) async fn run(
    app: &App,
    server: Option<&str>,
    get: Option<&str>,
    pairs: &[String],
) -> Outcome {
    match (server, get) {
        (Some(server), Some(name)) => return get_one(app, server, name, pairs).await,
        (None, Some(_)) => return Err(Failure::usage(text!("--get needs a SERVER"))),
        _ if !pairs.is_empty() => {
            return Err(Failure::usage(text!(
                "arguments go with a prompt: add --get NAME"
            )));
        }
        _ => {}
    }
    let manager = app.configured(server).await?;
    let attempts = app.connect_all(manager).await;
    let connected = attempts.iter().filter(|a| a.result.is_ok());
    let lists = join_all(connected.map(|a| list(manager, &a.server))).await;
    let mut failed = Vec::new();
    let mut prompts = Vec::new();
    let mut left_out = Vec::new();
    for outcome in lists {
        match outcome {
            Ok((list, left)) => {
                prompts.extend(list);
                left_out.extend(left);
            }
            Err(error) => failed.push(error),
        }
    }
    if app.global.json {
        let prompts: Vec<Value> = prompts.iter().map(prompt_json).collect();
        out::answer(&json!({ "prompts": prompts, "left_out": left_out::to_json(&left_out) }))?;
    } else {
        let mut table = table::Table::of_answers(&["SERVER", "PROMPT", "ARGUMENTS", "DESCRIPTION"]);
        for (server, prompt) in &prompts {
            table.row([
                server.as_str(),
                &prompt.name,
                &argument_names(prompt),
                table::summary(prompt.description.as_deref().unwrap_or("")),
            ]);
        }
        out::print(&table.to_text_or(text!("no prompts\n")))?;
    }
    left_out::tell(&left_out);
    let exit = app.report_attempts(&attempts);
    super::report_lists(app, exit, &failed)
}

async fn list(
    manager: &ConnectionManager,
    server: &ServerName,
) -> Result<(Vec<(ServerName, Prompt)>, Vec<LeftOut>), Error> {
    let client = manager.server(server.as_str())?.client()?;
    if !super::offers(&*client, "prompts") {
        return Ok((Vec::new(), Vec::new()));
    }
    let prompts = client.list_prompts().await?;
    let left_out = left_out::of_list(server.as_str(), "prompts/list", &prompts).collect();
    let prompts = prompts
        .values()
        .map(|prompt| (server.clone(), prompt.clone()))
        .collect();
    Ok((prompts, left_out))
}

fn prompt_json((server, prompt): &(ServerName, Prompt)) -> Value {
    json!({
        "server": server.as_str(),
        "name": prompt.name,
        "description": prompt.description,
        "arguments": prompt.arguments,
    })
}

/// `name, other?`: a question mark where it may be left out.
fn argument_names(prompt: &Prompt) -> String {
    let names: Vec<String> = prompt
        .arguments
        .iter()
        .flatten()
        .map(|argument| match argument.required {
            Some(true) => argument.name.clone(),
            _ => format!("{}?", argument.name),
        })
        .collect();
    names.join(", ")
}

async fn get_one(app: &App, server: &str, name: &str, pairs: &[String]) -> Outcome {
    // Arguments of prompts are strings (MCP, "Prompts"): nothing is read as JSON.
    let schema: Object = pairs
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, _)| (key.to_owned(), json!({"type": "string"})))
        .collect();
    let schema: Object = std::iter::once(("properties".to_owned(), schema.into())).collect();
    let given = Given::read(pairs.to_vec(), None).await?;
    let arguments = given.to_object(Some(&schema))?;
    let manager = app.connected(server).await?;
    let result = manager.server(server)?.get_prompt(name, arguments).await?;
    if app.global.json {
        return out::raw_answer(result.raw());
    }
    let messages = serde_json::to_value(&result.messages).unwrap_or_default();
    for message in messages.as_array().into_iter().flatten() {
        let role = message["role"].as_str().unwrap_or_default();
        let content = content::block_text(&message["content"]);
        out::print(&text!("{}: {}\n", role, content))?;
    }
    Ok(Exit::Good)
}
