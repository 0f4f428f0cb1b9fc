//! What a client is told when we cannot go on: a code and a bland text. The log has the cause.

use redspool_core::queue::StoreError;
use redspool_core::reply::{Reply, Status};
use std::io;

/// The reply for an error of the store.
pub(crate) fn for_store(error: &StoreError) -> Reply {
    match error {
        StoreError::Full => full(),
        _ => Reply::new(
            451,
            Some(Status::transient(3, 0)),
            "Local problem, try again later",
        ),
    }
}

/// The reply for an error of the file system.
pub(crate) fn for_io(error: &io::Error) -> Reply {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            full()
        }
        _ => for_store(&StoreError::Io(String::new())),
    }
}

/// The reply to credentials that cannot be checked now (RFC 4954 section 6).
pub(crate) fn not_checked() -> Reply {
    Reply::new(
        454,
        Some(Status::transient(7, 0)),
        "Temporary authentication failure",
    )
}

fn full() -> Reply {
    Reply::new(
        452,
        Some(Status::transient(3, 1)),
        "Insufficient system storage, try again later",
    )
}
