//! The control socket: smtpctl asks, the owners of the state answer.
//!
//! Promises: authority is the peer's uid and groups as the system tells them, checked for every
//! request; an
//! effect is durable before it is reported; a listing is read in pages and holds nothing while
//! its reader is slow; bad input ends its own connection and nothing else.
//! Absent on purpose: text for people (smtpctl renders).

use crate::access::Caller;
use crate::daemon::Shared;
use crate::discover::{discover, orphans};
use crate::drivers::set_aside;
use crate::log::Brief;
use crate::peer::{Peer, Users};
use crate::selected::{Order, select};
use crate::session;
use crate::timing::Stopwatch;
use crate::{relaying, renewal, trash};
use redspool_core::control::{
    EnvelopeRecord, EnvelopeRow, Listing, Reply, Request, Runstate, Subsystem, chunks, uncorrupted,
};
use redspool_core::engine;
use redspool_core::envelope::Envelope;
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::queue::{Reader, Receipt, Selector, StoreError, Transition, Walked};
use redspool_core::time::Timestamp;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{oneshot, watch};

/// How often a client that waits for a change of many envelopes hears that it is under way; it
/// gives up after 10 s of silence.
const SIGN: Duration = Duration::from_secs(2);

/// Binds the control socket. A socket file nobody answers on is replaced; one that answers means
/// another daemon is running. Everybody may connect (submission needs it); the uid decides.
pub fn bind(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "it is not a socket",
            ));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            let why = "another smtpd answers on it: stop that one, or name another --socket";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, why));
        }
        std::fs::remove_file(path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves clients until `stop` turns true.
pub async fn run(
    shared: Arc<Shared>,
    listener: std::os::unix::net::UnixListener,
    mut stop: watch::Receiver<bool>,
) {
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!("control socket failed: {error}");
            return;
        }
    };
    let users = Arc::new(Users::default());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, _)) => {
                tokio::spawn(client(Arc::clone(&shared), Arc::clone(&users), stream));
            }
            Err(error) => {
                tracing::warn!("control accept failed: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn client(shared: Arc<Shared>, users: Arc<Users>, stream: UnixStream) {
    let Ok(credentials) = stream.peer_cred() else {
        return;
    };
    let (uid, gid) = (credentials.uid(), credentials.gid());
    let limits = shared.limits();
    let mut peer = Peer::new(stream, Caller { uid, gid }, &limits);
    let _connected = match users.connect(uid, &shared.access, &limits) {
        Ok(connected) => connected,
        Err(reason) => {
            let reason = reason.into();
            let _ = peer.send(&Reply::Fail { reason }).await;
            return;
        }
    };
    shared.counters.control_opened();
    if let Err(error) = converse(&shared, peer).await {
        tracing::debug!("control connection of uid {uid} ended: {error}");
    }
    shared.counters.control_closed();
}

async fn converse(shared: &Arc<Shared>, mut peer: Peer) -> io::Result<()> {
    while let Some((request, octets)) = peer.next().await? {
        let caller = peer.caller();
        if let Err(lack) = shared.access.check(caller, request.right()).await {
            tracing::info!(
                "control denied uid={} request={}",
                caller.uid,
                word(&request)
            );
            peer.send(&Reply::Denied(lack)).await?;
            continue;
        }
        if request == Request::Submit {
            return submit(shared, peer).await;
        }
        let (watch, word) = (Stopwatch::imsg(), word(&request));
        answer(shared, &mut peer, request).await?;
        watch.imsg_done("control", "smtpctl", &word, octets);
    }
    Ok(())
}

/// The name of a request.
fn word(request: &Request) -> String {
    let text = Brief(request).to_string();
    let name = text.split(|c: char| !c.is_ascii_alphanumeric()).next();
    name.unwrap_or_default().into()
}

/// Hands the connection over to an SMTP session, for any user. Nothing may have been said behind
/// the request, for it would have been said before the answer.
async fn submit(shared: &Arc<Shared>, mut peer: Peer) -> io::Result<()> {
    let place = shared.places.take_local();
    let paused = *shared.smtp_paused.borrow();
    let reason = match (peer.is_silent(), paused, &place) {
        (false, ..) => "spoke before it was asked to",
        (_, true, _) => "smtpd takes no mail now: smtp is paused",
        (_, _, None) => "smtpd takes no mail now: too many sessions",
        _ => "",
    };
    let (Some(place), "") = (place, reason) else {
        let reason = reason.into();
        return peer.send(&Reply::Fail { reason }).await;
    };
    peer.send(&Reply::Done).await?;
    let uid = peer.caller().uid;
    session::run_local(Arc::clone(shared), uid, peer.into_stream(), None, place).await;
    Ok(())
}

async fn answer(shared: &Arc<Shared>, peer: &mut Peer, request: Request) -> io::Result<()> {
    let selected = |selector: redspool_core::control::Selector| Selector::try_from(selector);
    let reply = match request {
        Request::ShowQueue(selector) => match selected(selector) {
            Ok(selector) => return list(shared, peer, selector).await,
            Err(_) => Reply::Unknown,
        },
        Request::ShowEnvelope(id) => match EnvelopeId::new(id) {
            Some(id) => record(shared, id).await,
            None => Reply::Unknown,
        },
        Request::ShowMessage(id) => match MessageId::new(id) {
            Some(id) => return content(shared, peer, id).await,
            None => Reply::Unknown,
        },
        Request::ShowStatus => Reply::Status(shared.status().await),
        Request::ShowStats => shared.stats().await,
        Request::Monitor => shared.digest().await,
        Request::Schedule(selector) => match selected(selector) {
            Ok(selector) => peer.patiently(SIGN, schedule(shared, selector)).await?,
            Err(_) => Reply::Unknown,
        },
        Request::Discover(selector) => match selected(selector) {
            Ok(selector) => peer.patiently(SIGN, discover(shared, selector)).await?,
            Err(_) => Reply::Unknown,
        },
        // Not answered here: the connection is handed over.
        Request::Submit => Reply::Unknown,
        Request::Remove(selector) => match selected(selector) {
            Ok(selector) => trash::remove(shared, peer, selector).await?,
            Err(_) => Reply::Unknown,
        },
        Request::RemoveNow(selector) => match selected(selector) {
            Ok(selector) => {
                let reply = remove_now(shared, selector).await;
                trash::report(shared).await;
                reply
            }
            Err(_) => Reply::Unknown,
        },
        Request::ShowTrash(selector) => match selected(selector) {
            Ok(selector) => return trash::list(shared, peer, selector).await,
            Err(_) => Reply::Unknown,
        },
        Request::Undo {
            selector,
            last,
            dry_run,
        } => match selected(selector) {
            Ok(selector) if dry_run => trash::census(shared, peer, selector, last).await?,
            Ok(selector) => trash::undo(shared, peer, selector, last).await?,
            Err(_) => Reply::Unknown,
        },
        Request::Suspend {
            selector,
            suspended,
        } => match selected(selector) {
            Ok(selector) => {
                peer.patiently(SIGN, suspend(shared, selector, suspended))
                    .await?
            }
            Err(_) => Reply::Unknown,
        },
        Request::Pause { subsystem, paused } => pause(shared, subsystem, paused).await,
        Request::Log { verbose } => {
            shared.log.set_verbose(verbose);
            tracing::info!("log {}", if verbose { "verbose" } else { "brief" });
            Reply::Done
        }
        Request::Select {
            verb,
            selector,
            selection,
            dry_run,
        } => match selected(selector) {
            Ok(selector) => {
                let order = Order {
                    verb: (!dry_run).then_some(verb),
                    selector,
                    selection: *selection,
                };
                match select(shared, peer, order).await? {
                    Ok(reply) | Err(reply) => reply,
                }
            }
            Err(_) => Reply::Unknown,
        },
        Request::ShowMta(listing) => return relaying::list(shared, peer, listing).await,
        Request::ResumeRoute(number) => relaying::resume_route(shared, number).await,
        Request::Explain(id) => match EnvelopeId::new(id) {
            Some(id) => relaying::explain(shared, id).await,
            None => Reply::Unknown,
        },
        Request::Block {
            source,
            domain,
            blocked,
        } => relaying::block(shared, source, domain, blocked).await,
        Request::Trace { topic, on } => {
            shared.log.trace(topic, on);
            let verb = if on { "trace" } else { "untrace" };
            tracing::info!("{verb} {}", topic.word());
            Reply::Done
        }
        Request::Profile { topic, on } => {
            shared.log.profile(topic, on);
            let verb = if on { "profile" } else { "unprofile" };
            tracing::info!("{verb} {}", topic.word());
            Reply::Done
        }
        Request::UpdateTable(name) => renewal::update(shared, name).await,
        Request::Uncorrupt(id) => match MessageId::new(id) {
            Some(id) => uncorrupt(shared, id).await,
            None => Reply::Unknown,
        },
    };
    peer.send(&reply).await
}

pub(crate) fn fail(error: &StoreError) -> Reply {
    Reply::Fail {
        reason: format!("queue: {error}"),
    }
}

pub(crate) fn ending() -> Reply {
    Reply::Fail {
        reason: "smtpd is stopping".into(),
    }
}

/// Reads from the store on a thread that may wait for the disk.
pub(crate) async fn read<T: Send + 'static>(
    shared: &Arc<Shared>,
    question: impl FnOnce(&dyn Reader) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let shared = Arc::clone(shared);
    let asked = tokio::task::spawn_blocking(move || question(&*shared.queue.reader())).await;
    asked.unwrap_or_else(|error| Err(StoreError::Io(error.to_string())))
}

async fn list(shared: &Arc<Shared>, peer: &mut Peer, selector: Selector) -> io::Result<()> {
    let mut listing = Listing::new(selector, shared.limits().listing_page);
    let mut any = false;
    loop {
        let next = read(shared, move |reader| {
            let page = listing.next(reader)?;
            Ok((listing, page))
        });
        let page = match next.await {
            Ok((then, Some(page))) => {
                listing = then;
                page
            }
            Ok((_, None)) => break,
            Err(error) => return peer.send(&fail(&error)).await,
        };
        any = true;
        let (envelopes, damaged) = sorted_out(page);
        for error in damaged {
            if let StoreError::Corrupt { message, reason } = error {
                set_aside(shared, message, &reason);
                let message = message.get();
                peer.send(&Reply::Damaged { message, reason }).await?;
            }
        }
        let Some(rows) = rows(shared, envelopes).await else {
            return peer.send(&ending()).await;
        };
        for part in chunks(rows, peer.limit()) {
            peer.send(&Reply::EnvelopeRows(part)).await?;
        }
    }
    let end = if any || selector == Selector::All {
        Reply::End
    } else {
        Reply::Unknown
    };
    peer.send(&end).await
}

pub(crate) fn sorted_out(page: Vec<Walked<Envelope>>) -> (Vec<Envelope>, Vec<StoreError>) {
    let (mut envelopes, mut damaged) = (Vec::with_capacity(page.len()), Vec::new());
    for walked in page {
        match walked {
            Ok(envelope) => envelopes.push(envelope),
            Err(error) => damaged.push(error),
        }
    }
    (envelopes, damaged)
}

/// Joins envelopes with where the schedule has them; those it no longer has are left out.
pub(crate) async fn rows(
    shared: &Arc<Shared>,
    envelopes: Vec<Envelope>,
) -> Option<Vec<EnvelopeRow>> {
    let ids: Vec<_> = envelopes.iter().map(|envelope| envelope.id).collect();
    let states = shared.engine.ask(move |engine, now| {
        ids.into_iter()
            .map(|id| engine.runstate(now, id))
            .collect::<Vec<_>>()
    });
    let states = states.await?;
    let wall = crate::clock::now().wall;
    let joined = envelopes.iter().zip(states);
    let row =
        |(envelope, state): (_, Option<_>)| Some(EnvelopeRow::new(envelope, shown(state?, wall)));
    Some(joined.filter_map(row).collect())
}

/// Where the schedule has an envelope, as dates.
fn shown(state: engine::Runstate, now: Timestamp) -> Runstate {
    let due = match state.phase {
        engine::Phase::Inflight { since } => return Runstate::inflight(since),
        engine::Phase::Pending { due } => {
            Timestamp::from_secs(now.as_secs().saturating_add_signed(due))
        }
    };
    if state.held {
        Runstate::held(due)
    } else {
        Runstate::pending(due)
    }
}

async fn record(shared: &Arc<Shared>, id: EnvelopeId) -> Reply {
    match read(shared, move |reader| reader.envelope(id)).await {
        Ok(Some(envelope)) => Reply::EnvelopeRecord(Box::new(EnvelopeRecord::from(&envelope))),
        Ok(None) => Reply::Unknown,
        Err(error) => fail(&error),
    }
}

async fn content(shared: &Arc<Shared>, peer: &mut Peer, id: MessageId) -> io::Result<()> {
    match read(shared, move |reader| reader.message(id)).await {
        Ok(Some(_)) => {}
        Ok(None) => return peer.send(&Reply::Unknown).await,
        Err(error) => return peer.send(&fail(&error)).await,
    }
    for index in 0.. {
        let reply = match read(shared, move |reader| reader.body(id, index)).await {
            Ok(Some(piece)) => Reply::Piece(piece.to_vec()),
            Ok(None) => Reply::End,
            Err(error) => fail(&error),
        };
        peer.send(&reply).await?;
        if reply.is_last() {
            break;
        }
    }
    Ok(())
}

pub(crate) async fn schedule(shared: &Arc<Shared>, selector: Selector) -> Reply {
    let count = shared
        .engine
        .ask(move |engine, now| engine.schedule(now, selector))
        .await;
    match count {
        Some(count) => affected(shared, selector, count, 0).await,
        None => ending(),
    }
}

/// The count, or that the id names nothing.
async fn affected(
    shared: &Arc<Shared>,
    selector: Selector,
    count: usize,
    inflight: usize,
) -> Reply {
    if count == 0 && selector != Selector::All {
        let known = read(shared, move |reader| reader.page(selector, None, 1)).await;
        match known {
            Ok(page) if page.is_empty() => return Reply::Unknown,
            Ok(_) => {}
            Err(error) => return fail(&error),
        }
    }
    Reply::Affected {
        count: count as u64,
        inflight: inflight as u64,
    }
}

/// Takes envelopes out of queue and trash for good.
pub(crate) async fn remove_now(shared: &Arc<Shared>, selector: Selector) -> Reply {
    let (done, wait) = oneshot::channel();
    let engine = shared.engine.clone();
    shared
        .queue
        .commit(Transition::Remove(selector), move |receipt| match receipt {
            Ok(Receipt::Affected(ids)) => engine.instruct_blocking(move |engine, now| {
                let inflight = engine.removed(now, &ids);
                let _ = done.send(Ok((ids.len(), inflight)));
            }),
            Ok(_) => {
                let _ = done.send(Ok((0, 0)));
            }
            Err(error) => {
                let _ = done.send(Err(error));
            }
        });
    match wait.await {
        Ok(Ok((0, _))) if selector != Selector::All => Reply::Unknown,
        Ok(Ok((count, inflight))) => affected(shared, Selector::All, count, inflight).await,
        Ok(Err(error)) => fail(&error),
        Err(_) => ending(),
    }
}

pub(crate) async fn suspend(shared: &Arc<Shared>, selector: Selector, suspended: bool) -> Reply {
    let (done, wait) = oneshot::channel();
    let engine = shared.engine.clone();
    let transition = Transition::Suspend {
        selector,
        suspended,
    };
    shared
        .queue
        .commit(transition, move |receipt| match receipt {
            Ok(Receipt::Affected(ids)) => engine.instruct_blocking(move |engine, now| {
                engine.suspended(now, &ids, suspended);
                let _ = done.send(Ok(ids.len()));
            }),
            Ok(_) => {
                let _ = done.send(Ok(0));
            }
            Err(error) => {
                let _ = done.send(Err(error));
            }
        });
    match wait.await {
        Ok(Ok(count)) => affected(shared, selector, count, 0).await,
        Ok(Err(error)) => fail(&error),
        Err(_) => ending(),
    }
}

/// Brings a message back from the corrupt bucket, and its envelopes onto the schedule.
async fn uncorrupt(shared: &Arc<Shared>, message: MessageId) -> Reply {
    let (done, wait) = oneshot::channel();
    let transition = Transition::Uncorrupt(message);
    shared
        .queue
        .commit(transition, move |receipt| drop(done.send(receipt)));
    let receipt = match wait.await {
        Ok(Ok(receipt)) => receipt,
        Ok(Err(error)) => return fail(&error),
        Err(_) => return ending(),
    };
    if receipt != Receipt::Done {
        return match read(shared, move |reader| reader.exists(message)).await {
            Ok(exists) => uncorrupted(message, &receipt, exists),
            Err(error) => fail(&error),
        };
    }
    tracing::info!("message {message} came back from the corrupt bucket");
    match orphans(shared, Selector::Message(message)).await {
        Ok(Some(_)) => uncorrupted(message, &receipt, true),
        Ok(None) => ending(),
        Err(error) => fail(&error),
    }
}

async fn pause(shared: &Arc<Shared>, subsystem: Subsystem, paused: bool) -> Reply {
    let state = if paused { "paused" } else { "running" };
    match shared.pause(subsystem, paused).await {
        Ok(true) => {
            let verb = if paused { "paused" } else { "resumed" };
            tracing::info!("{} {verb}", subsystem.word());
            Reply::Done
        }
        Ok(false) => Reply::Fail {
            reason: format!("{} is {state} already", subsystem.word()),
        },
        Err(error) => fail(&error),
    }
}
