//! The daemon's log: a line an event, logfmt or JSON, the same keys in both.
//!
//! `time` (RFC 3339, UTC), `level`, `message`, `session` (a ULID) where there is
//! one, `target` (the module), then what else the event has. `CLDPD_LOG` says
//! which events, as `level` or `module=level,…`.

mod rotate;

pub(super) use rotate::Rotating;

use crate::model::Timestamp;
use serde_json::{Map, Value};
use std::fmt::{self, Write as _};
use std::io::Write;
use std::panic::PanicHookInfo;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Registry};

/// What is logged unless `CLDPD_LOG` says otherwise.
const LEVELS: &str = "info";
/// The keys that every line begins with.
const FIRST: [&str; 5] = ["time", "level", "message", "session", "target"];

/// `[daemon] log_format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `key=value …`, quoted where it has to be.
    #[default]
    Logfmt,
    /// A JSON object.
    Json,
}

impl LogFormat {
    /// Its name in `config.toml`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Logfmt => "logfmt",
            Self::Json => "json",
        }
    }
}

impl FromStr for LogFormat {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "logfmt" => Ok(Self::Logfmt),
            "json" => Ok(Self::Json),
            _ => Err("is neither logfmt nor json".to_owned()),
        }
    }
}

/// Sends this process's log, and word of its panics, to `to`.
pub(super) fn begin(format: LogFormat, to: impl Write + Send + 'static) {
    let levels = EnvFilter::try_from_env("CLDPD_LOG").unwrap_or_else(|_| EnvFilter::new(LEVELS));
    let subscriber = Registry::default().with(levels).with(Lines {
        format,
        to: Mutex::new(to),
    });
    // A second daemon in one process (in tests) keeps the first one's log.
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        std::panic::set_hook(Box::new(panicked));
    }
}

fn panicked(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("?");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let payload = info.payload();
    let message = payload.downcast_ref::<&str>().copied();
    let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let message = message.unwrap_or("no message");
    tracing::error!(thread, place, "panicked: {message}");
}

/// Writes each event as a line.
struct Lines<W> {
    format: LogFormat,
    to: Mutex<W>,
}

/// The session that a span is about.
struct SessionOf(String);

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Write + Send + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let (Some(Value::String(session)), Some(span)) =
            (fields.0.remove("session"), context.span(id))
        {
            span.extensions_mut().insert(SessionOf(session));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        if let Some(scope) = context.event_scope(event) {
            for span in scope {
                if let Some(SessionOf(session)) = span.extensions().get() {
                    fields.put("session", session.as_str());
                    break;
                }
            }
        }
        event.record(&mut fields);
        fields.put("time", Timestamp::now().to_string());
        let level = event.metadata().level();
        fields.put("level", level.as_str().to_ascii_lowercase());
        fields.put("target", event.metadata().target());
        let line = self.format.line(fields.0);
        let mut to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody can be told that the log cannot be written.
        let _ = to.write_all(line.as_bytes());
    }
}

/// What an event has.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), value);
    }
}

impl LogFormat {
    /// One line with its end, whatever stands in the fields.
    fn line(self, mut fields: Map<String, Value>) -> String {
        let mut line = String::with_capacity(192);
        let first = FIRST.map(|key| Some((key.to_owned(), fields.remove(key)?)));
        for (key, value) in first.into_iter().flatten().chain(fields) {
            let begun = !line.is_empty();
            // Writing to memory does not fail.
            let _ = match self {
                Self::Logfmt => {
                    let space = if begun { " " } else { "" };
                    write!(line, "{space}{key}={}", plain(&value))
                }
                Self::Json => {
                    let begin = if begun { "," } else { "{" };
                    write!(line, "{begin}{}:{value}", Value::String(key))
                }
            };
        }
        if self == Self::Json {
            line.push('}');
        }
        line.push('\n');
        line
    }
}

/// As logfmt has it: bare, or quoted and escaped as JSON is.
fn plain(value: &Value) -> String {
    let Value::String(text) = value else {
        return value.to_string();
    };
    let bare = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '=' | '\\');
    match !text.is_empty() && text.chars().all(bare) {
        true => text.clone(),
        false => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, work: impl FnOnce()) -> String {
        let memory = Memory::default();
        let to = Mutex::new(memory.clone());
        let subscriber = Registry::default().with(Lines { format, to });
        tracing::subscriber::with_default(subscriber, work);
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn both_formats_have_the_same_keys() {
        let work = || {
            let span = tracing::info_span!("driver", session = "01J");
            let _within = span.enter();
            tracing::warn!(count = 3, path = %"/a b", "it \"failed\"\nbadly");
        };
        let line = logged(LogFormat::Logfmt, work);
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(Timestamp::parse(time.strip_prefix("time=").unwrap()).is_ok());
        assert_eq!(
            rest,
            "level=warn message=\"it \\\"failed\\\"\\nbadly\" session=01J \
             target=cldpd::daemon::log::tests count=3 path=\"/a b\"\n"
        );
        let line = logged(LogFormat::Json, work);
        assert!(line.starts_with("{\"time\":\""), "{line}");
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["session"], "01J");
        assert_eq!(
            (&line["level"], &line["count"]),
            (&"warn".into(), &3.into())
        );
        assert_eq!(line["message"], "it \"failed\"\nbadly");
    }

    #[test]
    fn an_event_names_its_session_before_the_span_does() {
        let line = logged(LogFormat::Logfmt, || {
            let span = tracing::info_span!("driver", session = "outer");
            let _within = span.enter();
            tracing::info!(session = %"own", "x");
        });
        assert!(line.contains(" session=own "), "{line}");
    }

    proptest! {
        #[test]
        fn an_event_is_one_line_whatever_it_says(message: String, field: String) {
            for format in [LogFormat::Logfmt, LogFormat::Json] {
                let line = logged(format, || tracing::info!(field, "{message}"));
                prop_assert!(line.ends_with('\n'));
                prop_assert_eq!(line.lines().count(), 1);
                if format == LogFormat::Json {
                    let line: Value = serde_json::from_str(&line).unwrap();
                    prop_assert_eq!(&line["message"], &Value::String(message.clone()));
                }
            }
        }
    }

    /// Set for the process that panics.
    const PANIC_INTO: &str = "CLDPD_TEST_PANIC_INTO";

    #[test]
    fn a_panic_is_logged() {
        if let Some(path) = std::env::var_os(PANIC_INTO) {
            begin(LogFormat::Logfmt, Rotating::open(path.as_ref()).unwrap());
            let thread = std::thread::Builder::new().name("worker".to_owned());
            let ended = thread.spawn(|| panic!("what\nnow")).unwrap().join();
            assert!(ended.is_err());
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.log");
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "daemon::log::tests::a_panic_is_logged"])
            .env(PANIC_INTO, &path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let log = std::fs::read_to_string(&path).unwrap();
        assert_eq!(log.lines().count(), 1, "{log}");
        for part in [
            "level=error",
            "message=\"panicked: what\\nnow\"",
            "thread=worker",
            "place=src/daemon/log.rs:",
        ] {
            assert!(log.contains(part), "{log}");
        }
    }
}
