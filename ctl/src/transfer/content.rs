//! A message's content on its way into the store.
//!
//! Promises: it is read to its end before anything of it is believed; what enters the store is what
//! was measured then, or nothing. All its lines end in CR LF: those of another server's spool, which
//! end in LF, are brought to that form; a CR or LF by itself anywhere else is refused, for it could
//! pass for the end of a message at the next server.
//! Fails: with a reason.

use super::object::Object;
use bytes::Bytes;
use redspool_core::queue::{Pieces, StoreError};
use redspool_store::ContentDigest;
use std::io::Read;

/// Octets read at a time.
const PIECE: usize = 64 << 10;

/// How lines end in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lines {
    /// In LF; a CR before it is left alone.
    Lf,
    /// In CR LF.
    CrLf,
}

/// A content that was read once.
#[derive(Clone, Debug)]
pub(super) struct Content {
    object: Object,
    lines: Lines,
    /// Octets, line ends in CR LF.
    pub(super) size: u64,
    /// See [`ContentDigest`].
    pub(super) digest: u64,
    /// Whether there are octets above 127.
    pub(super) eight_bit: bool,
}

impl Content {
    /// Reads a content of at most `most` octets.
    pub(super) fn measure(object: Object, lines: Lines, most: u64) -> Result<Self, String> {
        let mut flow = Flow::new(&object, lines);
        let (mut size, mut digest, mut eight_bit) = (0_u64, ContentDigest::default(), false);
        while let Some(piece) = flow.next()? {
            size = size.saturating_add(piece.len() as u64);
            if size > most {
                return Err(format!("larger than {most} octets"));
            }
            digest.add(&piece);
            eight_bit |= !piece.is_ascii();
        }
        Ok(Self {
            object,
            lines,
            size,
            digest: digest.value(),
            eight_bit,
        })
    }

    /// Reads it once more.
    pub(super) fn pieces(&self) -> Box<dyn Pieces> {
        Box::new(Again {
            flow: Flow::new(&self.object, self.lines),
            left: self.size,
            digest: ContentDigest::default(),
            want: self.digest,
        })
    }
}

/// Content from its start to its end, with the right line ends.
struct Flow {
    object: Object,
    reader: Box<dyn Read + Send>,
    lines: Lines,
    /// The line that is being read, from 1 on.
    line: u64,
    /// The last octet was a CR.
    held: bool,
    /// The last octet ended a line, or there was none.
    ended: bool,
    done: bool,
}

impl Flow {
    fn new(object: &Object, lines: Lines) -> Self {
        Self {
            reader: object.reader(),
            object: object.clone(),
            lines,
            line: 1,
            held: false,
            ended: true,
            done: false,
        }
    }

    fn next(&mut self) -> Result<Option<Bytes>, String> {
        let mut octets = vec![0; PIECE];
        while !self.done {
            let read = match self.reader.read(&mut octets) {
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.object.unreadable(&error)),
            };
            let mut out = Vec::with_capacity(read.saturating_add(read / 32).saturating_add(2));
            self.done = read == 0;
            if self.done {
                self.end(&mut out)?;
            } else {
                self.take(octets.get(..read).unwrap_or_default(), &mut out)?;
            }
            if !out.is_empty() {
                return Ok(Some(out.into()));
            }
        }
        Ok(None)
    }

    fn take(&mut self, octets: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        for &octet in octets {
            match (self.held, octet) {
                (true, b'\n') => out.extend_from_slice(b"\r\n"),
                (true, _) => return Err(self.stray("carriage return")),
                (false, b'\r') => {}
                (false, b'\n') if self.lines == Lines::Lf => out.extend_from_slice(b"\r\n"),
                (false, b'\n') => return Err(self.stray("line feed")),
                (false, octet) => out.push(octet),
            }
            self.held = octet == b'\r';
            self.ended = octet == b'\n';
            self.line += u64::from(self.ended);
        }
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), String> {
        if self.held {
            return Err(self.stray("carriage return"));
        }
        if !self.ended && self.lines == Lines::Lf {
            out.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    fn stray(&self, what: &str) -> String {
        format!("line {} of the content holds a {what} by itself", self.line)
    }
}

/// A content that is read again, and must be the same.
struct Again {
    flow: Flow,
    left: u64,
    digest: ContentDigest,
    want: u64,
}

impl Pieces for Again {
    fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        let changed = || StoreError::Io("a content changed while it was read".into());
        match self.flow.next().map_err(StoreError::Io)? {
            Some(piece) => {
                let left = self.left.checked_sub(piece.len() as u64);
                self.left = left.ok_or_else(changed)?;
                self.digest.add(&piece);
                Ok(Some(piece))
            }
            None if self.left > 0 || self.digest.value() != self.want => Err(changed()),
            None => Ok(None),
        }
    }

    fn length(&self) -> u64 {
        self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn measured(text: &[u8], lines: Lines) -> Result<(Vec<u8>, Content), String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let content = Content::measure(Object::raw(file.path()).unwrap(), lines, 1 << 20)?;
        let (mut pieces, mut read) = (content.pieces(), Vec::new());
        while let Some(piece) = pieces.next().unwrap() {
            read.extend_from_slice(&piece);
        }
        assert_eq!(pieces.length(), 0);
        assert_eq!(content.size, read.len() as u64);
        assert_eq!(content.digest, ContentDigest::of(&read));
        Ok((read, content))
    }

    fn check(text: &[u8], want: &[u8]) {
        assert_eq!(measured(text, Lines::Lf).unwrap().0, want);
        // What came out is in the form that goes out.
        assert_eq!(measured(want, Lines::CrLf).unwrap().0, want);
    }

    #[test]
    fn lines_end_in_cr_lf() {
        check(b"a\n\nb\n", b"a\r\n\r\nb\r\n");
        check(b"a\r\nb\n", b"a\r\nb\r\n");
        check(b"a\nb", b"a\r\nb\r\n");
        // Over the border between two pieces.
        let long = vec![b'x'; PIECE - 1];
        let want = [&long[..], b"\r\ny\r\n"].concat();
        check(&[&long[..], b"\r\ny\n"].concat(), &want);
        check(&[&long[..], b"\ny\n"].concat(), &want);
    }

    #[test]
    fn half_a_line_end_is_refused_with_its_line() {
        let refused = |text: &[u8], lines| measured(text, lines).unwrap_err();
        let want = "line 2 of the content holds a carriage return by itself";
        assert_eq!(refused(b"a\nb\rc\n", Lines::Lf), want);
        assert_eq!(refused(b"a\nb\r", Lines::Lf), want);
        let want = "line 2 of the content holds a line feed by itself";
        assert_eq!(refused(b"a\r\nb\n.\n", Lines::CrLf), want);
    }

    #[test]
    fn what_changed_since_it_was_measured_does_not_come_in() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for changed in ["abd\r\n", "a\r\n", "abcd\r\n"] {
            fs::write(file.path(), "abc\r\n").unwrap();
            let object = Object::raw(file.path()).unwrap();
            let content = Content::measure(object, Lines::CrLf, 5).unwrap();
            fs::write(file.path(), changed).unwrap();
            let mut pieces = content.pieces();
            let failed = std::iter::from_fn(|| pieces.next().transpose()).any(|one| one.is_err());
            assert!(failed, "{changed:?}");
        }
        let object = Object::raw(file.path()).unwrap();
        let refused = Content::measure(object, Lines::CrLf, 5).unwrap_err();
        assert_eq!(refused, "larger than 5 octets");
    }

    #[test]
    fn octets_above_127_are_noted() {
        let content = |text: &[u8]| measured(text, Lines::Lf).unwrap().1.eight_bit;
        assert!(content(b"caf\xc3\xa9\n"));
        assert!(!content(b"cafe\n"));
    }
}
