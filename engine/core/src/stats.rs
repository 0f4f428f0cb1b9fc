//! Counters: the numbers of `show stats` and `monitor`.
//!
//! A key is listed only after its first change, as in the reference. Gauges go up and down,
//! counters only up; both are signed.

/// A number of `show stats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counter {
    /// SMTP sessions open.
    SmtpSession,
    /// Submissions through the daemon itself; only counts up.
    SmtpSessionLocal,
    /// Sessions over IPv4; only counts up.
    SmtpSessionInet4,
    /// Sessions over IPv6; only counts up.
    SmtpSessionInet6,
    /// SMTP sessions open that have begun TLS with STARTTLS.
    SmtpTls,
    /// SMTP sessions open that had TLS from the first octet.
    SmtpSmtps,
    /// Connections to the control socket.
    ControlSession,
    /// Bounce envelopes created.
    QueueBounce,
    /// Messages moved to the corrupt bucket.
    QueueCorrupt,
    /// Envelopes queued.
    SchedulerEnvelope,
    /// Envelopes of transactions not committed yet.
    SchedulerEnvelopeIncoming,
    /// Envelopes handed to an agent.
    SchedulerEnvelopeInflight,
    /// Envelopes that reached the end of their lifetime.
    SchedulerEnvelopeExpired,
    /// Envelopes removed by the administrator.
    SchedulerEnvelopeRemoved,
    /// Envelopes that went back to wait for another slot untried: a hold queue was full, or their
    /// relay has just failed.
    SchedulerEnvelopeUpdated,
    /// Attempts that delivered.
    SchedulerDeliveryOk,
    /// Attempts that failed for now.
    SchedulerDeliveryTempfail,
    /// Attempts that failed for good.
    SchedulerDeliveryPermfail,
    /// Attempts that found a mail loop.
    SchedulerDeliveryLoop,
    /// Envelopes in memory: queued, or of transactions not committed yet.
    SchedulerRamEnvelope,
    /// Messages of these.
    SchedulerRamMessage,
    /// Transactions not committed yet.
    SchedulerRamUpdate,
    /// Envelopes held for an agent.
    SchedulerHold,
    /// Hold queues in use.
    SchedulerHoldq,
    /// Envelopes a full hold queue turned away.
    SchedulerHoldOverflow,
    /// Users with local deliveries waiting or running.
    MdaUser,
    /// Envelopes in the local delivery agent.
    MdaEnvelope,
    /// Local deliveries waiting for a place.
    MdaPending,
    /// Local deliveries running.
    MdaRunning,
    /// Relays in memory.
    MtaRelay,
    /// Destination domains in memory.
    MtaDomain,
    /// Remote hosts in memory.
    MtaHost,
    /// Local addresses that relays connect from.
    MtaSource,
    /// Pairs of a relay and a local address.
    MtaConnector,
    /// Routes in memory.
    MtaRoute,
    /// Outgoing connections.
    MtaSession,
    /// Messages in the relaying agent.
    MtaTask,
    /// Messages being transferred.
    MtaTaskRunning,
    /// Envelopes in the relaying agent.
    MtaEnvelope,
    /// Groups of bounces waiting to be reported.
    BounceMessage,
    /// Bounce envelopes in the bounce agent.
    BounceEnvelope,
    /// Notices being made.
    BounceSession,
}

impl Counter {
    /// Every counter, in the order of declaration.
    pub const ALL: [Self; 42] = [
        Self::SmtpSession,
        Self::SmtpSessionLocal,
        Self::SmtpSessionInet4,
        Self::SmtpSessionInet6,
        Self::SmtpTls,
        Self::SmtpSmtps,
        Self::ControlSession,
        Self::QueueBounce,
        Self::QueueCorrupt,
        Self::SchedulerEnvelope,
        Self::SchedulerEnvelopeIncoming,
        Self::SchedulerEnvelopeInflight,
        Self::SchedulerEnvelopeExpired,
        Self::SchedulerEnvelopeRemoved,
        Self::SchedulerEnvelopeUpdated,
        Self::SchedulerDeliveryOk,
        Self::SchedulerDeliveryTempfail,
        Self::SchedulerDeliveryPermfail,
        Self::SchedulerDeliveryLoop,
        Self::SchedulerRamEnvelope,
        Self::SchedulerRamMessage,
        Self::SchedulerRamUpdate,
        Self::SchedulerHold,
        Self::SchedulerHoldq,
        Self::SchedulerHoldOverflow,
        Self::MdaUser,
        Self::MdaEnvelope,
        Self::MdaPending,
        Self::MdaRunning,
        Self::MtaRelay,
        Self::MtaDomain,
        Self::MtaHost,
        Self::MtaSource,
        Self::MtaConnector,
        Self::MtaRoute,
        Self::MtaSession,
        Self::MtaTask,
        Self::MtaTaskRunning,
        Self::MtaEnvelope,
        Self::BounceMessage,
        Self::BounceEnvelope,
        Self::BounceSession,
    ];

    /// Its key in `show stats`.
    pub const fn key(self) -> &'static str {
        match self {
            Self::SmtpSession => "smtp.session",
            Self::SmtpSessionLocal => "smtp.session.local",
            Self::SmtpSessionInet4 => "smtp.session.inet4",
            Self::SmtpSessionInet6 => "smtp.session.inet6",
            Self::SmtpTls => "smtp.tls",
            Self::SmtpSmtps => "smtp.smtps",
            Self::ControlSession => "control.session",
            Self::QueueBounce => "queue.bounce",
            Self::QueueCorrupt => "queue.corrupt",
            Self::SchedulerEnvelope => "scheduler.envelope",
            Self::SchedulerEnvelopeIncoming => "scheduler.envelope.incoming",
            Self::SchedulerEnvelopeInflight => "scheduler.envelope.inflight",
            Self::SchedulerEnvelopeExpired => "scheduler.envelope.expired",
            Self::SchedulerEnvelopeRemoved => "scheduler.envelope.removed",
            Self::SchedulerEnvelopeUpdated => "scheduler.envelope.updated",
            Self::SchedulerDeliveryOk => "scheduler.delivery.ok",
            Self::SchedulerDeliveryTempfail => "scheduler.delivery.tempfail",
            Self::SchedulerDeliveryPermfail => "scheduler.delivery.permfail",
            Self::SchedulerDeliveryLoop => "scheduler.delivery.loop",
            Self::SchedulerRamEnvelope => "scheduler.ramqueue.envelope",
            Self::SchedulerRamMessage => "scheduler.ramqueue.message",
            Self::SchedulerRamUpdate => "scheduler.ramqueue.update",
            Self::SchedulerHold => "scheduler.ramqueue.hold",
            Self::SchedulerHoldq => "scheduler.ramqueue.holdq",
            Self::SchedulerHoldOverflow => "scheduler.ramqueue.hold-overflow",
            Self::MdaUser => "mda.user",
            Self::MdaEnvelope => "mda.envelope",
            Self::MdaPending => "mda.pending",
            Self::MdaRunning => "mda.running",
            Self::MtaRelay => "mta.relay",
            Self::MtaDomain => "mta.domain",
            Self::MtaHost => "mta.host",
            Self::MtaSource => "mta.source",
            Self::MtaConnector => "mta.connector",
            Self::MtaRoute => "mta.route",
            Self::MtaSession => "mta.session",
            Self::MtaTask => "mta.task",
            Self::MtaTaskRunning => "mta.task.running",
            Self::MtaEnvelope => "mta.envelope",
            Self::BounceMessage => "bounce.message",
            Self::BounceEnvelope => "bounce.envelope",
            Self::BounceSession => "bounce.session",
        }
    }
}

/// A set of counters with one owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    values: [Option<i64>; Counter::ALL.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            values: [None; Counter::ALL.len()],
        }
    }
}

impl Counters {
    /// Changes a counter by `amount`.
    pub fn add(&mut self, counter: Counter, amount: i64) {
        if let Some(slot) = self.values.get_mut(counter as usize) {
            *slot = Some(slot.unwrap_or(0).saturating_add(amount));
        }
    }

    /// Sets a gauge; a gauge that never left zero stays unlisted.
    pub fn set(&mut self, counter: Counter, value: i64) {
        if let Some(slot) = self.values.get_mut(counter as usize)
            && (value != 0 || slot.is_some())
        {
            *slot = Some(value);
        }
    }

    /// Its value; zero before the first change.
    pub fn get(&self, counter: Counter) -> i64 {
        self.values
            .get(counter as usize)
            .copied()
            .flatten()
            .unwrap_or(0)
    }

    /// The counters that have changed since the start, with their keys, in order of the keys.
    pub fn listed(&self) -> Vec<(&'static str, i64)> {
        let mut rows: Vec<_> = Counter::ALL
            .iter()
            .zip(&self.values)
            .filter_map(|(counter, value)| Some((counter.key(), (*value)?)))
            .collect();
        rows.sort_unstable();
        rows
    }
}

/// The numbers behind `monitor`: totals since the start of the daemon, and two gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// SMTP sessions opened.
    pub clients_connected: u64,
    /// SMTP sessions ended.
    pub clients_disconnected: u64,
    /// Envelopes that entered the queue, those found at start included.
    pub enqueued: u64,
    /// Envelopes that left it.
    pub dequeued: u64,
    /// Attempts that delivered.
    pub ok: u64,
    /// Attempts that failed for now.
    pub tempfail: u64,
    /// Attempts that failed for good.
    pub permfail: u64,
    /// Attempts that found a mail loop.
    pub loops: u64,
    /// Envelopes that expired.
    pub expired: u64,
    /// Envelopes removed by the administrator.
    pub removed: u64,
    /// Bounce envelopes created.
    pub bounce: u64,
}
