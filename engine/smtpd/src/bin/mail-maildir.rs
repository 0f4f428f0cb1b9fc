//! `mail-maildir DIR`: delivers standard input to a Maildir.
//!
//! EXTENSION of the environment picks the folder `DIR/.EXTENSION` if there is one. The first line
//! of standard error says what went wrong; the exit code is one of sysexits(3).

use redspool_smtpd::local::{self, Fault, maildir};
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

fn main() -> ExitCode {
    local::main(deliver)
}

fn deliver() -> Result<(), Fault> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(path), None) = (arguments.next(), arguments.next()) else {
        return Err(Fault::usage("usage: mail-maildir directory"));
    };
    let extension = std::env::var("EXTENSION").unwrap_or_default();
    let epoch = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    let name = || maildir::unique_name(epoch, rand::random(), &host);
    maildir::deliver(&mut io::stdin().lock(), Path::new(&path), &extension, name)
}
