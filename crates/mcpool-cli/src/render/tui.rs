//! The live table of `mcpool watch`: what is drawn, as a function of what is known.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, SystemTime},
};

use mcpool::{CoarseState, Event, EventKind, ServerName, ServerStatus, StateKind, TransportKind};
use ratatui::{
    Frame,
    layout::{Constraint, Layout},
    style::{Color, Modifier, Style},
    text::Line,
    widgets::{Block, Borders, Cell, Paragraph, Row, Table},
};

use super::{
    table::milliseconds,
    text::{Text, line},
};

/// How many latencies the sparkline shows.
const SPARKS: usize = 20;

/// How many events are kept for the list below the table.
const EVENTS: usize = 200;

/// The eight heights of a sparkline.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What the screen remembers beside the states themselves.
#[derive(Default)]
pub(crate) struct Screen {
    latencies: HashMap<ServerName, VecDeque<Duration>>,
    events: VecDeque<Text>,
}

impl Screen {
    /// Takes note of an event.
    pub(crate) fn note(&mut self, event: &Event, line: Text) {
        if let (EventKind::HeartbeatOk { latency }, Some(server)) = (&event.kind, &event.server) {
            let latencies = self.latencies.entry(server.clone()).or_default();
            latencies.push_back(*latency);
            if latencies.len() > SPARKS {
                latencies.pop_front();
            }
        }
        self.events.push_back(line);
        if self.events.len() > EVENTS {
            self.events.pop_front();
        }
    }

    /// Draws everything.
    pub(crate) fn draw(&self, frame: &mut Frame<'_>, servers: &[ServerStatus], now: SystemTime) {
        let height = u16::try_from(servers.len()).unwrap_or(u16::MAX);
        let [top, below, foot] = Layout::vertical([
            Constraint::Length(height.saturating_add(3)),
            Constraint::Min(0),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(self.table(servers, now), top);

        let room = usize::from(below.height.saturating_sub(1));
        let skip = self.events.len().saturating_sub(room);
        let lines: Vec<Line<'_>> = self
            .events
            .iter()
            .skip(skip)
            .map(|line| Line::raw(line.as_str()))
            .collect();
        let events = Block::default().borders(Borders::TOP).title("events");
        frame.render_widget(Paragraph::new(lines).block(events), below);
        frame.render_widget(
            Paragraph::new("q or Ctrl-C: shut down and leave").style(dim()),
            foot,
        );
    }

    fn table(&self, servers: &[ServerStatus], now: SystemTime) -> Table<'static> {
        let ready = servers
            .iter()
            .filter(|s| s.state == StateKind::Ready)
            .count();
        let title = format!("mcpool: {ready} of {} ready", servers.len());
        let rows = servers.iter().map(|server| self.row(server, now));
        let widths = [
            Constraint::Min(12),
            Constraint::Length(13),
            Constraint::Length(6),
            Constraint::Length(5),
            Constraint::Length(8),
            Constraint::Length(20),
            Constraint::Length(9),
            Constraint::Fill(3),
        ];
        let heads = [
            "SERVER",
            "STATE",
            "VIA",
            "TOOLS",
            "LATENCY",
            "",
            "RETRY IN",
            "LAST ERROR",
        ];
        Table::new(rows, widths)
            .header(Row::new(heads).style(Style::new().add_modifier(Modifier::BOLD)))
            .block(Block::default().borders(Borders::TOP).title(title))
    }

    fn row(&self, server: &ServerStatus, now: SystemTime) -> Row<'static> {
        let sparks: Vec<Duration> = self
            .latencies
            .get(&server.name)
            .into_iter()
            .flatten()
            .copied()
            .collect();
        let latency = server.heartbeat_latency.map(milliseconds);
        let error = server
            .last_error
            .as_ref()
            .map(|error| line(&error.with_causes()).to_string());
        Row::new([
            Cell::new(line(server.name.as_str()).to_string()),
            Cell::new(server.state.as_str()).style(colour(server.coarse)),
            Cell::new(server.transport.map_or("-", TransportKind::as_str)),
            Cell::new(server.tools.to_string()),
            Cell::new(latency.unwrap_or_else(|| "-".to_owned())),
            Cell::new(sparkline(&sparks)),
            Cell::new(retry_in(server.next_retry_at, now)),
            Cell::new(error.unwrap_or_default()),
        ])
    }
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn colour(state: CoarseState) -> Style {
    Style::new().fg(match state {
        CoarseState::Connected => Color::Green,
        CoarseState::Reconnecting => Color::Yellow,
        CoarseState::Disconnected => Color::Red,
    })
}

/// How long until the next attempt.
fn retry_in(at: Option<SystemTime>, now: SystemTime) -> String {
    match at {
        Some(at) => milliseconds(at.duration_since(now).unwrap_or_default()),
        None => "-".to_owned(),
    }
}

/// The latencies as bars, the slowest as the highest.
fn sparkline(latencies: &[Duration]) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::{Terminal, backend::TestBackend};

    #[test]
    fn the_slowest_is_the_highest_bar() {
        let ms = |ms: &[u64]| -> Vec<Duration> {
            ms.iter().map(|ms| Duration::from_millis(*ms)).collect()
        };
        assert_eq!(sparkline(&ms(&[1, 4, 8])), "▁▄█");
        assert_eq!(sparkline(&ms(&[5])), "█");
        assert_eq!(sparkline(&[Duration::ZERO]), "▁");
        assert_eq!(sparkline(&[]), "");
    }

    #[test]
    fn events_are_shown_below_the_table_newest_last() {
        let mut screen = Screen::default();
        for n in 0..30 {
            let latency = Duration::from_millis(n);
            let event = Event::now(
                "s".parse::<ServerName>().unwrap(),
                EventKind::HeartbeatOk { latency },
            );
            screen.note(&event, crate::text!("event {}", n));
        }
        assert_eq!(screen.latencies.values().next().unwrap().len(), SPARKS);
        let mut terminal = Terminal::new(TestBackend::new(60, 12)).unwrap();
        terminal
            .draw(|frame| screen.draw(frame, &[], SystemTime::now()))
            .unwrap();
        let shown = terminal.backend().to_string();
        assert!(shown.contains("mcpool: 0 of 0 ready"), "{shown}");
        assert!(shown.contains("event 29"), "{shown}");
        assert!(!shown.contains("event 1 "), "{shown}");
    }

    #[test]
    fn a_retry_that_is_due_is_not_negative() {
        let now = SystemTime::now();
        let second = Duration::from_secs(1);
        assert_eq!(retry_in(Some(now - second), now), "0 µs");
        assert_eq!(retry_in(Some(now + second), now), "1.0 s");
        assert_eq!(retry_in(None, now), "-");
    }
}
