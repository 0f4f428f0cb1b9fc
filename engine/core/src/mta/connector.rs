//! Connectors: a relay's ways out through its local addresses, and what keeps each from connecting.

pub use crate::control::ConnectorFlag as Flag;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

/// A set of flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags(u16);

impl Flags {
    /// In the order of listings.
    const ALL: [Flag; 14] = [
        Flag::New,
        Flag::Wait,
        Flag::ErrorFamily,
        Flag::ErrorSource,
        Flag::ErrorMx,
        Flag::ErrorRouteNet,
        Flag::ErrorRouteSmtp,
        Flag::ErrorBlocked,
        Flag::LimitHost,
        Flag::LimitRoute,
        Flag::LimitSource,
        Flag::LimitRelay,
        Flag::LimitConnector,
        Flag::LimitDomain,
    ];

    /// This one alone.
    pub(super) const fn only(flag: Flag) -> Self {
        Self(1 << flag as u16)
    }

    /// These and those.
    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn insert(&mut self, flag: Flag) {
        *self = self.and(Self::only(flag));
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in it, in the order of listings.
    pub(super) fn iter(self) -> impl Iterator<Item = Flag> {
        let set = move |flag: &Flag| self.0 & Self::only(*flag).0 != 0;
        Self::ALL.into_iter().filter(set)
    }
}

/// A relay's way out through one local address.
#[derive(Debug)]
pub(super) struct Connector {
    pub(super) sessions: usize,
    pub(super) last_connect: Option<Instant>,
    pub(super) until: Option<Instant>,
    pub(super) flags: Flags,
}

impl Default for Connector {
    fn default() -> Self {
        Self {
            sessions: 0,
            last_connect: None,
            until: None,
            flags: Flags::only(Flag::New),
        }
    }
}

impl Connector {
    /// It waits for these.
    pub(super) fn waits(&mut self, flags: Flags, until: Option<Instant>) {
        self.flags = flags.and(Flags::only(Flag::Wait));
        self.until = until;
    }

    /// It cannot connect.
    pub(super) fn fails(&mut self, flag: Flag) {
        self.flags = Flags::only(flag);
        self.until = None;
    }
}

/// A local address, over all relays.
#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) sessions: usize,
    /// Those of its sessions that are being opened and may well fail.
    pub(super) probes: usize,
    pub(super) last_connect: Option<Instant>,
}

/// The local addresses that relays may use: tables by their names.
pub type Sources = BTreeMap<Box<str>, Vec<IpAddr>>;

/// The local addresses a relay means by `src`; `None` among them is the system's choice. No
/// address at all if there is no such table, or if it is empty.
pub(super) fn sources(src: &str, tables: &Sources, most: usize) -> Vec<Option<IpAddr>> {
    if src.is_empty() {
        return vec![None];
    }
    let written = src.strip_prefix('{').and_then(|src| src.strip_suffix('}'));
    let mut list: Vec<_> = if let Some(written) = written {
        let words = written.split(',').map(str::trim);
        let addresses = words.filter_map(|word| word.parse().ok());
        addresses.map(Some).collect()
    } else {
        let table = tables.get(src).into_iter().flatten();
        table.copied().map(Some).collect()
    };
    list.truncate(most);
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_come_from_tables_or_are_written_out() {
        let one = IpAddr::from([127, 0, 0, 2]);
        let two = IpAddr::from([127, 0, 0, 3]);
        let tables = Sources::from([("out".into(), vec![one, two]), ("none".into(), vec![])]);
        let check = |src: &str, want: &[Option<IpAddr>]| {
            assert_eq!(sources(src, &tables, 8), want, "{src}");
        };
        check("", &[None]);
        check("out", &[Some(one), Some(two)]);
        check("none", &[]);
        check("gone", &[]);
        check("{127.0.0.2}", &[Some(one)]);
        check(
            "{127.0.0.2, ::1}",
            &[Some(one), Some("::1".parse().unwrap())],
        );
        assert_eq!(sources("out", &tables, 1), [Some(one)]);
    }
}
