//! The commands of an outgoing session as octets.
//!
//! Promises: a command is one line. Addresses hold no control character by their type, which is
//! asserted once more; parameters and names from elsewhere that could break the line are left out.

use super::extensions::Extensions;
use crate::addr::Address;
use crate::envelope::{Notify, Ret};
use crate::smtp::{Transaction, TransactionRecipient};
use bytes::Bytes;

/// `EHLO name`, with whichever verb.
pub(super) fn hello(verb: &str, name: &str) -> Bytes {
    let name: String = name.chars().filter(char::is_ascii_graphic).collect();
    let name = if name.is_empty() { "localhost" } else { &name };
    Bytes::from(format!("{verb} {name}\r\n"))
}

/// MAIL with the parameters the server understands; `utf8` if it needs SMTPUTF8 (RFC 6531).
pub(super) fn mail(
    transaction: &Transaction,
    utf8: bool,
    extensions: &Extensions,
    out: &mut Vec<u8>,
) {
    path("MAIL FROM:", &transaction.sender, out);
    if extensions.size.is_some() {
        out.extend_from_slice(format!(" SIZE={}", transaction.size).as_bytes());
    }
    if transaction.eight_bit {
        out.extend_from_slice(b" BODY=8BITMIME");
    }
    if utf8 {
        out.extend_from_slice(b" SMTPUTF8");
    }
    if extensions.dsn {
        match transaction.ret {
            Some(Ret::Full) => out.extend_from_slice(b" RET=FULL"),
            Some(Ret::Headers) => out.extend_from_slice(b" RET=HDRS"),
            None => {}
        }
        parameter("ENVID", &transaction.envid, out);
    }
    out.extend_from_slice(b"\r\n");
}

/// RCPT with the parameters the server understands.
pub(super) fn rcpt(recipient: &TransactionRecipient, extensions: &Extensions, out: &mut Vec<u8>) {
    path("RCPT TO:", &recipient.dest, out);
    if extensions.dsn {
        if let Some(notify) = recipient.notify {
            parameter("NOTIFY", &conditions(notify), out);
        }
        parameter("ORCPT", &recipient.orcpt, out);
    }
    out.extend_from_slice(b"\r\n");
}

fn path(verb: &str, address: &Address, out: &mut Vec<u8>) {
    let text = address.as_str();
    assert!(
        !text.contains(|c: char| c.is_control()),
        "an address holds no control character"
    );
    out.extend_from_slice(verb.as_bytes());
    out.push(b'<');
    out.extend_from_slice(text.as_bytes());
    out.push(b'>');
}

/// A parameter whose value is one word of visible ASCII; nothing if it is not.
fn parameter(keyword: &str, value: &str, out: &mut Vec<u8>) {
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_graphic()) {
        out.extend_from_slice(format!(" {keyword}={value}").as_bytes());
    }
}

fn conditions(notify: Notify) -> String {
    let words = [
        (notify.success, "SUCCESS"),
        (notify.failure, "FAILURE"),
        (notify.delay, "DELAY"),
    ];
    let words: Vec<_> = words
        .iter()
        .filter(|(wanted, _)| *wanted)
        .map(|(_, word)| *word)
        .collect();
    if words.is_empty() {
        "NEVER".into()
    } else {
        words.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_parameters_cannot_break_the_line() {
        assert_eq!(hello("EHLO", "mx.example"), "EHLO mx.example\r\n");
        assert_eq!(
            hello("EHLO", "mx\r\nMAIL FROM:<>"),
            "EHLO mxMAILFROM:<>\r\n"
        );
        assert_eq!(hello("HELO", ""), "HELO localhost\r\n");
        let mut out = Vec::new();
        parameter("ENVID", "a\r\nRSET", &mut out);
        parameter("ENVID", "a b", &mut out);
        parameter("ENVID", "", &mut out);
        assert_eq!(out, b"");
        parameter("ENVID", "a+20b", &mut out);
        assert_eq!(out, b" ENVID=a+20b");
    }
}
