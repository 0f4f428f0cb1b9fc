//! `smtpctl show queue`, for those who look for it under this name: see `redspool_ctl`.

use std::process::ExitCode;

fn main() -> ExitCode {
    redspool_ctl::run(std::env::args_os())
}
