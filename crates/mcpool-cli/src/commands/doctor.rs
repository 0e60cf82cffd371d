//! `mcpool doctor [SERVER]`: how a server is connected, step by step, what is wrong and what to
//! try.

mod finding;
mod other_ways;

use futures::future::join_all;
use mcpool::Error;
use serde_json::{Value, json};

use super::Outcome;
use crate::{
    app::App,
    exit::Exit,
    invocation::program,
    render::{out, text::Text},
    text,
};

use finding::Finding;

/// Runs it.
pub(crate) async fn run(app: &App, server: Option<&str>) -> Outcome {
    let manager = app.configured(server).await?;
    let attempts = app.connect_all(manager).await;
    let find = |attempt| Finding::of(app, manager, attempt);
    let findings = join_all(attempts.iter().map(find)).await;
    let disabled: Vec<Text> = manager
        .status_all()
        .iter()
        .filter(|status| !status.enabled)
        .map(|status| text!("{}", status.name))
        .collect();
    if app.global.json {
        let servers: Vec<Value> = findings.iter().map(Finding::to_json).collect();
        out::document(&json!({ "servers": servers }))?;
    } else {
        let columns = out::columns();
        let mut texts: Vec<Text> = findings.iter().map(|f| f.to_text(columns)).collect();
        texts.extend(disabled.iter().map(|name| {
            text!(
                "{}\n  disabled; enable with `{} config enable {}`\n",
                name,
                program(),
                name
            )
        }));
        out::paged(&Text::join(texts, "\n"))?;
    }
    let errors = findings.iter().filter_map(|f| f.error.as_ref());
    Ok(app.overall(Exit::of_all(errors.map(Error::kind))))
}
