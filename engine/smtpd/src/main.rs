//! smtpd(8): reads the command line and the configuration, takes what needs rights, gives the
//! rights up, and runs the daemon until it is told to stop.

use clap::Parser as _;
use redspool_smtpd::launch::{self, Failed};
use redspool_smtpd::options::Options;
use std::io::Write as _;
use std::process::ExitCode;

/// Envelopes are made of many small pieces; see ARCHITECTURE.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let options = Options::parse();
    match launch::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Reported) => ExitCode::FAILURE,
        Err(Failed::Because(why)) => {
            let _ = writeln!(std::io::stderr(), "smtpd: {why}");
            ExitCode::FAILURE
        }
    }
}
