//! Kills smtpd with SIGKILL at random under load, restarts it, and compares what it acknowledged
//! with what arrived. Prints one line with the seed; ends with status 1 if a promise was broken.

use clap::Parser;
use redspool_tools::ledger::{self, Plan};
use std::process::ExitCode;
use std::time::Duration;

/// Kill smtpd at random under load and keep the books
#[derive(Parser)]
#[command(version, about)]
struct Options {
    /// Messages to have acknowledged
    #[arg(long, default_value_t = 2000)]
    messages: usize,

    /// Clients at once
    #[arg(long, default_value_t = 20)]
    sessions: usize,

    /// Times to kill the daemon
    #[arg(long, default_value_t = 5)]
    kills: usize,

    /// Start of all randomness [default: a random one]
    #[arg(long)]
    seed: Option<u64>,

    /// The other end puts off one recipient in this many (0: none)
    #[arg(long, default_value_t = 50)]
    put_off: usize,

    /// Runs, each with the seed after the last one's
    #[arg(long, default_value_t = 1)]
    rounds: u64,

    /// Seconds one run may take
    #[arg(long, default_value_t = 300)]
    limit: u64,
}

#[expect(clippy::print_stdout, reason = "the summary is this program's output")]
fn main() -> ExitCode {
    let options = Options::parse();
    let first = options
        .seed
        .unwrap_or_else(|| rand::random_range(0..1_000_000));
    let mut good = true;
    for round in 0..options.rounds {
        let summary = ledger::run(&Plan {
            messages: options.messages,
            sessions: options.sessions,
            kills: options.kills,
            seed: first.wrapping_add(round),
            put_off: options.put_off,
            limit: Duration::from_secs(options.limit),
        });
        println!("{summary}");
        good &= summary.is_good();
    }
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
