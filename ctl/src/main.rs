//! The control program of smtpd, under the name it was called by: see `redspool_ctl`.

use std::process::ExitCode;

/// Envelopes are made of many small pieces; see ARCHITECTURE.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    redspool_ctl::run(std::env::args_os())
}
