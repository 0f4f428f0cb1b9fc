//! The control program of smtpd, under the name it was called by: see `redspool_ctl`.

use std::process::ExitCode;

/// Listings make many small things.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    redspool_ctl::run(std::env::args_os())
}
