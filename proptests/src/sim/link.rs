//! Simulated connections: our client at one end, a host at the other, a network between.
//!
//! Promises: octets arrive in order, some time after they were sent; a connection that one end has
//! closed is closed for the other after what was sent before.

use super::bug::Bug;
use super::peer::{Peer, Say, Temper};
use super::watch::Connection;
use super::world::{Step, World, temporary};
use bytes::Bytes;
use redspool_core::engine::{Event as EngineEvent, SessionId};
use redspool_core::envelope::{Scheme, TlsPolicy};
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::machine::Machine as _;
use redspool_core::queue::{Failure, Outcome, Reader as _};
use redspool_core::reply::Status;
use redspool_core::smtp::Transaction;
use redspool_core::smtp::client::{Action, Client, Event, Params};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    connection: Connection,
    host: usize,
    /// Our end; gone once it has closed, or the daemon is dead.
    client: Option<Client>,
    /// Theirs; gone once it has closed, or before there is a connection.
    peer: Option<Peer>,
    transaction: Option<Transaction>,
    /// Recipients of the transaction whose delivery we were told of.
    confirmed: BTreeSet<EnvelopeId>,
    /// Octets of the content that were not read yet.
    left: u64,
    latency: Duration,
    /// When it began.
    since: Duration,
    /// When the last octets arrive there, and here.
    there: Duration,
    here: Duration,
    /// The earliest look at the client's deadline that is on the agenda.
    look: Option<Duration>,
}

impl World {
    /// The engine wants a connection.
    pub(super) fn connect(&mut self, session: SessionId, connection: Connection, host: &str) {
        self.trace.count(self.elapsed, "connect", session.0);
        let lawful = self.watch.connect(self.elapsed, &connection, &self.limits);
        self.check(None, lawful);
        let target = connection.target.ip();
        let number = self
            .scene
            .hosts
            .iter()
            .position(|host| host.address == target);
        let Some(host_number) = number else {
            return self.check(
                None,
                Err(format!("connection to {target} ({host}), which is nobody")),
            );
        };
        let limits = self.limits.mta_for(&connection.domain).clone();
        let lmtp = connection
            .relay
            .host
            .as_ref()
            .is_some_and(|host| host.scheme == Scheme::Lmtp);
        let tls = if self.bug(Bug::PolicyForgotten, 1) {
            TlsPolicy::Opportunistic
        } else {
            connection.relay.tls()
        };
        let client = Client::new(Params {
            helo: "mx.example.org".into(),
            lmtp,
            tls,
            credentials: None,
            peer: format!("{target} ({host})").into(),
            limits: Arc::new(limits),
        });
        let latency = Duration::from_millis(1 + self.rng.below(100));
        let source = connection.source;
        self.links.insert(
            session,
            Link {
                connection,
                host: host_number,
                client: Some(client),
                peer: None,
                transaction: None,
                confirmed: BTreeSet::new(),
                left: 0,
                latency,
                since: self.elapsed,
                there: self.elapsed,
                here: self.elapsed,
                look: None,
            },
        );
        let host = &self.scene.hosts[host_number];
        let (refused, lost) = ("connection refused", "connection timed out");
        let (wait, step) = match host.temper(self.elapsed) {
            Temper::Closed => (2 * latency, Step::Unconnected(session, refused)),
            temper if temper == Temper::Void || (source.is_some() && host.deaf_to == source) => {
                let wait = self.limits.mta.connect_timeout;
                (wait, Step::Unconnected(session, lost))
            }
            _ => (2 * latency, Step::Connected(session)),
        };
        self.agenda.add(self.elapsed + wait, step);
    }

    pub(super) fn connected(&mut self, session: SessionId) {
        let seed = self.rng.u64();
        let Some(link) = self.links.get_mut(&session) else {
            return;
        };
        if link.client.is_none() {
            // The daemon was killed meanwhile.
            self.links.remove(&session);
            return;
        }
        let host = &mut self.scene.hosts[link.host];
        let (peer, said) = Peer::accept(host, self.elapsed, seed);
        link.peer = Some(peer);
        self.hand_over(session, Event::Connected);
        self.said(session, said);
    }

    pub(super) fn unconnected(&mut self, session: SessionId, why: &str) {
        let Some(link) = self.links.remove(&session) else {
            return;
        };
        if link.client.is_none() {
            return;
        }
        self.watch.leave(self.elapsed, &link.connection);
        let target = link.connection.target;
        let text = format!("Network error: {target}: {why}");
        let failure = Some(Failure::new(Status::transient(4, 1), text));
        self.tell(EngineEvent::Disconnected { session, failure });
    }

    /// The engine gives a session a message to send.
    pub(super) fn transfer(&mut self, session: SessionId, transaction: Transaction) {
        let relay = self.links.get(&session).map(|link| &link.connection.domain);
        let most = relay.map_or(0, |domain| {
            self.limits.mta_for(domain).recipients_per_transaction
        });
        let count = transaction.recipients.len();
        if !(1..=most).contains(&count) {
            self.check(
                None,
                Err(format!(
                    "a transaction of {count} recipients, {most} allowed"
                )),
            );
        }
        for recipient in &transaction.recipients {
            self.begin(recipient.envelope, "transfers");
        }
        if self.bug(Bug::HandedOutTwice, 100) {
            for recipient in &transaction.recipients {
                self.begin(recipient.envelope, "transfers, the bug");
            }
        }
        let Some(link) = self.links.get_mut(&session) else {
            return self.check(None, Err("a message for a session that is no more".into()));
        };
        if link.transaction.is_some() {
            return self.check(None, Err("a message for a session that has one".into()));
        }
        link.transaction = Some(transaction.clone());
        link.confirmed.clear();
        let order = Step::Order(session, Some(Box::new(transaction)));
        self.agenda.add(self.elapsed, order);
    }

    /// A session gets its order.
    pub(super) fn order(&mut self, session: SessionId, transaction: Option<Box<Transaction>>) {
        let event = match transaction {
            Some(transaction) => {
                if let Some(link) = self.links.get_mut(&session) {
                    link.left = transaction.size;
                }
                Event::Assigned(*transaction)
            }
            None => Event::QuitRequested,
        };
        self.hand_over(session, event);
    }

    /// Tells a client something, and carries out what it wants.
    fn hand_over(&mut self, session: SessionId, event: Event) {
        let now = self.now();
        let Some(client) = self.client(session) else {
            return;
        };
        client.handle(now, event);
        while let Some(action) = self.client(session).and_then(Client::poll) {
            self.client_acts(session, action);
        }
        let deadline = self.client(session).and_then(|client| client.deadline());
        let Some(deadline) = deadline.map(|at| self.since_start(at)) else {
            return;
        };
        if let Some(link) = self.links.get_mut(&session)
            && link.look.is_none_or(|look| deadline < look)
        {
            link.look = Some(deadline);
            self.agenda.add(deadline, Step::Deadline(session));
        }
    }

    fn client(&mut self, session: SessionId) -> Option<&mut Client> {
        self.links.get_mut(&session)?.client.as_mut()
    }

    /// It is time to look whether a client has waited long enough.
    pub(super) fn link_deadline(&mut self, session: SessionId) {
        if let Some(link) = self.links.get_mut(&session) {
            link.look = None;
        }
        self.hand_over(session, Event::TimedOut);
    }

    fn client_acts(&mut self, session: SessionId, action: Action) {
        match action {
            Action::Send(octets) => {
                let now = self.elapsed;
                if let Some(link) = self.links.get_mut(&session) {
                    link.there = link.there.max(now + link.latency);
                    self.agenda.add(link.there, Step::ToPeer(session, octets));
                }
            }
            Action::SendHidden(_) => unreachable!("no host here offers AUTH"),
            Action::StartTls => {
                if let Some(link) = self.links.get(&session) {
                    let at = self.elapsed + 4 * link.latency;
                    self.agenda.add(at, Step::Shaken(session));
                }
            }
            Action::Reconnect => self.reconnect(session),
            Action::ReadBody(message, index) => {
                let event = self.read(session, message, index);
                let now = self.now();
                if let Some(client) = self.client(session) {
                    client.handle(now, event);
                }
            }
            Action::Ready => self.tell(EngineEvent::Ready(session)),
            Action::Troubled(failure) => self.tell(EngineEvent::Troubled { session, failure }),
            Action::Attempted(outcomes) => self.attempted(session, outcomes),
            Action::Close(failure) => self.client_closes(session, failure),
        }
    }

    /// A handshake is over.
    pub(super) fn shaken(&mut self, session: SessionId) {
        let now = self.elapsed;
        let Some(link) = self.links.get_mut(&session) else {
            return;
        };
        let host = &self.scene.hosts[link.host];
        let alive = link.client.is_some();
        match &mut link.peer {
            Some(peer) if alive && host.shakes(now) => peer.secure(),
            _ => {
                self.fallbacks += u64::from(alive);
                return self.hand_over(session, Event::Unsecured("handshake failure".into()));
            }
        }
        let tls = "TLSv1.3:TLS_AES_256_GCM_SHA384:256:unverified".into();
        self.tell(EngineEvent::Secured { session, tls });
        self.hand_over(session, Event::Secured);
    }

    /// A client wants another connection to the same host.
    fn reconnect(&mut self, session: SessionId) {
        let refused = self.bug(Bug::NoSecondTry, 1);
        let Some(link) = self.links.get_mut(&session) else {
            return;
        };
        let host = &mut self.scene.hosts[link.host];
        if link.peer.take().is_some() {
            host.open -= 1;
        }
        let temper = host.temper(self.elapsed);
        if refused || matches!(temper, Temper::Closed | Temper::Void) {
            let why = Some("connection refused".into());
            let now = self.now();
            if let Some(client) = self.client(session) {
                client.handle(now, Event::Closed(why));
            }
            return;
        }
        let at = self.elapsed + 2 * link.latency;
        self.agenda.add(at, Step::Connected(session));
    }

    /// Whether this may be said in clear text, if it is.
    fn guarded(&self, link: &Link, octets: &[u8]) -> Result<(), String> {
        let secured = link.peer.as_ref().is_some_and(Peer::is_secured);
        if secured || !octets.starts_with(b"MAIL ") {
            return Ok(());
        }
        let host = &self.scene.hosts[link.host];
        let policy = link.connection.relay.tls();
        let plain = [Temper::Plain, Temper::Babbles];
        if policy.is_required() {
            Err("mail in clear text, though TLS is required".into())
        } else if policy == TlsPolicy::Opportunistic
            && host.shakes(self.elapsed)
            && !plain.contains(&host.temper(link.since))
        {
            Err("mail in clear text, though the host has TLS".into())
        } else {
            Ok(())
        }
    }

    fn read(&mut self, session: SessionId, message: MessageId, index: u32) -> Event {
        let failed = |text: &str| Event::BodyFailed(temporary(text));
        let piece = self.disk.reader().body(message, index);
        let Some(link) = self.links.get_mut(&session) else {
            return failed("the session is no more");
        };
        match piece {
            Ok(Some(bytes)) => {
                link.left = link.left.saturating_sub(bytes.len() as u64);
                let last = link.left == 0;
                Event::Body { bytes, last }
            }
            Ok(None) => failed("content was removed"),
            Err(why) => failed(&why.to_string()),
        }
    }

    /// A client says how a transaction went.
    fn attempted(&mut self, session: SessionId, mut outcomes: Vec<(EnvelopeId, Outcome)>) {
        self.mistake(&mut outcomes);
        let (transaction, confirmed) = match self.links.get_mut(&session) {
            Some(link) => (link.transaction.take(), std::mem::take(&mut link.confirmed)),
            None => (None, BTreeSet::new()),
        };
        let mut given: Vec<_> = outcomes.iter().map(|(id, _)| *id).collect();
        let recipients = transaction
            .iter()
            .flat_map(|transaction| &transaction.recipients);
        let mut wanted: Vec<_> = recipients.map(|recipient| recipient.envelope).collect();
        given.sort_unstable();
        wanted.sort_unstable();
        if given != wanted {
            self.check(
                None,
                Err(format!("outcomes for {given:?}, attempted {wanted:?}")),
            );
        }
        for (id, outcome) in &outcomes {
            let confirmed = confirmed.contains(id);
            let tried = self.ledger.tried(*id, Some(outcome), confirmed);
            self.check(Some(*id), tried);
            if confirmed {
                self.ledger.answered(self.elapsed, *id);
            }
        }
        self.tell(EngineEvent::Attempted { session, outcomes });
    }

    /// What the planted bugs make of outcomes.
    fn mistake(&mut self, outcomes: &mut [(EnvelopeId, Outcome)]) {
        let late = |outcome: &Outcome| match outcome {
            Outcome::TempFail(failure) => failure.text.contains("may have been delivered"),
            _ => false,
        };
        for (_, outcome) in outcomes {
            if late(outcome) && self.bug(Bug::SilenceBelieved, 1) {
                *outcome = Outcome::Delivered {
                    text: "".into(),
                    notifies: false,
                };
            }
            let delivered = matches!(outcome, Outcome::Delivered { .. });
            if delivered && self.bug(Bug::SuccessForgotten, 100) {
                *outcome = Outcome::TempFail(temporary("forgotten"));
            }
        }
    }

    /// Our end is closed.
    fn client_closes(&mut self, session: SessionId, failure: Option<Failure>) {
        let Some(link) = self.links.get_mut(&session) else {
            return;
        };
        link.client = None;
        link.there = link.there.max(self.elapsed + link.latency);
        self.agenda.add(link.there, Step::ClientClosed(session));
        let unsent = link.transaction.take();
        let connection = link.connection.clone();
        self.watch.leave(self.elapsed, &connection);
        for recipient in unsent
            .iter()
            .flat_map(|transaction| &transaction.recipients)
        {
            // It was on its way to a session that has ended.
            let tried = self.ledger.tried(recipient.envelope, None, false);
            self.check(Some(recipient.envelope), tried);
        }
        self.trace.count(self.elapsed, "closed", session.0);
        self.tell(EngineEvent::Disconnected { session, failure });
    }

    /// The daemon is dead, and so is its end.
    pub(super) fn abandon(&mut self, session: SessionId) {
        if let Some(link) = self.links.get_mut(&session)
            && link.client.take().is_some()
            && link.peer.is_some()
        {
            link.there = link.there.max(self.elapsed + link.latency);
            self.agenda.add(link.there, Step::ClientClosed(session));
        }
    }

    /// The host learns that our end is closed.
    pub(super) fn client_closed(&mut self, session: SessionId) {
        if let Some(link) = self.links.remove(&session)
            && link.peer.is_some()
        {
            self.scene.hosts[link.host].open -= 1;
        }
    }

    pub(super) fn reach_peer(&mut self, session: SessionId, octets: &Bytes) {
        let Some(link) = self.links.get(&session) else {
            return;
        };
        let lawful = self.guarded(link, octets);
        self.check(None, lawful);
        let Some(link) = self.links.get_mut(&session) else {
            return;
        };
        let Some(peer) = &mut link.peer else { return };
        let host = &mut self.scene.hosts[link.host];
        let said = peer.receive(self.elapsed, host, octets);
        self.said(session, said);
    }

    /// The host has said and done this.
    fn said(&mut self, session: SessionId, said: Vec<Say>) {
        let mut at = self.elapsed;
        for say in said {
            let Some(link) = self.links.get_mut(&session) else {
                return;
            };
            let lost = link.client.is_none();
            match say {
                Say::Reply {
                    after,
                    octets,
                    confirms,
                } => {
                    at += after;
                    link.here = link.here.max(at + link.latency);
                    let here = link.here;
                    let recipients = link.transaction.iter().flat_map(|t| &t.recipients);
                    let named = |dest: &str| confirms.iter().any(|rcpt| &**rcpt == dest);
                    let ids = recipients.filter(|recipient| named(recipient.dest.as_str()));
                    let ids = ids.map(|recipient| recipient.envelope).collect();
                    self.agenda.add(here, Step::ToClient(session, octets, ids));
                }
                Say::Close => {
                    link.here = link.here.max(at + link.latency);
                    let here = link.here;
                    self.agenda.add(here, Step::PeerClosed(session));
                }
                Say::Take { content, rcpts } => {
                    let secured = link.peer.as_ref().is_some_and(Peer::is_secured);
                    self.secured += u64::from(secured);
                    for rcpt in rcpts {
                        let taken = self.ledger.take(self.elapsed, content, &rcpt, lost);
                        match taken {
                            Ok(id) => self.trace.envelope(self.elapsed, id, "taken", || {
                                format!("{rcpt}, lost: {lost}")
                            }),
                            Err(what) => self.check(None, Err(what)),
                        }
                    }
                }
                Say::Refuse(rcpt) => {
                    let recipients = link.transaction.iter().flat_map(|t| &t.recipients);
                    let named = recipients.filter(|recipient| recipient.dest.as_str() == &*rcpt);
                    let ids: Vec<_> = named.map(|recipient| recipient.envelope).collect();
                    for id in ids {
                        self.ledger.refuse(id);
                    }
                }
            }
        }
    }

    pub(super) fn reach_client(
        &mut self,
        session: SessionId,
        octets: Bytes,
        confirms: &[EnvelopeId],
    ) {
        let Some(link) = self.links.get_mut(&session) else {
            return;
        };
        if link.client.is_none() || octets.is_empty() {
            return;
        }
        link.confirmed.extend(confirms);
        self.hand_over(session, Event::Received(octets));
    }

    /// We learn that the host has closed its end.
    pub(super) fn peer_closed(&mut self, session: SessionId) {
        if let Some(link) = self.links.get_mut(&session)
            && link.peer.take().is_some()
        {
            self.scene.hosts[link.host].open -= 1;
        }
        self.hand_over(session, Event::Closed(None));
    }
}
