//! Kill -9 in the midst of submissions: everything acknowledged is there when the store opens.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use redspool_core::id::MessageId;
use redspool_core::queue::{Reader, Selector, Store};
use redspool_proptests::{books, mail};
use redspool_store::{LogStore, Offline};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// Starts a submitter, kills it after `count` acknowledgements, and gives all it has printed.
fn killed_after(spool: &Path, count: usize) -> Vec<(MessageId, usize)> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_submitter"))
        .arg(spool)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let (id, length) = line.split_once(' ').unwrap();
        acknowledged.push((id.parse().unwrap(), length.parse().unwrap()));
        if acknowledged.len() == count {
            child.kill().unwrap();
        }
    }
    assert_eq!(child.wait().unwrap().code(), None, "it died by the signal");
    acknowledged
}

fn check(reader: &impl Reader, acknowledged: &BTreeMap<MessageId, usize>) {
    for (id, length) in acknowledged {
        let envelopes = reader.page(Selector::Message(*id), None, 9).unwrap();
        let want = [1, 2].map(|low| Ok(mail::envelope(*id, low)));
        assert_eq!(envelopes, want);
        let content = books::body(reader, *id).unwrap();
        assert_eq!(content[..], mail::content(*id, *length)[..]);
    }
    reader.walk(&mut |entry| assert!(entry.is_ok())).unwrap();
}

#[test]
fn everything_acknowledged_survives_a_kill() {
    let spool = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeMap::new();
    for count in [1, 40, 150, 9, 80] {
        acknowledged.extend(killed_after(spool.path(), count));
        check(
            &Offline::open(spool.path()).unwrap().reader(),
            &acknowledged,
        );
        let store = LogStore::open(spool.path()).unwrap();
        check(&store.reader(), &acknowledged);
    }
    assert!(acknowledged.len() >= 280);
}
