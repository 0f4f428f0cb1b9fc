//! Starts the store in the directory given as a daemon does, takes a message, stops, starts again
//! and takes the message out: whatever redb does about a damaged page happens here.

use redspool_core::queue::{Body, Selector, Store, StoreError, Transition};
use redspool_proptests::mail;
use redspool_store::{LogStore, watch};
use std::path::PathBuf;

/// A message that no sample has.
const NUMBER: u32 = 901;

fn main() -> Result<(), StoreError> {
    let Some(spool) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(StoreError::Absent);
    };
    watch(&spool);
    let id = mail::message(NUMBER);
    let content = Body::Whole(mail::content(id, 500));
    let submit = Transition::Submit(mail::submission(id, 2, content));
    for transition in [submit, Transition::Remove(Selector::Message(id))] {
        let mut store = LogStore::open(&spool)?;
        let prepared = store.prepare(transition)?;
        store.commit(vec![prepared])?;
        store.tick()?;
    }
    Ok(())
}
