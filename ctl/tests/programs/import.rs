//! `smtpctl store import`: spools of OpenSMTPD, plain, packed, encrypted and broken.

use crate::offline::filled;
use crate::place::{Place, program};
use expect_test::expect;
use nix::unistd::{Gid, Uid, chown, geteuid};
use redspool_core::queue::{Selector, Store as _, Transition};
use redspool_store::LogStore;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;

const CONF: &str = "\
listen on lo port 25 smtps
action \"outbound\" relay
action \"secret\" relay srs
action \"local\" maildir
match from any for any action \"outbound\"
";

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// A spool of another server, and what else the command line names.
pub(crate) struct Elsewhere(TempDir);

impl Elsewhere {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("queue")).unwrap();
        fs::write(dir.path().join("smtpd.conf"), CONF).unwrap();
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn arg(&self, name: &str) -> String {
        self.path().join(name).display().to_string()
    }

    /// Where a message lies; its bucket is made.
    fn at(&self, message: &str) -> PathBuf {
        let path = self.path().join("queue").join(&message[..2]).join(message);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn put(&self, message: &str, content: &str, envelopes: &[(&str, String)]) {
        let path = self.at(message);
        fs::write(path.join("message"), content).unwrap();
        for (low, text) in envelopes {
            fs::write(path.join(format!("{message}{low}")), text).unwrap();
        }
    }

    /// Runs smtpctl on the place's spool; the path of this one is shown as SRC.
    pub(crate) fn smtpctl(&self, place: &Place, args: &[&str]) -> String {
        let shown = place.smtpctl(args);
        shown.replace(&self.path().display().to_string(), "SRC")
    }

    fn import(&self, place: &Place, options: &[&str]) -> String {
        let source = self.arg("");
        let mut args = vec!["store", "import", source.trim_end_matches('/')];
        args.extend(options);
        self.smtpctl(place, &args)
    }
}

fn common(kind: &str, rcpt: &str) -> String {
    format!(
        "type: {kind}\nsmtpname: mx.example.org\nhelo: client.example\nhostname: localhost\n\
         errorline: 451 4.7.1 Greylisted | later\nsockaddr: 127.0.0.1\n\
         sender: sender@example.org\nrcpt: {rcpt}\ndest: {rcpt}\nctime: 1795336978\n\
         last-try: 1795337000\nlast-bounce: 0\nretry: 3\ndsn-notify: 7\ndsn-ret: HDRS\n\
         dsn-envid: QQ314159\ndsn-orcpt: rfc822;Orig@dead.example\nesc-class: 4\nesc-code: 71\n"
    )
}

fn three(action: &str, kind: &str, rcpt: &str) -> String {
    let common = common(kind, rcpt);
    format!("version: 3\ndispatcher: {action}\nttl: 0\n{common}")
}

fn two(rcpt: &str) -> String {
    format!("version: 2\nexpire: 86400\n{}", common("mta", rcpt))
}

const CONTENT: &str = "Subject: test\n\nhello\n";

#[test]
fn a_spool_of_either_format_comes_in() {
    let (place, source) = (Place::new(), Elsewhere::new());
    let local = three("local", "mda", "u@example.org") + "mda-user: u\n";
    source.put(
        "0a000001",
        CONTENT,
        &[("00000001", two("a@dead.example")), ("00000002", local)],
    );
    let bounce = three("gone", "bounce", "x@dead.example") + "bounce-type: failed\n";
    source.put("0b000001", CONTENT, &[("00000001", bounce)]);
    fs::create_dir_all(source.path().join("incoming/0c000001")).unwrap();
    let conf = source.arg("smtpd.conf");
    let plan = source.import(&place, &["-f", &conf, "--dry-run"]);
    expect![[r"
        note: SRC/incoming: 1 entry never accepted, not imported
        2 messages, 3 envelopes, 48 octets would come in
        0 messages, 0 envelopes, 0 octets came in before
        0 messages under another id
        0 faults
        [exit 0]
    "]]
    .assert_eq(&plan);
    assert!(fs::read_dir(place.path()).unwrap().next().is_none());
    expect![[r"
        note: SRC/incoming: 1 entry never accepted, not imported
        2 messages, 3 envelopes, 48 octets imported
        0 messages, 0 envelopes, 0 octets came in before
        0 messages under another id
        0 faults
        [exit 0]
    "]]
    .assert_eq(&source.import(&place, &["-f", &conf]));
    expect![[r"
        0a00000100000001|inet4|mta||sender@example.org|a@dead.example|a@dead.example|1795336978|1795423378|1795337000|3|offline||451 4.7.1 Greylisted | later
        0a00000100000002|inet4|mda||sender@example.org|u@example.org|u@example.org|1795336978|1795682578|1795337000|3|offline||451 4.7.1 Greylisted | later
        0b00000100000001|inet4|bounce||sender@example.org|x@dead.example|x@dead.example|1795336978|1795941778|1795337000|3|offline||451 4.7.1 Greylisted | later
        [exit 0]
    "]]
    .assert_eq(&place.smtpctl(&["show", "queue"]));
    expect![[r"
        version: 3
        dispatcher: local
        type: mda
        smtpname: mx.example.org
        helo: client.example
        hostname: localhost
        errorline: 451 4.7.1 Greylisted | later
        sockaddr: 127.0.0.1
        sender: sender@example.org
        rcpt: u@example.org
        dest: u@example.org
        ctime: 1795336978
        last-try: 1795337000
        last-bounce: 0
        ttl: 345600
        retry: 3
        dsn-notify: 7
        dsn-ret: HDRS
        dsn-envid: QQ314159
        dsn-orcpt: rfc822;Orig@dead.example
        esc-class: 4
        esc-code: 71
        mda-user: u
        mda-method: maildir
        mda-buffer: ~/Maildir
        [exit 0]
    "]]
    .assert_eq(&place.smtpctl(&["show", "envelope", "0a00000100000002"]));
    expect![[r#"
        {"note":{"path":"SRC/incoming","reason":"1 entry never accepted, not imported"}}
        {"before":{"envelopes":3,"messages":2,"octets":48},"dry-run":false,"faults":0,"imported":{"envelopes":0,"messages":0,"octets":0},"renamed":0}
        [exit 0]
    "#]]
    .assert_eq(&source.import(&place, &["-f", &conf, "--json"]));
}

#[test]
fn what_was_refused_comes_in_later_under_another_id() {
    let (place, source) = (Place::new(), Elsewhere::new());
    source.put(
        "0a000001",
        CONTENT,
        &[
            ("00000001", two("a@dead.example")),
            ("00000002", three("outbound", "mta", "b@dead.example")),
            ("00000003", three("secret", "mta", "c@dead.example")),
        ],
    );
    let first = source.import(&place, &[]);
    assert!(
        first.contains("1 messages, 1 envelopes, 24 octets imported\n"),
        "{first}"
    );
    assert!(first.contains("name it with -f FILE\n"), "{first}");
    assert!(first.ends_with("2 faults\n[exit 1]\n"), "{first}");
    let conf = source.arg("smtpd.conf");
    let second = source.import(&place, &["-f", &conf]);
    let fault = "fault: SRC/queue/0a/0a000001/0a00000100000003: dispatcher: the action `secret` \
                 cannot be used: SRC/smtpd.conf:3: `srs` is not served by this version\n\
                 note: 0a000001: that id is in use: it comes in as ";
    assert!(second.starts_with(fault), "{second}");
    let rest = "1 messages, 1 envelopes, 24 octets imported\n\
                1 messages, 1 envelopes, 24 octets came in before\n\
                1 messages under another id\n1 faults\n[exit 1]\n";
    assert!(second.ends_with(rest), "{second}");
    let queue = place.smtpctl(&["show", "queue"]);
    let rcpts = ["a@", "b@", "c@"];
    let queued = rcpts.map(|rcpt| queue.matches(&format!("|{rcpt}dead.example|")).count());
    assert_eq!(queued, [1, 1, 0], "{queue}");
}

#[test]
fn an_id_in_use_is_left_to_who_has_it() {
    let (place, source) = (Place::new(), Elsewhere::new());
    drop(filled(place.path()));
    source.put(
        "7c84c730",
        CONTENT,
        &[("00000001", two("new@dead.example"))],
    );
    for options in [&["--dry-run"][..], &[]] {
        let shown = source.import(&place, options);
        let note = "note: 7c84c730: that id is in use: it comes in as ";
        assert!(shown.starts_with(note), "{shown}");
        assert!(shown.ends_with("1 messages under another id\n0 faults\n[exit 0]\n"));
    }
    let queue = place.smtpctl(&["show", "queue"]);
    assert_eq!(queue.matches("a@dead.example|a@dead.example").count(), 3);
    assert_eq!(
        queue.matches("new@dead.example|new@dead.example").count(),
        1
    );
}

#[test]
fn what_was_delivered_meanwhile_does_not_come_again() {
    let (place, source) = (Place::new(), Elsewhere::new());
    source.put("0a000001", CONTENT, &[("00000001", two("a@dead.example"))]);
    source.import(&place, &[]);
    let mut store = LogStore::open(place.path()).unwrap();
    let all_gone = store.prepare(Transition::Remove(Selector::All)).unwrap();
    store.commit(vec![all_gone]).unwrap();
    drop(store);
    // Another mail that has the same id is not that one.
    source.put("0a000001", "Subject: other\n", &[]);
    let shown = source.import(&place, &["--dry-run"]);
    assert!(
        shown.starts_with("1 messages, 1 envelopes, 16 octets would"),
        "{shown}"
    );
    source.put("0a000001", CONTENT, &[]);
    let shown = source.import(&place, &[]);
    assert!(
        shown.starts_with("0 messages, 0 envelopes, 0 octets imported\n1 "),
        "{shown}"
    );
    assert_eq!(place.smtpctl(&["show", "queue"]), "[exit 0]\n");
}

/// Killed with mail on both sides of where it was, it brings the rest, each once.
#[test]
fn killed_at_some_point_it_goes_on_from_there() {
    const MESSAGES: u32 = 3000;
    let (place, source) = (Place::new(), Elsewhere::new());
    for number in 1..=MESSAGES {
        let message = format!("{:08x}", number << 16 | 1);
        source.put(&message, CONTENT, &[("00000001", two("a@dead.example"))]);
    }
    // Told when it gets there: in the middle.
    let broken = format!("{:08x}", (MESSAGES / 2) << 16 | 1);
    fs::write(source.at(&broken).join("stranger"), "").unwrap();
    let mut child = program("smtpctl")
        .arg("--spool")
        .arg(place.path())
        .args(["store", "import"])
        .arg(source.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut said).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(said.contains("/stranger: not an envelope"), "{said}");
    let before = place.smtpctl(&["show", "queue"]).lines().count() - 1;
    let shown = source.import(&place, &[]);
    let came = MESSAGES as usize - before;
    let want = format!("{came} messages, {came} envelopes, ");
    let told = shown.lines().nth(1).unwrap();
    assert!(told.starts_with(&want), "{before} before: {shown}");
    let queue = place.smtpctl(&["show", "queue"]);
    let mut ids: Vec<&str> = queue
        .lines()
        .filter_map(|line| line.split('|').next())
        .collect();
    ids.dedup();
    assert_eq!(ids.len(), MESSAGES as usize + 1);
    assert!(shown.contains("\n0 messages under another id\n"), "{shown}");
}

#[test]
fn an_encrypted_spool_opens_with_its_key_only() {
    let (place, source) = (Place::new(), Elsewhere::new());
    // Written by OpenSMTPD 7.8.0: compressed, then encrypted.
    let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spool");
    let spool = real.display().to_string();
    let conf = source.arg("smtpd.conf");
    let import = |key: Option<&str>| {
        let path = source.arg("key");
        let mut args = vec!["store", "import", &spool, "-f", &conf];
        if let Some(key) = key {
            fs::write(source.path().join("key"), key).unwrap();
            args.extend(["--key", &path]);
        }
        let shown = place.smtpctl(&args);
        let shown = shown.replace(&spool, "REAL");
        shown.replace(&source.path().display().to_string(), "SRC")
    };
    let conf_with_action = CONF.replace("\"local\" maildir", "\"mdatemp\" mda \"exit 75\"");
    fs::write(source.path().join("smtpd.conf"), conf_with_action).unwrap();
    let evpid = "fault: REAL/queue/00/009ad1c9/009ad1c99836d51a: ";
    let without = import(None);
    let want = format!("{evpid}it is encrypted; name the file with the key: --key FILE\n");
    assert!(without.starts_with(&want), "{without}");
    let wrong = import(Some("0123456789abcdef0123456789abcdeX\n"));
    let want = format!("{evpid}the key does not fit, or the file is damaged\n");
    assert!(
        wrong.starts_with(&want) && wrong.ends_with("[exit 1]\n"),
        "{wrong}"
    );
    expect![[r"
        [stderr]
        smtpctl: SRC/key: the key has 5 octets; it is the 32 characters behind `queue encryption`
        [exit 2]
    "]]
    .assert_eq(&import(Some("short")));
    let right = import(Some(KEY));
    assert!(
        right.starts_with("1 messages, 1 envelopes, 336 octets imported\n"),
        "{right}"
    );
    assert!(right.ends_with("[exit 0]\n"), "{right}");
    expect![[r"
        009ad1c99836d51a|inet4|mda||@|alice@temp.mda.example|alice@temp.mda.example|1795336510|1795682110|0|2|offline||exited abnormally
        [exit 0]
    "]]
    .assert_eq(&place.smtpctl(&["show", "queue"]));
    let content = place.smtpctl(&["show", "message", "009ad1c9"]);
    assert!(
        content.starts_with("Received: from client.example "),
        "{content}"
    );
}

#[test]
fn what_is_damaged_is_told_with_its_path() {
    let (place, source) = (Place::new(), Elsewhere::new());
    let good = |rcpt| vec![("00000001", two(rcpt))];
    source.put("0a000001", CONTENT, &good("a@dead.example"));
    source.put("0b000001", "a\rb\n", &good("b@dead.example"));
    source.put("0c000001", "", &good("c@dead.example"));
    source.put("0d000001", CONTENT, &[]);
    source.put("0e000001", CONTENT, &[("00000000", two("e@dead.example"))]);
    source.put("0f000001", CONTENT, &[("00000001", two("f@b>\r\nRCPT"))]);
    fs::write(
        source.at("10000001").join("1000000100000001"),
        two("g@dead.example"),
    )
    .unwrap();
    source.at("11000001");
    fs::create_dir(source.path().join("queue/0a/12000001")).unwrap();
    fs::create_dir(source.path().join("queue/0A")).unwrap();
    fs::create_dir(source.path().join("queue/00")).unwrap();
    fs::create_dir(source.path().join("queue/00/00000000")).unwrap();
    let linked = source.at("13000001");
    fs::write(linked.join("1300000100000001"), two("h@dead.example")).unwrap();
    symlink("/etc/passwd", linked.join("message")).unwrap();
    // A compressed content that was cut.
    let cut = source.at("14000001");
    fs::write(cut.join("1400000100000001"), two("i@dead.example")).unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packed.write_all(CONTENT.repeat(100).as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    fs::write(cut.join("message"), &packed[..packed.len() - 9]).unwrap();
    source.put("15000001", CONTENT, &good("j@dead.example"));
    let whole = source.at("16000001");
    fs::write(whole.join("1600000100000001"), two("k@dead.example")).unwrap();
    fs::write(whole.join("message"), &packed).unwrap();
    expect![[r"
        fault: SRC/queue/00/00000000: not a directory named by a message-id, 8 hex digits and not all zero
        fault: SRC/queue/0A: not a directory named by two hex digits
        fault: SRC/queue/0a/12000001: misplaced: its name does not begin with that of its directory
        fault: SRC/queue/0b/0b000001/message: line 1 of the content holds a carriage return by itself
        fault: SRC/queue/0c/0c000001/message: empty
        fault: SRC/queue/0d/0d000001: no envelopes: nobody to deliver it to
        fault: SRC/queue/0e/0e000001/0e00000100000000: not an envelope of this message
        fault: SRC/queue/0e/0e000001: no envelopes: nobody to deliver it to
        fault: SRC/queue/0f/0f000001/0f00000100000001: line 11: no `key: value`
        fault: SRC/queue/10/10000001: no content
        fault: SRC/queue/11/11000001: empty
        fault: SRC/queue/13/13000001/message: a symbolic link, which is not followed
        fault: SRC/queue/14/14000001/message: it does not decompress, so it is damaged: incomplete deflate stream
        3 messages, 3 envelopes, 2448 octets imported
        0 messages, 0 envelopes, 0 octets came in before
        0 messages under another id
        13 faults
        [exit 1]
    "]].assert_eq(&source.import(&place, &[]));
    // What is sound came in, and the source is as it was.
    let queue = place.smtpctl(&["show", "queue"]);
    assert_eq!(queue.lines().count(), 4, "{queue}");
    assert!(linked.join("1300000100000001").exists());
}

#[test]
fn beside_a_daemon_or_without_a_place_nothing_comes_in() {
    let (place, source) = (Place::new(), Elsewhere::new());
    source.put("0a000001", CONTENT, &[("00000001", two("a@dead.example"))]);
    let store = filled(place.path());
    let refused = source.import(&place, &[]);
    let want = format!(
        "[stderr]\nsmtpctl: DIR: in use by process {}; stop the daemon first",
        std::process::id()
    );
    assert!(
        refused.starts_with(&want) && refused.ends_with("[exit 2]\n"),
        "{refused}"
    );
    let plan = source.import(&place, &["--dry-run"]);
    assert!(
        plan.starts_with("1 messages, 1 envelopes, "),
        "a daemon may run: {plan}"
    );
    drop(store);
    expect![[r"
        [stderr]
        smtpctl: SRC: neither a spool of OpenSMTPD, which has a directory `queue`, nor an export, which has a file `envelopes.jsonl`
        [exit 2]
    "]]
    .assert_eq(&{
        fs::rename(source.path().join("queue"), source.path().join("queued")).unwrap();
        source.import(&place, &[])
    });
    let missing = place.path().join("missing");
    let mut command = program("smtpctl");
    command
        .arg("--spool")
        .arg(&missing)
        .args(["store", "import"]);
    fs::rename(source.path().join("queued"), source.path().join("queue")).unwrap();
    let shown = place.shown(command.arg(source.path()));
    assert!(
        shown.contains("DIR/missing: there is no store here"),
        "{shown}"
    );
    assert!(!missing.exists());
}

/// What root imports belongs to the owner of the spool: else the daemon could not open it.
#[test]
fn the_store_stays_its_owners() {
    if !geteuid().is_root() {
        return;
    }
    let (place, source) = (Place::new(), Elsewhere::new());
    source.put("0a000001", CONTENT, &[("00000001", two("a@dead.example"))]);
    let (uid, gid) = (Uid::from_raw(65_534), Gid::from_raw(65_534));
    chown(place.path(), Some(uid), Some(gid)).unwrap();
    let shown = source.import(&place, &[]);
    assert!(shown.starts_with("1 messages, 1 envelopes, "), "{shown}");
    place.smtpctl(&["store", "compact"]);
    for entry in fs::read_dir(place.path()).unwrap() {
        let entry = entry.unwrap();
        let facts = entry.metadata().unwrap();
        assert_eq!((facts.uid(), facts.gid()), (65_534, 65_534), "{entry:?}");
    }
}
