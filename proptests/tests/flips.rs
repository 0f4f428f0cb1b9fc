//! One flipped bit anywhere in a stopped queue, in the log or in the database: no wrong octet is
//! served, nothing panics, and what is missing is noticed. Read as the offline commands do.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use redspool_core::envelope::Envelope;
use redspool_core::queue::{Reader, Selector, Store, StoreError};
use redspool_core::rng::Rng;
use redspool_proptests::books::Books;
use redspool_proptests::mail;
use redspool_proptests::step::Step;
use redspool_store::{LogStore, Offline, Options};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

const SEED: u64 = 4_117;
const FLIPS: usize = 4_000;

/// A stopped store of several commits and checkpoints, and its books.
fn store(spool: &Path) -> Books {
    let mut store = LogStore::open_with(spool, Options::small()).unwrap();
    for number in 0..24 {
        let length = if number == 3 { 150_000 } else { 900 };
        let mut group = vec![Step::Submit(mail::message(number), 3, length, 0)];
        if number % 3 == 2 {
            group.push(Step::Remove(Selector::Message(mail::message(number - 2))));
        }
        let prepared = group.iter().map(|step| store.prepare(step.transition()));
        store
            .commit(prepared.collect::<Result<_, _>>().unwrap())
            .unwrap();
        store.tick().unwrap();
    }
    Books::read(&store.reader()).unwrap()
}

/// The envelope but for the mark that it may have been delivered before.
fn unmarked(mut envelope: Envelope) -> Envelope {
    envelope.flags.maybe_duplicated = false;
    envelope
}

/// Reads all there is and compares each piece by itself. Says whether damage was reported.
fn serve(reader: &impl Reader, want: &Books, mut reported: bool) -> Result<bool, StoreError> {
    let mut found = 0;
    for entry in reader.page(Selector::All, None, 1_000)? {
        match entry {
            Ok(envelope) => {
                // A database built anew from the log may bring back what had left.
                if let Some(want) = want.envelopes.get(&envelope.id) {
                    assert_eq!(unmarked(envelope), *want);
                    found += 1;
                } else {
                    assert!(envelope.flags.maybe_duplicated);
                }
            }
            Err(_) => reported = true,
        }
    }
    for (id, (message, content)) in &want.messages {
        match reader.message(*id) {
            Ok(Some(read)) => assert_eq!(read, *message),
            Ok(None) => {}
            Err(_) => reported = true,
        }
        let mut body = Vec::new();
        let mut index = 0;
        loop {
            match reader.body(*id, index) {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) if body.is_empty() => break,
                Ok(None) => {
                    assert_eq!(body, *content);
                    break;
                }
                Err(_) => {
                    reported = true;
                    assert!(content.starts_with(&body));
                    break;
                }
            }
            index += 1;
        }
    }
    reader.walk(&mut |entry| reported |= entry.is_err())?;
    assert!(
        reported || found == want.envelopes.len(),
        "{found} envelopes found and no word about the others"
    );
    Ok(reported)
}

#[test]
fn no_wrong_octet_is_served() {
    let spool = tempfile::tempdir().unwrap();
    let want = store(spool.path());
    let files: Vec<_> = std::fs::read_dir(spool.path()).unwrap().collect();
    let files = files.into_iter().map(|entry| entry.unwrap().path());
    let files: Vec<_> = files
        .map(|path| (std::fs::read(&path).unwrap(), path))
        .collect();
    let mut rng = Rng::new(SEED);
    let mut damaged = 0;
    let mut wrong = None;
    // redb's own panics on damaged pages are caught inside the store; keep them off the terminal.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    for _ in 0..FLIPS {
        let total: usize = files.iter().map(|(octets, _)| octets.len()).sum();
        let mut place = usize::try_from(rng.below(total as u64)).unwrap();
        let mut files = files.iter();
        let (octets, path) = loop {
            let file = files.next().unwrap();
            if place < file.0.len() {
                break file;
            }
            place -= file.0.len();
        };
        let bit = rng.below(8);
        let flipped = octets[place] ^ (1 << bit);
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&[flipped], place as u64).unwrap();
        let verdict = catch_unwind(AssertUnwindSafe(|| {
            let offline = Offline::open(spool.path())?;
            let reported = offline.findings().damage() || !offline.reader().corrupt()?.is_empty();
            serve(&offline.reader(), &want, reported)
        }));
        file.write_all_at(&[octets[place]], place as u64).unwrap();
        match verdict {
            Ok(Ok(false)) => {}
            Ok(Ok(true) | Err(_)) => damaged += 1,
            Err(why) => {
                let why = why.downcast_ref::<String>().cloned();
                wrong = Some((path, place, bit, why));
                break;
            }
        }
    }
    std::panic::set_hook(hook);
    assert_eq!(wrong, None, "seed {SEED}: file, octet, bit, panic");
    assert!(damaged > FLIPS / 50, "only {damaged} flips did any harm");
    // With every bit back in its place it is the same store as before.
    let store = LogStore::open_with(spool.path(), Options::small()).unwrap();
    assert_eq!(Books::read(&store.reader()).as_ref(), Ok(&want));
}
