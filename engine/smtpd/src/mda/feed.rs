//! What a delivery program reads: two trace lines, then the message with LF line ends.
//!
//! Promises: the message is unchanged but for its line ends, wherever its pieces are cut.
//! Also tells whether the message has been delivered to the same recipient before.

use super::content::Content;
use bytes::{Bytes, BytesMut};
use mail_parser::MessageParser;
use redspool_core::addr::Address;
use redspool_core::queue::StoreError;

/// Reads the start of a message: all of its header section, unless that is larger than `most`
/// octets, and perhaps more.
pub(super) async fn head(
    content: &mut impl Content,
    most: usize,
) -> Result<Option<Bytes>, StoreError> {
    let Some(first) = content.next().await? else {
        return Ok(None);
    };
    if is_complete(&first, most) {
        return Ok(Some(first));
    }
    let mut head = BytesMut::from(first);
    while !is_complete(&head, most) {
        match content.next().await? {
            Some(piece) => head.extend_from_slice(&piece),
            None => break,
        }
    }
    Ok(Some(head.freeze()))
}

fn is_complete(head: &[u8], most: usize) -> bool {
    head.len() >= most || head.windows(4).any(|octets| octets == b"\r\n\r\n")
}

/// Whether a `Delivered-To` field names one of these addresses.
///
/// The field holds the recipient as it was before expansion, so that one is compared; and the
/// one after, since other servers put that there.
pub(super) fn was_delivered_to(head: &[u8], addresses: [&Address; 2]) -> bool {
    let Some(message) = MessageParser::default().parse_headers(head) else {
        return false;
    };
    let headers = message.headers().iter();
    let mut values = headers
        .filter(|header| header.name().eq_ignore_ascii_case("Delivered-To"))
        .filter_map(|header| {
            let start = usize::try_from(header.offset_start()).ok()?;
            let end = usize::try_from(header.offset_end()).ok()?;
            std::str::from_utf8(head.get(start..end)?).ok()
        });
    values.any(|value| {
        let value = value.trim();
        let value = value
            .strip_prefix('<')
            .and_then(|value| value.strip_suffix('>'))
            .unwrap_or(value);
        let same = |address: &&Address| value.eq_ignore_ascii_case(address.as_str());
        !value.is_empty() && addresses.iter().any(same)
    })
}

/// The lines in front of the message (spec/smtpd.md 5.4). Neither address can hold a line break.
pub(super) fn trace(sender: &Address, rcpt: &Address) -> String {
    let mut lines = String::new();
    if !sender.is_null() {
        lines.push_str("Return-Path: <");
        lines.push_str(sender.as_str());
        lines.push_str(">\n");
    }
    lines.push_str("Delivered-To: ");
    lines.push_str(rcpt.as_str());
    lines.push('\n');
    lines
}

/// Makes LF of CR LF, piece by piece.
#[derive(Debug, Default)]
pub(super) struct LineEnds {
    /// The last piece ended in a CR, which is held back.
    held: bool,
}

impl LineEnds {
    /// A piece with its line ends changed.
    pub(super) fn convert(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(piece.len().saturating_add(1));
        for octet in piece {
            if self.held && *octet != b'\n' {
                out.push(b'\r');
            }
            self.held = *octet == b'\r';
            if !self.held {
                out.push(*octet);
            }
        }
        out
    }

    /// What is left after the last piece.
    pub(super) fn finish(&mut self) -> &'static [u8] {
        if std::mem::take(&mut self.held) {
            b"\r"
        } else {
            b""
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn line_ends_change_wherever_the_pieces_are_cut() {
        let text = b"a\r\n\r\nb\rc\r\r\nd\n\r\xff\r";
        for cut in 0..=text.len() {
            let (head, tail) = text.split_at(cut);
            let mut line_ends = LineEnds::default();
            let mut out = line_ends.convert(head);
            out.extend(line_ends.convert(tail));
            out.extend(line_ends.finish());
            assert_eq!(out, b"a\n\nb\rc\r\nd\n\r\xff\r", "cut at {cut}");
        }
    }

    #[test]
    fn a_delivered_to_field_of_ours_is_a_loop() {
        let check = |head: &str, want| {
            let addresses = [&address("rcpt@example.org"), &address("dest@example.org")];
            assert_eq!(was_delivered_to(head.as_bytes(), addresses), want, "{head}");
        };
        check("Delivered-To: rcpt@example.org\r\n\r\n", true);
        check("delivered-to:DEST@Example.ORG\r\n\r\nx", true);
        check("A: b\r\nDelivered-To:\r\n <rcpt@example.org>\r\n\r\n", true);
        check("Delivered-To: other@example.org\r\n\r\n", false);
        check("X-Delivered-To: rcpt@example.org\r\n\r\n", false);
        check("A: b\r\n\r\nDelivered-To: rcpt@example.org\r\n", false);
        check("", false);
        check("Delivered-To:\r\n\r\n", false);
    }

    #[test]
    fn the_null_sender_has_no_return_path() {
        let rcpt = address("rcpt@example.org");
        assert_eq!(
            trace(&address("a@example.org"), &rcpt),
            "Return-Path: <a@example.org>\nDelivered-To: rcpt@example.org\n"
        );
        assert_eq!(
            trace(&Address::null(), &rcpt),
            "Delivered-To: rcpt@example.org\n"
        );
    }
}
