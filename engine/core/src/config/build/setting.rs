//! Settings that stand alone on a line: limits, times, sizes.

use super::Builder;
use crate::config::grammar::{At, Directive, Limit, Scope, Word};
use crate::config::source::Span;
use crate::config::unserved;
use crate::config::value;
use crate::limits::{Limits, MtaLimits};
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
            Directive::SmtpCiphers(span, list) => {
                self.again("ciphers", span);
                (_, self.smtp_ciphers) = self.suites(None, Some(&list));
            }
            Directive::QueueTtl(span, word) => {
                self.again("ttl", span);
                if let Some(delay) = self.delay(&word) {
                    self.config.limits.queue_ttl = delay;
                }
            }
            Directive::TrashTtl(span, word) => {
                self.again("trash-ttl", span);
                if let Some(delay) = self.delay(&word) {
                    self.config.limits.trash_ttl = delay;
                }
            }
            Directive::TrashSize(span, size) => {
                self.again("trash-size", span);
                match value::size(&size.text) {
                    Ok(octets) => self.config.limits.trash_size = octets,
                    Err(fault) => self.value_fault(size.span, fault),
                }
            }
            Directive::TrashShare(span, number) => {
                self.again("trash-share", span);
                self.trash_share(&number);
            }
            Directive::MaxDeferred(span, number) => {
                self.again("max-deferred", span);
                if let Some(number) = self.count(&number, 0) {
                    self.config.limits.mta.deferred = number;
                }
            }
            Directive::Limits(scope, domain, limits) => {
                let domain = domain.map(|word| Box::from(word.text.to_lowercase()));
                for limit in limits {
                    match limit {
                        Limit::Inet4 => self.family(domain.as_deref(), true),
                        Limit::Inet6 => self.family(domain.as_deref(), false),
                        Limit::Number(key, number) => {
                            self.limit(scope, domain.as_deref(), &key, &number);
                        }
                        Limit::Size(key, size) => self.space_limit(&key, &size),
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

    fn trash_share(&mut self, number: &At<i64>) {
        if let Ok(share @ 0..=100) = u64::try_from(number.what) {
            self.config.limits.trash_share = share;
        } else {
            let message = "not a share in hundredths";
            let fault = self.report.error(number.span, message, "");
            fault.help("write a whole number from 0 to 100");
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

    fn limit(&mut self, scope: Scope, domain: Option<&str>, key: &Word, number: &At<i64>) {
        if let Some(advice) = unserved::limit_advice(&key.text) {
            self.unserved_with(&key.text, key.span, advice);
            return;
        }
        if scope == Scope::Mta && wait(&mut MtaLimits::default(), &key.text, Duration::ZERO) {
            if let Some(seconds) = self.count(number, 0) {
                let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
                let limits = self.mta_limits(domain);
                wait(limits, &key.text, Duration::from_secs(seconds));
            }
            return;
        }
        let least = usize::from(!key.text.ends_with("lowat"));
        let known = match scope {
            Scope::Mta => mta_field(&mut MtaLimits::default(), &key.text).is_some(),
            _ => field(&mut self.config.limits, scope, &key.text).is_some(),
        };
        if !known {
            self.unknown_limit(scope, key);
            return;
        }
        let count = self.count(number, least);
        let field = match scope {
            Scope::Mta => mta_field(self.mta_limits(domain), &key.text),
            _ => field(&mut self.config.limits, scope, &key.text),
        };
        if let (Some(field), Some(count)) = (field, count) {
            *field = count;
        }
    }

    fn unknown_limit(&mut self, scope: Scope, key: &Word) {
        let message = format!("no limit is named `{}` here", key.text.escape_debug());
        let fault = self.report.error(key.span, message, "");
        fault.help(format!("limits here are {}", names(scope)));
    }

    /// What has to stay free of the queue's file system.
    fn space_limit(&mut self, key: &Word, size: &Word) {
        let octets = match value::size(&size.text) {
            Ok(octets) => octets,
            Err(fault) => return self.value_fault(size.span, fault),
        };
        let space = &mut self.config.limits.space;
        match &*key.text {
            "min-free" => space.octets = octets,
            "min-free-files" => space.files = octets,
            "min-free-percent" => {
                if let Ok(percent @ 0..=100) = u32::try_from(octets) {
                    space.percent = percent;
                } else {
                    let fault = self.report.error(size.span, "not a part of a hundred", "");
                    fault.help("write a whole number from 0 to 100");
                }
            }
            _ => self.unknown_limit(Scope::Queue, key),
        }
    }

    /// The limits for all domains, or for one, which begins with what holds for all so far.
    fn mta_limits(&mut self, domain: Option<&str>) -> &mut MtaLimits {
        let limits = &mut self.config.limits;
        match domain {
            None => &mut limits.mta,
            Some(domain) => {
                let common = &limits.mta;
                let own = limits.mta_for.entry(domain.into());
                own.or_insert_with(|| common.clone())
            }
        }
    }

    /// Uses one address family alone.
    fn family(&mut self, domain: Option<&str>, inet4: bool) {
        let limits = self.mta_limits(domain);
        limits.inet4 = inet4;
        limits.inet6 = !inet4;
    }
}

/// Sets the wait a key of `mta limit` stands for; says whether it stands for one.
fn wait(limits: &mut MtaLimits, key: &str, wait: Duration) -> bool {
    let plain = match key {
        "session-keepalive" => &mut limits.keepalive,
        "session-transaction-delay" => &mut limits.transaction_delay,
        "conn-delay-host" => &mut limits.connect_delay_host,
        "conn-delay-source" => &mut limits.connect_delay_source,
        "conn-delay-connector" => &mut limits.connect_delay_connector,
        "conn-delay-domain" => &mut limits.connect_delay_domain,
        key => {
            let optional = match key {
                "conn-delay-route" => &mut limits.connect_delay_route,
                "conn-delay-relay" => &mut limits.connect_delay_relay,
                "reconn-delay-route" => &mut limits.reconnect_delay_route,
                _ => return false,
            };
            *optional = Some(wait);
            return true;
        }
    };
    *plain = wait;
    true
}

/// The number a key of `mta limit` stands for.
fn mta_field<'l>(limits: &'l mut MtaLimits, key: &str) -> Option<&'l mut usize> {
    Some(match key {
        "max-conn-per-host" => &mut limits.connections_per_host,
        "max-conn-per-route" => &mut limits.connections_per_route,
        "max-conn-per-source" => &mut limits.connections_per_source,
        "max-conn-per-connector" => &mut limits.connections_per_connector,
        "max-conn-per-relay" => &mut limits.connections_per_relay,
        "max-conn-per-domain" => &mut limits.connections_per_domain,
        "session-mail-max" => &mut limits.mails_per_session,
        "max-failures-per-session" => &mut limits.failures_per_session,
        "task-hiwat" => &mut limits.task_hiwat,
        "task-lowat" => &mut limits.task_lowat,
        "task-release" => &mut limits.task_release,
        _ => return None,
    })
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
        _ => return None,
    })
}

fn names(scope: Scope) -> &'static str {
    match scope {
        Scope::Smtp => "max-rcpt and max-mails",
        Scope::Queue => "min-free, min-free-percent and min-free-files",
        Scope::Scheduler => "max-inflight, max-schedule and max-evp-batch-size",
        Scope::Mda => "max-session, max-session-per-user, task-hiwat, task-lowat and task-release",
        Scope::Mta => {
            "max-conn-per-host, max-conn-per-route, max-conn-per-source, max-conn-per-connector, \
             max-conn-per-relay, max-conn-per-domain, conn-delay-host, conn-delay-route, \
             conn-delay-source, conn-delay-connector, conn-delay-relay, conn-delay-domain, \
             reconn-delay-route, session-mail-max, session-transaction-delay, session-keepalive, \
             max-failures-per-session, task-hiwat, task-lowat, task-release, inet4 and inet6"
        }
    }
}
