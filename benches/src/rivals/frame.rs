//! A whole message as one run of octets: its envelopes, each behind its length, then the content.

use crate::mail::Mail;
use redspool_core::envelope::Envelope;
use redspool_core::queue::{Body, Submission};
use std::io;

/// The frame of a submission.
pub(super) fn encode(submission: &Submission) -> io::Result<Vec<u8>> {
    let Body::Whole(body) = &submission.body else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    let mut frame = Vec::with_capacity(body.len() + 512 * submission.envelopes.len());
    for envelope in &submission.envelopes {
        let at = frame.len();
        frame.extend_from_slice(&[0; 4]);
        envelope.encode(&mut frame);
        let length = u32::try_from(frame.len() - at - 4).map_err(io::Error::other)?;
        if let Some(place) = frame.get_mut(at..at + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
    }
    frame.extend_from_slice(body);
    Ok(frame)
}

/// Reads the envelopes of a frame and gives the octets of the content behind them.
pub(super) fn content_of(mail: Mail, frame: &[u8]) -> io::Result<u64> {
    let mut rest = frame;
    for id in mail.envelopes() {
        let (length, behind) = rest.split_first_chunk().ok_or(io::ErrorKind::InvalidData)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(io::Error::other)?;
        let cut = behind.split_at_checked(length);
        let (record, behind) = cut.ok_or(io::ErrorKind::InvalidData)?;
        Envelope::decode(id, record).map_err(io::Error::other)?;
        rest = behind;
    }
    Ok(rest.len() as u64)
}
