//! The log: one event, one line, `key=value`, session id first (spec/smtpd.md Appendix C).
//!
//! Promises: text from outside cannot end a line or reach a terminal raw; the level and the traces
//! change at run time, each on its own (`log verbose` does not end a trace).
//! Absent on purpose: what is worth a line (the drivers know), rotation (the system's).

use std::fmt::{self, Write as _};
use std::io;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// What can be traced: the words of smtpctl(8).
pub const SUBSYSTEMS: [&str; 13] = [
    "imsg",
    "io",
    "smtp",
    "filters",
    "mta",
    "bounce",
    "scheduler",
    "expand",
    "lookup",
    "stat",
    "rules",
    "mproc",
    "all",
];

/// Steers what is logged while the daemon runs. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    state: std::sync::Arc<parking_lot::Mutex<State>>,
}

#[derive(Clone, Default)]
struct State {
    verbose: bool,
    traces: Vec<&'static str>,
}

impl State {
    fn filter(&self) -> EnvFilter {
        let mut directives = String::from(if self.verbose {
            "redspool_smtpd=debug,smtpd=debug"
        } else {
            "redspool_smtpd=info,smtpd=info"
        });
        for trace in &self.traces {
            let _ = match *trace {
                "all" => write!(directives, ",trace=trace"),
                one => write!(directives, ",trace::{one}=trace"),
            };
        }
        EnvFilter::new(directives)
    }
}

/// Where the log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Standard error, for the foreground.
    Stderr,
    /// The system log, facility mail.
    Syslog,
}

/// Starts the log for this process. `traces` must be words of [`SUBSYSTEMS`].
pub fn start(sink: Sink, verbose: bool, traces: &[&'static str]) -> Log {
    let state = State {
        verbose,
        traces: traces.to_vec(),
    };
    let (filter, handle) = reload::Layer::new(state.filter());
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().event_format(Lines {
        dated: sink == Sink::Stderr,
    });
    match sink {
        Sink::Stderr => registry.with(lines.with_writer(io::stderr)).init(),
        Sink::Syslog => {
            let identity = c"smtpd";
            let options = syslog_tracing::Options::LOG_PID;
            match syslog_tracing::Syslog::new(identity, options, syslog_tracing::Facility::Mail) {
                Some(syslog) => registry.with(lines.with_writer(syslog)).init(),
                None => registry.with(lines.with_writer(io::stderr)).init(),
            }
        }
    }
    Log {
        filter: handle,
        state: std::sync::Arc::new(parking_lot::Mutex::new(state)),
    }
}

impl Log {
    /// `log verbose` and `log brief`.
    pub fn set_verbose(&self, verbose: bool) {
        let mut state = self.state.lock();
        state.verbose = verbose;
        // Fails only when the subscriber is gone, and then nobody reads the log.
        let _ = self.filter.reload(state.filter());
    }
}

/// The word of `text` in [`SUBSYSTEMS`], if it is one.
pub fn subsystem(text: &str) -> Option<&'static str> {
    SUBSYSTEMS.into_iter().find(|word| *word == text)
}

/// Text from outside, for a log value: control characters and the backslash escaped.
pub struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                c if c.is_control() || c == '\\' => write!(f, "{}", c.escape_default())?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Text from outside as the value of a key: in quotes, if it would else be taken for more than one.
pub struct Word<'a>(pub &'a str);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_alphanumeric() || "@._+-/".contains(c);
        if self.0.chars().all(plain) {
            f.write_str(self.0)
        } else {
            write!(f, "\"{}\"", Shown(self.0))
        }
    }
}

struct Lines {
    dated: bool,
}

impl<S> FormatEvent<S, DefaultFields> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, DefaultFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.dated {
            let now = jiff::Timestamp::now();
            write!(writer, "{now:.3} ")?;
        }
        let level = *event.metadata().level();
        if level == Level::TRACE {
            let target = event.metadata().target();
            write!(
                writer,
                "trace {}: ",
                target.strip_prefix("trace::").unwrap_or(target)
            )?;
        } else if level != Level::INFO {
            let word = match level {
                Level::ERROR => "error",
                Level::WARN => "warn",
                _ => "debug",
            };
            write!(writer, "{word}: ")?;
        }
        context
            .field_format()
            .format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_text_stays_on_its_line() {
        assert_eq!(
            Shown("a\r\nb\x1b[2J\"").to_string(),
            "a\\r\\nb\\u{1b}[2J\\\""
        );
        assert_eq!(Word("a+b@example.org").to_string(), "a+b@example.org");
        assert_eq!(Word("a result=ok").to_string(), "\"a result=ok\"");
    }
}
