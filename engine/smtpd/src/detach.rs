//! Running in the background: start-up errors still reach the terminal, then the terminal is free.
//!
//! The program starts itself again and waits until that one is ready or has failed. Nothing is
//! forked, so no thread can be caught in the middle.

use std::fs::OpenOptions;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

/// Set in the environment of the process that goes to the background.
const MARK: &str = "REDSPOOL_BACKGROUND";

/// What it says on its standard output once it serves.
const READY: &str = "ready";

/// Which of the two processes this is.
pub enum Side {
    /// The one on the terminal; the other is ready.
    Foreground,
    /// The one on the terminal; the other has failed and said why.
    Failed,
    /// The one to serve.
    Background,
}

/// Goes to the background, unless this process is there already.
pub fn detach() -> io::Result<Side> {
    if std::env::var_os(MARK).is_some() {
        nix::unistd::setsid()?;
        return Ok(Side::Background);
    }
    let mut child = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(MARK, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut word = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut word)?;
    }
    if word.trim_end() == READY {
        return Ok(Side::Foreground);
    }
    child.wait()?;
    Ok(Side::Failed)
}

/// Tells the process on the terminal that we serve, and lets go of the terminal.
pub fn ready() -> io::Result<()> {
    let mut output = io::stdout();
    writeln!(output, "{READY}")?;
    output.flush()?;
    let nowhere = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    nix::unistd::dup2_stdout(&nowhere)?;
    nix::unistd::dup2_stderr(&nowhere)?;
    Ok(())
}
