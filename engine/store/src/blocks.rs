//! Which sources and domains relaying keeps apart, as records.
//!
//! What: a record holds entries, each of which keeps a pair apart or lets it together again. In a
//! log it has what one transition changed, in a database all pairs that are kept apart.
//! Promises: what opens is what was sealed; entries apply in their order.
//! Absent on purpose: how many pairs there may be, which is the daemon's to decide.
//! Fails: with [`Damage`] for a record that proves itself but makes no sense.

use crate::record::{self, Damage, Kind};
use redspool_core::queue::Blocks;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A pair, and whether it is kept apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) source: IpAddr,
    pub(crate) domain: Box<str>,
    pub(crate) blocked: bool,
}

impl Block {
    /// Does to `blocks` what it says.
    pub(crate) fn apply(self, blocks: &mut Blocks) {
        let pair = (self.source, self.domain);
        if self.blocked {
            blocks.insert(pair);
        } else {
            blocks.remove(&pair);
        }
    }

    /// The record of this change.
    pub(crate) fn seal(&self) -> Vec<u8> {
        let mut value = Vec::new();
        put(&mut value, self.source, &self.domain, self.blocked);
        record::seal(Kind::Blocks, 0, &value)
    }
}

/// The record of all pairs.
pub(crate) fn seal(blocks: &Blocks) -> Vec<u8> {
    let mut value = Vec::new();
    for (source, domain) in blocks {
        put(&mut value, *source, domain, true);
    }
    record::seal(Kind::Blocks, 0, &value)
}

/// The pairs of a record in a database.
pub(crate) fn open(record: &[u8]) -> Result<Blocks, Damage> {
    let mut blocks = Blocks::new();
    for block in entries(record::value_of(Kind::Blocks, 0, record)?)? {
        block.apply(&mut blocks);
    }
    Ok(blocks)
}

/// The entries of a record's value.
pub(crate) fn entries(mut value: &[u8]) -> Result<Vec<Block>, Damage> {
    let mut entries = Vec::new();
    while !value.is_empty() {
        let entry = entry(&mut value);
        entries.push(entry.ok_or_else(|| Damage::new("relaying pause record makes no sense"))?);
    }
    Ok(entries)
}

fn put(value: &mut Vec<u8>, source: IpAddr, domain: &str, blocked: bool) {
    value.push(u8::from(blocked));
    match source {
        IpAddr::V4(address) => {
            value.push(4);
            value.extend_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            value.push(6);
            value.extend_from_slice(&address.octets());
        }
    }
    let length = u32::try_from(domain.len()).expect("no name has 4 GiB");
    value.extend_from_slice(&length.to_le_bytes());
    value.extend_from_slice(domain.as_bytes());
}

fn entry(value: &mut &[u8]) -> Option<Block> {
    let [blocked] = take(value)?;
    let source = match take(value)? {
        [4] => IpAddr::V4(Ipv4Addr::from(take::<4>(value)?)),
        [6] => IpAddr::V6(Ipv6Addr::from(take::<16>(value)?)),
        _ => return None,
    };
    let length = usize::try_from(u32::from_le_bytes(take(value)?)).ok()?;
    let (domain, rest) = value.split_at_checked(length)?;
    *value = rest;
    Some(Block {
        source,
        domain: std::str::from_utf8(domain).ok()?.into(),
        blocked: match blocked {
            0 => false,
            1 => true,
            _ => return None,
        },
    })
}

fn take<const N: usize>(value: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = value.split_first_chunk()?;
    *value = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(source: &str, domain: &str, blocked: bool) -> Block {
        Block {
            source: source.parse().unwrap(),
            domain: domain.into(),
            blocked,
        }
    }

    #[test]
    fn pairs_come_back() {
        let blocks = Blocks::from([
            ("192.0.2.1".parse().unwrap(), "*".into()),
            ("192.0.2.1".parse().unwrap(), "a.example".into()),
            ("2001:db8::1".parse().unwrap(), "".into()),
        ]);
        assert_eq!(open(&seal(&blocks)), Ok(blocks));
        assert_eq!(open(&seal(&Blocks::new())), Ok(Blocks::new()));
    }

    #[test]
    fn changes_apply_in_their_order() {
        let mut blocks = Blocks::new();
        for one in [
            block("::1", "a.example", true),
            block("::1", "b.example", true),
            block("::1", "a.example", false),
            block("::2", "b.example", false),
        ] {
            let record = one.seal();
            let value = record::value_of(Kind::Blocks, 0, &record).unwrap();
            assert_eq!(entries(value), Ok(vec![one.clone()]));
            one.apply(&mut blocks);
        }
        assert_eq!(
            blocks,
            Blocks::from([("::1".parse().unwrap(), "b.example".into())])
        );
    }

    #[test]
    fn what_makes_no_sense_is_damage() {
        let record = block("192.0.2.1", "a.example", true).seal();
        let value = record::value_of(Kind::Blocks, 0, &record).unwrap();
        for end in 1..value.len() {
            assert!(entries(&value[..end]).is_err(), "cut at {end}");
        }
        for (at, octet) in [(0, 2), (1, 5), (6, 0xff), (10, 0xff)] {
            let mut wrong = value.to_vec();
            wrong[at] = octet;
            assert!(entries(&wrong).is_err(), "{octet} at {at}");
        }
    }
}
