//! A mark beside the database: redb has panicked over it.
//!
//! What: redb panics on some damaged pages, and on a few of them once more on its way out, which
//! ends the process. [`watch`] has a panic leave a mark; a start that finds it builds the database
//! anew from the log. So damage of that kind stops a daemon once, not at every start.
//! Absent on purpose: syncs. The mark is for the next process, and a machine that stops meanwhile
//! will come by the damage again.
//! Fails: silently, for it acts while something worse happens.

use super::shared::io_fault;
use crate::media::Media;
use redspool_core::queue::StoreError;
use std::fs::File;
use std::panic;
use std::path::Path;

/// Name of the mark.
const NAME: &str = "queue.suspect";

/// Part of the path of redb's source files, as a panic tells it.
const SOURCE: &str = "/redb-";

/// Has panics of redb leave a mark in the spool, beside what panics do otherwise. For the program
/// that writes to the store in `spool`, once.
pub fn watch(spool: &Path) {
    let mark = spool.join(NAME);
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(panic::Location::file);
        if place.is_some_and(|file| file.contains(SOURCE)) {
            // Without the mark the next start tries the database once more.
            let _ = File::create(&mark);
        }
        before(panic);
    }));
}

/// Whether there is a mark.
pub(super) fn marked(media: &dyn Media) -> Result<bool, StoreError> {
    let names = media.names().map_err(|why| io_fault(&why))?;
    Ok(names.iter().any(|name| name == NAME))
}

/// Takes the mark away.
pub(super) fn clear(media: &dyn Media) -> Result<(), StoreError> {
    media.remove(NAME).map_err(|why| io_fault(&why))
}
