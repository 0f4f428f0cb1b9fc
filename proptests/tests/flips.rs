//! One flipped bit anywhere in a stopped queue: no wrong octet is served, nothing panics, and what
//! is missing is noticed. Read as the offline commands do; redb opened for writing may end the
//! process on a damaged page, which is the lawful end of a writer.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use redspool_core::queue::{Reader, Selector, Store, StoreError};
use redspool_core::rng::Rng;
use redspool_proptests::books::Books;
use redspool_proptests::mail;
use redspool_proptests::step::Step;
use redspool_store::{FILE_NAME, Offline, RedbStore};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

const SEED: u64 = 4_117;
const FLIPS: usize = 4_000;

/// Octets of redb's header.
const HEADER: usize = 320;

/// A stopped store of several commits, and its books after each.
fn store(spool: &Path) -> Vec<Books> {
    let mut store = RedbStore::open(spool).unwrap();
    let mut states = vec![Books::default()];
    for number in 0..8 {
        let message = mail::message(number);
        let length = if number == 3 { 150_000 } else { 900 };
        let submit = Step::Submit(message, 3, length, 0);
        let prepared = store.prepare(submit.transition()).unwrap();
        store.commit(vec![prepared]).unwrap();
        states.push(Books::read(&store.reader()).unwrap());
    }
    states
}

/// Reads all there is and compares each piece by itself. Says whether damage was reported.
fn serve(reader: &impl Reader, want: &Books) -> Result<bool, StoreError> {
    let mut reported = false;
    let mut found = 0;
    for entry in reader.page(Selector::All, None, 1_000)? {
        match entry {
            Ok(envelope) => {
                assert_eq!(Some(&envelope), want.envelopes.get(&envelope.id));
                found += 1;
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
    let states = store(spool.path());
    let [.., before, want] = &states[..] else {
        panic!("there were several commits");
    };
    let path = spool.path().join(FILE_NAME);
    let octets = std::fs::read(&path).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let mut rng = Rng::new(SEED);
    let mut damaged = 0;
    let mut wrong = None;
    // redb's own panics on damaged pages are caught inside the store; keep them off the terminal.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    for _ in 0..FLIPS {
        let bit = rng.below(octets.len() as u64 * 8);
        let place = usize::try_from(bit / 8).unwrap();
        let flipped = octets[place] ^ (1 << (bit % 8));
        file.write_all_at(&[flipped], bit / 8).unwrap();
        let verdict = catch_unwind(AssertUnwindSafe(|| {
            let reader = Offline::open(spool.path())?.reader();
            // A flip in the header may choose the root of the commit before: an older, sound
            // state, which only a witness outside the file can tell from the last one.
            if place < HEADER && Books::read(&reader).as_ref() == Ok(before) {
                return Ok(true);
            }
            serve(&reader, want)
        }));
        file.write_all_at(&[octets[place]], bit / 8).unwrap();
        match verdict {
            Ok(Ok(false)) => {}
            Ok(Ok(true) | Err(_)) => damaged += 1,
            Err(why) => {
                wrong = Some((bit, why.downcast_ref::<String>().cloned()));
                break;
            }
        }
    }
    std::panic::set_hook(hook);
    assert_eq!(wrong, None, "seed {SEED}: bit, panic");
    assert!(damaged > FLIPS / 50, "only {damaged} flips did any harm");
    // With every bit back in its place it is the same store as before.
    assert_eq!(
        Books::read(&RedbStore::open(spool.path()).unwrap().reader()).as_ref(),
        Ok(want)
    );
}
