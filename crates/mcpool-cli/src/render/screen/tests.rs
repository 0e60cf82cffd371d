use std::time::Duration;

use mcpool::{
    ConnectionManager, DisconnectCause, Error, ErrorKind, ServerSpec, StandardFactory, StartMode,
    StateKind, StdioSpec, TransportKind,
};
use ratatui::{Terminal, backend::TestBackend};

use super::*;
use crate::text;

/// The states of servers that nobody has connected.
async fn servers(names: &[&str]) -> Vec<ServerStatus> {
    let manager = ConnectionManager::new(std::sync::Arc::new(StandardFactory::new()));
    let spec = |name: &&str| {
        let spec = ServerSpec::stdio(*name, StdioSpec::new("true")).unwrap();
        spec.with_start(StartMode::Lazy(None))
    };
    let _started = manager
        .start(names.iter().map(spec).collect())
        .await
        .unwrap();
    manager.status_all()
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(3_600)
}

fn ready(server: &mut ServerStatus) {
    server.state = StateKind::Ready;
    server.connected_at = Some(now() - Duration::from_secs(200));
    server.tools = 13;
    server.heartbeat_latency = Some(Duration::from_micros(1_900));
}

fn dormant(server: &mut ServerStatus) {
    server.state = StateKind::Dormant;
    server.next_retry_at = Some(now() + Duration::from_secs(5));
    server.last_error = Some(Error::new(
        ErrorKind::CommandNotFound,
        "the command npxx was not found in PATH",
    ));
}

fn event(server: &str, ago: u64, kind: EventKind) -> Event {
    let mut event = Event::now(server.parse::<ServerName>().unwrap(), kind);
    event.at = now() - Duration::from_secs(ago);
    event
}

fn drawn(screen: &mut Screen, servers: &[ServerStatus], size: (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    let details = Details {
        reached_by: "true".to_owned(),
        tools: (0..40)
            .map(|n| text!("tool{}(a: number)", n as u32))
            .collect(),
        ..Details::default()
    };
    terminal
        .draw(|frame| screen.draw(frame, servers, Some(&details), now()))
        .unwrap();
    let shown = terminal.backend().to_string();
    let lines = shown.lines().map(|line| line.trim_matches('"').trim_end());
    lines.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn eighty_columns_show_figures_and_reasons() {
    let mut servers = servers(&["everything", "memory", "time"]).await;
    ready(&mut servers[0]);
    ready(&mut servers[1]);
    dormant(&mut servers[2]);
    let mut screen = Screen::default();
    let error = Error::new(ErrorKind::ProcessExited, "the server was ended by signal 9");
    for (ago, kind) in [
        (
            60,
            EventKind::Disconnected {
                cause: DisconnectCause::ProcessExited,
                uptime: Duration::from_secs(9),
                error: Some(error),
            },
        ),
        (
            59,
            EventKind::Connected {
                transport: TransportKind::Stdio,
                elapsed: Duration::from_millis(600),
                attempt: 1,
            },
        ),
        (
            58,
            EventKind::HeartbeatOk {
                latency: Duration::from_millis(1),
            },
        ),
        (
            57,
            EventKind::HeartbeatOk {
                latency: Duration::from_millis(8),
            },
        ),
    ] {
        screen.note(&event("memory", ago, kind));
    }
    assert_eq!(
        drawn(&mut screen, &servers, (80, 14)),
        "\
mcpool: 2 of 3 ready────────────────────────────────────────────────────────────
  SERVER      STATE           UP  TOOLS  LATENCY  LAST HEARTBEATS
> everything  ready     3 m 20 s     13   1.9 ms
  memory      ready     3 m 20 s     13   1.9 ms  ▁█          lost once, 1 m ag…
  time        dormant   in 5.0 s  the command npxx was not found in PATH
events──────────────────────────────────────────────────────────────────────────
00:59:00 memory died (the server was ended by signal 9), was up 9.0 s
00:59:01 memory is back after 1.0 s





↑↓ select  Enter details  r retry  d/e disable/enable  / filter  ? keys  q quit"
    );
    let wide = drawn(&mut screen, &servers, (130, 14));
    assert!(
        wide.contains("lost once, 1 m ago: the server was ended by signal 9"),
        "{wide}"
    );
    assert_eq!(screen.press(Key::Char('h'), &servers), Wish::Draw);
    assert!(drawn(&mut screen, &servers, (80, 14)).contains("memory answers in"));
    let text = chronicle::summary(screen.as_ref(), &servers, Duration::from_secs(65), 80);
    assert_eq!(
        text.as_str(),
        "\
watched for 1 m 5 s
  everything: ready
  memory: ready, lost once, back after 1.0 s at most, 2 heartbeats, median
      8.0 ms
  time: dormant
"
    );
}

#[tokio::test]
async fn keys_select_filter_and_ask() {
    let servers = servers(&["alpha", "beta", "gamma"]).await;
    let mut screen = Screen::default();
    drawn(&mut screen, &servers, (80, 12));
    let name = |name: &str| name.parse::<ServerName>().unwrap();
    assert_eq!(
        screen.press(Key::Char('r'), &servers),
        Wish::Retry(name("alpha"))
    );
    screen.press(Key::Down, &servers);
    assert_eq!(
        screen.press(Key::Char('d'), &servers),
        Wish::Disable(name("beta"))
    );
    screen.press(Key::End, &servers);
    screen.press(Key::Down, &servers);
    assert_eq!(
        screen.press(Key::Char('e'), &servers),
        Wish::Enable(name("gamma"))
    );

    for key in [
        Key::Char('/'),
        Key::Char('q'),
        Key::Backspace,
        Key::Char('B'),
        Key::Char('e'),
    ] {
        assert_eq!(screen.press(key, &servers), Wish::Draw);
    }
    let shown = drawn(&mut screen, &servers, (80, 12));
    assert!(
        shown.contains("> beta") && !shown.contains("alpha"),
        "{shown}"
    );
    assert!(shown.contains("filter: Be"), "{shown}");
    screen.press(Key::Char('x'), &servers);
    assert!(drawn(&mut screen, &servers, (80, 12)).contains("no server fits"));
    screen.press(Key::Escape, &servers);
    assert!(drawn(&mut screen, &servers, (80, 12)).contains("alpha"));

    screen.press(Key::Char('?'), &servers);
    assert!(drawn(&mut screen, &servers, (80, 16)).contains("connect it now"));
    assert_eq!(screen.press(Key::Char('q'), &servers), Wish::Draw);
    assert_eq!(screen.press(Key::Char('q'), &servers), Wish::Leave);
}

#[tokio::test]
async fn details_scroll_to_their_end_and_back() {
    let servers = servers(&["alpha"]).await;
    let mut screen = Screen::default();
    drawn(&mut screen, &servers, (80, 12));
    assert_eq!(screen.detailed(), None);
    screen.press(Key::Enter, &servers);
    assert_eq!(screen.detailed().map(ServerName::as_str), Some("alpha"));
    let shown = drawn(&mut screen, &servers, (80, 12));
    assert!(
        shown.contains("alpha: idle") && shown.contains("tool0(a: number)"),
        "{shown}"
    );
    for key in [Key::End, Key::Down, Key::PageDown] {
        screen.press(key, &servers);
    }
    let shown = drawn(&mut screen, &servers, (80, 12));
    assert!(shown.contains("tool39(a: number)"), "{shown}");
    screen.press(Key::Home, &servers);
    assert!(drawn(&mut screen, &servers, (80, 12)).contains("reached by true"));
    screen.press(Key::Escape, &servers);
    assert_eq!(screen.detailed(), None);
}

#[tokio::test]
async fn more_servers_than_rows_scroll_with_the_selection() {
    let names: Vec<String> = (0..30).map(|n| format!("s{n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let servers = servers(&names).await;
    let mut screen = Screen::default();
    let shown = drawn(&mut screen, &servers, (80, 15));
    assert!(shown.contains("> s00") && !shown.contains("s20"), "{shown}");
    assert!(shown.contains("1 to 8 of 30 shown"), "{shown}");
    screen.press(Key::End, &servers);
    let shown = drawn(&mut screen, &servers, (80, 15));
    assert!(shown.contains("> s29") && !shown.contains("s00"), "{shown}");
    // Nothing is drawn outside of a terminal that is too small for anything.
    for size in [(1, 1), (10, 3), (3, 40)] {
        drawn(&mut screen, &servers, size);
    }
    assert!(drawn(&mut screen, &[], (80, 10)).contains("no servers"));
}
