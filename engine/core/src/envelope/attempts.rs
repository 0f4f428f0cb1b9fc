//! The attempts of an envelope that failed for now, as the envelope keeps them.
//!
//! What: they are kept as they are stored, the last one first, in one allocation: whoever lists,
//! schedules or delivers a queue reads envelope by envelope and does not look at them. Date and text
//! of the last one are fields of the envelope, so only what it went over is here; of those before it
//! a host or a text that the next one has, too, is not repeated.
//! Promises: at most [`Attempts::MOST`], in at most [`Attempts::OCTETS_MAX`]; the oldest leave first.
//! An envelope without any has not an octet of this.
//! Absent on purpose: attempts that are alike counted as one: when each began is what is asked for,
//! and one more that said the same over the same host takes 17 octets.

use super::Envelope;
use super::codec::{DecodeError, Input, bits, put_date, put_text};
use crate::id::SessionId;
use crate::time::Timestamp;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an envelope was sent over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// The session.
    pub session: SessionId,
    /// The local address it connected from, as far as that was told.
    pub source: Option<IpAddr>,
    /// The remote address.
    pub target: IpAddr,
    /// Name of the remote host, or empty.
    pub name: Box<str>,
    /// TLS of the session: version, cipher suite, bits, validity; or empty.
    pub tls: Box<str>,
}

/// An attempt that failed for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When it began.
    pub began: Timestamp,
    /// What it went over, if it came to a session.
    pub via: Option<Via>,
    /// What was said.
    pub text: Box<str>,
}

/// The attempts of an envelope; [`Envelope::tried`] reads them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempts(Box<[u8]>);

impl Envelope {
    /// Its attempts that failed for now, as far as they are kept, the first one first.
    pub fn tried(&self) -> Vec<Attempt> {
        let entries = self.attempts.entries((self.last_try, &self.errorline));
        let mut tried: Vec<_> = entries.map(Attempt::from).collect();
        tried.reverse();
        tried
    }
}

impl Attempts {
    /// So many are kept.
    pub const MOST: usize = 16;

    /// Octets of them as they are stored; the text of the last one does not count.
    pub const OCTETS_MAX: usize = 2048;

    /// Those of an envelope, the first one first. Date and text of the last one are to become fields
    /// of the envelope.
    pub fn new(attempts: &[Attempt]) -> Self {
        let (mut all, mut before) = (Self::default(), (Timestamp::EPOCH, ""));
        for attempt in attempts {
            all.add(attempt.via.as_ref(), &attempt.text, before);
            before = (attempt.began, &attempt.text);
        }
        all
    }

    /// One more, which went over `via` and said `text`. `before` is the last one so far: its date
    /// and its text, which the envelope still has.
    pub fn add(&mut self, via: Option<&Via>, text: &str, before: (Timestamp, &str)) {
        let mut newer = Entry {
            began: Timestamp::EPOCH,
            link: via.map(Link::from),
            text,
        };
        let (mut out, mut count) = (vec![0], 1);
        put(&mut out, &newer, None);
        if out.len() > Self::OCTETS_MAX {
            newer.link = None;
            out.truncate(1);
            put(&mut out, &newer, None);
        }
        for entry in self.entries(before).take(Self::MOST - 1) {
            let end = out.len();
            put(&mut out, &entry, Some(&newer));
            if out.len() > Self::OCTETS_MAX {
                out.truncate(end);
                break;
            }
            count += 1;
            newer = entry;
        }
        if let Some(first) = out.first_mut() {
            *first = count;
        }
        self.0 = out.into();
    }

    /// The stored form; empty if there are none.
    pub(super) fn octets(&self) -> &[u8] {
        &self.0
    }

    /// Reads the stored form. `last` is date and text of the last one.
    pub(super) fn read<'a>(
        input: &mut Input<'a>,
        last: (Timestamp, &'a str),
    ) -> Result<Self, DecodeError> {
        let octets = input.0;
        let count = input.u8("attempts")?;
        if count == 0 {
            return Err(DecodeError("attempts"));
        }
        let mut newer = None;
        for _ in 0..count {
            newer = Some(entry(input, newer, last)?);
        }
        let length = octets.len() - input.0.len();
        Ok(Self(octets.get(..length).unwrap_or_default().into()))
    }

    /// The last one first.
    fn entries<'a>(&'a self, last: (Timestamp, &'a str)) -> impl Iterator<Item = Entry<'a>> {
        let mut input = Input(&self.0);
        let count = input.u8("attempts").unwrap_or_default();
        let mut newer = None;
        (0..count).map_while(move |_| {
            newer = entry(&mut input, newer, last).ok();
            newer
        })
    }
}

/// An attempt as it is stored.
#[derive(Clone, Copy)]
struct Entry<'a> {
    began: Timestamp,
    link: Option<Link<'a>>,
    text: &'a str,
}

/// What it went over.
#[derive(Clone, Copy)]
struct Link<'a> {
    session: SessionId,
    host: Host<'a>,
}

/// What a later attempt may have gone over, too.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Host<'a> {
    source: Option<IpAddr>,
    target: IpAddr,
    name: &'a str,
    tls: &'a str,
}

impl<'a> From<&'a Via> for Link<'a> {
    fn from(via: &'a Via) -> Self {
        Self {
            session: via.session,
            host: Host {
                source: via.source,
                target: via.target,
                name: &via.name,
                tls: &via.tls,
            },
        }
    }
}

impl From<Entry<'_>> for Attempt {
    fn from(entry: Entry<'_>) -> Self {
        Self {
            began: entry.began,
            via: entry.link.map(|Link { session, host }| Via {
                session,
                source: host.source,
                target: host.target,
                name: host.name.into(),
                tls: host.tls.into(),
            }),
            text: entry.text.into(),
        }
    }
}

/// Appends an attempt. `newer` is the one that began behind it; the last one has none.
fn put(out: &mut Vec<u8>, entry: &Entry<'_>, newer: Option<&Entry<'_>>) {
    let before = newer.and_then(|newer| newer.link);
    let same_host = match (entry.link, before) {
        (Some(link), Some(before)) => link.host == before.host,
        _ => false,
    };
    let same_text = newer.is_some_and(|newer| newer.text == entry.text);
    out.push(bits([entry.link.is_some(), same_host, same_text]));
    if newer.is_some() {
        put_date(out, entry.began);
    }
    if let Some(Link { session, host }) = entry.link {
        out.extend_from_slice(&session.0.to_le_bytes());
        if !same_host {
            put_address(out, host.source);
            put_address(out, Some(host.target));
            put_text(out, host.name);
            put_text(out, host.tls);
        }
    }
    if newer.is_some() && !same_text {
        put_text(out, entry.text);
    }
}

/// Reads an attempt. `last` is date and text of the last one, which has no `newer` one.
fn entry<'a>(
    input: &mut Input<'a>,
    newer: Option<Entry<'a>>,
    last: (Timestamp, &'a str),
) -> Result<Entry<'a>, DecodeError> {
    let [linked, same_host, same_text] = input.bits("attempt")?;
    let began = match newer {
        None => last.0,
        Some(_) => input.date("attempt-date")?,
    };
    let before = newer.and_then(|newer| newer.link).map(|link| link.host);
    let link = match (linked, same_host) {
        (false, false) => None,
        (false, true) => return Err(DecodeError("attempt-host")),
        (true, same) => {
            let session = SessionId(input.u64("attempt-session")?);
            let own = if same { None } else { Some(host(input)?) };
            let host = one_of(own, before).ok_or(DecodeError("attempt-host"))?;
            Some(Link { session, host })
        }
    };
    let text = match newer {
        None if same_text => return Err(DecodeError("attempt-text")),
        None => last.1,
        Some(newer) => {
            let own = if same_text {
                None
            } else {
                Some(input.text("attempt-text")?)
            };
            one_of(own, Some(newer.text)).ok_or(DecodeError("attempt-text"))?
        }
    };
    Ok(Entry { began, link, text })
}

/// Its own value, else that of the next attempt; `None` if it should not have one of its own.
fn one_of<T: PartialEq>(own: Option<T>, newer: Option<T>) -> Option<T> {
    match own {
        None => newer,
        own => own.filter(|own| newer.as_ref() != Some(own)),
    }
}

fn host<'a>(input: &mut Input<'a>) -> Result<Host<'a>, DecodeError> {
    Ok(Host {
        source: address(input)?,
        target: address(input)?.ok_or(DecodeError("attempt-address"))?,
        name: input.text("attempt-name")?,
        tls: input.text("attempt-tls")?,
    })
}

fn put_address(out: &mut Vec<u8>, address: Option<IpAddr>) {
    match address {
        None => out.push(0),
        Some(IpAddr::V4(ip)) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
        Some(IpAddr::V6(ip)) => {
            out.push(6);
            out.extend_from_slice(&ip.octets());
        }
    }
}

fn address(input: &mut Input<'_>) -> Result<Option<IpAddr>, DecodeError> {
    const FIELD: &str = "attempt-address";
    match input.u8(FIELD)? {
        0 => Ok(None),
        4 => Ok(Some(Ipv4Addr::from(input.array::<4>(FIELD)?).into())),
        6 => Ok(Some(Ipv6Addr::from(input.array::<16>(FIELD)?).into())),
        _ => Err(DecodeError(FIELD)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(host: u8) -> Via {
        Via {
            session: SessionId(7),
            source: None,
            target: [192, 0, 2, host].into(),
            name: "mx.example.net".into(),
            tls: "".into(),
        }
    }

    fn attempt(at: u64, host: Option<u8>, text: &str) -> Attempt {
        Attempt {
            began: Timestamp::from_secs(at),
            via: host.map(via),
            text: text.into(),
        }
    }

    /// What is kept of these.
    fn kept(all: &[Attempt]) -> Vec<Attempt> {
        let attempts = Attempts::new(all);
        assert!(attempts.0.len() <= Attempts::OCTETS_MAX);
        let last = all.last().expect("there is one");
        let last = (last.began, &*last.text);
        let mut input = Input(&attempts.0);
        assert_eq!(Attempts::read(&mut input, last), Ok(attempts.clone()));
        assert_eq!(input.0, [] as [u8; 0]);
        let mut kept: Vec<_> = attempts.entries(last).map(Attempt::from).collect();
        kept.reverse();
        kept
    }

    #[test]
    fn attempts_come_back_in_their_order() {
        let all = [
            attempt(1, None, "connection refused"),
            attempt(2, Some(1), "451 later"),
            attempt(3, Some(1), "451 later"),
            attempt(4, Some(2), "451 later"),
            attempt(5, Some(2), "451 much later"),
            attempt(6, None, "451 much later"),
            attempt(7, None, ""),
        ];
        for end in 1..=all.len() {
            assert_eq!(kept(&all[..end]), all[..end]);
        }
    }

    #[test]
    fn an_envelope_keeps_its_last_attempts() {
        let all: Vec<_> = (1..=20).map(|at| attempt(at, Some(1), "451")).collect();
        assert_eq!(kept(&all), all[4..]);
    }

    #[test]
    fn the_oldest_leave_when_texts_are_long() {
        let text = |at: u64| format!("451 {at} {}", "x".repeat(900));
        let all: Vec<_> = (1..=5).map(|at| attempt(at, Some(1), &text(at))).collect();
        assert_eq!(kept(&all), all[2..]);
    }

    #[test]
    fn the_same_again_takes_little() {
        let text = "451 4.7.1 Greylisted, please come back later";
        let all: Vec<_> = (1..=16).map(|at| attempt(at, Some(1), text)).collect();
        let first = Attempts::new(&all[..1]).0.len();
        assert_eq!(Attempts::new(&all).0.len(), first + 15 * 17);
        let refused: Vec<_> = (1..=16).map(|at| attempt(at, None, text)).collect();
        assert_eq!(Attempts::new(&refused[..1]).0.len(), 2);
        assert_eq!(Attempts::new(&refused).0.len(), 2 + 15 * 9);
    }

    #[test]
    fn a_host_that_does_not_fit_is_left_out() {
        let mut long = attempt(2, Some(1), "451");
        long.via.as_mut().unwrap().name = "x".repeat(Attempts::OCTETS_MAX).into();
        let first = attempt(1, Some(1), "451");
        let without = attempt(2, None, "451");
        assert_eq!(kept(&[first.clone(), long]), [first, without]);
    }

    #[test]
    fn each_value_has_one_form() {
        let last = (Timestamp::from_secs(2), "451");
        let check = |octets: &[u8], field: &str| {
            let why = Attempts::read(&mut Input(octets), last).unwrap_err();
            assert_eq!(why.to_string(), format!("not an envelope: {field}"));
        };
        check(&[0], "attempts");
        check(&[1, 8], "attempt");
        check(&[1, 2], "attempt-host");
        check(&[1, 4], "attempt-text");
        let date = [0; 8];
        let repeated = [&[2, 0, 0][..], &date, &[3, 0, 0, 0], b"451"].concat();
        check(&repeated, "attempt-text");
        let (via, session) = ([4, 1, 2, 3, 4, 4, 1, 2, 3, 4], [0; 8]);
        let names = [0; 8];
        let one = [&[1][..], &session, &via, &names].concat();
        let two = [&[5][..], &date, &session, &via, &names].concat();
        check(&[&[2][..], &one, &two].concat(), "attempt-host");
        let without = [&[2, 0, 7][..], &date, &session].concat();
        check(&without, "attempt-host");
    }
}
