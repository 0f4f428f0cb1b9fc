//! Tables of queues that are deep already: attempts that end, listings, restarts, memory.

use crate::options::{Child, Options, Order, Work};
use crate::{progress, ratios};
use redspool_benches::figures::{median, number};
use redspool_benches::table::{Table, figure};
use redspool_benches::usage::{Usage, device_written};
use redspool_benches::work::submit::{Clients, Until, run};
use redspool_benches::work::{list, restart, settle};
use redspool_benches::{End, Kind, Mail, Mailbag, Purpose, Rival, spool, words};
use redspool_core::id::Epoch;
use redspool_core::rng::Rng;
use std::collections::HashSet;
use std::env;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use tempfile::TempDir;

/// Octets of a message in a deep queue: what counts there are rows, not octets.
const SIZE: usize = 256;

/// Content that is acknowledged before the kill: with its envelopes, a log of 64 MiB at most.
const TAIL: u64 = 60 << 20;

/// A queue that is deep, or will be.
struct Deep {
    rival: &'static Rival,
    spool: TempDir,
    bag: Mailbag,
    mails: Vec<Mail>,
}

/// What attempts cost that ended in one turn.
struct Turn {
    rate: f64,
    cpu: f64,
    device: Option<f64>,
}

/// What all turns of a store at a depth gave.
struct Row {
    store: usize,
    depth: u64,
    turns: Vec<Turn>,
}

impl Row {
    fn median(&self, of: impl Fn(&Turn) -> f64) -> Option<f64> {
        median(self.turns.iter().map(of))
    }

    fn rates(&self) -> Vec<f64> {
        self.turns.iter().map(|turn| turn.rate).collect()
    }
}

/// All tables of deep queues, each shown as soon as it is there.
pub(crate) fn tables(options: &Options, mut show: impl FnMut(&Table)) -> io::Result<()> {
    let mut stores = options.stores();
    stores.retain(|rival| rival.kind > Kind::Log);
    let mut queues = Vec::new();
    for rival in stores {
        queues.push(Deep {
            rival,
            spool: spool::scratch(options.spool.as_deref())?,
            bag: Mailbag::new(SIZE, 1, Epoch::new(1)),
            mails: Vec::new(),
        });
    }
    if options.wants(Work::Settle) && !queues.is_empty() {
        for attempts in attempts(options, &mut queues)? {
            show(&attempt_table(options, &queues, &attempts));
        }
    }
    queues.retain(|queue| queue.rival.kind == Kind::Store);
    let depth = options.depths().last().copied().unwrap_or(0);
    let whole = [Work::List, Work::Restart, Work::Memory];
    let whole = whole.iter().any(|work| options.wants(*work));
    if whole && depth > 0 && !queues.is_empty() {
        show(&whole_table(options, &mut queues, depth)?);
    }
    if options.wants(Work::Memory) {
        show(&schedule_table(depth.max(100_000))?);
    }
    Ok(())
}

/// Attempts of one kind, at every depth.
struct Attempts {
    end: End,
    order: Order,
    rows: Vec<Row>,
}

/// Attempts that end at every depth: those delivered, those deferred.
fn attempts(options: &Options, queues: &mut [Deep]) -> io::Result<Vec<Attempts>> {
    let ends = [End::Delivered, End::Deferred].into_iter();
    let mut tables: Vec<_> = ends
        .flat_map(|end| {
            options.orders().iter().map(move |order| Attempts {
                end,
                order: *order,
                rows: Vec::new(),
            })
        })
        .collect();
    for depth in options.depths() {
        for Attempts {
            end,
            order,
            rows: table,
        } in &mut tables
        {
            let (end, order) = (*end, *order);
            let fits =
                |queue: &Deep| queue.rival.kind == Kind::Store || depth <= options.files_depth;
            let indices = queues.iter().enumerate();
            let indices = indices.filter(|(_, queue)| fits(queue)).map(|(at, _)| at);
            let mut rows: Vec<_> = indices
                .map(|store| Row {
                    store,
                    depth,
                    turns: Vec::new(),
                })
                .collect();
            for round in 1..=options.rounds() {
                for row in &mut rows {
                    let Some(queue) = queues.get_mut(row.store) else {
                        continue;
                    };
                    progress(&format!(
                        "{}, {}, depth {}: round {round}, {}",
                        end.word(),
                        order.words(),
                        words::count_word(depth),
                        queue.rival.name
                    ));
                    row.turns.push(queue.turn(options, depth, end, order)?);
                }
            }
            table.append(&mut rows);
        }
    }
    Ok(tables)
}

fn attempt_table(options: &Options, queues: &[Deep], attempts: &Attempts) -> Table {
    let Attempts { end, order, rows } = attempts;
    let mut table = Table {
        title: format!("{}: attempts that end, {}", end.word(), order.words()),
        columns: [
            "store",
            "depth",
            "attempts/s",
            "x cost at 0",
            "device/attempt",
            "CPU us",
        ]
        .map(String::from)
        .into(),
        notes: vec![
            "Each message is read before; the heads of all were read when the queue was opened."
                .into(),
            if options.cold {
                "Right after that: what they read comes from the disk.".into()
            } else {
                "As in a daemon that has run for a while: its files are in the page cache.".into()
            },
        ],
        ..Table::default()
    };
    table
        .columns
        .extend(queues.iter().map(|queue| format!("x {}", queue.rival.name)));
    for row in rows {
        let Some(queue) = queues.get(row.store) else {
            continue;
        };
        let rate = row.median(|turn| turn.rate);
        let shallow = rows
            .iter()
            .find(|other| other.store == row.store && other.depth == 0);
        let at_0 = shallow.and_then(|other| other.median(|turn| turn.rate));
        let mut cells = vec![
            queue.rival.name.to_owned(),
            words::count_word(row.depth),
            figure(rate),
            figure(at_0.zip(rate).map(|(at_0, rate)| at_0 / rate)),
            figure(median(row.turns.iter().filter_map(|turn| turn.device))),
            figure(row.median(|turn| turn.cpu)),
        ];
        let mut rates = vec![Vec::new(); queues.len()];
        for other in rows.iter().filter(|other| other.depth == row.depth) {
            if let Some(place) = rates.get_mut(other.store) {
                *place = other.rates();
            }
        }
        cells.extend(ratios(row.store, &rates));
        table.rows.push(cells);
    }
    table
}

impl Deep {
    /// Queues mail until so many messages are there; nothing of it is measured.
    fn fill(&mut self, depth: u64) -> io::Result<()> {
        let there = self.mails.len() as u64;
        if there >= depth {
            return Ok(());
        }
        let queue = self.rival.open(self.spool.path(), Purpose::Fill)?;
        let clients = Clients {
            waiting: 512,
            threads: 2,
            until: Until::Count(depth - there),
            deliver: false,
        };
        let mut run = run(&*queue, &self.bag, clients)?;
        self.mails.append(&mut run.mails);
        drop(queue);
        spool::settle_disk(self.spool.path())
    }

    /// Has messages leave; nothing of it is measured. The first deferral of a message is more work than
    /// the next ones, so each turn has new ones.
    fn leave(&mut self, options: &Options, mails: &[Mail]) -> io::Result<()> {
        let queue = self.rival.open(self.spool.path(), Purpose::Fill)?;
        let (_, last) = settle::settle(&*queue, &self.bag, mails, End::Delivered, options.threads)?;
        self.mails.push(last);
        drop(queue);
        spool::settle_disk(self.spool.path())
    }

    /// Takes so many messages out of the list of those that are queued.
    fn choose(&mut self, count: usize, order: Order, seed: u64) -> Vec<Mail> {
        let count = count.min(self.mails.len());
        match order {
            Order::Due => self.mails.drain(..count).collect(),
            Order::Random => {
                let mut rng = Rng::new(seed);
                let mut chosen = HashSet::new();
                let mut tried = Vec::with_capacity(count);
                while tried.len() < count {
                    let at = rng.below(self.mails.len() as u64);
                    if chosen.insert(at) {
                        tried.extend(usize::try_from(at).ok().and_then(|at| self.mails.get(at)));
                    }
                }
                let mut at = 0;
                self.mails.retain(|_| {
                    at += 1;
                    !chosen.contains(&(at - 1))
                });
                tried
            }
        }
    }

    /// Attempts that end in a queue of this depth.
    fn turn(&mut self, options: &Options, depth: u64, end: End, order: Order) -> io::Result<Turn> {
        let count = options.settles();
        self.fill(depth + count as u64)?;
        let tried = self.choose(count, order, depth);
        let queue = self.rival.open(self.spool.path(), Purpose::Measure)?;
        if let Some(listing) = queue.listing() {
            // As a daemon has done for its schedule before its first attempt.
            listing.walk(&mut |_| ())?;
        }
        if !options.cold {
            spool::read_all(self.spool.path())?;
        }
        spool::settle_disk(self.spool.path())?;
        let device_before = device_written(self.spool.path())?;
        let before = Usage::now()?;
        let ended = settle::settle(&*queue, &self.bag, &tried, end, options.threads)?;
        let (elapsed, last) = ended;
        drop(queue);
        let used = Usage::now()?.since(before);
        spool::settle_disk(self.spool.path())?;
        let device = device_before.zip(device_written(self.spool.path())?);
        self.mails.push(last);
        if end == End::Deferred {
            self.leave(options, &tried)?;
        }
        let attempts = number(count as u64);
        Ok(Turn {
            rate: attempts / elapsed.as_secs_f64(),
            cpu: used.cpu.as_secs_f64() * 1e6 / attempts,
            device: device.map(|(before, after)| number(after.saturating_sub(before)) / attempts),
        })
    }
}

/// What concerns all of a deep queue.
fn whole_table(options: &Options, queues: &mut [Deep], depth: u64) -> io::Result<Table> {
    let pages = format!(
        "list: pages of {} envelopes, just opened, with nothing cached, and again; heads: what \
         the schedule reads.",
        list::PAGE
    );
    let mut table = Table {
        title: format!("a queue of {} envelopes", words::count_word(depth)),
        columns: [
            "store",
            "held/message",
            "list ms",
            "again ms",
            "heads ms",
            "open ms",
            "accepted ms",
            "memory open",
            "memory read",
        ]
        .map(String::from)
        .into(),
        notes: vec![
            pages,
            "open, accepted: until open, and until the first message is durable, after SIGKILL \
             with a tail of 60 MiB of content."
                .into(),
            "memory: octets per envelope, open, and with all heads read; caches included.".into(),
        ],
        ..Table::default()
    };
    let mut readings: Vec<[Vec<f64>; 5]> = queues.iter().map(|_| Default::default()).collect();
    for queue in &mut *queues {
        progress(&format!("filling {}", queue.rival.name));
        queue.fill(depth)?;
    }
    for round in 1..=options.rounds() {
        for (queue, readings) in queues.iter().zip(&mut readings) {
            let [pages, again, heads, ..] = readings;
            if options.wants(Work::List) {
                progress(&format!("list: round {round}, {}", queue.rival.name));
                let [page, second, head] = queue.list()?;
                pages.push(page);
                again.push(second);
                heads.push(head);
            }
        }
    }
    // Before the restarts, whose tails are not part of the queue.
    let mut held = Vec::new();
    let mut memory = Vec::new();
    for queue in &*queues {
        let messages = number(queue.mails.len() as u64);
        held.push(number(spool::held(queue.spool.path())?) / messages);
        memory.push(if options.wants(Work::Memory) {
            let readings = queue.memory()?;
            readings.map(|octets| Some(number(octets) / messages))
        } else {
            [None; 2]
        });
    }
    for round in 1..=options.rounds() {
        for (queue, readings) in queues.iter().zip(&mut readings) {
            let [.., open, accepted] = readings;
            if options.wants(Work::Restart) {
                progress(&format!("restart: round {round}, {}", queue.rival.name));
                let restart = queue.restart()?;
                open.push(restart.open.as_secs_f64() * 1e3);
                accepted.push(restart.accepted.as_secs_f64() * 1e3);
            }
        }
    }
    for (((queue, readings), held), memory) in queues.iter().zip(readings).zip(held).zip(memory) {
        let mut row = vec![queue.rival.name.to_owned(), figure(Some(held))];
        row.extend(readings.map(|readings| figure(median(readings))));
        row.extend(memory.map(figure));
        table.rows.push(row);
    }
    Ok(table)
}

impl Deep {
    /// Milliseconds for all pages, for all of them again, and for all heads.
    fn list(&self) -> io::Result<[f64; 3]> {
        let queue = self.rival.open(self.spool.path(), Purpose::Measure)?;
        let listing = queue.listing().ok_or(io::ErrorKind::Unsupported)?;
        let (pages, again) = (list::pages(listing)?, list::pages(listing)?);
        let heads = list::heads(listing)?;
        let queued = self.mails.len() as u64;
        if pages.0 != queued || heads.0 != queued {
            return Err(io::Error::other(format!(
                "{}: {queued} are queued, {} are listed, {} are walked",
                self.rival.name, pages.0, heads.0
            )));
        }
        Ok([pages, again, heads].map(|(_, took)| took.as_secs_f64() * 1e3))
    }

    fn restart(&self) -> io::Result<restart::Restart> {
        let epoch = self.bag.next_epoch();
        self.bag.next_epoch();
        let output = start(&Child::Die {
            store: self.rival,
            spool: self.spool.path().to_owned(),
            octets: TAIL,
            epoch,
        })?;
        if output.status.signal() != Some(9) {
            return Err(unexpected(&output));
        }
        let (restart, queue) = restart::restart(self.rival, self.spool.path(), &self.bag)?;
        drop(queue);
        spool::settle_disk(self.spool.path())?;
        Ok(restart)
    }

    fn memory(&self) -> io::Result<[u64; 2]> {
        answer(&Child::Memory {
            store: self.rival,
            spool: self.spool.path().to_owned(),
        })
    }
}

fn schedule_table(envelopes: u64) -> io::Result<Table> {
    let mut table = Table {
        title: format!(
            "memory of the schedule, {} envelopes",
            words::count_word(envelopes)
        ),
        columns: ["envelopes that", "octets/envelope"]
            .map(String::from)
            .into(),
        ..Table::default()
    };
    for (name, due) in [
        ("wait for their next attempt", 0),
        ("are all due at once", 1),
    ] {
        let [octets] = answer(&Child::Schedule { envelopes, due })?;
        let each = number(octets) / number(envelopes);
        table.rows.push(vec![name.into(), figure(Some(each))]);
    }
    Ok(table)
}

/// Runs this program once more for one thing.
fn start(child: &Child) -> io::Result<Output> {
    let words: Vec<OsString> = match child {
        Child::Die {
            store,
            spool,
            octets,
            epoch,
        } => vec![
            "die".into(),
            store.name.into(),
            spool.into(),
            octets.to_string().into(),
            epoch.number().to_string().into(),
        ],
        Child::Memory { store, spool } => vec!["memory".into(), store.name.into(), spool.into()],
        Child::Schedule { envelopes, due } => vec![
            "schedule".into(),
            envelopes.to_string().into(),
            due.to_string().into(),
        ],
    };
    Command::new(env::current_exe()?).args(words).output()
}

/// Runs this program once more for so many numbers.
fn answer<const N: usize>(child: &Child) -> io::Result<[u64; N]> {
    let output = start(child)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Result<Vec<u64>, _> = text.split_whitespace().map(str::parse).collect();
    let numbers = numbers.ok().filter(|_| output.status.success());
    let numbers = numbers.and_then(|numbers| numbers.try_into().ok());
    numbers.ok_or_else(|| unexpected(&output))
}

fn unexpected(output: &Output) -> io::Error {
    io::Error::other(format!(
        "a process of this program ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}
