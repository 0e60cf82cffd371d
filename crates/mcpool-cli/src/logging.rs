//! Logging to standard error: off unless asked for.

use tracing_subscriber::{
    field::MakeExt as _,
    filter::{LevelFilter, Targets},
    fmt::format::{FormatFields, debug_fn},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{
    global::Global,
    render::{out, text::line},
};

/// Starts it as `--log`, `$MCPOOL_LOG` or `-v` say.
pub(crate) fn start(global: &Global) -> Result<(), String> {
    let filter = match (&global.log, global.verbose) {
        (Some(filter), _) => filter.as_str(),
        (None, 0) => return Ok(()),
        (None, 1) => "mcpool=info",
        (None, _) => "mcpool=debug",
    };
    let filter: Targets = filter
        .parse()
        .map_err(|error| format!("--log {filter}: {error}"))?;
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .fmt_fields(fields())
        .with_writer(|| out::Log)
        .with_ansi(out::takes_colours())
        .finish()
        .with(filter)
        .init();
    Ok(())
}

/// Every field of every event and span, whichever crate it is from: on one line, cut, cleaned, and
/// with the known secrets masked.
fn fields() -> impl for<'w> FormatFields<'w> + Send + Sync + 'static {
    debug_fn(|writer, field, value| {
        let value = format!("{value:?}");
        match field.name() {
            "message" => write!(writer, "{}", line(&value)),
            name => write!(writer, "{name}={}", line(&value)),
        }
    })
    .delimited(" ")
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_field_of_an_event_or_a_span_steers_the_terminal() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(fields())
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .finish();
        let hostile = "\x1b]52;c;aGk=\x07\u{9b}2J\u{202e}\nERROR forged";
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("span", name = %hostile, quoted = hostile);
            let _entered = span.enter();
            tracing::info!(field = %hostile, debug = ?hostile, "message {hostile}");
        });
        let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let is_foreign = |c: char| c != '\n' && mcpool::is_unshowable(c);
        assert!(!logged.chars().any(is_foreign), "{logged:?}");
        assert_eq!(logged.lines().count(), 1, "{logged}");
        assert_eq!(logged.matches("forged").count(), 5, "{logged}");
        assert!(logged.contains(r"field=\u{1b}]52;c;aGk=\u{7}"), "{logged}");
    }
}
