//! The log: one event, one line, `key=value`, session id first (spec/smtpd.md Appendix C).
//!
//! Promises: text from outside cannot end a line or reach a terminal raw; the level and the traces
//! change at run time, each on its own (`log verbose` does not end a trace).
//! Absent on purpose: what is worth a line (the drivers know), rotation (the system's).

use redspool_core::control::{ProfileTopic, TraceTopic};
use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::io;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// Steers what is logged while the daemon runs. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    state: std::sync::Arc<parking_lot::Mutex<State>>,
}

#[derive(Clone, Default)]
struct State {
    verbose: bool,
    traces: BTreeSet<TraceTopic>,
    profiles: BTreeSet<ProfileTopic>,
}

impl State {
    fn filter(&self) -> EnvFilter {
        let mut directives = String::from(if self.verbose {
            "redspool_smtpd=debug,smtpd=debug"
        } else {
            "redspool_smtpd=info,smtpd=info"
        });
        for trace in &self.traces {
            let _ = write!(directives, ",trace::{}=trace", trace.word());
        }
        for profile in &self.profiles {
            let _ = write!(directives, ",profile::{}=trace", profile.word());
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

/// Starts the log for this process.
pub fn start(sink: Sink, verbose: bool, traces: &[TraceTopic]) -> Log {
    let state = State {
        verbose,
        traces: traces.iter().flat_map(|topic| topic.each()).collect(),
        profiles: BTreeSet::new(),
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
        self.change(|state| state.verbose = verbose);
    }

    /// `trace` and `untrace`.
    pub fn trace(&self, topic: TraceTopic, on: bool) {
        self.change(|state| {
            for topic in topic.each() {
                if on {
                    state.traces.insert(topic);
                } else {
                    state.traces.remove(&topic);
                }
            }
        });
    }

    /// `profile` and `unprofile`.
    pub fn profile(&self, topic: ProfileTopic, on: bool) {
        self.change(|state| {
            if on {
                state.profiles.insert(topic);
            } else {
                state.profiles.remove(&topic);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        // Fails only when the subscriber is gone, and then nobody reads the log.
        let _ = self.filter.reload(state.filter());
    }
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

/// The debug form of a value on one line of bounded length, whatever is in it.
pub struct Brief<'a>(pub &'a dyn fmt::Debug);

/// Octets of a [`Brief`] form.
const BRIEF: usize = 400;

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bounded = Bounded {
            out: f,
            left: BRIEF,
            full: false,
        };
        match write!(bounded, "{:?}", self.0) {
            // Ended by the bound, so that nobody formats a million rows to show ten.
            Err(_) if bounded.full => f.write_str("..."),
            written => written,
        }
    }
}

struct Bounded<'f, 'g> {
    out: &'f mut fmt::Formatter<'g>,
    left: usize,
    full: bool,
}

impl fmt::Write for Bounded<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if c.len_utf8() > self.left {
                self.full = true;
                return Err(fmt::Error);
            }
            self.left -= c.len_utf8();
            self.out.write_char(if c.is_control() { '?' } else { c })?;
        }
        Ok(())
    }
}

/// A list on one line: how many there are, and the first of them.
pub struct Several<'a, T>(pub &'a [T]);

/// Members of a list that are shown.
const SEVERAL: usize = 8;

impl<T: fmt::Display> fmt::Display for Several<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.len())?;
        let mut separator = ": ";
        for member in self.0.iter().take(SEVERAL) {
            write!(f, "{separator}{member}")?;
            separator = " ";
        }
        f.write_str(if self.0.len() > SEVERAL { " ..." } else { "" })
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
            match target.split_once("::") {
                Some(("profile", topic)) => write!(writer, "profile-{topic}: ")?,
                Some(("trace", topic)) => write!(writer, "{topic}: ")?,
                _ => write!(writer, "{target}: ")?,
            }
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

    #[test]
    fn brief_forms_are_bounded_and_printable() {
        struct Raw;
        impl fmt::Debug for Raw {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a\nb\x1b")
            }
        }
        assert_eq!(Brief(&Raw).to_string(), "a?b?");
        let long = Brief(&"x".repeat(10_000)).to_string();
        assert_eq!(long.len(), BRIEF + 3);
        assert!(long.ends_with("x..."), "{long}");
        assert_eq!(Brief(&[1, 2]).to_string(), "[1, 2]");
    }

    #[test]
    fn lists_show_their_length_and_beginning() {
        assert_eq!(Several::<u8>(&[]).to_string(), "0");
        assert_eq!(Several(&[7, 8]).to_string(), "2: 7 8");
        assert_eq!(Several(&[1; 9]).to_string(), "9: 1 1 1 1 1 1 1 1 ...");
    }

    #[test]
    fn traces_and_profiles_are_switched_one_by_one() {
        let filter = |state: &State| state.filter().to_string();
        let mut state = State::default();
        assert!(!filter(&state).contains("trace::"), "{}", filter(&state));
        state.traces.extend(TraceTopic::All.each());
        state.traces.remove(&TraceTopic::Mta);
        state.profiles.insert(ProfileTopic::Queue);
        let shown = filter(&state);
        assert!(shown.contains("trace::smtp=trace"), "{shown}");
        assert!(shown.contains("profile::queue=trace"), "{shown}");
        assert!(!shown.contains("trace::mta"), "{shown}");
        assert!(shown.contains("redspool_smtpd=info"), "{shown}");
    }
}
