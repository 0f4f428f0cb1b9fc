//! The built-in delivery methods: what the programs `mail-maildir`, `mail-mbox` and `mail-lmtp` do.
//!
//! Each runs as the recipient, takes the message on standard input with LF line ends and the
//! envelope from the environment (spec/smtpd.md 5.5), and exits with a code of sysexits(3).
//! Promises: exit 0 only when the message is durable at its destination; on any other exit there
//! is nothing of it in the reader's view.
//! Absent on purpose: threads, tokio, the queue, the configuration.
//! Fails: with a [`Fault`]; its text is the one line a program prints, which becomes the error
//! text of the envelope. Everything a retry may mend is temporary.

pub mod lmtp;
pub mod maildir;
pub mod mbox;

use nix::sys::signal::{SigSet, Signal};
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// Why a delivery program did not do its work: an exit code of sysexits(3) and one line of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    code: u8,
    text: String,
}

impl Fault {
    /// It was called with wrong arguments (64, `EX_USAGE`).
    pub fn usage(text: impl fmt::Display) -> Self {
        Self::new(64, text)
    }

    /// The destination refuses it for good (69, `EX_UNAVAILABLE`).
    pub fn refused(text: impl fmt::Display) -> Self {
        Self::new(69, text)
    }

    /// It may succeed later (75, `EX_TEMPFAIL`).
    pub fn temporary(text: impl fmt::Display) -> Self {
        Self::new(75, text)
    }

    /// It ends with another code.
    pub(crate) fn new(code: u8, text: impl fmt::Display) -> Self {
        Self {
            code,
            text: text.to_string(),
        }
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fault {}

/// Runs a delivery program: prints its fault, if any, as one line, and gives the exit code.
pub fn main(work: impl FnOnce() -> Result<(), Fault>) -> ExitCode {
    // A file size limit then shows as an error of write(2), which is cleaned up after.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    let result = match signals.thread_block() {
        Ok(()) => work(),
        Err(cause) => Err(Fault::temporary(format_args!(
            "cannot block signals: {cause}"
        ))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            // The code counts, even if nobody reads the reason.
            let _ = writeln!(io::stderr(), "{fault}");
            ExitCode::from(fault.code)
        }
    }
}
