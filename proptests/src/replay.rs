//! Crash replay: a run on recording media, and every disk a crash in it may leave, opened.
//!
//! What: [`Replay`] runs a script, opens each image, compares it with what it may hold, and now
//! and then goes on working there, or lets the machine stop once more while it is opened or later.
//! Promises: a breach names seed, cut and image; the same seed makes the same.
//! Absent on purpose: damage; nothing on these disks is worse than a crash leaves it.

use crate::driver::{Chronicle, Driver, State};
use crate::judge::Breach;
use crate::kind::{Kind, guarded};
use crate::media::{Amount, Image, Recorder, Tape};
use crate::step::{script, tour};
use redspool_core::rng::Rng;

/// How a run is replayed.
#[derive(Clone, Copy, Debug)]
pub struct Replay {
    /// All chance follows from it.
    pub seed: u64,
    /// Groups of random steps, behind one of every kind.
    pub groups: usize,
    /// Images of each cut.
    pub amount: Amount,
    /// Every so many images the machine stops again, while the image is opened and afterwards.
    pub again: usize,
}

/// Images of a second crash.
const SECOND: Amount = Amount { random: 2, each: 2 };

impl Replay {
    /// Runs the script and opens the images; `breached` says whether to go on after a breach.
    /// Gives the number of images.
    pub fn run<K: Kind>(
        self,
        kind: &K,
        breached: &mut dyn FnMut(Breach) -> Result<(), Breach>,
    ) -> Result<usize, Breach> {
        let (tape, chronicle) = self.record(kind).map_err(|why| why.at(&self.name()))?;
        let mut rng = Rng::new(self.seed);
        let mut images = 0;
        tape.images(&mut rng, self.amount, &mut |image| {
            images += 1;
            let next = tape.next(image.cut);
            let cut = format!("image {images}, cut {} ({next})", image.cut);
            let place = format!("{}, {cut}, {}", self.name(), image.how);
            let lawful = chronicle.at(image.cut);
            let again = images % self.again == 0;
            let verdict = guarded(|| {
                if again {
                    self.twice(kind, image, lawful, images)
                } else {
                    verify(kind, image, lawful).map(|()| 0)
                }
            });
            match verdict {
                Ok(more) => images += more,
                Err(why) => breached(why.at(&place))?,
            }
            Ok(())
        })?;
        Ok(images)
    }

    fn name(&self) -> String {
        format!("REDSPOOL_SEED={}", self.seed)
    }

    /// The tape of the run.
    fn record<K: Kind>(&self, kind: &K) -> Result<(Tape, Chronicle), Breach> {
        let mut driver = Driver::open(kind, Recorder::default(), &[State::empty()])?;
        let groups = tour().into_iter().chain(script(self.seed, self.groups));
        for (number, group) in groups.enumerate() {
            driver.commit(&group)?;
            driver.tick()?;
            if number % 16 == 15 {
                driver.reopen()?;
            }
        }
        driver.close();
        let (media, chronicle) = driver.stop();
        Ok((media.tape(), chronicle))
    }

    /// Opens an image, works there, and lets the machine stop at any point of that.
    fn twice<K: Kind>(
        &self,
        kind: &K,
        image: Image,
        lawful: &[State],
        number: usize,
    ) -> Result<usize, Breach> {
        let seed = self.seed.wrapping_add(number as u64);
        let mut driver = Driver::open(kind, Recorder::on(image.disk), lawful)?;
        for group in script(seed, 4) {
            driver.commit(&group)?;
            driver.tick()?;
        }
        driver.reopen()?;
        let (media, chronicle) = driver.stop();
        let mut images = 0;
        media
            .tape()
            .images(&mut Rng::new(seed), SECOND, &mut |again| {
                images += 1;
                let place = format!("then cut {}, {}", again.cut, again.how);
                let lawful = chronicle.at(again.cut);
                verify(kind, again, lawful).map_err(|why| why.at(&place))
            })?;
        Ok(images)
    }
}

fn verify<K: Kind>(kind: &K, image: Image, lawful: &[State]) -> Result<(), Breach> {
    Driver::open(kind, Recorder::on(image.disk), lawful).map(|driver| {
        driver.stop();
    })
}

/// The seed of this run: `REDSPOOL_SEED`, or the usual one.
pub fn seed() -> u64 {
    let seed = std::env::var("REDSPOOL_SEED").ok();
    seed.and_then(|seed| seed.parse().ok())
        .unwrap_or(20_261_123)
}
