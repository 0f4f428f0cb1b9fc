//! Submits messages to the store in the directory given, from several threads, and prints the id
//! of each when it is acknowledged. Runs until it is killed: it is the victim of the kill test.

use redspool_core::id::{Epoch, MessageIds};
use redspool_core::queue::{Body, Receipt, StoreError, Transition};
use redspool_core::rng::Rng;
use redspool_proptests::mail;
use redspool_store::{GroupCommit, LogStore};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

const THREADS: u64 = 8;

fn main() -> Result<(), StoreError> {
    let Some(spool) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(StoreError::Absent);
    };
    let store = LogStore::open(&spool)?;
    let queue = GroupCommit::start(store, move || LogStore::open(&spool))?;
    let handle = queue.handle();
    let epoch = handle.reader().epoch()?.map_or(Epoch::new(1), Epoch::next);
    let ids = Arc::new(Mutex::new(MessageIds::new(epoch)));
    let threads: Vec<_> = (0..THREADS)
        .map(|number| {
            let (handle, ids) = (handle.clone(), Arc::clone(&ids));
            std::thread::spawn(move || {
                let mut rng = Rng::new(number + u64::from(epoch.number()));
                loop {
                    let drawn = ids.lock().expect("no thread panics").draw(&mut rng);
                    let Some(id) = drawn else { return };
                    let length = usize::from(rng.u16());
                    let body = Body::Whole(mail::content(id, length));
                    let submission = mail::submission(id, 2, body);
                    let receipt = handle.commit_wait(Transition::Submit(submission));
                    if receipt == Ok(Receipt::Done) {
                        // One write per line: a kill leaves whole lines.
                        let line = format!("{id} {length}\n");
                        let _ = std::io::stdout().lock().write_all(line.as_bytes());
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        let _ = thread.join();
    }
    queue.close();
    Ok(())
}
