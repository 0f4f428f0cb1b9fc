//! The part of a notice that people read.

use super::{Report, Returned, kind_of};
use crate::envelope::{Bounce, Envelope};
use std::fmt::Write as _;
use std::time::Duration;

/// The text, line ends in CR LF.
pub(super) fn write(
    report: &Report<'_>,
    kind: Bounce,
    name: &str,
    returned: &Returned<'_>,
) -> String {
    let mut text = format!(
        "Hello,\r\n\r\n\
         this is the mail server at {name}. Please do not reply to this message:\r\n\
         it was made by a program, and nobody reads the answer.\r\n\r\n"
    );
    text.push_str(match kind {
        Bounce::Failed => {
            "Your message could not be delivered to the following recipients, and\r\n\
             it will not be tried again:\r\n"
        }
        Bounce::Delayed { .. } => {
            "Your message has not yet been delivered to the following recipients:\r\n"
        }
        Bounce::Delivered { relayed: false } => {
            "Your message was delivered to the following recipients:\r\n"
        }
        Bounce::Delivered { relayed: true } => {
            "Your message was handed to the servers of the following recipients.\r\n\
             These may not report what becomes of it:\r\n"
        }
    });
    text.push_str("\r\n");
    for envelope in report.envelopes.iter().filter(|e| kind_of(e).is_some()) {
        recipient(envelope, &mut text);
    }
    if let Bounce::Delayed { delay, ttl } = kind {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\r\nIt has been waiting for {}. Delivery is tried for {} in all.\r\n\
             You need not send the message again.\r\n",
            spelled(delay),
            spelled(ttl)
        );
    }
    text.push_str(match returned {
        Returned::Message(_) => "\r\nA copy of your message is attached.\r\n",
        Returned::Headers(_) => "\r\nThe headers of your message are attached.\r\n",
    });
    text
}

/// `DEST: ERRORLINE`, on one line whatever is in it.
fn recipient(envelope: &Envelope, text: &mut String) {
    text.push_str("    ");
    escape(envelope.dest.as_str(), text);
    if !envelope.errorline.is_empty() {
        text.push_str(": ");
        escape(&envelope.errorline, text);
    }
    text.push_str("\r\n");
}

/// Appends text with everything that could end a line or steer a terminal as `\xNN`.
fn escape(from: &str, text: &mut String) {
    for c in from.chars() {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{:02X}", u32::from(c));
        } else {
            text.push(c);
        }
    }
}

/// A duration in its largest unit: `4 hours`.
fn spelled(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [
        (86_400, "day"),
        (3600, "hour"),
        (60, "minute"),
        (1, "second"),
    ];
    let unit = units.into_iter().find(|(unit, _)| seconds >= *unit);
    let (size, unit) = unit.unwrap_or((1, "second"));
    let count = seconds / size;
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_spelled_in_the_largest_unit() {
        let check = |seconds, want: &str| {
            assert_eq!(spelled(Duration::from_secs(seconds)), want);
        };
        check(0, "0 seconds");
        check(1, "1 second");
        check(59, "59 seconds");
        check(119, "1 minute");
        check(14_400, "4 hours");
        check(86_400, "1 day");
        check(345_600, "4 days");
    }
}
