//! The proof of the proof: with one safety at a time taken out, the suite finds the promise that
//! breaks. Each test passes if the planted bug is caught.

use redspool_core::queue::Selector;
use redspool_proptests::driver::{Driver, State};
use redspool_proptests::faults::sweep;
use redspool_proptests::flips::Sample;
use redspool_proptests::judge::{Breach, Promise};
use redspool_proptests::kind::Logs;
use redspool_proptests::mail;
use redspool_proptests::media::{Amount, Fault, Recorder};
use redspool_proptests::replay::{Replay, seed};
use redspool_proptests::step::Step;
use redspool_store::{Controls, FILE_NAME, Options};
use std::collections::BTreeMap;

fn planted(controls: Controls) -> Options {
    Options {
        controls,
        ..Options::small()
    }
}

/// Breaches by promise, with the first of each.
type Caught = BTreeMap<Promise, Breach>;

fn note(caught: &mut Caught, why: Breach) {
    caught.entry(why.promise).or_insert(why);
}

/// The promise that has to be found broken; prints it.
fn broken(bug: &str, caught: &Caught, promise: Promise) {
    let found = caught.get(&promise);
    let found = found.unwrap_or_else(|| panic!("{bug} is not caught as {promise:?}: {caught:?}"));
    eprintln!("{bug}: {found}");
}

fn replayed(options: Options) -> Caught {
    let replay = Replay {
        seed: seed(),
        groups: 8,
        amount: Amount { random: 4, each: 4 },
        again: usize::MAX,
    };
    let mut caught = Caught::new();
    let mut go_on = |why| {
        note(&mut caught, why);
        Ok(())
    };
    if let Err(why) = replay.run(&Logs(options), &mut go_on) {
        note(&mut caught, why);
    }
    caught
}

#[test]
fn answering_before_the_sync_breaks_p1() {
    let caught = replayed(planted(Controls {
        answer_before_sync: true,
        ..Controls::default()
    }));
    broken("answering before the sync", &caught, Promise::P1);
}

#[test]
fn envelopes_in_a_second_frame_break_q2() {
    let caught = replayed(planted(Controls {
        envelopes_apart: true,
        ..Controls::default()
    }));
    broken("envelopes in a second frame", &caught, Promise::Q2);
}

#[test]
fn believing_the_cache_breaks_p1() {
    let options = planted(Controls {
        keep_cache: true,
        ..Controls::default()
    });
    let mut caught = Caught::new();
    let fault = Fault {
        left: 0,
        errno: Fault::EIO,
        sticky: true,
    };
    // It takes a run in which the failed sync is the one that the next life builds upon.
    let kind = Logs(options);
    let mut seeds = seed()..seed() + 12;
    while !caught.contains_key(&Promise::P1)
        && let Some(seed) = seeds.next()
    {
        sweep(&kind, seed, fault, 1, &mut |why| {
            note(&mut caught, why);
            Ok(())
        })
        .unwrap();
    }
    broken("believing the cache", &caught, Promise::P1);
}

#[test]
fn not_comparing_proofs_breaks_p5() {
    let sample = Sample::new(Options::small(), 8).unwrap();
    let sample = sample.with(planted(Controls {
        proof_not_compared: true,
        ..Controls::default()
    }));
    let mut caught = Caught::new();
    for (name, content) in sample
        .stopped
        .files()
        .filter(|(name, _)| *name != FILE_NAME)
    {
        let octets = content.octets();
        let written = (0..octets.len()).filter(|place| octets[*place] != 0);
        for offset in written.step_by(5) {
            if let Err(why) = sample.open(name, offset, 3) {
                note(&mut caught, why);
            }
        }
    }
    broken("not comparing proofs", &caught, Promise::P5);
}

/// Frames of a group that a crash has torn lie behind its beginning. When its segment is used
/// anew and the crash comes just before them, only the sequence number tells them from new ones.
fn old_frames(options: &Options, length: usize) -> Result<(), Breach> {
    const FRAMES: u32 = 16;
    let kind = Logs(options.clone());
    let group: Vec<_> = (0..FRAMES)
        .map(|number| Step::Submit(mail::message(number), 1, 400, 0))
        .collect();
    let mut driver = Driver::open(&kind, Recorder::default(), &[State::empty()])?;
    let first = mail::message(60);
    driver.commit(&[Step::Submit(first, 1, 20, 0)])?;
    driver.commit(&group)?;
    let (media, chronicle) = driver.stop();
    // The first sectors of the group's write are lost, the others are there.
    let tape = media.tape();
    let disk = tape.without_beginning(512);
    let lawful = chronicle.at(tape.len() - 1);
    let mut driver = Driver::open(&kind, Recorder::on(disk), lawful)?;
    driver.commit(&[Step::Remove(Selector::Message(first))])?;
    // More segments are filled and become empty, and in the end the first one is used again.
    for round in 0..2 {
        let [full, small] = [40, 41].map(|number| mail::message(number + 2 * round));
        driver.commit(&[Step::Submit(full, 1, 26_500, 0)])?;
        driver.tick()?;
        driver.commit(&[Step::Submit(small, 1, 20, 0)])?;
        driver.tick()?;
        driver.commit(&[Step::Remove(Selector::Message(full))])?;
        driver.commit(&[Step::Remove(Selector::Message(small))])?;
        driver.tick()?;
    }
    driver.commit(&[Step::Submit(mail::message(90), 1, length, 0)])?;
    driver.crash(0, 0)
}

#[test]
fn a_sequence_number_that_is_not_proven_breaks_p2() {
    let with = |controls| Options {
        large: 1 << 20,
        checkpoint_octets: 1,
        ..planted(controls)
    };
    let controls = Controls {
        sequence_not_proven: true,
        ..Controls::default()
    };
    let mut caught = Caught::new();
    for length in 7_300..7_900 {
        if let Err(why) = old_frames(&with(controls), length) {
            old_frames(&with(Controls::default()), length).unwrap();
            note(&mut caught, why);
            break;
        }
    }
    broken("a sequence number that is not proven", &caught, Promise::P2);
}
