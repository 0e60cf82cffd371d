//! `mcpool resources [SERVER] [--read URI]`: lists resources and templates; reads one.

use std::path::PathBuf;

use mcpool::{ConnectionManager, Error, ServerName, Verbs as _};
use serde_json::{Value, json};

use super::{
    Outcome,
    left_out::{self, LeftOut},
    lists::{Lists, gather},
};
use crate::{
    app::App,
    exit::{Exit, Failure},
    render::{
        content::{self, Files, Form},
        out, table,
    },
    text,
};

/// One line of the list.
struct Entry {
    server: ServerName,
    /// A resource's URI, or a template's pattern.
    uri: String,
    name: String,
    mime_type: Option<String>,
    description: Option<String>,
    template: bool,
}

/// Runs it.
pub(crate) async fn run(
    app: &App,
    server: Option<&str>,
    read: Option<&str>,
    form: Form,
    save: Option<PathBuf>,
) -> Outcome {
    match (server, read) {
        (Some(server), Some(uri)) => return read_one(app, server, uri, form, save).await,
        (None, Some(_)) => return Err(Failure::usage(text!("--read needs a SERVER"))),
        (_, None) => {}
    }
    let manager = app.configured(server).await?;
    let attempts = app.connect_all(manager).await;
    let Lists {
        entries,
        left_out,
        failed,
    } = gather(&attempts, |server| list(manager, server)).await;
    if app.global.json {
        let resources: Vec<Value> = entries.iter().map(entry_json).collect();
        let left_out = left_out::with_missing("resources/list", &left_out, &attempts, &failed);
        out::answer(&json!({ "resources": resources, "left_out": left_out }))?;
    } else {
        let mut table = table::Table::of_answers(&["SERVER", "URI", "NAME", "TYPE", "DESCRIPTION"]);
        for entry in &entries {
            table.row([
                entry.server.as_str(),
                &entry.uri,
                &entry.name,
                entry.mime_type.as_deref().unwrap_or("-"),
                table::summary(entry.description.as_deref().unwrap_or("")),
            ]);
        }
        out::print(&table.to_text_or(text!("no resources\n")))?;
    }
    left_out::tell(&left_out);
    let exit = app.report_attempts(&attempts);
    super::report_lists(app, exit, &failed)
}

/// The resources and templates of one server; none where it does not offer them.
async fn list(
    manager: &ConnectionManager,
    server: &ServerName,
) -> Result<(Vec<Entry>, Vec<LeftOut>), Error> {
    let client = manager.server(server.as_str())?.client()?;
    if !super::offers(&*client, "resources") {
        return Ok((Vec::new(), Vec::new()));
    }
    let resources = client.list_resources().await?;
    // Templates are optional: a server that has resources may refuse to list them.
    let templates = client.list_resource_templates().await.unwrap_or_default();
    let left_out = left_out::of_list(server.as_str(), "resources/list", &resources)
        .chain(left_out::of_list(
            server.as_str(),
            "resources/templates/list",
            &templates,
        ))
        .collect();
    let resources = resources.values().map(|resource| Entry {
        server: server.clone(),
        uri: resource.uri.clone(),
        name: resource.name.clone(),
        mime_type: resource.mime_type.clone(),
        description: resource.description.clone(),
        template: false,
    });
    let templates = templates.values().map(|template| Entry {
        server: server.clone(),
        uri: template.uri_template.clone(),
        name: template.name.clone(),
        mime_type: template.mime_type.clone(),
        description: template.description.clone(),
        template: true,
    });
    Ok((resources.chain(templates).collect(), left_out))
}

fn entry_json(entry: &Entry) -> Value {
    json!({
        "server": entry.server.as_str(),
        "uri": entry.uri,
        "template": entry.template,
        "name": entry.name,
        "mime_type": entry.mime_type,
        "description": entry.description,
    })
}

async fn read_one(
    app: &App,
    server: &str,
    uri: &str,
    form: Form,
    save: Option<PathBuf>,
) -> Outcome {
    let manager = app.connected(server).await?;
    let result = manager.server(server)?.read_resource(uri).await?;
    let is_json = app.global.json || form == Form::Json;
    if is_json && save.is_none() {
        return out::raw_answer(result.raw());
    }
    let answer = content::value_of(result.raw());
    let contents = answer["contents"].as_array().map_or(&[][..], Vec::as_slice);
    let name = uri.rsplit('/').next().unwrap_or(uri);
    let files = save.map(|dir| Files::new(dir, name)).transpose()?;
    if is_json {
        content::save_all(contents, files)?;
        return out::raw_answer(result.raw());
    }
    content::print(contents, None, form, files)?;
    Ok(Exit::Good)
}
