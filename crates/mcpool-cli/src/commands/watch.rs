//! `mcpool watch`: keeps every server of the config alive and shows how they are.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use mcpool::{
    ConnectionManager, Error, ErrorKind, EventItem, EventStream, ServerSpec, StartMode,
    config::{Admission, Loaded, Reload, TrustStore, Watcher},
};
use ratatui::crossterm::event::{self, KeyCode, KeyEventKind, KeyModifiers};
use serde_json::Value;
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;

use super::Outcome;
use crate::{
    app::App,
    args::{Global, WatchArgs},
    exit::{Exit, Failure},
    render::{json, out, text::Text, tui::Screen},
    text,
};

/// How often the table is drawn when nothing happens: the seconds to the next retry run.
const REDRAW: Duration = Duration::from_millis(250);

/// Runs it until a key or a signal ends it.
pub(crate) async fn run(app: &App, args: WatchArgs) -> Outcome {
    let (mut specs, watcher) = app.load_watched().await?;
    if let Some(name) = &args.server
        && !specs.iter().any(|spec| spec.name.as_str() == name)
    {
        return Err(app.unknown_server(name, &specs));
    }
    adjust(&mut specs, &args);
    // Before the start, so that no event is missed.
    let events = app.manager().events();
    let manager = app.managed(specs).await?;
    let _reloading = watcher.map(|watcher| {
        let reload = reload(manager.clone(), watcher, app.global.clone(), args);
        AbortOnDropHandle::new(tokio::spawn(reload))
    });
    if app.global.json {
        return lines(events, out::json_line).await;
    }
    if !out::is_terminal() {
        return lines(events, |event| out::print_line(&line(&event))).await;
    }
    table(manager, events).await
}

fn adjust(specs: &mut Vec<ServerSpec>, args: &WatchArgs) {
    if let Some(only) = &args.server {
        specs.retain(|spec| spec.name.as_str() == only);
    }
    for spec in specs {
        if spec.start == StartMode::Eager {
            // Connect behind the table, so that one sees it happen.
            spec.start = StartMode::Background;
        }
        if let Some(every) = args.every {
            spec.policy.health.interval = every;
        }
    }
}

/// Applies every good change of the config, and tells of every other.
async fn reload(manager: ConnectionManager, mut watcher: Watcher, global: Global, args: WatchArgs) {
    while let Some(reload) = watcher.next().await {
        let result = match &reload {
            Reload::Applied(loaded) => match admitted(loaded).await {
                Ok(loaded) => {
                    let mut specs = loaded.servers.clone();
                    adjust(&mut specs, &args);
                    global.set_connect_timeout(&mut specs);
                    manager.apply(specs).await.map(drop)
                }
                Err(error) => Err(error),
            },
            rejected => Err(rejected
                .rejection()
                .unwrap_or_else(|| Error::new(ErrorKind::InvalidSpec, "the config was rejected"))),
        };
        if let Err(error) = result {
            manager.config_rejected(&error);
        }
    }
}

/// Nobody can be asked in the middle: what a project's file wants anew is refused.
async fn admitted(loaded: &Arc<Loaded>) -> Result<Loaded, Error> {
    let loaded = Arc::clone(loaded);
    let admit = move || TrustStore::of_user()?.admit(&loaded);
    let admission = tokio::task::spawn_blocking(admit).await.map_err(|error| {
        Error::new(ErrorKind::Internal, "the config was given up").with_source(error)
    })?;
    match admission? {
        Admission::Granted(loaded) => Ok(*loaded),
        Admission::Asked(requests) => Err(TrustStore::refusal(&requests)),
        _ => Err(TrustStore::refusal(&[])),
    }
}

/// One line for each event, until the manager is shut down.
async fn lines(mut events: EventStream, show: impl Fn(Value) -> Result<bool, Failure>) -> Outcome {
    while let Some(item) = events.recv().await {
        let is_read = match &item {
            EventItem::Missed(count) => show(json::missed(*count))?,
            EventItem::Event(event) => show(json::event(event))?,
            _ => true,
        };
        if !is_read {
            break;
        }
    }
    Ok(Exit::Good)
}

/// An event for people: time, server, what happened, in `key=value`.
fn line(event: &Value) -> Text {
    let mut words = Vec::new();
    for (key, value) in event.as_object().into_iter().flatten() {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Object(error) => error["message"].as_str().unwrap_or_default().to_owned(),
            Value::Null => continue,
            other => other.to_string(),
        };
        words.push(match key.as_str() {
            "at" => text!("{}", text.get(11..23).unwrap_or(&text)),
            "server" | "event" => text!("{}", text),
            _ => text!("{}={}", key, text),
        });
    }
    Text::join(words, " ")
}

/// Gives the terminal back, also when the future is dropped.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

async fn table(manager: &ConnectionManager, mut events: EventStream) -> Outcome {
    let own = |error: std::io::Error| Failure::internal(text!("the terminal: {}", error));
    let mut terminal = ratatui::try_init().map_err(own)?;
    let _restore = Restore;
    let mut keys = keys();
    let mut screen = Screen::default();
    let mut tick = tokio::time::interval(REDRAW);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let servers = manager.status_all();
        terminal
            .draw(|frame| screen.draw(frame, &servers, SystemTime::now()))
            .map_err(own)?;
        tokio::select! {
            _ = tick.tick() => {}
            key = keys.recv() => match key {
                Some(Key::Quit) | None => return Ok(Exit::Good),
                Some(Key::Interrupt) => return Ok(Exit::Signal(2)),
                Some(Key::Redraw) => {}
            },
            item = events.recv() => match item {
                None => return Ok(Exit::Good),
                Some(EventItem::Event(event)) => {
                    screen.note(&event, line(&json::event(&event)));
                }
                Some(_) => {}
            },
        }
    }
}

/// What a key, or another event of the terminal, asks for.
enum Key {
    Quit,
    Interrupt,
    Redraw,
}

/// The keys, read on a thread of their own, which ends with the program.
fn keys() -> mpsc::Receiver<Key> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            let key = match event {
                event::Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
                    KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                        Key::Interrupt
                    }
                    KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
                    _ => continue,
                },
                event::Event::Resize(..) => Key::Redraw,
                _ => continue,
            };
            if sender.blocking_send(key).is_err() {
                break;
            }
        }
    });
    receiver
}
