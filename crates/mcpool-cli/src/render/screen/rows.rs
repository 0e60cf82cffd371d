//! One line for each server.

use std::time::{Duration, SystemTime};

use mcpool::{ServerStatus, StateKind, StderrLine};
use ratatui::{
    style::{Color, Modifier, Style},
    text::{Line, Span},
};

use crate::{
    render::{
        chronicle::{History, state_word},
        table::{milliseconds, span},
        text::{Text, line},
    },
    text,
};

/// The eight heights of a sparkline.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// How many latencies one line shows.
const SPARKS: usize = 10;

/// The widest name that is shown whole.
const MAX_NAME_COLUMNS: usize = 20;

fn name(server: &ServerStatus) -> String {
    line(server.name.as_str())
        .clip(MAX_NAME_COLUMNS)
        .to_string()
}

/// How wide the columns are that depend on what is shown, and the whole line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Columns {
    name: usize,
    state: usize,
    line: usize,
}

impl Columns {
    /// Those of these servers, on a screen of this width.
    pub(super) fn of(servers: &[&ServerStatus], line: usize) -> Self {
        let names = servers.iter().map(|server| name(server).chars().count());
        let states = servers.iter().map(|server| state_word(server).len());
        Self {
            name: names.max().unwrap_or_default().clamp(6, MAX_NAME_COLUMNS),
            state: states.max().unwrap_or_default().max(5),
            line,
        }
    }

    /// What is left of the line behind the name and the state.
    fn rest(self) -> usize {
        self.line.saturating_sub(self.name + self.state + 6)
    }
}

/// The heads of the columns.
pub(super) fn heads(columns: Columns) -> Line<'static> {
    let (name, state) = (columns.name, columns.state);
    let heads = format!(
        "  {:name$}  {:state$}  {:>9}  {:>5}  {:>7}  LAST HEARTBEATS",
        "SERVER", "STATE", "UP", "TOOLS", "LATENCY"
    );
    Line::styled(heads, Style::new().add_modifier(Modifier::BOLD))
}

/// The line of a server: its figures while it is ready, otherwise why it is not and when it is
/// tried again.
pub(super) fn row(
    server: &ServerStatus,
    history: Option<&History>,
    columns: Columns,
    is_selected: bool,
    now: SystemTime,
) -> Line<'static> {
    let mark = if is_selected { "> " } else { "  " };
    let mut name_style = Style::new();
    if is_selected {
        name_style = name_style.add_modifier(Modifier::REVERSED);
    }
    let mut spans = vec![
        Span::raw(mark),
        Span::styled(
            format!("{:width$}", name(server), width = columns.name),
            name_style,
        ),
        Span::raw("  "),
        Span::styled(
            format!("{:width$}", state_word(server), width = columns.state),
            colour(server),
        ),
        Span::raw("  "),
    ];
    if server.state == StateKind::Ready {
        let figures = figures(server, history, now);
        let left = columns
            .rest()
            .saturating_sub(figures.as_str().chars().count());
        spans.push(Span::raw(figures.as_str().to_owned()));
        if let Some(troubles) = troubles(history, now) {
            let style = Style::new().add_modifier(Modifier::DIM);
            spans.push(Span::styled(
                troubles.clipped(left).as_str().to_owned(),
                style,
            ));
        }
    } else {
        let trouble = trouble(server, history, now).clipped(columns.rest());
        spans.push(Span::raw(trouble.as_str().to_owned()));
    }
    Line::from(spans)
}

fn figures(server: &ServerStatus, history: Option<&History>, now: SystemTime) -> Text {
    let up = server.connected_at.map(|at| span(age(at, now)));
    let latency = server.heartbeat_latency.map(milliseconds);
    let sparks: Vec<Duration> = history
        .map(|history| &history.latencies)
        .into_iter()
        .flat_map(|latencies| latencies.iter().rev().take(SPARKS).rev())
        .copied()
        .collect();
    text!(
        "{:>9}  {:>5}  {:>7}  {:<10}",
        up.unwrap_or_else(|| "-".to_owned()),
        server.tools,
        latency.unwrap_or_else(|| "-".to_owned()),
        sparkline(&sparks)
    )
}

/// What was wrong before it was ready again.
fn troubles(history: Option<&History>, now: SystemTime) -> Option<Text> {
    let history = history?;
    let (at, why) = history.last_error.as_ref()?;
    let ago = span(age(*at, now));
    Some(match history.lost {
        0 => text!("  {} ago: {}", ago, why),
        1 => text!("  lost once, {} ago: {}", ago, why),
        lost => text!("  lost {} times, {} ago: {}", lost, ago, why),
    })
}

/// When it is tried again, and why it is not ready: first what its stderr says of it.
fn trouble(server: &ServerStatus, history: Option<&History>, now: SystemTime) -> Text {
    let again = match server.next_retry_at {
        Some(at) => text!("in {}", span(at.duration_since(now).unwrap_or_default())),
        None => Text::default(),
    };
    let known = history.and_then(|history| history.last_error.as_ref());
    let why = match (&server.last_error, known) {
        (Some(error), _) => match StderrLine::telling(error.stderr_tail()) {
            Some(line) => text!("{} ({})", line, error.message()),
            None => text!("{}", error.message()),
        },
        (None, Some((_, why))) if server.enabled => why.clone(),
        _ => Text::default(),
    };
    text!("{:>9}  {}", again, why)
}

fn age(at: SystemTime, now: SystemTime) -> Duration {
    now.duration_since(at).unwrap_or_default()
}

fn colour(server: &ServerStatus) -> Style {
    Style::new().fg(match server.state {
        StateKind::Ready => Color::Green,
        StateKind::Connecting | StateKind::Backoff | StateKind::AuthRequired => Color::Yellow,
        StateKind::Dormant => Color::Red,
        _ => Color::Reset,
    })
}

/// The latencies as bars, the slowest as the highest.
pub(super) fn sparkline(latencies: &[Duration]) -> String {
    let slowest = latencies.iter().max().copied().unwrap_or_default();
    latencies
        .iter()
        .map(|latency| {
            let height = latency.as_nanos() * 7 / slowest.as_nanos().max(1);
            let height = usize::try_from(height).unwrap_or(7);
            BARS.get(height).copied().unwrap_or('█')
        })
        .collect()
}
