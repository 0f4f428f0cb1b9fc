//! Counters of the listeners and the control socket, which many tasks change.

use redspool_core::addr::Source;
use redspool_core::stats::{Counter, Counters, Digest};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// Counters that have no single owner.
#[derive(Debug, Default)]
pub struct SharedCounters {
    smtp_opened: AtomicI64,
    smtp_closed: AtomicI64,
    local: AtomicI64,
    inet4: AtomicI64,
    inet6: AtomicI64,
    tls_opened: AtomicI64,
    tls_closed: AtomicI64,
    smtps_opened: AtomicI64,
    smtps_closed: AtomicI64,
    control: AtomicI64,
    incoming_begun: AtomicI64,
    incoming_ended: AtomicI64,
    commits_begun: AtomicI64,
    commits_ended: AtomicI64,
    corrupt: AtomicI64,
}

impl SharedCounters {
    /// An SMTP session began.
    pub fn smtp_opened(&self, source: Source) {
        let opened = self.smtp_opened.fetch_add(1, Relaxed);
        let open = opened - self.smtp_closed.load(Relaxed);
        changed(Counter::SmtpSession, open, 1);
        match source {
            Source::Local => {
                changed(
                    Counter::SmtpSessionLocal,
                    self.local.fetch_add(1, Relaxed),
                    1,
                );
            }
            Source::Inet4(_) => {
                changed(
                    Counter::SmtpSessionInet4,
                    self.inet4.fetch_add(1, Relaxed),
                    1,
                );
            }
            Source::Inet6(_) => {
                changed(
                    Counter::SmtpSessionInet6,
                    self.inet6.fetch_add(1, Relaxed),
                    1,
                );
            }
        }
    }

    /// An SMTP session ended.
    pub fn smtp_closed(&self) {
        let closed = self.smtp_closed.fetch_add(1, Relaxed);
        let open = self.smtp_opened.load(Relaxed) - closed;
        changed(Counter::SmtpSession, open, -1);
    }

    /// TLS is up in an SMTP session, from its first octet or later.
    pub fn tls_opened(&self, immediate: bool) {
        let opened = if immediate {
            &self.smtps_opened
        } else {
            &self.tls_opened
        };
        opened.fetch_add(1, Relaxed);
    }

    /// An SMTP session with TLS ended.
    pub fn tls_closed(&self, immediate: bool) {
        let closed = if immediate {
            &self.smtps_closed
        } else {
            &self.tls_closed
        };
        closed.fetch_add(1, Relaxed);
    }

    /// Somebody connected to the control socket.
    pub fn control_opened(&self) {
        changed(
            Counter::ControlSession,
            self.control.fetch_add(1, Relaxed),
            1,
        );
    }

    /// Somebody left the control socket.
    pub fn control_closed(&self) {
        changed(
            Counter::ControlSession,
            self.control.fetch_sub(1, Relaxed),
            -1,
        );
    }

    /// The envelopes of a message are on their way into the queue.
    pub fn incoming(&self, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.incoming_begun.fetch_add(count, Relaxed);
        self.commits_begun.fetch_add(i64::from(count > 0), Relaxed);
    }

    /// They are queued, or are not to be.
    pub fn arrived(&self, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.incoming_ended.fetch_add(count, Relaxed);
        self.commits_ended.fetch_add(i64::from(count > 0), Relaxed);
    }

    /// A message went to the corrupt bucket.
    pub fn corrupt(&self) {
        changed(Counter::QueueCorrupt, self.corrupt.fetch_add(1, Relaxed), 1);
    }

    /// Adds these numbers to those of the engine.
    pub fn report(&self, counters: &mut Counters) {
        let changed = [
            (Counter::SmtpSessionLocal, self.local.load(Relaxed)),
            (Counter::SmtpSessionInet4, self.inet4.load(Relaxed)),
            (Counter::SmtpSessionInet6, self.inet6.load(Relaxed)),
            (Counter::ControlSession, self.control.load(Relaxed)),
            (Counter::QueueCorrupt, self.corrupt.load(Relaxed)),
        ];
        let gauges = [
            (Counter::SmtpSession, &self.smtp_opened, &self.smtp_closed),
            (Counter::SmtpTls, &self.tls_opened, &self.tls_closed),
            (Counter::SmtpSmtps, &self.smtps_opened, &self.smtps_closed),
            (
                Counter::SchedulerEnvelopeIncoming,
                &self.incoming_begun,
                &self.incoming_ended,
            ),
            (
                Counter::SchedulerRamEnvelope,
                &self.incoming_begun,
                &self.incoming_ended,
            ),
            (
                Counter::SchedulerRamMessage,
                &self.commits_begun,
                &self.commits_ended,
            ),
            (
                Counter::SchedulerRamUpdate,
                &self.commits_begun,
                &self.commits_ended,
            ),
        ];
        for (counter, opened, closed) in gauges {
            let opened = opened.load(Relaxed);
            if opened > 0 {
                counters.add(counter, opened - closed.load(Relaxed));
            }
        }
        for (counter, value) in changed {
            counters.set(counter, value);
        }
    }

    /// Adds the sessions to a digest.
    pub fn digest(&self, digest: &mut Digest) {
        digest.clients_connected = self.smtp_opened.load(Relaxed).unsigned_abs();
        digest.clients_disconnected = self.smtp_closed.load(Relaxed).unsigned_abs();
    }
}

/// Traces a change of a counter that was `before`.
fn changed(counter: Counter, before: i64, by: i64) {
    let (key, after) = (counter.key(), before.saturating_add(by));
    tracing::trace!(target: "trace::stat", "{key}: {before} -> {after}");
}
