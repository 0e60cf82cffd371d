//! Draws the screen.

use std::time::SystemTime;

use mcpool::{ServerStatus, StateKind};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Modifier, Style},
    text::Line,
    widgets::{Block, Borders, Paragraph},
};

use super::{
    Screen, View,
    details::{self, Details},
    rows,
};
use crate::{
    render::{
        chronicle::state_word,
        text::{Text, line},
    },
    text,
};

/// How many rows the events have at least, where there is room for both.
const MIN_EVENT_ROWS: u16 = 4;

/// The keys and what they do.
const KEYS: [(&str, &str); 10] = [
    ("↑ ↓, j k", "select a server; PageUp, PageDown, Home, End"),
    (
        "Enter",
        "its details: tools, stderr, how it was connected, events",
    ),
    ("r", "connect it now"),
    ("d, e", "disable it, enable it"),
    ("/", "show only servers whose name or state has this in it"),
    ("h", "show heartbeats among the events, or not"),
    ("Esc", "back; without anything to go back from, no filter"),
    ("?", "this page"),
    ("q", "back; from the servers: shut down and leave"),
    ("Ctrl-C", "shut down and leave"),
];

/// Draws it; gives the view as it is, which scrolls no further than to its end.
pub(super) fn draw(
    screen: &Screen,
    frame: &mut Frame<'_>,
    servers: &[ServerStatus],
    details: Option<&Details>,
    now: SystemTime,
) -> View {
    let [body, foot] =
        Layout::vertical([Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
    frame.render_widget(Paragraph::new(foot_line(screen)).style(dim()), foot);
    match screen.view {
        View::Servers => draw_servers(screen, frame, body, servers, now),
        View::Help => draw_help(frame, body),
        View::Details { scroll } => {
            let scroll = draw_details(screen, frame, body, servers, details, scroll, now);
            return View::Details { scroll };
        }
    }
    screen.view
}

fn draw_servers(
    screen: &Screen,
    frame: &mut Frame<'_>,
    area: Rect,
    servers: &[ServerStatus],
    now: SystemTime,
) {
    let shown = screen.shown(servers);
    let wanted = u16::try_from(shown.len().max(1)).unwrap_or(u16::MAX);
    // Title and heads stand above the rows.
    let room = area.height.saturating_sub(2 + MIN_EVENT_ROWS).max(1);
    let rows_height = wanted.min(room);
    let [top, below] = Layout::vertical([
        Constraint::Length(rows_height.saturating_add(2)),
        Constraint::Min(0),
    ])
    .areas(area);

    let selected = screen.selected_row(&shown);
    let height = usize::from(rows_height);
    let first = (selected + 1).saturating_sub(height);
    let columns = rows::Columns::of(&shown, usize::from(area.width));
    let mut lines = vec![rows::heads(columns)];
    for (at, server) in shown.iter().enumerate().skip(first).take(height) {
        let history = screen.chronicle.of(&server.name);
        lines.push(rows::row(server, history, columns, at == selected, now));
    }
    if shown.is_empty() {
        lines.push(Line::raw(match servers.is_empty() {
            true => "  no servers",
            false => "  no server fits the filter",
        }));
    }
    let ready = servers
        .iter()
        .filter(|s| s.state == StateKind::Ready)
        .count();
    let mut title = text!("mcpool: {} of {} ready", ready, servers.len());
    if shown.len() > height {
        let last = first + height;
        title.push(&text!(
            ", {} to {} of {} shown",
            first + 1,
            last,
            shown.len()
        ));
    }
    let block = Block::default()
        .borders(Borders::TOP)
        .title(title.as_str().to_owned());
    frame.render_widget(Paragraph::new(lines).block(block), top);

    // The newest that fit, each on as many lines as it takes.
    let mut room = usize::from(below.height.saturating_sub(1));
    let mut newest: Vec<Vec<Line<'_>>> = Vec::new();
    for event in screen.shown_events().rev() {
        let lines = broken(&event.line, "", below.width);
        let Some(left) = room.checked_sub(lines.len()) else {
            break;
        };
        room = left;
        newest.push(lines);
    }
    let newest: Vec<Line<'_>> = newest.into_iter().rev().flatten().collect();
    let events = Block::default().borders(Borders::TOP).title("events");
    frame.render_widget(Paragraph::new(newest).block(events), below);
}

fn draw_details(
    screen: &Screen,
    frame: &mut Frame<'_>,
    area: Rect,
    servers: &[ServerStatus],
    details: Option<&Details>,
    scroll: usize,
    now: SystemTime,
) -> usize {
    let selected = screen.selected.as_ref();
    let server = servers.iter().find(|server| Some(&server.name) == selected);
    let mut lines = Vec::new();
    let mut title = text!("this server is gone");
    if let Some(server) = server {
        title = text!("{}: {}", server.name, state_word(server));
        let none = Details::default();
        let events = screen
            .shown_events()
            .filter(|event| event.server.as_ref() == selected)
            .map(|event| &event.line);
        let sections = details::lines(server, details.unwrap_or(&none), events, now);
        for (head, below) in &sections {
            if below.is_empty() {
                continue;
            }
            if !head.is_empty() {
                lines.push(Line::raw(""));
                lines.push(Line::styled(
                    *head,
                    Style::new().add_modifier(Modifier::BOLD),
                ));
            }
            lines.extend(below.iter().flat_map(|text| broken(text, "  ", area.width)));
        }
    }
    let block = Block::default()
        .borders(Borders::TOP)
        .title(title.as_str().to_owned());
    // The last page at most.
    let most = lines
        .len()
        .saturating_sub(usize::from(area.height.saturating_sub(1)));
    let scroll = scroll.min(most);
    let page: Vec<Line<'_>> = lines.split_off(scroll);
    frame.render_widget(Paragraph::new(page).block(block), area);
    scroll
}

/// A text in lines of the width of the screen.
fn broken(text: &Text, indent: &'static str, width: u16) -> Vec<Line<'static>> {
    let wrapped = text.wrapped(indent, "    ", usize::from(width));
    let lines = wrapped.as_str().lines();
    lines.map(|line| Line::raw(line.to_owned())).collect()
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let lines: Vec<Line<'_>> = KEYS
        .iter()
        .map(|(key, does)| Line::raw(format!("  {key:10} {does}")))
        .collect();
    let block = Block::default().borders(Borders::TOP).title("keys");
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn foot_line(screen: &Screen) -> Line<'static> {
    let filter = line(&screen.filter);
    Line::raw(match screen.view {
        View::Servers if screen.is_typing => {
            format!("filter: {filter}▏ (Enter keeps it, Esc drops it)")
        }
        View::Servers if !screen.filter.is_empty() => {
            format!("filter: {filter}  Esc no filter  ? keys  q quit")
        }
        View::Servers => {
            "↑↓ select  Enter details  r retry  d/e disable/enable  / filter  ? keys  q quit"
                .to_owned()
        }
        View::Details { .. } => {
            "↑↓ scroll  r retry  d/e disable/enable  h heartbeats  Esc back".to_owned()
        }
        View::Help => "Esc back".to_owned(),
    })
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}
