//! What a start does with messages that were in hand when the last process ended (rule Q13).
//!
//! Promises: once is no reason for anything. Twice in a row counts as an attempt that failed, so
//! that others go first. From the third time on the message is paused, with the reason in its
//! envelopes, until the administrator resumes it.
//! Fails: with the store's error; then the start does.

use crate::clock;
use crate::inflight::Inflight;
use redspool_core::id::MessageId;
use redspool_core::queue::{Change, Reader, Selector, Settlement, StoreError, Transition};
use redspool_core::reply::Status;
use redspool_store::QueueHandle;

/// Crashes in a row from which on a message counts as tried.
const DELAYED: u32 = 2;

/// Crashes in a row from which on a message is paused.
const PAUSED: u32 = 3;

/// Envelopes of a message looked at together.
const PAGE: usize = 256;

/// Puts off or pauses those who are under suspicion.
pub(crate) fn confine(queue: &QueueHandle, inflight: &Inflight) -> Result<(), StoreError> {
    for (message, crashes) in inflight.crashes() {
        if *crashes < DELAYED {
            continue;
        }
        let paused = *crashes >= PAUSED;
        let reason = format!(
            "smtpd ended {crashes} times in a row while it had this message in hand{}",
            if paused { "; paused" } else { "" }
        );
        let tried = failed_attempts(&*queue.reader(), *message, &reason)?;
        if tried.is_empty() {
            continue;
        }
        tracing::warn!("queue msgid={message} {reason}");
        queue.commit_wait(Transition::Settle(tried))?;
        if paused {
            queue.commit_wait(Transition::Suspend {
                selector: Selector::Message(*message),
                suspended: true,
            })?;
        }
    }
    Ok(())
}

/// An attempt that failed, for each envelope of a message that can be read.
fn failed_attempts(
    reader: &dyn Reader,
    message: MessageId,
    reason: &str,
) -> Result<Vec<Settlement>, StoreError> {
    let (mut after, mut tried) = (None, Vec::new());
    loop {
        let page = reader.page(Selector::Message(message), after, PAGE)?;
        // What is damaged is found and set aside when the queue is loaded.
        for envelope in page.iter().flatten() {
            after = Some(envelope.id);
            tried.push(Settlement {
                envelope: envelope.id,
                change: Change::Retry {
                    retry: envelope.retry.saturating_add(1),
                    last_try: clock::now().wall,
                    status: Some(Status::transient(3, 0)),
                    errorline: reason.into(),
                    via: None,
                    warned: None,
                },
                bounce: None,
            });
        }
        if page.len() < PAGE || page.iter().all(Result::is_err) {
            return Ok(tried);
        }
    }
}
