//! Connections as they are made and ended: whether limits and delays hold.

use redspool_core::envelope::Relay;
use redspool_core::limits::Limits;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// What limits and delays are counted for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Host(IpAddr),
    Source(Option<IpAddr>),
    Route(Option<IpAddr>, SocketAddr),
    Domain(Box<str>),
    Relay(Box<str>, Arc<Relay>),
    Connector(Box<str>, Arc<Relay>, Option<IpAddr>),
}

#[derive(Debug, Default)]
struct Record {
    open: usize,
    connected: Option<Duration>,
    left: Option<Duration>,
}

/// A connection, as far as limits are concerned.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) source: Option<IpAddr>,
    pub(super) target: SocketAddr,
    pub(super) domain: Box<str>,
    pub(super) relay: Arc<Relay>,
}

impl Connection {
    fn parts(&self) -> [What; 6] {
        let (source, target) = (self.source, self.target);
        let (domain, relay) = (self.domain.clone(), self.relay.clone());
        [
            What::Host(target.ip()),
            What::Source(source),
            What::Route(source, target),
            What::Domain(domain.clone()),
            What::Relay(domain.clone(), relay.clone()),
            What::Connector(domain, relay, source),
        ]
    }
}

/// All connections of one life of the daemon.
#[derive(Debug, Default)]
pub(super) struct Watch {
    records: BTreeMap<What, Record>,
    open: usize,
    /// Most connections open at a time.
    pub(super) most: usize,
}

impl Watch {
    /// A connection is being made: no limit and no delay may be in the way.
    pub(super) fn connect(
        &mut self,
        now: Duration,
        connection: &Connection,
        limits: &Limits,
    ) -> Result<(), String> {
        let limits = limits.mta_for(&connection.domain);
        let delays = limits.delays(connection.relay.host.is_none());
        let rules = [
            (limits.connections_per_host, limits.connect_delay_host),
            (limits.connections_per_source, limits.connect_delay_source),
            (limits.connections_per_route, delays.route),
            (limits.connections_per_domain, limits.connect_delay_domain),
            (limits.connections_per_relay, delays.relay),
            (
                limits.connections_per_connector,
                limits.connect_delay_connector,
            ),
        ];
        self.open += 1;
        self.most = self.most.max(self.open);
        for (what, (most, delay)) in connection.parts().into_iter().zip(rules) {
            let record = self.records.entry(what.clone()).or_default();
            record.open += 1;
            if record.open > most {
                return Err(format!(
                    "{what:?}: {} connections, {most} allowed",
                    record.open
                ));
            }
            let early = |last: Option<Duration>, delay| last.is_some_and(|last| now < last + delay);
            if early(record.connected, delay) {
                return Err(format!(
                    "{what:?}: connected {:?}, again {now:?}",
                    record.connected
                ));
            }
            if matches!(what, What::Route(..)) && early(record.left, delays.reconnect) {
                return Err(format!("{what:?}: left {:?}, back {now:?}", record.left));
            }
            record.connected = Some(now);
        }
        Ok(())
    }

    /// The daemon is dead: its next life knows nothing of these.
    pub(super) fn crash(&mut self) {
        self.records.clear();
        self.open = 0;
    }

    /// A connection is over.
    pub(super) fn leave(&mut self, now: Duration, connection: &Connection) {
        self.open -= 1;
        for what in connection.parts() {
            if let Some(record) = self.records.get_mut(&what) {
                record.open -= 1;
                record.left = Some(now);
            }
        }
    }
}
