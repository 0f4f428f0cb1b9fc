//! Where text goes, and what the exit status will be.
//!
//! Promises: what is written is written out at once, so that pipes see every line when it is
//! made; a reader that has gone ends the program without a word, as SIGPIPE would.
//! Absent on purpose: what to say.

use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;

/// What a shell reports of a program that died writing into a closed pipe: 128 + SIGPIPE.
const BROKEN_PIPE: u8 = 141;

/// Standard output, standard error, and the exit status.
#[derive(Debug)]
pub(crate) struct Console {
    name: String,
    status: u8,
    /// Something was written to the standard output.
    printed: bool,
    /// Nobody reads the standard output any more.
    gone: bool,
}

impl Console {
    /// For the program that was called `name`.
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            status: 0,
            printed: false,
            gone: false,
        }
    }

    /// What the program was called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A line on the standard error.
    pub(crate) fn remark(&self, text: &str) {
        // Without a standard error there is nobody to tell.
        let _ = writeln!(io::stderr(), "{}: {text}", self.name);
    }

    /// A line on the standard error, and the exit status 1.
    pub(crate) fn fail(&mut self, text: &str) {
        self.remark(text);
        self.status = self.status.max(1);
    }

    /// Ends with this status, unless something worse has happened.
    pub(crate) fn end_with(&mut self, status: u8) {
        self.status = self.status.max(status);
    }

    /// Writes out what is ready now.
    pub(crate) fn print(&mut self, text: &[u8]) {
        self.printed |= !text.is_empty();
        let mut out = io::stdout().lock();
        if let Err(error) = out.write_all(text).and_then(|()| out.flush()) {
            self.gone = true;
            if error.kind() == ErrorKind::BrokenPipe {
                self.status = BROKEN_PIPE;
            } else {
                self.fail(&format!("standard output: {error}"));
            }
        }
    }

    /// Whether something was written to the standard output.
    pub(crate) fn printed(&self) -> bool {
        self.printed
    }

    /// Whether nobody reads the standard output any more.
    pub(crate) fn gone(&self) -> bool {
        self.gone
    }

    /// Whether nothing has failed so far.
    pub(crate) fn sound(&self) -> bool {
        self.status == 0
    }

    /// The exit status.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.status)
    }
}
