//! Fills a spool with mail of one recipient each, for `tools/bench/ctl.sh`.
//!
//!     fill <spool> <envelopes>
//!
//! Promises: when it ends with success, so many envelopes are queued, durable, accepted just now,
//! for a thousand domains in turn.
//! Fails: with the reason on the standard error.

use redspool_benches::{Mailbag, words};
use redspool_core::addr::Address;
use redspool_core::id::Epoch;
use redspool_core::queue::{StoreError, Submission, Transition};
use redspool_core::time::Timestamp;
use redspool_store::{GroupCommit, LogStore};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

/// Octets of a message.
const SIZE: usize = 1024;

/// Domains the mail is for.
const DOMAINS: u64 = 1000;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let filled = match arguments.as_slice() {
        [spool, envelopes] => {
            words::count(envelopes).and_then(|count| fill(Path::new(spool), count))
        }
        _ => Err("usage: fill <spool> <envelopes>".into()),
    };
    match filled {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("fill: {why}");
            ExitCode::FAILURE
        }
    }
}

fn fill(spool: &Path, envelopes: u64) -> Result<(), String> {
    let failed = |error: StoreError| format!("{}: {error}", spool.display());
    let store = LogStore::open(spool).map_err(failed)?;
    let again = spool.to_path_buf();
    let store = GroupCommit::start(store, move || LogStore::open(&again)).map_err(failed)?;
    let queue = store.handle();
    let bag = Mailbag::new(SIZE, 1, Epoch::new(1));
    let (sender, receipts) = mpsc::channel();
    for number in 0..envelopes {
        let sender = sender.clone();
        let submission = fresh(bag.next().1, number)?;
        queue.commit(Transition::Submit(submission), move |receipt| {
            // The receiver is below, waiting.
            let _ = sender.send(receipt);
        });
    }
    drop(sender);
    for receipt in receipts {
        receipt.map_err(failed)?;
    }
    store.close();
    Ok(())
}

/// Accepted now, so that it does not expire at once, and for a domain of its own.
fn fresh(mut submission: Submission, number: u64) -> Result<Submission, String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = Timestamp::from_secs(now.map_err(|error| error.to_string())?.as_secs());
    let to = format!("user@d{}.example", number % DOMAINS);
    let to: Address = to.parse().map_err(|_| format!("not an address: {to}"))?;
    submission.message.ctime = now;
    for envelope in &mut submission.envelopes {
        envelope.ctime = now;
        envelope.ttl = Duration::from_hours(96);
        envelope.rcpt.clone_from(&to);
        envelope.dest.clone_from(&to);
    }
    Ok(submission)
}
