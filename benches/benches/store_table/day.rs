//! The table of a day of relay traffic: what the disk holds, hour by hour.

use crate::options::Options;
use crate::progress;
use redspool_benches::figures::number;
use redspool_benches::table::{Table, figure};
use redspool_benches::usage::device_written;
use redspool_benches::work::day::{Traffic, day};
use redspool_benches::{Kind, Mailbag, Purpose, Rival, spool, words};
use redspool_core::id::Epoch;
use std::io;
use std::time::Instant;

/// Octets of a message.
const SIZE: usize = 10 << 10;

/// Hours between two rows.
const STEP: u64 = 2;

/// A table for every store that can hold so much.
pub(crate) fn tables(options: &Options, mut show: impl FnMut(&Table)) -> io::Result<()> {
    for rival in options.stores() {
        if rival.kind == Kind::Store {
            show(&table(options, rival)?);
        }
    }
    Ok(())
}

fn table(options: &Options, rival: &Rival) -> io::Result<Table> {
    progress(&format!("a day: {}", rival.name));
    let traffic = Traffic {
        mails: options.mails(),
        deferred: 5,
        again: 75,
    };
    let place = spool::scratch(options.spool.as_deref())?;
    let bag = Mailbag::new(SIZE, 1, Epoch::new(1));
    let queue = rival.open(place.path(), Purpose::Measure)?;
    let device = device_written(place.path())?;
    let start = Instant::now();
    let hours = day(&*queue, place.path(), &bag, traffic)?;
    let took = start.elapsed().as_secs_f64();
    drop(queue);
    spool::settle_disk(place.path())?;
    let device = device.zip(device_written(place.path())?);
    let came = number(traffic.mails * bag.size());
    let device = device.map(|(before, after)| number(after.saturating_sub(before)) / came);
    let mega = |octets: f64| figure(Some(octets / number(1 << 20)));
    let rows = hours.iter().filter(|at| at.hour.is_multiple_of(STEP));
    let rows = rows.map(|at| {
        let content = number(at.queued * bag.size());
        vec![
            at.hour.to_string(),
            figure(Some(number(at.queued))),
            mega(content),
            mega(number(at.held)),
            figure((content > 0.0).then(|| number(at.held) / content)),
        ]
    });
    Ok(Table {
        title: format!(
            "{}: a day of relay traffic, {} messages of {}",
            rival.name,
            words::count_word(traffic.mails),
            words::octets_word(bag.size())
        ),
        columns: ["hour", "queued", "content MiB", "disk MiB", "disk/content"]
            .map(String::from)
            .into(),
        rows: rows.collect(),
        notes: vec![
            format!(
                "{} of 100 first attempts fail for now, {} of 100 later ones, in the slots of the \
                 schedule.",
                traffic.deferred, traffic.again
            ),
            format!(
                "{} s for the day; {} octets to the device per octet of content that came.",
                figure(Some(took)),
                figure(device)
            ),
        ],
    })
}
