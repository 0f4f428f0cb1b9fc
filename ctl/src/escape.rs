//! How text that others chose is written, so that it cannot pass for ours.
//!
//! Promises: nothing written here holds a control character, a line end or a mark that reorders
//! text, so no terminal obeys it and no line ends early. [`vis`] and [`value`] can be undone
//! (unvis(1)).
//! Absent on purpose: whether to escape at all; [`crate::render`] knows what scripts rely on.

/// Octets of an escaped error text, at most (the reference's buffer).
const VIS_MAX: usize = 2047;

/// Writes the error text of a listing: every octet in the form of vis(3) without options, cut at
/// 2047 octets between two escapes. Unlike vis(3), a line feed is escaped too.
pub(crate) fn vis(text: &str, out: &mut Vec<u8>) {
    let most = out.len().saturating_add(VIS_MAX);
    for octet in text.bytes() {
        let start = out.len();
        match octet {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\t' => out.push(b'\t'),
            other => self::octet(other, out),
        }
        if out.len() > most {
            out.truncate(start);
            return;
        }
    }
}

/// Writes a field of a listing. The separator becomes `\174`, so that fields can be counted.
pub(crate) fn field(text: &str, out: &mut Vec<u8>) {
    for c in text.chars() {
        match c {
            '|' => out.extend_from_slice(b"\\174"),
            c => printable_char(c, out),
        }
    }
}

/// Writes the value of a `key: value` line. A backslash is doubled, so that it can be told from
/// an escape.
pub(crate) fn value(text: &str, out: &mut Vec<u8>) {
    for c in text.chars() {
        match c {
            '\\' => out.extend_from_slice(b"\\\\"),
            c => printable_char(c, out),
        }
    }
}

/// Writes text for people.
pub(crate) fn printable(text: &str, out: &mut Vec<u8>) {
    for c in text.chars() {
        printable_char(c, out);
    }
}

/// Writes a part of a message for a terminal, lines and tabs kept. Gives the octets at its end
/// that may be the start of a character; they belong in front of the next part.
pub(crate) fn message<'a>(text: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let mut rest = text;
    while !rest.is_empty() {
        let Some(chunk) = rest.utf8_chunks().next() else {
            break;
        };
        for c in chunk.valid().chars() {
            match c {
                '\n' => out.push(b'\n'),
                '\t' => out.push(b'\t'),
                c => printable_char(c, out),
            }
        }
        let (valid, invalid) = (chunk.valid().len(), chunk.invalid());
        let behind = rest.get(valid.saturating_add(invalid.len())..);
        let behind = behind.unwrap_or_default();
        if behind.is_empty() && incomplete(invalid) {
            return invalid;
        }
        for &one in invalid {
            octet(one, out);
        }
        rest = behind;
    }
    &[]
}

/// Whether these octets at the end of a text can become a character with what follows.
fn incomplete(octets: &[u8]) -> bool {
    std::str::from_utf8(octets).is_err_and(|error| error.error_len().is_none())
}

fn printable_char(c: char, out: &mut Vec<u8>) {
    let mut buffer = [0; 4];
    let octets = c.encode_utf8(&mut buffer).as_bytes();
    if commands(c) {
        for &one in octets {
            octet(one, out);
        }
    } else {
        out.extend_from_slice(octets);
    }
}

/// Whether a terminal may do more than show it.
pub(crate) fn commands(c: char) -> bool {
    c.is_control() || reorders(c)
}

/// Marks that change the order in which text is shown, or end a line: a terminal may obey them.
fn reorders(c: char) -> bool {
    matches!(
        c,
        '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

/// One octet: itself if it is printable ASCII, else its escape.
pub(crate) fn octet(octet: u8, out: &mut Vec<u8>) {
    let low = octet & 0x7f;
    match (octet, low) {
        (b' '..=b'~', _) => out.push(octet),
        (0xa0, _) => out.extend_from_slice(b"\\240"),
        (0x80.., b' '..=b'~') => out.extend_from_slice(&[b'\\', b'M', b'-', low]),
        (0x80.., _) => out.extend_from_slice(&[b'\\', b'M', b'^', low ^ 0x40]),
        _ => out.extend_from_slice(&[b'\\', b'^', low ^ 0x40]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: fn(&str, &mut Vec<u8>), text: &str) -> String {
        let mut out = Vec::new();
        write(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_octet_has_the_form_of_the_reference() {
        let mut out = Vec::new();
        (1..=0xff)
            .filter(|&o| o != b'\n' && o != b'\t')
            .for_each(|o| match o {
                b'\\' => out.extend_from_slice(b"\\\\"),
                o => octet(o, &mut out),
            });
        let want = concat!(
            r"\^A\^B\^C\^D\^E\^F\^G\^H\^K\^L\^M\^N\^O\^P\^Q\^R\^S\^T\^U\^V\^W\^X\^Y\^Z\^[\^\\^]\^^\^_",
            r##" !"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`"##,
            r"abcdefghijklmnopqrstuvwxyz{|}~\^?",
            r"\M^@\M^A\M^B\M^C\M^D\M^E\M^F\M^G\M^H\M^I\M^J\M^K\M^L\M^M\M^N\M^O",
            r"\M^P\M^Q\M^R\M^S\M^T\M^U\M^V\M^W\M^X\M^Y\M^Z\M^[\M^\\M^]\M^^\M^_",
            r##"\240\M-!\M-"\M-#\M-$\M-%\M-&\M-'\M-(\M-)\M-*\M-+\M-,\M--\M-.\M-/"##,
            r"\M-0\M-1\M-2\M-3\M-4\M-5\M-6\M-7\M-8\M-9\M-:\M-;\M-<\M-=\M->\M-?\M-@",
            r"\M-A\M-B\M-C\M-D\M-E\M-F\M-G\M-H\M-I\M-J\M-K\M-L\M-M\M-N\M-O\M-P\M-Q\M-R\M-S",
            r"\M-T\M-U\M-V\M-W\M-X\M-Y\M-Z\M-[\M-\\M-]\M-^\M-_\M-`",
            r"\M-a\M-b\M-c\M-d\M-e\M-f\M-g\M-h\M-i\M-j\M-k\M-l\M-m\M-n\M-o\M-p\M-q\M-r\M-s",
            r"\M-t\M-u\M-v\M-w\M-x\M-y\M-z\M-{\M-|\M-}\M-~\M^?",
        );
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }

    #[test]
    fn error_texts_are_escaped_whole() {
        let text = "451 4.7.1 <x@y>: Greylisted | try\\later \u{1} caf\u{e9}";
        let want = r"451 4.7.1 <x@y>: Greylisted | try\\later \^A caf\M-C\M-)";
        assert_eq!(written(vis, text), want);
        assert_eq!(written(vis, "two\nlines\tand \0"), "two\\^Jlines\tand \\^@");
    }

    #[test]
    fn long_error_texts_end_between_two_escapes() {
        let text = written(vis, &"\u{7f}".repeat(1500));
        assert_eq!(text.len(), 2046);
        assert!(text.ends_with("\\^?"));
        assert_eq!(written(vis, &"x".repeat(3000)).len(), 2047);
    }

    #[test]
    fn fields_cannot_make_fields_or_lines() {
        assert_eq!(written(field, "a|b@c"), r"a\174b@c");
        assert_eq!(written(field, "a\n|\u{1b}[2J"), r"a\^J\174\^[[2J");
        assert_eq!(written(field, "caf\u{e9}"), "caf\u{e9}");
    }

    #[test]
    fn values_keep_letters_and_escape_the_rest() {
        let text = "try\\later \u{1} caf\u{e9} \u{9b}31m \u{202e}";
        let want = "try\\\\later \\^A caf\u{e9} \\M-B\\M^[31m \\M-b\\M^@\\M-.";
        assert_eq!(written(value, text), want);
    }

    #[test]
    fn messages_keep_lines_and_characters_cut_in_two() {
        let mut out = Vec::new();
        let rest = message(b"a\tb\n\x1b[2J \xff \xc3", &mut out);
        assert_eq!(rest, b"\xc3");
        assert_eq!(out, b"a\tb\n\\^[[2J \\M^? ");
        let rest = message(b"\xc3\xa9\r", &mut out);
        assert!(rest.is_empty());
        assert!(out.ends_with("\u{e9}\\^M".as_bytes()));
    }
}
