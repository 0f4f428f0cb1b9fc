//! Prints what an idle relay and an idle connection take, in octets.
//!
//! Usage: `cargo run -p redspool-benches --bin engine_memory [count [part]]`. Each part is measured
//! in a process of its own, so that none uses what another has given back.

use redspool_benches::work::engine::{of_clients, of_connections, of_relays};
use std::io::{self, Write as _};
use std::process::Command;

/// How many of each there are unless another number is given.
const COUNT: u32 = 20_000;

/// The name of a part, what it is, and how it is measured.
type Part = (&'static str, &'static str, fn(u32) -> io::Result<u64>);

const PARTS: [Part; 3] = [
    ("client", "client session, idle", of_clients),
    (
        "connection",
        "relay with an idle connection, its domain, host and route",
        of_connections,
    ),
    (
        "relay",
        "relay without work, its host down, with the one envelope that waits",
        of_relays,
    ),
];

fn main() -> io::Result<()> {
    let mut words = std::env::args().skip(1);
    let count = match words.next() {
        Some(text) => text
            .parse()
            .ok()
            .filter(|count| (1..=10_000_000).contains(count))
            .ok_or_else(|| io::Error::other(format!("not a count from 1 to 10000000: {text}")))?,
        None => COUNT,
    };
    let Some(name) = words.next() else {
        for (name, ..) in PARTS {
            let program = std::env::current_exe()?;
            let status = Command::new(program)
                .args([count.to_string().as_str(), name])
                .status()?;
            if !status.success() {
                return Err(io::Error::other(format!("{name}: {status}")));
            }
        }
        return Ok(());
    };
    let part = PARTS.iter().find(|(part, ..)| *part == name);
    let (_, what, measure) =
        part.ok_or_else(|| io::Error::other(format!("not client, connection or relay: {name}")))?;
    let each = measure(count)? / u64::from(count);
    writeln!(io::stdout(), "{each:>6} octets: {what}")
}
