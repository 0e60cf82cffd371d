//! `mcpool login` and `mcpool logout`.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Read as _},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use mcpool::auth::{InteractiveLogin, LoginPrompt, SystemBrowser};
use serde_json::json;
use tokio::sync::mpsc;

use super::{
    Outcome,
    auth::{self, until},
};
use crate::{
    app::App,
    exit::{Exit, Failure},
    global::parse_duration,
    render::{
        out,
        problems::counted,
        text::{Text, Whole},
    },
    text,
};

/// How much of a pasted line is read at once; no redirect is longer.
const MAX_PASTED: u64 = 32 * 1024;

/// `mcpool login`
#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// The server
    pub(crate) server: String,
    /// Open no browser: for a shell on another machine. Open the URL anywhere, and paste the
    /// address that the browser ends at
    #[arg(long)]
    no_browser: bool,
    /// How long to wait for you to log in
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_duration)]
    timeout: Duration,
    #[cfg(feature = "nats")]
    #[command(flatten)]
    nats: crate::nats::NatsArgs,
}

/// `mcpool logout`
#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    /// The server
    pub(crate) server: String,
    #[cfg(feature = "nats")]
    #[command(flatten)]
    nats: crate::nats::NatsArgs,
}

/// Logs in, then connects, to see that the login is good.
pub(crate) async fn login(app: &App, args: LoginArgs) -> Outcome {
    #[cfg(feature = "nats")]
    args.nats.reach_tokens(app).await?;
    let specs = app.select(Some(&args.server)).await?;
    let spec = specs
        .first()
        .ok_or_else(|| Failure::internal(text!("no server was selected")))?;
    let status = app.oauth()?.login(spec, &agent(&args), None).await?;
    if !app.global.json {
        let issuer = status.issuer.as_deref().unwrap_or_default();
        let until = until(&status);
        out::print(&text!(
            "{}: logged in at {}, {}\n",
            spec.name,
            issuer,
            until
        ))?;
    }
    let login = auth::to_json(&spec.name, Ok(&status));
    if !spec.enabled {
        return report(
            app,
            json!({"login": login, "state": "disabled", "tools": null}),
        );
    }
    let manager = app.managed(specs.clone()).await?;
    manager.server(&args.server)?.connect_retrying(0).await?;
    let server = manager.server(&args.server)?.status()?;
    if !app.global.json {
        let text = text!(
            "{}: {}, {}\n",
            spec.name,
            server.state.as_str(),
            counted(server.tools, "tool")
        );
        return out::print(&text);
    }
    report(
        app,
        json!({
            "login": login,
            "state": server.state,
            "tools": server.tools,
        }),
    )
}

/// Forgets the tokens of a server.
pub(crate) async fn logout(app: &App, args: LogoutArgs) -> Outcome {
    #[cfg(feature = "nats")]
    args.nats.reach_tokens(app).await?;
    let server = args.server;
    let specs = app.select(Some(&server)).await?;
    let mut known = false;
    for spec in &specs {
        known |= app.oauth()?.logout(spec).await?;
    }
    if app.global.json {
        return report(app, json!({"server": server, "logged_out": known}));
    }
    let word = if known {
        "logged out"
    } else {
        "was not logged in"
    };
    out::print(&text!("{}: {}\n", server, word))
}

fn report(app: &App, document: serde_json::Value) -> Outcome {
    if app.global.json {
        out::document(&document)?;
    }
    Ok(Exit::Good)
}

fn agent(args: &LoginArgs) -> InteractiveLogin {
    let (server, opens) = (args.server.clone(), !args.no_browser);
    let (sender, pasted) = mpsc::channel(1);
    let reads = reads_pasted(args.no_browser);
    let agent = InteractiveLogin::new()
        .with_timeout(args.timeout)
        .with_prompt(move |prompt| {
            out::tell(&invitation(&server, prompt, opens, reads));
            if reads {
                read_pasted(sender.clone());
            }
        })
        .with_pasted(pasted);
    if args.no_browser {
        agent
    } else {
        agent.with_browser(Arc::new(SystemBrowser))
    }
}

/// Whether somebody can paste: at a terminal that is ours to read, or by a program that drives
/// this one. Standard input that is meant for somebody else is left alone.
fn reads_pasted(no_browser: bool) -> bool {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return no_browser;
    }
    #[cfg(unix)]
    {
        // A job in the background would be stopped.
        nix::unistd::tcgetpgrp(&stdin).is_ok_and(|group| group == nix::unistd::getpgrp())
    }
    #[cfg(not(unix))]
    {
        true
    }
}

/// What the person sees.
fn invitation(server: &str, prompt: &LoginPrompt, opens: bool, reads: bool) -> Text {
    let LoginPrompt {
        server: address,
        issuer,
        scopes,
        url,
        ..
    } = prompt;
    let mut text = text!("{} ({}) wants a login at {}\n", server, address, issuer);
    if !scopes.is_empty() {
        text.push(&text!("It asks for: {}\n", scopes.join(" ")));
    }
    text.push(&match opens {
        true => text!("Your browser opens this page; if it does not, open it by hand:\n"),
        false => text!("Open this page in a browser, on any machine:\n"),
    });
    text.push(&text!("\n  {}\n\n", Whole(url.as_ref())));
    text.push(&text!("Waiting for the browser to come back."));
    text.push(&match reads {
        true => text!(
            " If it ends at a page that it cannot load, copy\nthe address of that page and paste it here:\n"
        ),
        false => text!("\n"),
    });
    text
}

/// Reads the lines that the person pastes, on a thread of their own, which ends with the program.
fn read_pasted(sender: mpsc::Sender<String>) {
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        let mut line = String::new();
        loop {
            line.clear();
            match (&mut input).take(MAX_PASTED).read_line(&mut line) {
                Ok(1..) => {}
                _ => break,
            }
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            if !line.contains("state=") {
                out::tell(&text!(
                    "That is not the address of the page: it holds `state=`. Paste it whole:\n"
                ));
                continue;
            }
            if sender.blocking_send(line.to_owned()).is_err() {
                break;
            }
        }
    });
}
