//! What becomes of a message that is to come back from the corrupt bucket, as a reply.
//!
//! Promises: the same reply whoever carried it out, the daemon or smtpctl on a stopped one's store.

use super::Reply;
use crate::id::MessageId;
use crate::queue::{Receipt, Refusal};

/// The reply to [`Request::Uncorrupt`](super::Request::Uncorrupt), by the receipt of
/// [`Transition::Uncorrupt`](crate::queue::Transition::Uncorrupt). `exists`: the store has the
/// message.
pub fn uncorrupted(message: MessageId, receipt: &Receipt, exists: bool) -> Reply {
    let reason = match receipt {
        Receipt::Refused(Refusal::StillCorrupt { reason }) => {
            format!("message {message} is still damaged: {reason}")
        }
        Receipt::Refused(_) if exists => {
            format!("message {message} is not in the corrupt bucket, but queued")
        }
        Receipt::Refused(_) => format!("no message {message} in the corrupt bucket"),
        Receipt::Done | Receipt::Affected(_) => return Reply::Done,
    };
    Reply::Fail { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_is_in_the_way() {
        let message: MessageId = "8d3f01aa".parse().unwrap();
        let still = Refusal::StillCorrupt {
            reason: "content does not match its digest".into(),
        };
        for (refusal, exists, want) in [
            (
                still,
                true,
                "message 8d3f01aa is still damaged: content does not match its digest",
            ),
            (
                Refusal::Unknown,
                true,
                "message 8d3f01aa is not in the corrupt bucket, but queued",
            ),
            (
                Refusal::Unknown,
                false,
                "no message 8d3f01aa in the corrupt bucket",
            ),
        ] {
            let reply = uncorrupted(message, &Receipt::Refused(refusal), exists);
            let reason = want.to_owned();
            assert_eq!(reply, Reply::Fail { reason });
        }
        assert_eq!(uncorrupted(message, &Receipt::Done, true), Reply::Done);
    }
}
