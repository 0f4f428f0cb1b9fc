//! The files of one configuration on one line of offsets, and the faults found in them.
//!
//! Each file gets a range of offsets of its own, so a span is two numbers and needs no file.

use super::diagnostic::{Diagnostic, Mark, Place, Severity, Source};
use chumsky::span::SimpleSpan;
use std::ops::Range;

/// Octets `start..end` of all files laid end to end.
pub(super) type Span = SimpleSpan<usize>;

/// All files read so far, and what is wrong with them.
#[derive(Debug, Default)]
pub(super) struct Report {
    files: Vec<(usize, Source)>,
    faults: Vec<(usize, Diagnostic)>,
}

impl Report {
    /// Takes in a file; gives the offset of its first octet.
    pub(super) fn add_file(&mut self, name: &str, text: &str) -> usize {
        let base = match self.files.last() {
            Some((base, last)) => base + last.text.len() + 1,
            None => 0,
        };
        let source = Source::new(name, text);
        self.files.push((base, source));
        base
    }

    /// The text of the file that begins at this offset.
    pub(super) fn text(&self, base: usize) -> std::sync::Arc<str> {
        let file = self.files.iter().find(|(start, _)| *start == base);
        file.map_or_else(|| "".into(), |(_, source)| source.text.clone())
    }

    /// The end of the file with this name: its last line, if that is empty the one before.
    pub(super) fn end_of(&self, name: &str) -> Span {
        let file = self.files.iter().find(|(_, file)| *file.name == *name);
        let end = file.map_or(0, |(base, file)| base + file.text.trim_end().len());
        Span::from(end..end)
    }

    /// Marks a span for a diagnostic.
    pub(super) fn mark(&self, span: Span, label: impl Into<String>) -> Mark {
        let (source, range) = self.locate(span);
        Mark::new(source, range, label)
    }

    /// Where a span begins.
    pub(super) fn place(&self, span: Span) -> Place {
        let mark = self.mark(span, "");
        Place {
            line: mark.line(),
            file: mark.source.name,
        }
    }

    /// Notes a fault that makes the configuration unusable.
    pub(super) fn error(
        &mut self,
        span: Span,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> &mut Diagnostic {
        self.note(Severity::Error, span, message, label)
    }

    /// Notes something worth knowing.
    pub(super) fn warning(
        &mut self,
        span: Span,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> &mut Diagnostic {
        self.note(Severity::Warning, span, message, label)
    }

    /// Whether a fault makes the configuration unusable.
    pub(super) fn failed(&self) -> bool {
        let mut faults = self.faults.iter();
        faults.any(|(_, fault)| fault.severity() == Severity::Error)
    }

    /// How much was found so far.
    pub(super) fn found(&self) -> usize {
        self.faults.len()
    }

    /// The first error found after so much.
    pub(super) fn error_since(&self, found: usize) -> Option<&Diagnostic> {
        let mut later = self.faults.iter().skip(found).map(|(_, fault)| fault);
        later.find(|fault| fault.severity() == Severity::Error)
    }

    /// Everything found, in the order of the files.
    pub(super) fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        self.faults.sort_by_key(|(at, _)| *at);
        self.faults.into_iter().map(|(_, fault)| fault).collect()
    }

    fn note(
        &mut self,
        severity: Severity,
        span: Span,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> &mut Diagnostic {
        let fault = Diagnostic::new(severity, message, self.mark(span, label));
        self.faults.push((span.start, fault));
        let (_, fault) = self.faults.last_mut().expect("one was pushed just now");
        fault
    }

    fn locate(&self, span: Span) -> (Source, Range<usize>) {
        let after = self.files.partition_point(|(base, _)| *base <= span.start);
        let file = after.checked_sub(1).and_then(|at| self.files.get(at));
        match file {
            Some((base, source)) => (
                source.clone(),
                span.start - base..span.end.max(*base) - base,
            ),
            None => (Source::new("", ""), 0..0),
        }
    }
}
