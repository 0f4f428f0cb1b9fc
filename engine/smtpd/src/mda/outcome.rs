//! What the end of a delivery program means (spec/smtpd.md 5.5).
//!
//! Promises: success is exit code 0 of a program that took all of its input, nothing else. A
//! failure is permanent only if the program chose an exit code that says so.

use crate::helper::last_line;
use crate::helper::protocol::Exit;
use redspool_core::queue::{Failure, Outcome};
use redspool_core::reply::Status;

/// Other or undefined mail system status (RFC 3463 section 3.4).
pub(super) const TEMPORARY: Status = Status::transient(3, 0);

/// The same, for good.
pub(super) const PERMANENT: Status = Status::permanent(3, 0);

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// By itself or not.
    pub(super) exit: Exit,
    /// Whether it has read all of the message.
    pub(super) consumed: bool,
    /// The end of what it printed.
    pub(super) output: Vec<u8>,
}

impl Ended {
    /// What that means for the envelope.
    pub(super) fn outcome(&self) -> Outcome {
        let (status, reason) = match self.exit {
            Exit::Code(0) if self.consumed => {
                return Outcome::Delivered {
                    text: "Delivered".into(),
                    notifies: false,
                };
            }
            Exit::Code(0) => (TEMPORARY, "exited prematurely".to_owned()),
            // EX_OSERR and EX_TEMPFAIL.
            Exit::Code(71 | 75) => (TEMPORARY, "exited abnormally".to_owned()),
            Exit::Code(_) => (PERMANENT, "exited abnormally".to_owned()),
            Exit::Signal(number) => (TEMPORARY, format!("terminated; signal {number}")),
            Exit::TimedOut => (TEMPORARY, "terminated; time is up".to_owned()),
            Exit::Stopped => (TEMPORARY, "terminated; smtpd is stopping".to_owned()),
        };
        let text = match last_line(&self.output) {
            Some(line) => format!("\"{line}\""),
            None => reason,
        };
        let failure = Failure::new(status, text);
        if status == PERMANENT {
            Outcome::PermFail(failure)
        } else {
            Outcome::TempFail(failure)
        }
    }
}

/// The last octets of a stream.
#[derive(Debug)]
pub(super) struct Tail {
    octets: Vec<u8>,
    most: usize,
}

impl Tail {
    /// Keeps at most `most` octets.
    pub(super) fn new(most: usize) -> Self {
        Self {
            octets: Vec::new(),
            most,
        }
    }

    /// Takes the next octets.
    pub(super) fn push(&mut self, octets: &[u8]) {
        let fresh = octets.len().saturating_sub(self.most);
        self.octets
            .extend_from_slice(octets.get(fresh..).unwrap_or_default());
        let old = self.octets.len().saturating_sub(self.most);
        self.octets.drain(..old);
    }

    /// What is left.
    pub(super) fn into_octets(self) -> Vec<u8> {
        self.octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(exit: Exit, consumed: bool, output: &str, want: &str) {
        let ended = Ended {
            exit,
            consumed,
            output: output.into(),
        };
        let got = match ended.outcome() {
            Outcome::Delivered { .. } => "delivered".into(),
            Outcome::TempFail(failure) | Outcome::PermFail(failure) => {
                format!("{} {}", failure.status.unwrap(), failure.text)
            }
            Outcome::Loop => "loop".into(),
        };
        assert_eq!(got, want);
    }

    #[test]
    fn d7_success_is_exit_0_with_all_input_taken() {
        check(Exit::Code(0), true, "", "delivered");
        check(Exit::Code(0), true, "chatter\n", "delivered");
        check(Exit::Code(0), false, "", "4.3.0 exited prematurely");
    }

    #[test]
    fn exit_codes_decide() {
        for code in [71, 75] {
            check(Exit::Code(code), true, "", "4.3.0 exited abnormally");
        }
        for code in [
            1, 2, 64, 65, 66, 67, 68, 69, 70, 72, 73, 74, 76, 77, 78, 126, 127, 255,
        ] {
            check(Exit::Code(code), true, "", "5.3.0 exited abnormally");
        }
        check(Exit::Code(67), false, "", "5.3.0 exited abnormally");
        check(Exit::Signal(9), true, "", "4.3.0 terminated; signal 9");
        check(Exit::TimedOut, true, "", "4.3.0 terminated; time is up");
    }

    #[test]
    fn d5_the_last_line_of_the_output_is_the_text_escaped() {
        check(Exit::Code(75), true, "a\nb c\n", "4.3.0 \"b c\"");
        check(Exit::Code(69), true, "x\x1b[2J\\", "5.3.0 \"x\\^[[2J\\\\\"");
        check(Exit::Signal(15), true, "bye", "4.3.0 \"bye\"");
    }

    #[test]
    fn a_tail_is_bounded() {
        let mut tail = Tail::new(4);
        for (piece, want) in [
            ("", ""),
            ("ab", "ab"),
            ("cde", "bcde"),
            ("123456789", "6789"),
            ("x", "789x"),
        ] {
            tail.push(piece.as_bytes());
            assert_eq!(tail.octets, want.as_bytes());
        }
    }
}
