//! `smtpd-priv`: the privileged helper of smtpd, and the process between it and a program.
//!
//! Run by smtpd alone, with one end of a socket pair as standard input. Single-threaded; links
//! neither tokio nor TLS; reads nothing that came over the network but as values it hands on.

use redspool_smtpd::helper::{server, stage};
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.as_slice() {
        [verb, rest @ ..] if verb == "serve" => {
            match server::main(std::io::stdin().as_fd(), rest) {
                Ok(()) => ExitCode::SUCCESS,
                Err(why) => {
                    eprintln!("smtpd-priv: {why}");
                    ExitCode::FAILURE
                }
            }
        }
        arguments => stage::main(arguments),
    }
}
