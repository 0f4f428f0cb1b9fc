//! Settings that stand alone on a line: limits, times, sizes.

use super::Builder;
use crate::config::grammar::{At, Directive, Limit, Scope, Word};
use crate::config::source::Span;
use crate::config::unserved::{self, Part};
use crate::config::value;
use crate::limits::Limits;
use std::time::Duration;

/// Delays of `bounce warn-interval` that count.
const WARNINGS_MAX: usize = 4;

impl Builder<'_> {
    pub(super) fn setting(&mut self, directive: Directive) {
        match directive {
            Directive::WarnInterval(span, delays) => self.warn_intervals(span, &delays),
            Directive::MessageSize(span, size) => {
                self.again("max-message-size", span);
                match value::size(&size.text) {
                    Ok(0) => self.too_small(size.span),
                    Ok(octets) => self.config.limits.message_size = octets,
                    Err(fault) => self.value_fault(size.span, fault),
                }
            }
            Directive::SubaddressDelimiter(word) => self.delimiter(&word),
            Directive::QueueTtl(span, word) => {
                self.again("ttl", span);
                if let Some(delay) = self.delay(&word) {
                    self.config.limits.queue_ttl = delay;
                }
            }
            Directive::MaxDeferred(span, number) => {
                self.again("max-deferred", span);
                if let Some(number) = self.count(&number, 0) {
                    self.config.limits.mta.deferred = number;
                }
            }
            Directive::Limits(scope, limits) => {
                for limit in limits {
                    match limit {
                        Limit::Unserved(what) => self.unserved(Part::Setting, what),
                        Limit::Number(key, number) => self.limit(scope, &key, &number),
                    }
                }
            }
            _ => {}
        }
    }

    /// The last of equal settings counts, as in the reference; but that is seldom meant.
    fn again(&mut self, word: &'static str, span: Span) {
        if let Some(first) = self.settings.insert(word, span) {
            let mark = self.report.mark(first, "this one does not count");
            let message = format!("`{word}` is given twice");
            let warning = self.report.warning(span, message, "this one counts");
            warning.related(mark).help("remove one of the two");
        }
    }

    fn warn_intervals(&mut self, span: Span, words: &[Word]) {
        self.again("warn-interval", span);
        if let Some(word) = words.get(WARNINGS_MAX) {
            let message = format!("no more than {WARNINGS_MAX} delays count");
            let warning = self
                .report
                .warning(word.span, message, "this one does not count");
            warning.help("remove the delays behind the fourth");
        }
        let delays = words.iter().take(WARNINGS_MAX);
        let delays = delays.filter_map(|word| self.delay(word)).collect();
        self.config.bounce_warn = delays;
    }

    fn delimiter(&mut self, word: &Word) {
        self.again("sub-addr-delim", word.span);
        let mut chars = word.text.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) if c.is_ascii_graphic() && c != '@' => {
                self.config.subaddress_delimiter = c;
            }
            _ => {
                let message = "a delimiter is one printable ASCII character other than `@`";
                let fault = self.report.error(word.span, message, "");
                fault.help("write smtp sub-addr-delim \"+\"");
            }
        }
    }

    fn too_small(&mut self, span: Span) {
        let fault = self
            .report
            .error(span, "with nothing allowed, no mail would pass", "");
        fault.help("write a number above 0");
    }

    /// A number that is not below `least`.
    fn count(&mut self, number: &At<i64>, least: usize) -> Option<usize> {
        match usize::try_from(number.what) {
            Ok(count) if count < least => self.too_small(number.span),
            Ok(count) => return Some(count),
            Err(_) => {
                let fault = self.report.error(number.span, "not a count", "");
                fault.help("write a whole number that is not negative");
            }
        }
        None
    }

    fn limit(&mut self, scope: Scope, key: &Word, number: &At<i64>) {
        if let Some(advice) = unserved::limit_advice(&key.text) {
            self.unserved_with(&key.text, key.span, advice);
            return;
        }
        if scope == Scope::Mta && &*key.text == "session-keepalive" {
            if let Some(seconds) = self.count(number, 0) {
                let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
                self.config.limits.mta.keepalive = Duration::from_secs(seconds);
            }
            return;
        }
        let least = usize::from(!key.text.ends_with("lowat"));
        if field(&mut self.config.limits, scope, &key.text).is_none() {
            let message = format!("no limit is named `{}` here", key.text.escape_debug());
            let fault = self.report.error(key.span, message, "");
            fault.help(format!("limits here are {}", names(scope)));
            return;
        }
        let count = self.count(number, least);
        let field = field(&mut self.config.limits, scope, &key.text);
        if let (Some(field), Some(count)) = (field, count) {
            *field = count;
        }
    }
}

/// The limit a key stands for.
fn field<'l>(limits: &'l mut Limits, scope: Scope, key: &str) -> Option<&'l mut usize> {
    Some(match (scope, key) {
        (Scope::Smtp, "max-rcpt") => &mut limits.recipients,
        (Scope::Smtp, "max-mails") => &mut limits.mails_per_session,
        (Scope::Scheduler, "max-inflight") => &mut limits.inflight,
        (Scope::Scheduler, "max-schedule") => &mut limits.schedule_batch,
        (Scope::Scheduler, "max-evp-batch-size") => &mut limits.listing_page,
        (Scope::Mda, "max-session") => &mut limits.mda_sessions,
        (Scope::Mda, "max-session-per-user") => &mut limits.mda_sessions_per_user,
        (Scope::Mda, "task-hiwat") => &mut limits.mda_task_hiwat,
        (Scope::Mda, "task-lowat") => &mut limits.mda_task_lowat,
        (Scope::Mda, "task-release") => &mut limits.mda_task_release,
        (Scope::Mta, "max-conn-per-host") => &mut limits.mta.connections_per_host,
        (Scope::Mta, "max-conn-per-relay") => &mut limits.mta.connections_per_relay,
        (Scope::Mta, "max-conn-per-domain") => &mut limits.mta.connections_per_domain,
        (Scope::Mta, "session-mail-max") => &mut limits.mta.mails_per_session,
        (Scope::Mta, "max-failures-per-session") => &mut limits.mta.failures_per_session,
        (Scope::Mta, "task-hiwat") => &mut limits.mta.task_hiwat,
        (Scope::Mta, "task-lowat") => &mut limits.mta.task_lowat,
        (Scope::Mta, "task-release") => &mut limits.mta.task_release,
        _ => return None,
    })
}

fn names(scope: Scope) -> &'static str {
    match scope {
        Scope::Smtp => "max-rcpt and max-mails",
        Scope::Scheduler => "max-inflight, max-schedule and max-evp-batch-size",
        Scope::Mda => "max-session, max-session-per-user, task-hiwat, task-lowat and task-release",
        Scope::Mta => {
            "max-conn-per-host, max-conn-per-relay, max-conn-per-domain, session-mail-max, \
             session-keepalive, max-failures-per-session, task-hiwat, task-lowat and task-release"
        }
    }
}
