//! Tables of submissions: each store in its turn, on an empty queue each time.

use crate::options::Options;
use crate::{progress, ratios};
use redspool_benches::figures::{median, number, percentile};
use redspool_benches::points::Point;
use redspool_benches::table::{Table, figure};
use redspool_benches::usage::{Usage, device_written};
use redspool_benches::work::submit::{Clients, Run, Until, run};
use redspool_benches::{Kind, Mailbag, Purpose, Rival, spool, words};
use redspool_core::id::Epoch;
use std::io;
use std::time::Duration;

/// What one turn gave.
struct Turn {
    rate: f64,
    waits: Vec<Duration>,
    cpu: f64,
    dirtied: f64,
    device: Option<f64>,
    held: Option<f64>,
}

/// One table: a point, all stores. With `deliver` the messages leave as they are taken.
pub(crate) fn table(options: &Options, point: Point, deliver: bool) -> io::Result<Table> {
    let stores = options.stores();
    let title = format!(
        "{}: {} octets, {} recipient{}, {} waiting",
        if deliver { "cycle" } else { "submit" },
        words::octets_word(point.size),
        point.recipients,
        if point.recipients == 1 { "" } else { "s" },
        point.waiting
    );
    let mut turns: Vec<Vec<Turn>> = stores.iter().map(|_| Vec::new()).collect();
    for round in 1..=options.rounds() {
        for (rival, turns) in stores.iter().zip(&mut turns) {
            progress(&format!("{title}: round {round}, {}", rival.name));
            turns.push(turn(options, rival, point, deliver)?);
        }
    }
    let rates: Vec<Vec<f64>> = turns
        .iter()
        .map(|turns| turns.iter().map(|turn| turn.rate).collect())
        .collect();
    let mut table = Table {
        title,
        columns: [
            "store",
            "messages/s",
            "p50 ms",
            "p99 ms",
            "device/payload",
            "dirtied/payload",
            "held/message",
            "CPU us",
        ]
        .map(String::from)
        .into(),
        ..Table::default()
    };
    table
        .columns
        .extend(stores.iter().map(|s| format!("x {}", s.name)));
    for (at, (rival, turns)) in stores.iter().zip(&mut turns).enumerate() {
        let mut waits: Vec<_> = turns
            .iter_mut()
            .flat_map(|turn| turn.waits.drain(..))
            .collect();
        let mut wait = |share| percentile(&mut waits, share).map(|w| w.as_secs_f64() * 1e3);
        let mut row = vec![
            rival.name.to_owned(),
            figure(median(turns.iter().map(|turn| turn.rate))),
            figure(wait(500)),
            figure(wait(990)),
            figure(median(turns.iter().filter_map(|turn| turn.device))),
            figure(median(turns.iter().map(|turn| turn.dirtied))),
            figure(median(turns.iter().filter_map(|turn| turn.held))),
            figure(median(turns.iter().map(|turn| turn.cpu))),
        ];
        row.extend(ratios(at, &rates));
        table.rows.push(row);
    }
    Ok(table)
}

fn turn(options: &Options, rival: &Rival, point: Point, deliver: bool) -> io::Result<Turn> {
    let place = spool::scratch(options.spool.as_deref())?;
    let size = usize::try_from(point.size).map_err(io::Error::other)?;
    let bag = Mailbag::new(size, point.recipients, Epoch::new(1));
    let queue = rival.open(place.path(), Purpose::Measure)?;
    spool::settle_disk(place.path())?;
    let device_before = device_written(place.path())?;
    let clients = |time| Clients {
        waiting: point.waiting,
        threads: rival.players(point.waiting, options.threads),
        until: Until::Passed(time),
        deliver,
    };
    // Files grow and caches fill before it counts.
    let warm = run(&*queue, &bag, clients(options.seconds() / 10))?;
    let before = Usage::now()?;
    let Run {
        elapsed,
        waits,
        mails,
    } = run(&*queue, &bag, clients(options.seconds()))?;
    // What was put off until the end is part of the cost.
    drop(queue);
    let used = Usage::now()?.since(before);
    spool::settle_disk(place.path())?;
    let device = device_before.zip(device_written(place.path())?);
    let messages = number(mails.len() as u64);
    let keeps = !deliver && rival.kind > Kind::Log;
    let queued = number((warm.mails.len() + mails.len()) as u64);
    Ok(Turn {
        rate: messages / elapsed.as_secs_f64(),
        waits,
        cpu: used.cpu.as_secs_f64() * 1e6 / messages,
        dirtied: number(used.dirtied) / (messages * number(point.size)),
        device: device.map(|(before, after)| {
            number(after.saturating_sub(before)) / (queued * number(point.size))
        }),
        held: if keeps {
            Some(number(spool::held(place.path())?) / queued)
        } else {
            None
        },
    })
}
