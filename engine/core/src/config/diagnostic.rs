//! Faults of the configuration, as they are shown: where, what, and how to mend it.
//!
//! Promises: a marked span lies inside its file and on one line; rendering never fails.
//! Absent on purpose: the terminal. Rendering gives text, with colour if asked.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Where something of the configuration was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// File, as it was named.
    pub file: Arc<str>,
    /// Line, from 1 on.
    pub line: usize,
}

impl fmt::Display for Place {
    /// `smtpd.conf:12`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; the configuration can be used.
    Warning,
    /// The configuration cannot be used.
    Error,
}

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    severity: Severity,
    message: String,
    mark: Mark,
    related: Option<Mark>,
    help: Option<String>,
}

/// A piece of a file, with what is to be said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub(super) source: Source,
    pub(super) span: Range<usize>,
    pub(super) label: String,
}

/// A file's name and text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) name: Arc<str>,
    pub(super) text: Arc<str>,
    /// Offsets at which lines begin, the first one apart.
    lines: Arc<[usize]>,
}

impl Source {
    pub(super) fn new(name: &str, text: &str) -> Self {
        let lines = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        Self {
            name: name.into(),
            text: text.into(),
            lines,
        }
    }
}

impl Mark {
    /// Marks a span, cut to what lies inside the file and on the line it begins on.
    pub(super) fn new(source: Source, span: Range<usize>, label: impl Into<String>) -> Self {
        let text = &*source.text;
        let start = text.floor_char_boundary(span.start.min(text.len()));
        let rest = text.get(start..).unwrap_or_default();
        let line_end = start + rest.find('\n').unwrap_or(rest.len());
        let end = text.floor_char_boundary(span.end.clamp(start, line_end));
        Self {
            source,
            span: start..end,
            label: label.into(),
        }
    }

    /// The file's name.
    pub fn file(&self) -> &str {
        &self.source.name
    }

    /// The whole text of the file.
    pub fn text(&self) -> &str {
        &self.source.text
    }

    /// The marked octets of the text.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The line, from 1 on.
    pub fn line(&self) -> usize {
        let lines = &self.source.lines;
        lines.partition_point(|start| *start <= self.span.start) + 1
    }

    fn place(&self) -> Place {
        Place {
            file: self.source.name.clone(),
            line: self.line(),
        }
    }

    fn snippet(&self, kind: AnnotationKind) -> Snippet<'_, annotate_snippets::Annotation<'_>> {
        // Only the line itself is handed over: files can be large, and faults many.
        let text = self.text();
        let before = text.get(..self.span.start).unwrap_or_default();
        let begin = before.rfind('\n').map_or(0, |at| at + 1);
        let after = text.get(self.span.end..).unwrap_or_default();
        let end = self.span.end + after.find('\n').unwrap_or(after.len());
        let line = text.get(begin..end).unwrap_or_default();
        let annotation = kind.span(self.span.start - begin..self.span.end - begin);
        Snippet::source(line)
            .path(self.file())
            .line_start(self.line())
            .annotation(if self.label.is_empty() {
                annotation
            } else {
                annotation.label(&*self.label)
            })
    }
}

impl Diagnostic {
    pub(super) fn new(severity: Severity, message: impl Into<String>, mark: Mark) -> Self {
        Self {
            severity,
            message: message.into(),
            mark,
            related: None,
            help: None,
        }
    }

    /// Adds a sentence how to mend it.
    pub(super) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Adds another place that has to do with it.
    pub(super) fn related(&mut self, mark: Mark) -> &mut Self {
        self.related = Some(mark);
        self
    }

    /// The main file cannot be read, so there is nothing to mark.
    pub fn unreadable(file: &str, why: &str) -> Self {
        let mark = Mark::new(Source::new(file, ""), 0..0, "");
        let message = format!("cannot read the configuration: {why}");
        let mut fault = Self::new(Severity::Error, message, mark);
        fault.help("create the file, make it readable, or name another one with -f");
        fault
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// What is wrong, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where it is.
    pub fn place(&self) -> Place {
        self.mark.place()
    }

    /// What is underlined.
    pub fn mark(&self) -> &Mark {
        &self.mark
    }

    /// Another place that has to do with it.
    pub fn related_mark(&self) -> Option<&Mark> {
        self.related.as_ref()
    }

    /// The fault with its line, the word underlined, and the help, over several lines; without a
    /// line break at the end.
    pub fn render(&self, color: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = level
            .primary_title(&*self.message)
            .element(self.mark.snippet(AnnotationKind::Primary));
        if let Some(related) = &self.related {
            group = group.element(related.snippet(AnnotationKind::Context));
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(&**help));
        }
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        renderer.render(&[group])
    }
}

impl fmt::Display for Diagnostic {
    /// One line, for the log: `smtpd.conf:12: unknown directive`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.mark.place(), self.message)
    }
}
