//! Values of a record for programs: JSON objects, lines of CSV.
//!
//! Promises: one record is one line; its names come from one list, so that all forms have the
//! same. No control character or mark that reorders text leaves here as itself.

use crate::escape;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// There is none: `null`, or nothing in CSV.
    None,
    Number(i128),
    Text(String),
    Flag(bool),
    /// An array of JSON; with blanks between in CSV.
    Words(Vec<String>),
    /// An array of objects in JSON, which is their form in CSV, too.
    Records(Vec<Record>),
}

/// Names and values.
pub(crate) type Record = Vec<(&'static str, Cell)>;

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Number(number.into())
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// The form for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// One object per line.
    Json,
    /// RFC 4180, with a line of names first, and line feeds alone at the ends of lines.
    Csv,
}

/// Writes one record.
pub(crate) fn record<'a>(
    format: Format,
    cells: impl IntoIterator<Item = (&'a str, Cell)>,
    out: &mut Vec<u8>,
) {
    match format {
        Format::Json => {
            object(cells, out);
            out.push(b'\n');
        }
        Format::Csv => csv_line(cells.into_iter().map(|(_, cell)| cell), out),
    }
}

/// Writes the line of names that CSV begins with.
pub(super) fn header<'a>(names: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    csv_line(names.map(Cell::from), out);
}

fn csv_line(cells: impl Iterator<Item = Cell>, out: &mut Vec<u8>) {
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        csv(&cell, out);
    }
    out.push(b'\n');
}

fn object<'a>(cells: impl IntoIterator<Item = (&'a str, Cell)>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (at, (name, cell)) in cells.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        json_text(name, out);
        out.push(b':');
        json(&cell, out);
    }
    out.push(b'}');
}

fn json(cell: &Cell, out: &mut Vec<u8>) {
    match cell {
        Cell::None => out.extend_from_slice(b"null"),
        Cell::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Cell::Text(text) => json_text(text, out),
        Cell::Flag(flag) => out.extend_from_slice(flag.to_string().as_bytes()),
        Cell::Records(records) => {
            out.push(b'[');
            for (at, record) in records.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                object(record.iter().cloned(), out);
            }
            out.push(b']');
        }
        Cell::Words(words) => {
            out.push(b'[');
            for (at, word) in words.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                json_text(word, out);
            }
            out.push(b']');
        }
    }
}

fn json_text(text: &str, out: &mut Vec<u8>) {
    // Of what JSON allows in a string, a terminal may obey some.
    let quoted = serde_json::Value::from(text).to_string();
    for c in quoted.chars() {
        if escape::commands(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
            }
        } else {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

fn csv(cell: &Cell, out: &mut Vec<u8>) {
    let mut text = Vec::new();
    match cell {
        Cell::None => {}
        Cell::Number(number) => text.extend_from_slice(number.to_string().as_bytes()),
        Cell::Text(value) => escape::value(value, &mut text),
        Cell::Flag(_) | Cell::Records(_) => json(cell, &mut text),
        Cell::Words(words) => text.extend_from_slice(words.join(" ").as_bytes()),
    }
    if text.iter().any(|octet| matches!(octet, b',' | b'"')) {
        out.push(b'"');
        for octet in text {
            if octet == b'"' {
                out.push(b'"');
            }
            out.push(octet);
        }
        out.push(b'"');
    } else {
        out.extend_from_slice(&text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn texts_of_others_stay_on_their_line_and_command_nothing() {
        let cells = || {
            [
                ("id", Cell::from(u64::MAX)),
                ("none", Cell::None),
                ("flags", Cell::Words(vec!["auth".into(), "hold".into()])),
                ("empty", Cell::Words(vec![])),
                (
                    "text",
                    Cell::from("a,\"b\"\\\n\u{1b}[2J \u{9b}\u{202e}\u{7f}"),
                ),
            ]
        };
        let mut out = Vec::new();
        record(Format::Json, cells(), &mut out);
        header(cells().iter().map(|(name, _)| *name), &mut out);
        record(Format::Csv, cells(), &mut out);
        expect![[r#"
            {"id":18446744073709551615,"none":null,"flags":["auth","hold"],"empty":[],"text":"a,\"b\"\\\n\u001b[2J \u009b\u202e\u007f"}
            id,none,flags,empty,text
            18446744073709551615,,auth hold,,"a,""b""\\\^J\^[[2J \M-B\M^[\M-b\M^@\M-.\^?"
        "#]]
        .assert_eq(&String::from_utf8(out).unwrap());
    }

    #[test]
    fn json_reads_back_what_was_written() {
        let text: String = (0..=0x2100u32).filter_map(char::from_u32).collect();
        let mut out = Vec::new();
        record(
            Format::Json,
            [("text", Cell::from(text.as_str()))],
            &mut out,
        );
        let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(read["text"], serde_json::Value::from(text));
    }
}
