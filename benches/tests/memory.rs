//! Memory is that of the whole process, so this test has a process of its own.

use redspool_benches::usage::memory;
use redspool_benches::work::memory::of_schedule;

#[test]
fn memory_in_use_shows_and_a_schedule_takes_about_what_its_records_take() {
    let before = memory().unwrap();
    let block = vec![1u8; 64 << 20];
    let used = memory().unwrap() - before;
    drop(block);
    assert!((60 << 20..70 << 20).contains(&used), "{used}");
    let octets = of_schedule(200_000, false).unwrap() / 200_000;
    assert!((20..120).contains(&octets), "{octets}");
}
