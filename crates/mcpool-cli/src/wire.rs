//! Every message on the wire, redacted: as lines on standard error (`-vvv`), as NDJSON in a file
//! (`--trace FILE`). A thread of its own writes, so that no connection waits for it.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write as _},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::SystemTime,
};

use mcpool::{
    Direction, Sensitivity, ServerName, TransportKind, WireEvent, WireTap, clean_json_text,
};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    exit::Failure,
    render::{content::bytes, out},
    text,
};

/// How many bytes of messages wait to be written; of more, messages are left out and counted.
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;

/// Sees the wire and passes it on to its thread.
#[derive(Debug)]
pub(crate) struct Wire {
    to_thread: mpsc::Sender<Item>,
    waiting: Arc<AtomicUsize>,
    missed: AtomicU64,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
enum Item {
    Message(Message),
    End,
}

#[derive(Debug)]
struct Message {
    at: SystemTime,
    server: ServerName,
    transport: TransportKind,
    direction: Direction,
    status: Option<u16>,
    text: String,
    /// How many before it were left out.
    missed: u64,
}

impl Wire {
    /// Shows the wire on standard error with `shown`, and writes it to a file, which is the
    /// user's alone and replaced. `None` when neither is wanted.
    pub(crate) fn start(shown: bool, file: Option<&Path>) -> Result<Option<Arc<Self>>, Failure> {
        if !shown && file.is_none() {
            return Ok(None);
        }
        let file = match file {
            Some(path) => {
                let failed = |error| Failure::usage(text!("--trace {}: {}", path, error));
                Some(BufWriter::new(open(path).map_err(failed)?))
            }
            None => None,
        };
        let (to_thread, items) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&waiting);
        let thread = std::thread::Builder::new()
            .name("wire".to_owned())
            .spawn(move || write_all(&items, &counter, shown, file))
            .map_err(|error| Failure::internal(text!("cannot start a thread: {}", error)))?;
        Ok(Some(Arc::new(Self {
            to_thread,
            waiting,
            missed: AtomicU64::new(0),
            thread: Mutex::new(Some(thread)),
        })))
    }

    /// Waits until everything is written.
    pub(crate) fn finish(&self) {
        let _ = self.to_thread.send(Item::End);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl WireTap for Wire {
    fn event(&self, event: &WireEvent<'_>) {
        let size = event.text.len();
        if self.waiting.fetch_add(size, Ordering::AcqRel) + size > MAX_WAITING_BYTES {
            self.waiting.fetch_sub(size, Ordering::AcqRel);
            self.missed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // It fails when the thread has ended, and then nobody reads.
        let _ = self.to_thread.send(Item::Message(Message {
            at: event.at,
            server: event.server.clone(),
            transport: event.transport,
            direction: event.direction,
            status: event.status,
            text: event.text.to_owned(),
            missed: self.missed.swap(0, Ordering::Relaxed),
        }));
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let file = options.open(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // One that was there may have been for everybody. A pipe or a terminal stays as it is.
        if file.metadata()?.is_file() {
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        }
    }
    Ok(file)
}

fn write_all(
    items: &mpsc::Receiver<Item>,
    waiting: &AtomicUsize,
    shown: bool,
    mut file: Option<BufWriter<File>>,
) {
    while let Ok(Item::Message(message)) = items.recv() {
        waiting.fetch_sub(message.text.len(), Ordering::AcqRel);
        if shown {
            show(&message);
        }
        if let Some(trace) = &mut file
            && let Err(error) = record(&message, trace)
        {
            out::tell(&text!("error: --trace: {}\n", error));
            file = None;
        }
    }
    if let Some(mut trace) = file
        && let Err(error) = trace.flush()
    {
        out::tell(&text!("error: --trace: {}\n", error));
    }
}

/// `12:01:02.123 files stdio → 61 bytes {"jsonrpc":…`
fn show(message: &Message) {
    let time = humantime::format_rfc3339_millis(message.at).to_string();
    let arrow = match message.direction {
        Direction::Sent => "→",
        Direction::Received => "←",
        _ => "← not a message:",
    };
    let mut line = text!(
        "{} {} {} {}",
        time.get(11..23).unwrap_or(&time),
        message.server,
        message.transport.as_str(),
        arrow
    );
    if let Some(status) = message.status {
        line.push(&text!(" HTTP {}", u32::from(status)));
    }
    if !message.text.is_empty() {
        line.push(&text!(" {} {}", bytes(message.text.len()), message.text));
    }
    if message.missed > 0 {
        line.push(&text!(
            " ({} messages before it were left out)",
            message.missed
        ));
    }
    line.push(&text!("\n"));
    out::tell(&line);
}

/// One line of the trace.
#[derive(Serialize)]
struct Record<'a> {
    at: String,
    server: &'a str,
    transport: TransportKind,
    direction: Direction,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    bytes: usize,
    #[serde(skip_serializing_if = "is_zero")]
    missed_before: u64,
    /// The message as it came, where it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a RawValue>,
    /// What came, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn record(message: &Message, to: &mut impl io::Write) -> io::Result<()> {
    let masked = out::masker().mask(&message.text, Sensitivity::Value);
    // A message may be laid out over several lines; a record may not.
    let masked = masked.replace(['\n', '\r'], " ");
    let json: Option<&RawValue> = serde_json::from_str(&masked).ok();
    let record = Record {
        at: humantime::format_rfc3339_micros(message.at).to_string(),
        server: message.server.as_str(),
        transport: message.transport,
        direction: message.direction,
        status: message.status,
        bytes: message.text.len(),
        missed_before: message.missed,
        message: json,
        text: (json.is_none() && !masked.is_empty()).then_some(&masked),
    };
    let line = serde_json::to_string(&record)?;
    writeln!(to, "{}", clean_json_text(&line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn event<'a>(server: &'a ServerName, text: &'a str) -> WireEvent<'a> {
        WireEvent::now(server, TransportKind::Http, Direction::Received, text).with_status(200)
    }

    #[test]
    fn a_trace_has_every_message_on_a_line_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace.ndjson");
        std::fs::write(&path, "old").unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let open = std::fs::Permissions::from_mode(0o644);
            std::fs::set_permissions(&path, open).unwrap();
        }
        let wire = Wire::start(false, Some(&path)).unwrap().unwrap();
        let server: ServerName = "s".parse().unwrap();
        out::masker().add("wire-test-secret-value", Sensitivity::Secret);
        for text in [
            "{\"a\":\n 1e400, \"b\":\"wire-test-secret-value\"}",
            "no \u{1b}[2J JSON",
            "",
        ] {
            wire.event(&event(&server, text));
        }
        wire.finish();
        // What comes late has nobody to read it, and holds nothing up.
        wire.event(&event(&server, "late"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "nobody else reads it");
        }
        let written = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = written.lines().collect();
        assert_eq!(lines.len(), 3, "{written}");
        assert!(
            lines[0].contains(r#""message":{"a":  1e400, "b":"[redacted]"}"#),
            "{written}"
        );
        let second: Value = serde_json::from_str(lines[1]).unwrap();
        assert_eq!(second["text"], "no \u{1b}[2J JSON");
        assert_eq!(
            (&second["status"], &second["direction"]),
            (&200.into(), &"received".into())
        );
        assert_eq!(second["bytes"], 12);
        assert!(!written.contains('\u{1b}'));
        let third: Value = serde_json::from_str(lines[2]).unwrap();
        assert_eq!(
            (&third["text"], &third["message"]),
            (&Value::Null, &Value::Null)
        );
    }

    #[test]
    fn what_waits_is_bounded() {
        let (to_thread, items) = mpsc::channel();
        let wire = Wire {
            to_thread,
            waiting: Arc::new(AtomicUsize::new(MAX_WAITING_BYTES - 1)),
            missed: AtomicU64::new(0),
            thread: Mutex::new(None),
        };
        let server: ServerName = "s".parse().unwrap();
        wire.event(&event(&server, "{}"));
        wire.event(&event(&server, "1"));
        match items.try_recv() {
            Ok(Item::Message(message)) => {
                assert_eq!((message.text.as_str(), message.missed), ("1", 1))
            }
            other => panic!("{other:?}"),
        }
        assert!(items.try_recv().is_err());
    }

    #[test]
    fn nothing_is_started_that_nobody_wants() {
        assert!(Wire::start(false, None).unwrap().is_none());
        let error = Wire::start(false, Some(Path::new("/does/not/exist/t"))).unwrap_err();
        assert!(error.to_text().as_str().contains("--trace"));
    }
}
