//! One flipped bit anywhere in a stored queue: no wrong octet is served, nothing panics, and what
//! is missing is noticed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use redspool_core::queue::{Reader, Selector, Store, StoreError};
use redspool_core::rng::Rng;
use redspool_proptests::books::Books;
use redspool_proptests::crash::Disk;
use redspool_proptests::mail;
use redspool_proptests::step::Step;
use redspool_store::RedbStore;
use std::panic::{AssertUnwindSafe, catch_unwind};

const SEED: u64 = 4_117;
const FLIPS: usize = 4_000;

/// A stopped store of several commits, and its books after each.
fn store() -> (Vec<u8>, Vec<Books>) {
    let disk = Disk::default();
    let mut store = RedbStore::open_on(disk.clone()).unwrap();
    let mut states = vec![Books::default()];
    for number in 0..8 {
        let message = mail::message(number);
        let length = if number == 3 { 150_000 } else { 900 };
        let submit = Step::Submit(message, 3, length, 0);
        let prepared = RedbStore::prepare(submit.transition()).unwrap();
        store.commit(vec![prepared]).unwrap();
        states.push(Books::read(&store.reader()).unwrap());
    }
    drop(store);
    (disk.octets(), states)
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
    let (octets, states) = store();
    let want = states.last().unwrap();
    let mut rng = Rng::new(SEED);
    let mut damaged = 0;
    // redb's own panics on damaged pages are caught inside the store; keep them off the terminal.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let mut wrong = None;
    for number in 0..FLIPS {
        let bit = rng.below(octets.len() as u64 * 8);
        let place = usize::try_from(bit / 8).unwrap();
        let mut flipped = octets.clone();
        flipped[place] ^= 1 << (bit % 8);
        let verdict = catch_unwind(AssertUnwindSafe(|| {
            let store = RedbStore::open_on(Disk::new(flipped))?;
            let reader = store.reader();
            // A flip in the header may choose the root of the commit before: an older, sound
            // state, which only a witness outside the file can tell from the last one.
            let before = &states[states.len() - 2];
            if place < 320 && Books::read(&reader).as_ref() == Ok(before) {
                return Ok(true);
            }
            serve(&reader, want)
        }));
        match verdict {
            Ok(Ok(false)) => {}
            Ok(Ok(true) | Err(_)) => damaged += 1,
            Err(why) => {
                let why = why.downcast_ref::<String>().cloned();
                wrong = Some((number, bit, why));
                break;
            }
        }
    }
    std::panic::set_hook(hook);
    assert_eq!(wrong, None, "seed {SEED}: flip, bit, panic");
    assert!(damaged > FLIPS / 50, "only {damaged} flips did any harm");
}
