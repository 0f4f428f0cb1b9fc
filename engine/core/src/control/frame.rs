//! Frames of the control socket: a length, a version, a message.
//!
//! What: four octets little endian, counting what follows; one octet [`VERSION`]; the message in
//! postcard form.
//! Promises: [`decode`] is pure and may be called after every read: it looks at the header alone
//! until the frame is whole, never allocates by a length it was told, and never panics. What it
//! takes apart is exactly one message; octets left over make the frame bad.
//! Fails: with [`FrameError`], after which the connection cannot be used any more.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

/// What is spoken here. Goes up with every change of a wire type.
pub const VERSION: u8 = 6;

/// Octets of the length.
const LENGTH: usize = 4;
/// Octets before the message.
const HEADER: usize = LENGTH + 1;

/// Why octets are not a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The other side speaks another version.
    Version {
        /// Theirs.
        theirs: u8,
        /// Ours, [`VERSION`].
        ours: u8,
    },
    /// It is longer than agreed.
    TooLong {
        /// Octets announced, or made.
        octets: usize,
        /// The limit.
        limit: usize,
    },
    /// It holds no message, or more than one.
    Malformed,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { theirs, ours } => write!(
                f,
                "incompatible smtpctl and smtpd: the other side speaks version {theirs} \
                 of the control protocol, this one version {ours}"
            ),
            Self::TooLong { octets, limit } => {
                write!(
                    f,
                    "control message of {octets} octets, the limit is {limit}"
                )
            }
            Self::Malformed => f.write_str("malformed control message"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Makes the frame of a message. `limit` is `Limits::control_frame`.
pub fn encode<T: Serialize>(message: &T, limit: usize) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; LENGTH];
    frame.push(VERSION);
    let mut frame = postcard::to_extend(message, frame).map_err(|_| FrameError::Malformed)?;
    let octets = frame.len().saturating_sub(LENGTH);
    let too_long = FrameError::TooLong { octets, limit };
    if octets > limit {
        return Err(too_long);
    }
    let length = u32::try_from(octets).map_err(|_| too_long)?.to_le_bytes();
    for (slot, octet) in frame.iter_mut().zip(length) {
        *slot = octet;
    }
    Ok(frame)
}

/// Takes a message off the front of what was read so far, with the octets it took; `None` if the
/// frame is not whole yet.
pub fn decode<T: DeserializeOwned>(
    buffer: &[u8],
    limit: usize,
) -> Result<Option<(T, usize)>, FrameError> {
    let Some((length, rest)) = buffer.split_first_chunk::<LENGTH>() else {
        return Ok(None);
    };
    // A length that does not fit is longer than any limit.
    let octets = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if octets > limit {
        return Err(FrameError::TooLong { octets, limit });
    }
    if octets < HEADER - LENGTH {
        return Err(FrameError::Malformed);
    }
    let Some((&theirs, _)) = rest.split_first() else {
        return Ok(None);
    };
    if theirs != VERSION {
        return Err(FrameError::Version {
            theirs,
            ours: VERSION,
        });
    }
    let Some(message) = rest.get(HEADER - LENGTH..octets) else {
        return Ok(None);
    };
    match postcard::take_from_bytes(message) {
        Ok((message, [])) => Ok(Some((message, octets.saturating_add(LENGTH)))),
        _ => Err(FrameError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Reply, Request, Selector};
    use proptest::prelude::*;

    const LIMIT: usize = 1 << 20;

    #[test]
    fn frames_have_length_version_and_message() {
        let frame = encode(&Request::ShowStatus, LIMIT).unwrap();
        assert_eq!(frame, [2, 0, 0, 0, VERSION, 3]);
    }

    #[test]
    fn another_version_is_refused_naming_both() {
        let mut frame = encode(&Request::ShowStatus, LIMIT).unwrap();
        frame[LENGTH] = 9;
        let error = decode::<Request>(&frame, LIMIT).unwrap_err();
        assert_eq!(
            error.to_string(),
            "incompatible smtpctl and smtpd: the other side speaks version 9 \
             of the control protocol, this one version 6"
        );
        // It is refused as soon as it shows, whatever its messages look like.
        assert!(decode::<Request>(&frame[..HEADER], LIMIT).is_err());
    }

    #[test]
    fn a_frame_over_the_limit_is_neither_made_nor_taken() {
        let reply = Reply::Piece(vec![0; 100]);
        let frame = encode(&reply, 200).unwrap();
        let error = encode(&reply, 100).unwrap_err();
        assert!(matches!(error, FrameError::TooLong { limit: 100, .. }));
        let error = decode::<Reply>(&frame[..LENGTH], 100).unwrap_err();
        assert!(matches!(error, FrameError::TooLong { limit: 100, .. }));
    }

    #[test]
    fn frames_without_exactly_one_message_are_bad() {
        for frame in [
            &[0, 0, 0, 0][..],
            &[1, 0, 0, 0, VERSION],
            &[3, 0, 0, 0, VERSION, 3, 3],
        ] {
            assert_eq!(
                decode::<Request>(frame, LIMIT),
                Err(FrameError::Malformed),
                "{frame:?}"
            );
        }
    }

    #[test]
    fn two_frames_come_apart() {
        let mut octets = encode(&Request::Monitor, LIMIT).unwrap();
        octets.extend(encode(&Request::Remove(Selector::All), LIMIT).unwrap());
        let (first, taken) = decode::<Request>(&octets, LIMIT).unwrap().unwrap();
        let (second, _) = decode::<Request>(&octets[taken..], LIMIT).unwrap().unwrap();
        assert_eq!(
            (first, second),
            (Request::Monitor, Request::Remove(Selector::All))
        );
    }

    proptest! {
        #[test]
        fn garbage_never_panics(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Reply>(&octets, LIMIT);
            let _ = decode::<Request>(&octets, LIMIT);
        }

        #[test]
        fn garbage_in_a_good_frame_never_panics(
            message in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let length = u32::try_from(message.len() + 1).unwrap();
            let mut frame = length.to_le_bytes().to_vec();
            frame.push(VERSION);
            frame.extend(&message);
            let whole = decode::<Reply>(&frame, LIMIT);
            prop_assert!(!matches!(whole, Ok(None)), "a whole frame is good or bad");
            let _ = decode::<Request>(&frame, LIMIT);
        }

        #[test]
        fn messages_survive_and_no_part_of_a_frame_passes_for_one(
            piece in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let reply = Reply::Piece(piece);
            let frame = encode(&reply, LIMIT).unwrap();
            for end in 0..frame.len() {
                prop_assert_eq!(decode::<Reply>(&frame[..end], LIMIT), Ok(None));
            }
            prop_assert_eq!(decode::<Reply>(&frame, LIMIT), Ok(Some((reply, frame.len()))));
        }
    }
}
