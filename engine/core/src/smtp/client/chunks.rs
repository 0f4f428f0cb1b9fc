//! Content on its way to a server in chunks (RFC 3030): each behind a command with its length.
//!
//! Promises: what is written decodes to exactly the content, for every way of cutting it; each
//! chunk is one write, and no longer than allowed; no bare CR or LF is ever written, for RFC 5321
//! section 2.3.8 holds for chunks of text, too.
//! Fails: at a bare CR or LF in the content.

use super::pump::{Unclean, scan};
use bytes::Bytes;

/// Where the writing is in the content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunks {
    /// The last octet taken. A CR is held back until its LF is here.
    previous: u8,
}

impl Chunks {
    /// Behind octets of a line.
    pub(super) fn within_line() -> Self {
        Self { previous: b':' }
    }

    /// Appends the chunks of a piece, at least one if it is the last, of up to `most` octets each.
    pub(super) fn piece(
        &mut self,
        bytes: &[u8],
        last: bool,
        most: usize,
        out: &mut Vec<Bytes>,
    ) -> Result<(), Unclean> {
        let held: &[u8] = match (self.previous, bytes) {
            (b'\r', [_, ..]) => b"\r",
            _ => b"",
        };
        if let Some(end) = bytes.last() {
            scan(self.previous, bytes)?;
            self.previous = *end;
        }
        if last && self.previous == b'\r' {
            return Err(Unclean);
        }
        let mut rest = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let mut held = held;
        while !(held.is_empty() && rest.is_empty()) {
            let room = most.saturating_sub(held.len()).max(1);
            let (octets, behind) = rest.split_at(rest.len().min(room));
            rest = behind;
            out.push(chunk(held, octets, last && rest.is_empty()));
            held = b"";
        }
        if last && bytes.is_empty() {
            out.push(chunk(b"", b"", true));
        }
        Ok(())
    }
}

/// A chunk and its command.
fn chunk(held: &[u8], octets: &[u8], last: bool) -> Bytes {
    let length = held.len().saturating_add(octets.len());
    let end = if last { " LAST" } else { "" };
    let command = format!("BDAT {length}{end}\r\n");
    [command.as_bytes(), held, octets].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    /// What a server receives, as long as it is told that all is there.
    fn receive(wire: &[u8], most: usize) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        let mut rest = wire;
        while !rest.is_empty() {
            let end = rest.iter().position(|octet| *octet == b'\n').unwrap();
            let (line, behind) = rest.split_at(end + 1);
            let line = str::from_utf8(line).unwrap().strip_suffix("\r\n").unwrap();
            let mut words = line.strip_prefix("BDAT ").unwrap().split(' ');
            let length: usize = words.next().unwrap().parse().unwrap();
            assert!(length <= most.max(2), "{length} octets, {most} allowed");
            let (octets, behind) = behind.split_at(length);
            content.extend_from_slice(octets);
            rest = behind;
            if let Some(word) = words.next() {
                assert_eq!((word, rest), ("LAST", &b""[..]));
                return Some(content);
            }
        }
        None
    }

    fn is_clean(content: &[u8]) -> bool {
        let text: String = content.iter().map(|octet| char::from(*octet)).collect();
        !text.replace("\r\n", "").contains(['\r', '\n'])
    }

    proptest! {
        #[test]
        fn content_arrives_as_it_is(
            content in vec(select(b"ab..\r\n".to_vec()), 0..40),
            repair in any::<bool>(),
            cuts in vec(0..10usize, 0..12),
            most in 1..20usize,
        ) {
            let mut content = content;
            if repair {
                let text = String::from_utf8(content).unwrap().replace('\r', "");
                content = text.replace('\n', "\r\n").into_bytes();
            }
            let (mut chunks, mut out) = (Chunks::within_line(), Vec::new());
            let mut rest = &content[..];
            let mut result = Ok(());
            for cut in cuts {
                let (piece, behind) = rest.split_at(cut.min(rest.len()));
                rest = behind;
                result = result.and_then(|()| chunks.piece(piece, false, most, &mut out));
            }
            result = result.and_then(|()| chunks.piece(rest, true, most, &mut out));
            let received = receive(&out.concat(), most);
            prop_assert_eq!(result.is_ok(), is_clean(&content));
            prop_assert_eq!(received, result.is_ok().then_some(content));
        }
    }
}
