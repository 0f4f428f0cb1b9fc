//! The options of the table, and the points they ask for.

use clap::{Parser, Subcommand, ValueEnum};
use redspool_benches::points::{self, Point};
use redspool_benches::{RIVALS, Rival, named, words};
use redspool_core::id::Epoch;
use std::path::PathBuf;
use std::time::Duration;

/// Measure queues side by side: durable, on the same disk, in turns
///
/// Without --sizes, --recipients, --waiting or --every, each of the three is varied around 10k
/// octets, 1 recipient, 64 waiting.
#[derive(Debug, Parser)]
#[command(
    name = "store_table",
    version,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    override_usage = "store_table [OPTIONS]"
)]
pub(crate) struct Options {
    /// Who is measured, by name [default: all that are built in]
    #[arg(long, value_delimiter = ',', value_parser = rival)]
    stores: Vec<&'static Rival>,

    /// What is measured [default: everything]
    #[arg(long, value_delimiter = ',')]
    works: Vec<Work>,

    /// Octets of a message: 1k, 1m
    #[arg(long, value_delimiter = ',', value_parser = words::octets)]
    sizes: Vec<u64>,

    /// Recipients of a message
    #[arg(long, value_delimiter = ',')]
    recipients: Vec<u32>,

    /// Messages that wait for their receipts at a time
    #[arg(long, value_delimiter = ',')]
    waiting: Vec<usize>,

    /// All sizes with all numbers of recipients with all numbers waiting; takes half an hour
    #[arg(long, conflicts_with_all = ["sizes", "recipients", "waiting", "quick"])]
    every: bool,

    /// Messages in the queue while attempts end: 0, 100k, 10m [default: 0,100k,1m]
    #[arg(long, value_delimiter = ',', value_parser = words::count)]
    depths: Vec<u64>,

    /// Deepest queue that is made of files, which take long to make
    #[arg(long, default_value = "10k", value_parser = words::count)]
    pub(crate) files_depth: u64,

    /// Which messages attempts end for [default: due,random]
    #[arg(long, value_delimiter = ',')]
    orders: Vec<Order>,

    /// Attempts that end at a time [default: 10k]
    #[arg(long, value_parser = words::count)]
    settles: Option<u64>,

    /// Attempts end right after a start, when the disk still has to bring all they read
    #[arg(long)]
    pub(crate) cold: bool,

    /// Messages of a day of relay traffic [default: 1m]
    #[arg(long, value_parser = words::count)]
    mails: Option<u64>,

    /// Turns of each store at each point; figures are medians [default: 3]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,

    /// Seconds of a turn [default: 0.5]
    #[arg(long, value_parser = seconds)]
    seconds: Option<Duration>,

    /// Threads that play the clients
    #[arg(long, default_value_t = 2, value_parser = threads)]
    pub(crate) threads: usize,

    /// Directory for the queues [default: the build directory]
    #[arg(long)]
    pub(crate) spool: Option<PathBuf>,

    /// Take figures from a tmpfs, too
    #[arg(long)]
    pub(crate) force: bool,

    /// Print Markdown
    #[arg(long)]
    pub(crate) markdown: bool,

    /// A look in less than a minute: fewer points, one short turn each, shallow queues
    #[arg(long)]
    quick: bool,

    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,

    #[command(subcommand)]
    pub(crate) child: Option<Child>,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Work {
    /// Messages are queued
    Submit,
    /// Messages are queued, read, delivered and gone
    Cycle,
    /// Attempts end, in queues of each depth
    Settle,
    /// All of the deepest queue is read; the disk it holds
    List,
    /// A killed process starts again on the deepest queue
    Restart,
    /// Memory per queued envelope, of the stores and of the schedule
    Memory,
    /// A day of relay traffic in fast motion, and the disk it holds; only if it is named
    Day,
}

/// Which messages of a queue attempts end for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Order {
    /// Those that have waited longest, as the schedule hands them out
    Due,
    /// Any
    Random,
}

impl Order {
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Due => "those that have waited longest",
            Self::Random => "drawn from the whole queue",
        }
    }
}

/// What this program starts itself for: each needs a process of its own.
#[derive(Debug, Subcommand)]
pub(crate) enum Child {
    /// Take mail and be killed
    #[command(hide = true)]
    Die {
        #[arg(value_parser = rival)]
        store: &'static Rival,
        spool: PathBuf,
        octets: u64,
        #[arg(value_parser = epoch)]
        epoch: Epoch,
    },
    /// Open a queue and tell the memory it takes
    #[command(hide = true)]
    Memory {
        #[arg(value_parser = rival)]
        store: &'static Rival,
        spool: PathBuf,
    },
    /// Fill a schedule and tell the memory it takes
    #[command(hide = true)]
    Schedule { envelopes: u64, due: u8 },
}

impl Options {
    pub(crate) fn stores(&self) -> Vec<&'static Rival> {
        if self.stores.is_empty() {
            RIVALS.iter().collect()
        } else {
            self.stores.clone()
        }
    }

    pub(crate) fn wants(&self, work: Work) -> bool {
        self.works.is_empty() || self.works.contains(&work)
    }

    /// A day takes minutes with the slower stores.
    pub(crate) fn asks_for_a_day(&self) -> bool {
        self.works.contains(&Work::Day)
    }

    pub(crate) fn mails(&self) -> u64 {
        let usual = if self.quick { 20_000 } else { 1_000_000 };
        self.mails.unwrap_or(usual)
    }

    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 })
    }

    pub(crate) fn seconds(&self) -> Duration {
        let millis = if self.quick { 200 } else { 500 };
        self.seconds.unwrap_or(Duration::from_millis(millis))
    }

    pub(crate) fn orders(&self) -> &[Order] {
        if self.orders.is_empty() {
            &[Order::Due, Order::Random]
        } else {
            &self.orders
        }
    }

    pub(crate) fn settles(&self) -> usize {
        let count = self
            .settles
            .unwrap_or(if self.quick { 2000 } else { 10_000 });
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// In ascending order.
    pub(crate) fn depths(&self) -> Vec<u64> {
        let mut depths = match (self.depths.as_slice(), self.quick) {
            ([], true) => vec![0, 10_000],
            ([], false) => vec![0, 100_000, 1_000_000],
            (asked, _) => asked.to_vec(),
        };
        depths.sort_unstable();
        depths.dedup();
        depths
    }

    pub(crate) fn points(&self) -> Vec<Point> {
        if self.every {
            points::every()
        } else if self.asks() {
            points::asked(&self.sizes, &self.recipients, &self.waiting)
        } else if self.quick {
            points::few()
        } else {
            points::around()
        }
    }

    /// Where whole lives are measured.
    pub(crate) fn lives(&self) -> Vec<Point> {
        if self.every || self.asks() {
            self.points()
        } else {
            points::lives(self.points())
        }
    }

    fn asks(&self) -> bool {
        !(self.sizes.is_empty() && self.recipients.is_empty() && self.waiting.is_empty())
    }
}

fn rival(name: &str) -> Result<&'static Rival, String> {
    named(name).ok_or_else(|| {
        let names: Vec<_> = RIVALS.iter().map(|rival| rival.name).collect();
        format!("not one of those built in: {}", names.join(", "))
    })
}

fn epoch(word: &str) -> Result<Epoch, String> {
    let number = word.parse().ok().and_then(Epoch::from_number);
    number.ok_or_else(|| format!("not an epoch: {word}"))
}

fn seconds(word: &str) -> Result<Duration, String> {
    let seconds = word
        .parse()
        .ok()
        .and_then(|s| Duration::try_from_secs_f64(s).ok());
    seconds
        .filter(|seconds| !seconds.is_zero())
        .ok_or_else(|| format!("not a number of seconds such as 0.5: {word}"))
}

fn threads(word: &str) -> Result<usize, String> {
    match word.parse() {
        Ok(count @ 1..=1024) => Ok(count),
        _ => Err(format!("not a number from 1 to 1024: {word}")),
    }
}
