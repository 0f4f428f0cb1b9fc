//! `mail-mbox FILE|USER`: appends standard input to an mbox file, or to the system mailbox of a
//! user.
//!
//! SENDER of the environment is the return path. The first line of standard error says what went
//! wrong; the exit code is one of sysexits(3).

use redspool_smtpd::local::{self, Fault, mbox};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where the system keeps mailboxes (FHS 5.11).
const MAILBOXES: &str = "/var/mail";

fn main() -> ExitCode {
    local::main(deliver)
}

fn deliver() -> Result<(), Fault> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(target), None) = (arguments.next(), arguments.next()) else {
        return Err(Fault::usage("usage: mail-mbox file|user"));
    };
    let path = place(&target)?;
    let sender = std::env::var("SENDER").unwrap_or_default();
    mbox::deliver(
        &mut io::stdin().lock(),
        &path,
        &sender,
        jiff::Timestamp::now(),
    )
}

fn place(target: &OsStr) -> Result<PathBuf, Fault> {
    match target.as_bytes() {
        [] | [b'.', ..] => Err(Fault::usage("neither a path nor a user")),
        name if name.contains(&b'/') => Ok(PathBuf::from(target)),
        _ => Ok(Path::new(MAILBOXES).join(target)),
    }
}
