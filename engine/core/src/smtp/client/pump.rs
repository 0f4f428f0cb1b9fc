//! Content on its way to a server: dots stuffed, ended by a line with a dot.
//!
//! Promises: what is written decodes to the content (plus a CR LF if the last line had none), for
//! every way of cutting it; no bare CR or LF is ever written (RFC 5321 section 2.3.8). A piece in
//! which no line begins with a dot is passed on without being copied.
//! Fails: at a bare CR or LF in the content, which could end the message early elsewhere.

use bytes::Bytes;
use std::fmt;

/// Where the pump is in the content.
#[derive(Debug)]
pub(super) struct Pump {
    /// The last octet taken. A CR is held back until its LF is here.
    previous: u8,
}

/// The content holds a bare CR or LF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unclean;

impl fmt::Display for Unclean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("message content has a line break other than CR LF")
    }
}

impl Default for Pump {
    /// At the start of a line.
    fn default() -> Self {
        Self { previous: b'\n' }
    }
}

impl Pump {
    /// Appends what to write for a piece that is not the last.
    pub(super) fn piece(&mut self, bytes: Bytes, out: &mut Vec<Bytes>) -> Result<(), Unclean> {
        let Some(&last) = bytes.last() else {
            return Ok(());
        };
        let stuffed = scan(self.previous, &bytes)?;
        if self.previous == b'\r' {
            out.push(Bytes::from_static(b"\r"));
        }
        let starts_line = self.previous == b'\n';
        self.previous = last;
        let mut bytes = bytes;
        if last == b'\r' {
            bytes.truncate(bytes.len().saturating_sub(1));
        }
        if stuffed {
            bytes = stuff(&bytes, starts_line).into();
        }
        if !bytes.is_empty() {
            out.push(bytes);
        }
        Ok(())
    }

    /// Appends what to write for the last piece, the final dot included.
    pub(super) fn end(&mut self, bytes: Bytes, out: &mut Vec<Bytes>) -> Result<(), Unclean> {
        self.piece(bytes, out)?;
        let end: &[u8] = match self.previous {
            b'\r' => return Err(Unclean),
            b'\n' => b".\r\n",
            _ => b"\r\n.\r\n",
        };
        // The dot travels with the end of the content: one write, one packet.
        let mut last = out.pop().map_or_else(Vec::new, Vec::from);
        last.extend_from_slice(end);
        out.push(last.into());
        Ok(())
    }
}

/// Whether any line begins with a dot, `previous` being the octet before. Written without an early
/// exit, so that it compiles to vector instructions: this runs over every octet sent.
pub(super) fn scan(previous: u8, bytes: &[u8]) -> Result<bool, Unclean> {
    let pair = |before: u8, after: u8| {
        (
            (before == b'\r') != (after == b'\n'),
            before == b'\n' && after == b'.',
        )
    };
    let (first, rest) = bytes.split_first().ok_or(Unclean)?;
    // The LF before the content stands for the line break of the command before it.
    let at_start = if previous == b'\n' {
        (*first == b'\n', *first == b'.')
    } else {
        pair(previous, *first)
    };
    let (unclean, stuffed) = bytes
        .iter()
        .zip(rest)
        .fold(at_start, |seen, (before, after)| {
            let found = pair(*before, *after);
            (seen.0 | found.0, seen.1 | found.1)
        });
    if unclean { Err(Unclean) } else { Ok(stuffed) }
}

/// A copy of `bytes` with a dot more at the start of each line that begins with one.
fn stuff(bytes: &[u8], starts_line: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len().saturating_add(bytes.len() / 32));
    let mut at_start = starts_line;
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        if at_start && line.first() == Some(&b'.') {
            out.push(b'.');
        }
        out.extend_from_slice(line);
        at_start = true;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    /// What a server receives, or nothing if the content cannot be sent; and all that was written.
    fn pump(content: &[u8], cuts: &[usize]) -> (Option<Vec<u8>>, Vec<u8>) {
        let mut pump = Pump::default();
        let mut out = Vec::new();
        let mut rest = Bytes::copy_from_slice(content);
        let mut result = Ok(());
        for cut in cuts {
            let piece = rest.split_to((*cut).min(rest.len()));
            result = result.and_then(|()| pump.piece(piece, &mut out));
        }
        result = result.and_then(|()| pump.end(rest, &mut out));
        let out = out.concat();
        (result.is_ok().then(|| receive(&out)), out)
    }

    /// RFC 5321 section 4.5.2, the receiving side.
    fn receive(wire: &[u8]) -> Vec<u8> {
        let mut content = Vec::new();
        let mut lines = wire.split_inclusive(|b| *b == b'\n').peekable();
        while let Some(line) = lines.next() {
            if line == b".\r\n" {
                assert_eq!(lines.peek(), None, "something follows the final dot");
                return content;
            }
            content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        }
        panic!("there is no final dot");
    }

    fn is_clean(content: &[u8]) -> bool {
        let text: Vec<_> = content.iter().map(|b| char::from(*b)).collect();
        let text: String = text.into_iter().collect();
        !text.replace("\r\n", "").contains(['\r', '\n'])
    }

    proptest! {
        #[test]
        fn content_arrives_as_it_is(
            content in vec(select(b"ab..\r\n".to_vec()), 0..40),
            repair in any::<bool>(),
            cuts in vec(0..10usize, 0..12),
        ) {
            let mut content = content;
            if repair {
                let text = String::from_utf8(content).unwrap().replace('\r', "");
                content = text.replace('\n', "\r\n").into_bytes();
            }
            let (received, wire) = pump(&content, &cuts);
            let mut want = content.clone();
            if !want.is_empty() && !want.ends_with(b"\r\n") {
                want.extend_from_slice(b"\r\n");
            }
            prop_assert_eq!(received, is_clean(&content).then_some(want));
            // Nothing unclean is written on the way to the error either.
            let cut_short = wire.strip_suffix(b"\r").unwrap_or(&wire);
            prop_assert!(is_clean(cut_short), "{:?}", wire);
        }

        #[test]
        fn the_cut_of_content_makes_no_difference(
            content in vec(select(b"a.\r\n".to_vec()), 0..20),
            cuts in vec(0..6usize, 0..12),
        ) {
            let (whole, _) = pump(&content, &[]);
            let (cut, _) = pump(&content, &cuts);
            prop_assert_eq!(whole, cut);
        }
    }

    #[test]
    fn a_piece_without_dots_is_not_copied() {
        let piece = Bytes::from(b"Subject: a.b.c\r\n\r\nno .dot\r\n".repeat(1000));
        let mut out = Vec::new();
        Pump::default().piece(piece.clone(), &mut out).unwrap();
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].as_ptr(), piece.as_ptr());
        assert_eq!(out[0], piece);
    }
}
