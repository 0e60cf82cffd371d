//! `mcpool prompts [SERVER] [--get NAME KEY=VALUE …]`: lists prompts; gets one.

use mcpool::{Client, ConnectionManager, Error, Listing, ServerName, Verbs as _, model::Prompt};
use serde_json::{Value, json};

use super::{
    Outcome,
    left_out::{self, LeftOut},
    lists::{Lists, gather},
};
use crate::{
    app::App,
    args::PromptsArgs,
    arguments::{self, Given, Object},
    exit::{Exit, Failure, unknown},
    render::{
        content::{self, Form},
        out, table,
    },
    text,
};

/// Runs it.
pub(crate) async fn run(app: &App, args: PromptsArgs) -> Outcome {
    let server = args.server.as_deref();
    match (server, &args.get) {
        (Some(server), Some(name)) => return get_one(app, server, name, &args).await,
        (None, Some(_)) => return Err(Failure::usage(text!("--get needs a SERVER"))),
        _ if !args.pairs.is_empty() => {
            return Err(Failure::usage(text!(
                "arguments go with a prompt: add --get NAME"
            )));
        }
        _ => {}
    }
    let manager = app.configured(server).await?;
    let attempts = app.connect_all(manager).await;
    let Lists {
        entries: prompts,
        left_out,
        failed,
    } = gather(&attempts, |server| list(manager, server)).await;
    if app.global.json {
        let prompts: Vec<Value> = prompts.iter().map(prompt_json).collect();
        let left_out = left_out::with_missing("prompts/list", &left_out, &attempts, &failed);
        out::answer(&json!({ "prompts": prompts, "left_out": left_out }))?;
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

async fn get_one(app: &App, server: &str, name: &str, args: &PromptsArgs) -> Outcome {
    let given = Given::read(args.pairs.clone(), None).await?;
    let manager = app.connected(server).await?;
    let client = manager.server(server)?.client()?;
    let arguments = match args.no_check {
        true => given.to_object(Some(&schema_of(&args.pairs)))?,
        false => fitting(&*client, name, &given, &args.pairs).await?,
    };
    let result = manager.server(server)?.get_prompt(name, arguments).await?;
    if app.global.json || args.output == Form::Json {
        return out::raw_answer(result.raw());
    }
    let answer = content::value_of(result.raw());
    let messages = answer["messages"].as_array();
    let messages = messages.into_iter().flatten();
    if args.output == Form::Raw {
        let blocks: Vec<Value> = messages.map(|message| message["content"].clone()).collect();
        content::print(&blocks, None, Form::Raw, None)?;
        return Ok(Exit::Good);
    }
    for message in messages {
        let role = message["role"].as_str().unwrap_or_default();
        let content = content::block(&message["content"], args.output);
        out::print(&match args.output {
            Form::Markdown => text!("**{}:**\n\n{}\n\n", role, content),
            _ => text!("{}: {}\n", role, content),
        })?;
    }
    Ok(Exit::Good)
}

/// The arguments, when they are those that the server lists for this prompt. A server that does not
/// list its prompts gets them as they are.
async fn fitting(
    client: &dyn Client,
    name: &str,
    given: &Given,
    pairs: &[String],
) -> Result<Object, Failure> {
    let listed = match super::offers(client, "prompts") {
        true => client.list_prompts().await.unwrap_or_default(),
        false => Listing::default(),
    };
    let Some(prompt) = listed.values().find(|prompt| prompt.name == name) else {
        let names: Vec<&str> = listed.values().map(|prompt| &*prompt.name).collect();
        // A list that could not be fetched, or not to its end, says nothing of what it lacks.
        let is_whole = listed.incomplete.is_none() && listed.rejected.is_empty();
        if is_whole && !names.is_empty() {
            return Err(unknown("prompt", name, &names)
                .with_hint(text!("nothing was sent; --no-check sends it all the same")));
        }
        return given.to_object(Some(&schema_of(pairs)));
    };
    let known = prompt.arguments.as_deref().unwrap_or_default();
    let required = known.iter().filter(|known| known.required == Some(true));
    let required: Vec<&str> = required.map(|known| &*known.name).collect();
    let mut schema = of_strings(known.iter().map(|known| &*known.name));
    schema.insert("required".to_owned(), json!(required));
    let arguments = given.to_object(Some(&schema))?;
    let problems = arguments::check(&arguments, &schema);
    if problems.is_empty() {
        return Ok(arguments);
    }
    let signature = text!("{}({})", name, argument_names(prompt));
    Err(
        Failure::usage(text!("the arguments do not fit {}", signature))
            .with_hints(problems)
            .with_hint(text!(
                "nothing was sent; --no-check sends them all the same"
            )),
    )
}

/// The schema of these pairs, whatever the prompt wants.
fn schema_of(pairs: &[String]) -> Object {
    let keys = pairs.iter().filter_map(|pair| pair.split_once('='));
    of_strings(keys.map(|(key, _)| key))
}

/// Arguments of prompts are strings (MCP, "Prompts"): nothing is read as JSON.
fn of_strings<'a>(names: impl Iterator<Item = &'a str>) -> Object {
    let string = |name: &str| (name.to_owned(), json!({"type": "string"}));
    let properties: Object = names.map(string).collect();
    std::iter::once(("properties".to_owned(), properties.into())).collect()
}
