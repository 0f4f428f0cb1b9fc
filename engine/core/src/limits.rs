//! All limits, in one struct, each with its reason.
//!
//! Defaults are those of the reference where it has them (spec Appendix D), so that a
//! configuration means the same here.

use std::collections::BTreeMap;
use std::time::Duration;

/// Every bound on what the outside can make us hold, wait for or do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets of one command line without CR LF. RFC 5321 4.5.3.1.4 asks for 512; extensions add.
    pub command_line: usize,
    /// Octets of one line of message text without CR LF; a longer one would have to be buffered.
    pub text_line: usize,
    /// Octets of a message; `smtp max-message-size`. Announced with SIZE (RFC 1870).
    pub message_size: u64,
    /// Octets of message text kept in memory per session; more goes to a temporary file.
    pub message_in_memory: usize,
    /// Octets of the header section, all of which is looked through for trace and fix-ups; a
    /// larger one is refused.
    pub header_size: usize,
    /// Recipients of one transaction; `smtp limit max-rcpt`. RFC 5321 4.5.3.1.8: at least 100.
    pub recipients: usize,
    /// Messages of one session; `smtp limit max-mails`.
    pub mails_per_session: usize,
    /// Refused or unknown commands after which a session ends: nobody needs to guess this often.
    pub errors_per_session: usize,
    /// Octets of a line that answers a challenge of AUTH (RFC 4954 section 4: 12,288 with its end).
    pub auth_line: usize,
    /// Octets of a user's name in AUTH.
    pub username: usize,
    /// Octets of a password in AUTH.
    pub password: usize,
    /// Wrong passwords after which a session ends.
    pub auth_failures: usize,
    /// Longest time for which the answer to a wrong password is held back.
    pub auth_delay: Duration,
    /// Time after which wrong passwords are forgotten.
    pub auth_memory: Duration,
    /// Addresses and users whose wrong passwords are remembered.
    pub auth_guessers: usize,
    /// Passwords checked at a time: each takes a processor, and some take 16 MiB.
    pub auth_checks: usize,
    /// Wait for a whole TLS handshake.
    pub tls_handshake: Duration,
    /// `Received` fields after which a message is taken to loop (RFC 5321 6.3: at least 100).
    pub received_fields: usize,
    /// Octets of the DSN envelope identifier (RFC 3461 4.4: 100).
    pub envid: usize,
    /// Octets of the DSN original recipient (RFC 3461 4.2: 500).
    pub orcpt: usize,
    /// Wait for the next command of a client (RFC 5321 4.5.3.2.7: 5 minutes).
    pub session_timeout: Duration,
    /// Wait for a whole command line once its first octet is there: a trickle must not hold us.
    pub command_timeout: Duration,
    /// Wait for a whole message, from 354 to the final dot.
    pub data_timeout: Duration,
    /// Sessions open at a time, over all listeners; beyond it the backlog waits.
    pub sessions: usize,
    /// Sessions open at a time from one client address.
    pub sessions_per_client: usize,

    /// Steps of alias and forward expansion in depth; breaks loops.
    pub expansion_depth: usize,
    /// Nodes of one expansion in which a `.forward` file takes part; breaks explosions.
    pub expansion_nodes: usize,
    /// Nodes of any expansion: alias tables are the administrator's, but loops are still loops.
    pub alias_nodes: usize,
    /// Octets of a `.forward` file.
    pub forward_size: usize,
    /// Octets of a table or configuration file.
    pub table_size: usize,
    /// Files one configuration may include; breaks explosions of files that include each other.
    pub config_files: usize,

    /// Envelopes handed to agents at a time; `scheduler limit max-inflight`.
    pub inflight: usize,
    /// Envelopes handed out per turn of the schedule; `scheduler limit max-schedule`.
    pub schedule_batch: usize,
    /// Envelopes parked for one relay or user before they go back to the time queue. The reference
    /// parks 1000; but what goes back is read again and again, so that a deep queue for one smart
    /// host drains at a fraction of its speed. Parking costs 8 octets.
    pub hold_queue: usize,
    /// Longest wait between two attempts, whatever the back-off formula says.
    pub backoff_max: Duration,
    /// Time over which mail that is overdue after a restart is spread, so that it does not all
    /// start at once; never more than the first wait of its agent.
    pub restart_spread: Duration,
    /// Life of an envelope; `queue ttl`.
    pub queue_ttl: Duration,
    /// Life of a bounce.
    pub bounce_ttl: Duration,
    /// How long what the administrator has removed stays in the trash; `queue trash-ttl`.
    pub trash_ttl: Duration,
    /// Octets of messages in the trash; `queue trash-size`. Beyond it the oldest leave; 0 for no
    /// trash.
    pub trash_size: u64,
    /// The same as hundredths of the file system of the spool; `queue trash-share`.
    pub trash_share: u64,
    /// Time between two looks at the trash while something is in it.
    pub trash_interval: Duration,
    /// Envelopes that go into the trash, or leave it, in one transition: other commits go between.
    pub trash_step: usize,
    /// Envelopes of a listing read and sent at a time.
    pub listing_page: usize,
    /// Space of the queue's file system below which new mail waits; `queue limit`.
    pub space: SpaceLimits,

    /// Deliveries to local users that run at a time; `mda limit max-session`.
    pub mda_sessions: usize,
    /// The same for one user; `mda limit max-session-per-user`.
    pub mda_sessions_per_user: usize,
    /// Life of one delivery program.
    pub mda_timeout: Duration,
    /// Octets of a delivery program's output that are kept.
    pub mda_output: usize,
    /// Waiting envelopes of a user from which on more are held; `mda limit task-hiwat`.
    pub mda_task_hiwat: usize,
    /// Waiting envelopes at which held ones are released; `mda limit task-lowat`.
    pub mda_task_lowat: usize,
    /// Held envelopes released at a time; `mda limit task-release`.
    pub mda_task_release: usize,

    /// The numbers of `mta limit`.
    pub mta: MtaLimits,
    /// Those of `mta limit for domain`, by domain in lower case.
    pub mta_for: BTreeMap<Box<str>, MtaLimits>,
    /// Pairs of `pause mta from .. for ..`, each given by hand.
    pub mta_blocks: usize,

    /// Bounds of `spf walk`.
    pub spf: SpfLimits,
    /// Bounds of policies of domains.
    pub sts: StsLimits,
    /// Bounds of TLSA records.
    pub dane: DaneLimits,

    /// Notices whose headers we gather before they go out: failures of one message merge.
    pub bounce_wait: Duration,
    /// Notices being made at a time.
    pub bounce_sessions: usize,
    /// Octets of the original message returned with a notice.
    pub bounce_copy: usize,

    /// Connections of one user to the control socket.
    pub control_connections_per_user: usize,
    /// Connections of all users to the control socket but the owner's, who must always get in.
    pub control_connections: usize,
    /// From the first octet of a control message to its last: a local program sends it at once.
    pub control_message_timeout: Duration,
    /// Parked messages looked at in one pass; the rest waits for the next.
    pub parked_pass: usize,
    /// Time between two looks for parked messages.
    pub parked_interval: Duration,
    /// Octets of what stands before the content of a parked message.
    pub parked_head: u64,
    /// Octets of one content that is imported: more than any server sends, so that a compressed one
    /// cannot explode; an encrypted one is decrypted in memory.
    pub import_content: u64,
    /// Octets of one envelope that is imported, decoded; all its fields at their longest fit.
    pub import_envelope: usize,
    /// Envelopes of one message that are imported together; more come in as another message.
    pub import_recipients: usize,
    /// Octets of one frame on the control socket.
    pub control_frame: usize,
    /// Texts of a kind told apart for `--dry-run`.
    pub census_texts: usize,
    /// Domains counted one by one by `show queue --summary`; the rest is one line.
    pub summary_domains: usize,
}

/// What has to stay free of the queue's file system, for deliveries and what they leave behind:
/// below the lesser of `octets` and `percent`, or below `files`, new mail is put off with 452.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceLimits {
    /// Octets; `min-free`.
    pub octets: u64,
    /// Parts of a hundred, so that a small file system can be used at all; `min-free-percent`.
    pub percent: u32,
    /// Files (inodes): a few segments and the database; `min-free-files`.
    pub files: u64,
}

/// Limits of the relaying side; `mta limit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MtaLimits {
    /// Connections to one remote address; `max-conn-per-host`.
    pub connections_per_host: usize,
    /// Connections between one local and one remote address; `max-conn-per-route`.
    pub connections_per_route: usize,
    /// Connections from one local address; `max-conn-per-source`.
    pub connections_per_source: usize,
    /// Connections from one local address that are being opened to hosts that could not be reached
    /// before, or for mail that has failed before; at most half of those above. Dead hosts take
    /// minutes to say nothing, and must leave places for those that answer.
    pub probes: usize,
    /// Relays that wait for such a connection; what is due for another one fails for now.
    pub probing_relays: usize,
    /// Relays without a connection that keep their mail in memory while they wait for a place of a
    /// source; that of others is held until their turn comes.
    pub waiting_relays: usize,
    /// Messages that wait with one of them, while the others are held: they count as in flight.
    pub probing_tasks: usize,
    /// Connections of one relay from one local address; `max-conn-per-connector`.
    pub connections_per_connector: usize,
    /// Connections of one relay; `max-conn-per-relay`.
    pub connections_per_relay: usize,
    /// Connections to one domain; `max-conn-per-domain`.
    pub connections_per_domain: usize,
    /// Least time between two connects to one remote address; `conn-delay-host`.
    pub connect_delay_host: Duration,
    /// The same from one local address; `conn-delay-source`.
    pub connect_delay_source: Duration,
    /// The same of one relay from one local address; `conn-delay-connector`.
    pub connect_delay_connector: Duration,
    /// The same to one domain; `conn-delay-domain`.
    pub connect_delay_domain: Duration,
    /// The same between one local and one remote address; `conn-delay-route`. See
    /// [`MtaLimits::delays`] for the default.
    pub connect_delay_route: Option<Duration>,
    /// The same of one relay; `conn-delay-relay`.
    pub connect_delay_relay: Option<Duration>,
    /// Least time between the end of a connection and the next one between the same addresses;
    /// `reconn-delay-route`.
    pub reconnect_delay_route: Option<Duration>,
    /// Pause between two messages on a connection; `session-transaction-delay`.
    pub transaction_delay: Duration,
    /// Whether IPv4 is used; `inet6` alone turns it off.
    pub inet4: bool,
    /// Whether IPv6 is used; `inet4` alone turns it off.
    pub inet6: bool,
    /// Local addresses of one relay that are used.
    pub sources: usize,
    /// Relays without work that are remembered because their destination is down, for listings.
    pub idle_relays: usize,
    /// Messages sent over one connection; `session-mail-max`.
    pub mails_per_session: usize,
    /// Idle wait of a relay's last connection before QUIT; `session-keepalive`.
    pub keepalive: Duration,
    /// Transactions in a row without a recipient accepted after which a connection is given up:
    /// the host seems to reject all mail.
    pub fruitless_per_session: usize,
    /// Recipients refused in a row after which a session is given up; `max-failures-per-session`.
    pub failures_per_session: usize,
    /// Transactions in a row without one success after which a session is given up: the host
    /// refuses everything.
    pub tries_per_session: usize,
    /// Recipients of one transaction: what any server takes (RFC 5321 4.5.3.1.8).
    pub recipients_per_transaction: usize,
    /// Envelopes waiting for one relay from which on more are held; `task-hiwat`.
    pub task_hiwat: usize,
    /// Envelopes waiting at which held ones are released; `task-lowat`.
    pub task_lowat: usize,
    /// Held envelopes released at a time; `task-release`.
    pub task_release: usize,
    /// Addresses of one domain that are tried.
    pub addresses: usize,
    /// Wait for a connection to be made: half a minute lets the system try five times.
    pub connect_timeout: Duration,
    /// Wait for a reply, the final one apart (RFC 5321 4.5.3.2: 5 minutes).
    pub reply_timeout: Duration,
    /// Wait for a handshake of TLS.
    pub handshake_timeout: Duration,
    /// Wait for the reply to the final dot (RFC 5321 4.5.3.2.6: 10 minutes; shorter duplicates).
    pub dot_timeout: Duration,
    /// Wait for the reply to QUIT: a courtesy, nothing depends on it.
    pub quit_timeout: Duration,
    /// Octets of one reply line.
    pub reply_line: usize,
    /// Lines of one reply.
    pub reply_lines: usize,
    /// Octets of one chunk of content (RFC 3030): a piece as the store keeps it.
    pub chunk: usize,
    /// Chunks sent before the reply to the first of them is here. So many replies fit into any
    /// socket's buffer, so that a server that writes them never waits for us, who write (RFC 2920
    /// section 3.1), and a refusal is heard soon.
    pub chunks_unanswered: usize,
    /// First wait after a host that could not be reached; grows with the square of failures.
    pub route_penalty: Duration,
    /// Longest such wait.
    pub route_penalty_max: Duration,
    /// How long a failure of a host counts, at least, unless it takes mail before: mail for dead
    /// hosts that comes now and then must not take up a connection as if nothing was known.
    pub route_memory: Duration,
    /// Recipient domains whose last status is remembered for `show hoststats`.
    pub hoststats: usize,
    /// How long such a status is remembered after its last change.
    pub hoststat_ttl: Duration,
    /// Envelopes per domain that are tried again at once when the domain answers;
    /// `mta max-deferred`.
    pub deferred: usize,
}

/// The waits between connections of one relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delays {
    /// Between two connects on a route.
    pub route: Duration,
    /// Between two connects of the relay.
    pub relay: Duration,
    /// Between the end of a connection and the next one on a route.
    pub reconnect: Duration,
}

impl MtaLimits {
    /// How long a route is disabled after its `n`th failure in a row.
    pub fn penalty(&self, n: u32) -> Duration {
        let square = n.saturating_mul(n);
        self.route_penalty
            .saturating_mul(square)
            .min(self.route_penalty_max)
    }

    /// The waits between connections. Those that are not set are the reference's for hosts of
    /// strangers, found `by_mx`; a smart host is the administrator's own and needs none.
    pub fn delays(&self, by_mx: bool) -> Delays {
        let or = |set: Option<Duration>, seconds| {
            let polite = Duration::from_secs(if by_mx { seconds } else { 0 });
            set.unwrap_or(polite)
        };
        Delays {
            route: or(self.connect_delay_route, 5),
            relay: or(self.connect_delay_relay, 2),
            reconnect: or(self.reconnect_delay_route, 3),
        }
    }
}

impl Limits {
    /// The limits for a destination: a domain, or the name of a smart host, in lower case.
    pub fn mta_for(&self, domain: &str) -> &MtaLimits {
        self.mta_for.get(domain).unwrap_or(&self.mta)
    }
}

/// Limits of a walk through SPF records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpfLimits {
    /// Terms that need a look-up, over all records of a domain (RFC 7208 4.6.4: 10).
    pub lookups: usize,
    /// Look-ups that find nothing (RFC 7208 4.6.4: 2).
    pub voids: usize,
    /// Exchangers looked at per `mx` term (RFC 7208 4.6.4: 10).
    pub exchanges: usize,
    /// Networks kept of one domain; more than any record of use has.
    pub networks: usize,
    /// Faults kept of one domain: nobody reads more.
    pub faults: usize,
    /// Domains walked through at a time.
    pub domains: usize,
}

/// Limits of MTA-STS: what domains publish, and what of it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StsLimits {
    /// Policies kept; beyond it the one leaves that was not used for longest.
    pub policies: usize,
    /// Octets of a policy as it is fetched (RFC 8461 section 3.3 suggests 64 KiB).
    pub policy_size: u64,
    /// Patterns of one policy: more than any domain has exchangers.
    pub patterns: usize,
    /// Wait for a whole policy (RFC 8461 section 3.3 suggests a minute).
    pub fetch_timeout: Duration,
    /// Policies fetched at a time: each takes a thread, and others read the queue with theirs.
    pub fetches: usize,
    /// Wait after a policy could not be fetched (RFC 8461 section 3.3 suggests five minutes).
    pub retry: Duration,
    /// Octets of the file in which policies outlive a restart.
    pub file_size: u64,
}

/// Limits of DANE: what of hosts' TLSA records is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DaneLimits {
    /// Records of one host: a certificate in use and one to come, in all forms, are a dozen.
    pub records: usize,
    /// Octets of what a record holds: a certificate as a whole, with room to spare.
    pub record_size: usize,
    /// How long name servers that pass no signatures on are taken at their word. There is no record
    /// whose life could say; a name server that comes to pass them on is soon heard.
    pub retry: Duration,
}

impl Default for DaneLimits {
    fn default() -> Self {
        Self {
            records: 32,
            record_size: 8 << 10,
            retry: Duration::from_mins(5),
        }
    }
}

impl Default for StsLimits {
    fn default() -> Self {
        Self {
            policies: 4096,
            policy_size: 64 << 10,
            patterns: 128,
            fetch_timeout: Duration::from_mins(1),
            fetches: 32,
            retry: Duration::from_mins(5),
            file_size: 64 << 20,
        }
    }
}

impl Default for SpfLimits {
    fn default() -> Self {
        Self {
            lookups: 10,
            voids: 2,
            exchanges: 10,
            networks: 10_000,
            faults: 100,
            domains: 16,
        }
    }
}

impl Default for MtaLimits {
    fn default() -> Self {
        Self {
            connections_per_host: 10,
            connections_per_route: 5,
            connections_per_source: 100,
            probes: 25,
            probing_relays: 200,
            waiting_relays: 200,
            probing_tasks: 2,
            connections_per_connector: 20,
            connections_per_relay: 100,
            connections_per_domain: 100,
            connect_delay_host: Duration::ZERO,
            connect_delay_source: Duration::ZERO,
            connect_delay_connector: Duration::ZERO,
            connect_delay_domain: Duration::ZERO,
            connect_delay_route: None,
            connect_delay_relay: None,
            reconnect_delay_route: None,
            transaction_delay: Duration::ZERO,
            inet4: true,
            inet6: true,
            sources: 1024,
            idle_relays: 10_000,
            mails_per_session: 100,
            keepalive: Duration::from_secs(10),
            fruitless_per_session: 10,
            failures_per_session: 25,
            tries_per_session: 10,
            recipients_per_transaction: 100,
            task_hiwat: 50,
            task_lowat: 30,
            task_release: 10,
            addresses: 64,
            connect_timeout: Duration::from_secs(30),
            reply_timeout: Duration::from_mins(5),
            handshake_timeout: Duration::from_mins(1),
            dot_timeout: Duration::from_mins(10),
            quit_timeout: Duration::from_secs(5),
            reply_line: 2048,
            reply_lines: 128,
            chunk: 64 << 10,
            chunks_unanswered: 16,
            route_penalty: Duration::from_secs(15),
            route_penalty_max: Duration::from_hours(1),
            route_memory: Duration::from_hours(1),
            hoststats: 10_000,
            hoststat_ttl: Duration::from_hours(4),
            deferred: 100,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            command_line: 2048,
            text_line: 65_535,
            message_size: 36_700_160,
            message_in_memory: 256 << 10,
            header_size: 256 << 10,
            recipients: 1000,
            mails_per_session: 100,
            errors_per_session: 20,
            auth_line: 12_286,
            username: 255,
            password: 1023,
            auth_failures: 3,
            auth_delay: Duration::from_secs(30),
            auth_memory: Duration::from_hours(1),
            auth_guessers: 10_000,
            auth_checks: 4,
            tls_handshake: Duration::from_secs(30),
            received_fields: 100,
            envid: 100,
            orcpt: 500,
            session_timeout: Duration::from_mins(5),
            command_timeout: Duration::from_mins(5),
            data_timeout: Duration::from_hours(1),
            sessions: 8000,
            sessions_per_client: 4000,
            expansion_depth: 10,
            expansion_nodes: 100,
            alias_nodes: 10_000,
            forward_size: 4095,
            table_size: 64 << 20,
            config_files: 256,
            inflight: 5000,
            schedule_batch: 256,
            hold_queue: 1_000_000,
            backoff_max: Duration::from_hours(4),
            restart_spread: Duration::from_mins(1),
            queue_ttl: Duration::from_hours(96),
            bounce_ttl: Duration::from_hours(168),
            trash_ttl: Duration::from_hours(24),
            trash_size: 16 << 30,
            trash_share: 10,
            trash_interval: Duration::from_secs(5),
            trash_step: 16_384,
            listing_page: 1024,
            space: SpaceLimits {
                octets: 64 << 20,
                percent: 5,
                files: 64,
            },
            mda_sessions: 50,
            mda_sessions_per_user: 7,
            mda_timeout: Duration::from_mins(5),
            mda_output: 4096,
            mda_task_hiwat: 50,
            mda_task_lowat: 30,
            mda_task_release: 10,
            mta: MtaLimits::default(),
            mta_for: BTreeMap::new(),
            mta_blocks: 10_000,
            spf: SpfLimits::default(),
            sts: StsLimits::default(),
            dane: DaneLimits::default(),
            bounce_wait: Duration::from_secs(1),
            bounce_sessions: 2,
            bounce_copy: 64 << 10,
            control_connections_per_user: 32,
            control_connections: 512,
            control_message_timeout: Duration::from_secs(10),
            parked_pass: 10_000,
            parked_interval: Duration::from_mins(1),
            parked_head: 1 << 20,
            import_content: 256 << 20,
            import_envelope: 64 << 10,
            import_recipients: 10_000,
            control_frame: 1 << 20,
            census_texts: 10_000,
            summary_domains: 100_000,
        }
    }
}
