//! Disks as a crash may leave them.
//!
//! What: at every sync of a tape, and at its end, [`Tape::images`] makes disks that hold what was
//! synced and, of what was not: nothing, all, every beginning (also of the last write, by sectors),
//! every single operation, all but one, and random choices with torn sectors, lengths without octets and octets without their length.
//! Up to four operations, every choice there is. A cut between two syncs gives nothing else: what
//! such a crash leaves is a beginning of what the next sync would have covered.
//! Promises: the images follow from the seed.

use super::tape::{Disk, Durable, Kept, Operation, Tape};
use redspool_core::rng::Rng;

/// How many of each cut.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    /// Random choices.
    pub random: usize,
    /// Beginnings, single operations and missing operations each; the last ones are taken.
    pub each: usize,
}

/// A disk as a crash may leave it.
#[derive(Debug)]
pub struct Image {
    /// Operations that had been done when the machine stopped.
    pub cut: usize,
    /// What it holds.
    pub disk: Disk,
    /// How it was made up, for the failure message.
    pub how: String,
}

impl Tape {
    /// Shows all images to `visit`; an error ends it.
    pub fn images<E>(
        &self,
        rng: &mut Rng,
        amount: Amount,
        visit: &mut dyn FnMut(Image) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut durable = Durable::new(&self.start);
        for (cut, operation) in self.operations.iter().enumerate() {
            if matches!(operation, Operation::Sync { .. } | Operation::SyncNames) {
                images_at(&durable, cut, rng, amount, visit)?;
            }
            durable.advance(operation);
        }
        images_at(&durable, self.operations.len(), rng, amount, visit)
    }

    /// The disk of a crash that came while the last write was under way: all before it is there,
    /// and of itself all but the first `lost` octets.
    pub fn without_beginning(&self, lost: usize) -> Disk {
        let rng = &mut Rng::new(0);
        let mut disk = self.start.clone();
        let is_write = |one: &Operation| matches!(one, Operation::Write { .. });
        let last = self.operations.iter().rposition(is_write);
        for (place, operation) in self.operations.iter().enumerate() {
            match operation {
                Operation::Write { file, offset, data } if Some(place) == last => {
                    let operation = Operation::Write {
                        file: *file,
                        offset: offset + lost,
                        data: data[lost..].into(),
                    };
                    disk.apply(&operation, Kept::Whole, rng);
                }
                operation => disk.apply(operation, Kept::Whole, rng),
            }
        }
        disk
    }

    /// The disk of a crash at the end of the tape, with this chance (of 100) for each operation
    /// that was not synced.
    pub fn end(&self, percent: u64, rng: &mut Rng) -> Disk {
        let Durable { mut disk, pending } = self.durable();
        for operation in pending {
            if rng.below(100) < percent {
                disk.apply(operation, Kept::Whole, rng);
            }
        }
        disk
    }
}

fn images_at<E>(
    durable: &Durable<'_>,
    cut: usize,
    rng: &mut Rng,
    amount: Amount,
    visit: &mut dyn FnMut(Image) -> Result<(), E>,
) -> Result<(), E> {
    let count = durable.pending.len();
    let begun = durable.pending.last().map_or(0, |last| last.sectors());
    for (how, kept) in choices(count, begun, rng, amount) {
        let mut disk = durable.disk.clone();
        for (operation, kept) in durable.pending.iter().zip(kept) {
            disk.apply(operation, kept, rng);
        }
        visit(Image {
            cut,
            disk,
            how: format!("{how} of {count} operations"),
        })?;
    }
    Ok(())
}

/// Choices among `count` operations, the last one of `sectors` sectors.
fn choices(
    count: usize,
    sectors: usize,
    rng: &mut Rng,
    amount: Amount,
) -> Vec<(String, Vec<Kept>)> {
    let mut choices = Vec::new();
    let mut choose = |how: String, kept: &dyn Fn(usize) -> bool| {
        let kept = (0..count).map(|index| {
            if kept(index) {
                Kept::Whole
            } else {
                Kept::Nothing
            }
        });
        choices.push((how, kept.collect()));
    };
    if count <= 4 {
        for mask in 0..1_usize << count {
            choose(format!("choice {mask:b}"), &|index| mask >> index & 1 == 1);
        }
    } else {
        let last = count.saturating_sub(amount.each);
        choose("nothing".into(), &|_| false);
        choose("all".into(), &|_| true);
        for one in last..count {
            choose(format!("the first {one}"), &|index| index < one);
            choose(format!("only {one}"), &|index| index == one);
            choose(format!("all but {one}"), &|index| index != one);
        }
    }
    for sectors in (1..sectors).take(3 * amount.each) {
        let mut kept = vec![Kept::Whole; count];
        kept[count - 1] = Kept::Begun(sectors);
        choices.push((format!("all, but {sectors} sectors of the last"), kept));
    }
    for number in 0..if count == 0 { 0 } else { amount.random } {
        let kept = (0..count).map(|_| Kept::any(rng)).collect();
        choices.push((format!("random choice {number}"), kept));
    }
    choices
}
