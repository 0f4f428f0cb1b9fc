//! Failing disks: the n-th operation on the media fails, for every n.
//!
//! What: [`sweep`] runs one script again and again, each time with the fault one operation later,
//! until a run sees none. After the fault the store goes on or is opened again, as it says; then
//! the machine stops, with different luck, and the queue has to be what it was.
//! Promises: after a sync that failed the cache shows what the disk does not have (see
//! [`media`](crate::media)); a store that believes the cache loses mail here.

use crate::driver::{Driver, State};
use crate::judge::Breach;
use crate::kind::{Kind, guarded};
use crate::media::{Fault, Recorder};
use crate::step::{Step, script, tour};

/// Runs the script with a fault after 0, 1, 2... operations (every `stride`-th); `breached` says
/// whether to go on after a breach. Gives the number of operations of a run without fault.
pub fn sweep<K: Kind>(
    kind: &K,
    seed: u64,
    fault: Fault,
    stride: usize,
    breached: &mut dyn FnMut(Breach) -> Result<(), Breach>,
) -> Result<usize, Breach> {
    let mut left = 0;
    let groups: Vec<_> = tour().into_iter().chain(script(seed, 12)).collect();
    loop {
        let fault = Fault { left, ..fault };
        let place = format!("REDSPOOL_SEED={seed}, {fault:?}");
        let verdict = guarded(|| run(kind, seed.wrapping_add(left as u64), fault, &groups));
        match verdict {
            Ok(true) => {}
            Ok(false) => return Ok(left),
            Err(why) => breached(why.at(&place))?,
        }
        left += stride;
    }
}

/// Runs once; whether the fault happened.
fn run<K: Kind>(kind: &K, seed: u64, fault: Fault, groups: &[Vec<Step>]) -> Result<bool, Breach> {
    let media = Recorder::default();
    media.fail(fault, seed);
    let mut driver = Driver::open(kind, media.clone(), &[State::empty()])?;
    for (number, group) in groups.iter().enumerate() {
        let work = driver.commit(group).and_then(|()| driver.tick());
        let again = work.and_then(|()| match number % 6 {
            5 => driver.reopen(),
            _ => Ok(()),
        });
        again.map_err(|why| why.at(&format!("group {number}")))?;
    }
    let struck = media.mend();
    // What was refused is not there after a crash either, nor is anything acknowledged gone; and
    // with the store as it was left after the fault, nothing goes wrong later.
    for percent in [0, 50, 100] {
        let crashed = driver.crash(percent, seed);
        let work = crashed.and_then(|()| driver.commit(&groups[0]));
        let work = work.and_then(|()| driver.tick());
        work.map_err(|why| why.at(&format!("after the crash with {percent} of 100")))?;
    }
    Ok(struck)
}
