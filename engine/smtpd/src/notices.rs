//! Makes the notice for a group of bounce envelopes and queues it in their place.
//!
//! Promises: the notice enters and the envelopes it reports leave in one step, so a crash neither
//! loses nor repeats it; a notice that goes nowhere is dropped with a line in the log, never
//! bounced.
//! Absent on purpose: who is told what (core's `bounce`), and where the notice goes (the rules,
//! as for any local mail).

use crate::clock::now;
use crate::daemon::Shared;
use crate::recipients;
use bytes::Bytes;
use redspool_core::addr::{Address, Source};
use redspool_core::bounce::{self, Report};
use redspool_core::engine::Event;
use redspool_core::envelope::{Attempts, Delivery, Dsn, Envelope, Flags};
use redspool_core::id::MessageId;
use redspool_core::limits::Limits;
use redspool_core::lookup::Client;
use redspool_core::queue::{
    Body, Failure, Message, Receipt, Scheduled, StoreError, Submission, Transition,
};
use redspool_core::reply::Status;
use redspool_core::rng::Rng;
use redspool_core::smtp::session::Recipient;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Reports a group of bounce envelopes, and tells the engine how that went.
pub(crate) async fn run(shared: Arc<Shared>, group: Vec<Envelope>) {
    let reported = group.iter().map(|envelope| envelope.id).collect();
    let result = report(&shared, &group).await;
    shared
        .engine
        .tell(Event::Notified { reported, result })
        .await;
}

async fn report(shared: &Arc<Shared>, group: &[Envelope]) -> Result<(), Failure> {
    let Some(first) = group.first() else {
        return Ok(());
    };
    let _flight = shared.inflight.begin(first.id.message());
    let client = Client {
        source: Source::Local,
        tag: "".into(),
        helo: first.smtpname.clone(),
        secure: false,
        authenticated: true,
        username: "".into(),
    };
    let sender = first.sender.clone();
    let notice = match recipients::expand(shared, client, Address::null(), sender.clone()).await {
        Ok(recipients) => Some(submission(shared, group, first, recipients).await?),
        Err(reply) if reply.is_permanent() => {
            tracing::warn!("bounce dropped: to=<{}> stat=\"{reply}\"", sender.as_str());
            None
        }
        Err(reply) => {
            let status = reply.status().unwrap_or(Status::transient(3, 0));
            return Err(Failure::new(status, reply.to_string()));
        }
    };
    let number = notice.as_ref().map(|notice| notice.message.id);
    commit(shared, notice, group).await?;
    if let Some(number) = number {
        let kind = kind(first);
        tracing::info!(
            "bounce {kind} msgid={} notice={number} to=<{}> nrcpt={}",
            first.id.message(),
            sender.as_str(),
            group.len()
        );
    }
    Ok(())
}

/// The word of what a bounce envelope reports.
fn kind(envelope: &Envelope) -> &'static str {
    match envelope.delivery {
        Delivery::Bounce(bounce) => bounce.word(),
        Delivery::Mta(_) | Delivery::Mda(_) => "nothing",
    }
}

async fn submission(
    shared: &Arc<Shared>,
    group: &[Envelope],
    first: &Envelope,
    recipients: Vec<Recipient>,
) -> Result<Submission, Failure> {
    let now = now().wall;
    let limits = shared.limits();
    let message = first.id.message();
    let (facts, original) = original(shared, message, &limits)
        .await
        .map_err(unreadable)?;
    let mut rng = Rng::new(shared.draw());
    let report = Report {
        envelopes: group,
        arrived: facts.map_or(first.ctime, |facts| facts.ctime),
        original: &original,
        complete: facts.is_none_or(|facts| facts.size == original.len() as u64),
        utf8: facts.is_some_and(|facts| facts.utf8),
        now,
    };
    let content = bounce::notice(&report, &limits, &mut rng).unwrap_or_default();
    let id = shared.ids.draw().map_err(unreadable)?;
    let message = Message {
        id,
        size: content.len() as u64,
        ctime: now,
        eight_bit: !content.is_ascii(),
        // Its header section holds no other address.
        utf8: !first.sender.is_ascii(),
    };
    let envelope = |recipient: Recipient| Envelope {
        id: id.draw_envelope(&mut rng),
        action: recipient.action,
        tag: "".into(),
        delivery: recipient.delivery,
        smtpname: first.smtpname.clone(),
        helo: first.smtpname.clone(),
        hostname: first.smtpname.clone(),
        username: "".into(),
        source: Source::Local,
        sender: Address::null(),
        rcpt: first.sender.clone(),
        dest: recipient.dest,
        ctime: now,
        last_try: redspool_core::time::Timestamp::EPOCH,
        last_bounce: redspool_core::time::Timestamp::EPOCH,
        ttl: recipient.ttl,
        retry: 0,
        flags: Flags {
            authenticated: true,
            bounce: true,
            internal: recipient.internal,
            ..Flags::default()
        },
        dsn: Dsn::default(),
        status: None,
        errorline: "".into(),
        remote: "".into(),
        attempts: Attempts::default(),
    };
    let envelopes = recipients.into_iter().map(envelope).collect();
    Ok(Submission {
        message,
        body: Body::Whole(content.into()),
        envelopes,
    })
}

/// Facts about the reported message and the beginning of its content.
async fn original(
    shared: &Arc<Shared>,
    message: MessageId,
    limits: &Arc<Limits>,
) -> Result<(Option<Message>, Vec<u8>), StoreError> {
    let (reader, limits) = (shared.queue.reader(), Arc::clone(limits));
    let read = tokio::task::spawn_blocking(move || {
        let facts = reader.message(message)?;
        let mut content = Vec::new();
        let mut index = 0;
        while content.len() < limits.bounce_copy {
            let piece: Option<Bytes> = reader.body(message, index)?;
            let Some(piece) = piece else { break };
            content.extend_from_slice(&piece);
            index += 1;
        }
        Ok((facts, content))
    });
    read.await
        .unwrap_or_else(|error| Err(StoreError::Io(error.to_string())))
}

async fn commit(
    shared: &Arc<Shared>,
    notice: Option<Submission>,
    group: &[Envelope],
) -> Result<(), Failure> {
    let envelopes = notice.iter().flat_map(|notice| &notice.envelopes);
    let scheduled: Vec<_> = envelopes.map(Scheduled::from).collect();
    let reported = group.iter().map(|envelope| envelope.id).collect();
    let (done, wait) = oneshot::channel();
    let (engine, counting) = (shared.engine.clone(), Arc::clone(shared));
    let incoming = scheduled.len();
    shared.counters.incoming(incoming);
    shared
        .queue
        .commit(Transition::Notify { notice, reported }, move |receipt| {
            counting.counters.arrived(incoming);
            if matches!(receipt, Ok(Receipt::Done | Receipt::Affected(_))) && !scheduled.is_empty()
            {
                engine.tell_blocking(Event::Queued(scheduled));
            }
            let _ = done.send(receipt);
        });
    match wait.await.unwrap_or(Err(StoreError::Poisoned)) {
        Ok(Receipt::Refused(_)) => Err(Failure::new(Status::transient(3, 0), "message id in use")),
        Ok(_) => Ok(()),
        Err(error) => Err(unreadable(error)),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn unreadable(error: StoreError) -> Failure {
    Failure::new(Status::transient(3, 0), error.to_string())
}
