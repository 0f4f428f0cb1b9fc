//! One table of everything: stores and layouts beside each other, in turns, on the same disk.
//!
//!     cargo bench -p redspool-benches --features rivals --bench store_table -- --help
//!
//! Promises: each turn starts with nothing waiting for the disk; rates are of acknowledged, durable
//! messages; ratios are medians of what one store did to what the other did in the same round;
//! rivals that are not there are named.
//! Absent on purpose: RocksDB, see `LEFT_OUT`; figures of a machine that was busy: look for
//! yourself, and at rounds that differ.
//! Fails: with status 1 and a sentence, at the first error of any store.

mod day;
mod depth;
mod flow;
mod options;

use clap::Parser;
use options::{Child, Options, Work};
use redspool_benches::figures::ratio;
use redspool_benches::table::{Table, figure};
use redspool_benches::work::{memory, restart};
use redspool_benches::{LEFT_OUT, spool};
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = Options::parse();
    match measure(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("store_table: {why}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> io::Result<()> {
    match &options.child {
        None => all(options),
        Some(Child::Die {
            store,
            spool,
            octets,
            epoch,
        }) => restart::die_after(store, spool, *octets, *epoch),
        Some(Child::Memory { store, spool }) => {
            let (open, read) = memory::of_store(store, spool)?;
            print(&format!("{open} {read}"))
        }
        Some(Child::Schedule { envelopes, due }) => {
            print(&memory::of_schedule(*envelopes, *due > 0)?.to_string())
        }
    }
}

fn all(options: &Options) -> io::Result<()> {
    let place = spool::scratch(options.spool.as_deref())?;
    if !options.force {
        spool::refuse_memory(place.path())?;
    }
    drop(place);
    print(&head(options))?;
    let mut result = Ok(());
    let mut show = |table: &Table| {
        let table = if options.markdown {
            table.markdown()
        } else {
            table.text()
        };
        if result.is_ok() {
            result = print(&table);
        }
    };
    if options.wants(Work::Submit) {
        for point in options.points() {
            show(&flow::table(options, point, false)?);
        }
    }
    if options.wants(Work::Cycle) {
        for point in options.lives() {
            show(&flow::table(options, point, true)?);
        }
    }
    let deep = [Work::Settle, Work::List, Work::Restart, Work::Memory];
    if deep.iter().any(|work| options.wants(*work)) {
        depth::tables(options, &mut show)?;
    }
    if options.asks_for_a_day() {
        day::tables(options, &mut show)?;
    }
    result
}

/// Who is measured, who is not, and what the columns are.
fn head(options: &Options) -> String {
    let mut lines = Vec::new();
    for rival in options.stores() {
        lines.push(format!("{}: {}", rival.name, rival.about));
    }
    for (name, why) in LEFT_OUT {
        lines.push(format!("left out: {name}: {why}"));
    }
    lines.push(format!(
        "medians of {} rounds, {} s a turn; waits from handing in to the receipt",
        options.rounds(),
        options.seconds().as_secs_f64()
    ));
    lines.push(
        "device/payload: octets the block device was given to write per octet of content, journal \
         and closing included, and whatever else wrote to it meanwhile"
            .into(),
    );
    lines.push(
        "dirtied/payload: octets this process made dirty (write_bytes of /proc/self/io) per octet \
         of content: whole pieces of the page cache, without the journal"
            .into(),
    );
    lines.push("held/message: octets of files and directories, preallocation included".into());
    lines.push("CPU: all threads, clients and closing included, per message".into());
    lines.push("x NAME: times the rate of NAME, median of the rounds".into());
    let mark = if options.markdown { "* " } else { "" };
    let lines: Vec<_> = lines.iter().map(|line| format!("{mark}{line}")).collect();
    lines.join("\n")
}

#[expect(clippy::print_stdout, reason = "the tables are this program's output")]
fn print(text: &str) -> io::Result<()> {
    println!("{text}");
    io::stdout().flush()
}

/// What is being done, for whoever watches.
fn progress(text: &str) {
    if io::stderr().is_terminal() {
        eprintln!("{text}");
    }
}

/// What one store's rates are to every other's; a dash beside itself.
fn ratios(store: usize, rates: &[Vec<f64>]) -> impl Iterator<Item = String> {
    let own = rates.get(store).map_or(&[][..], Vec::as_slice);
    rates
        .iter()
        .enumerate()
        .map(move |(at, other)| figure((at != store).then(|| ratio(own, other)).flatten()))
}
