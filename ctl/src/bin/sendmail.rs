//! `sendmail`, as programs call it: see `redspool_ctl`.

use std::process::ExitCode;

fn main() -> ExitCode {
    redspool_ctl::run(std::env::args_os())
}
