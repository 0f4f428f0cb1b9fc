//! `mail-lmtp DEST [rcpt-to]`: hands standard input to an LMTP server.
//!
//! SENDER of the environment is the return path; the recipient is USER, or RECIPIENT with
//! `rcpt-to`. The first line of standard error says what went wrong; the exit code is one of
//! sysexits(3).

use redspool_core::addr::Address;
use redspool_smtpd::local::{self, Fault, lmtp};
use std::process::ExitCode;

fn main() -> ExitCode {
    local::main(deliver)
}

fn deliver() -> Result<(), Fault> {
    let usage = || Fault::usage("usage: mail-lmtp host:port|/socket [rcpt-to]");
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let (dest, rcpt) = match words.as_slice() {
        [dest] => (dest, Address::of_user(&variable("USER"))),
        [dest, word] if word == "rcpt-to" => (dest, variable("RECIPIENT").parse()),
        _ => return Err(usage()),
    };
    let dest = dest.to_str().ok_or_else(usage)?;
    let rcpt = rcpt.map_err(|why| Fault::usage(format_args!("no recipient: {why}")))?;
    let sender = variable("SENDER").parse();
    let sender = sender.map_err(|why| Fault::usage(format_args!("no sender: {why}")))?;
    lmtp::deliver(&mut std::io::stdin().lock(), dest, sender, rcpt)
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}
