//! The built programs without a daemon, and the command line by itself.

use crate::place::{Place, program};
use expect_test::expect;
use std::os::unix::net::UnixListener;

#[test]
fn commands_for_the_daemon_say_that_it_is_down() {
    let place = Place::new();
    let absent = expect![[r"
        [stderr]
        smtpctl: smtpd doesn't seem to be running: DIR/smtpd.sock: No such file or directory (os error 2); start it, or name another with --socket or --spool
        [exit 1]
    "]];
    for line in [
        "show status",
        "show stats",
        "schedule all",
        "remove all",
        "remove 11111111",
        "remove all --domain one.example --dry-run",
        "pause envelope all",
        "resume envelope 7c84c73004ce2e31",
        "pause mda",
        "pause mta",
        "pause smtp",
        "resume mda",
        "resume mta",
        "resume smtp",
        "log brief",
        "log verbose",
        "monitor",
    ] {
        let words: Vec<_> = line.split(' ').collect();
        absent.assert_eq(&place.smtpctl(&words));
    }
    // The socket of a daemon that died.
    drop(UnixListener::bind(place.socket()).unwrap());
    expect![[r"
        [stderr]
        smtpctl: smtpd doesn't seem to be running: DIR/smtpd.sock: Connection refused (os error 111); start it, or name another with --socket or --spool
        [exit 1]
    "]]
    .assert_eq(&place.smtpctl(&["show", "status"]));
}

#[test]
fn without_a_daemon_and_a_store_both_are_named() {
    let place = Place::new();
    let want = expect![[r"
        [stderr]
        smtpctl: smtpd doesn't seem to be running: DIR/smtpd.sock: No such file or directory (os error 2); nor can its store be read: DIR: there is no store here; name it with --spool
        [exit 1]
    "]];
    want.assert_eq(&place.smtpctl(&["show", "queue"]));
    want.assert_eq(&place.smtpctl(&["show", "envelope", "1111111122222222"]));
    want.assert_eq(&place.smtpctl(&["show", "message", "11111111"]));
    let mut mailq = program("mailq");
    let shown = place.shown(mailq.env("REDSPOOL_SPOOL", place.path()));
    assert_eq!(
        shown,
        place
            .smtpctl(&["show", "queue"])
            .replace("smtpctl: ", "mailq: ")
    );
}

#[test]
fn the_store_of_a_daemon_named_by_its_socket_alone_is_not_guessed() {
    let place = Place::new();
    let mut command = program("smtpctl");
    command
        .arg("-s")
        .arg(place.socket())
        .args(["show", "queue"]);
    expect![[r"
        [stderr]
        smtpctl: smtpd doesn't seem to be running: DIR/smtpd.sock: No such file or directory (os error 2); name its spool with --spool to read that instead
        [exit 1]
    "]]
    .assert_eq(&place.shown(&mut command));
}

#[test]
fn a_place_that_is_no_socket_is_named() {
    let place = Place::new();
    std::fs::write(place.path().join("file"), "").unwrap();
    let mut command = program("smtpctl");
    command
        .arg("-s")
        .arg(place.path().join("file/smtpd.sock"))
        .args(["show", "status"]);
    expect![[r"
        [stderr]
        smtpctl: cannot reach smtpd: DIR/file/smtpd.sock: Not a directory (os error 20); name its socket with --socket
        [exit 1]
    "]]
    .assert_eq(&place.shown(&mut command));
    let mut command = program("smtpctl");
    command
        .arg("-s")
        .arg(format!("/{}", "x".repeat(200)))
        .args(["show", "status"]);
    let shown = place.shown(&mut command);
    assert!(
        shown.contains("File name too long (os error 36)"),
        "{shown}"
    );
}

#[test]
fn commands_that_are_not_served_say_so() {
    let place = Place::new();
    expect![[r"
        [stderr]
        smtpctl: smtpd doesn't seem to be running: DIR/smtpd.sock: No such file or directory (os error 2); nor can its store be changed: DIR: there is no store here; name it with --spool
        [exit 1]
    "]]
    .assert_eq(&place.smtpctl(&["unc", "8d3f01aa"]));
}

#[test]
fn keywords_are_checked_before_smtpd_is_asked() {
    let place = Place::new();
    expect![[r"
        [stderr]
        smtpctl: invalid trace keyword: smt
        smtpctl: there are imsg, io, smtp, filters, mta, bounce, scheduler, expand, lookup, stat, rules, mproc, all
        [exit 1]
    "]]
    .assert_eq(&place.smtpctl(&["trace", "smt"]));
    expect![[r"
        [stderr]
        smtpctl: invalid profile keyword: all
        smtpctl: there are queue, imsg
        [exit 1]
    "]]
    .assert_eq(&place.smtpctl(&["unprofile", "all"]));
    let down = place.smtpctl(&["trace", "smtp"]);
    assert!(down.contains("smtpd doesn't seem to be running"), "{down}");
}

#[test]
fn words_that_are_no_command_end_with_255() {
    let place = Place::new();
    expect![[r"
        [stderr]
        possibilities are:
        remove <evpid>
        remove <msgid>
        remove all
        [exit 255]
    "]]
    .assert_eq(&place.smtpctl(&["remove", ""]));
    expect![[r"
        [stderr]
        invalid command
        [exit 255]
    "]]
    .assert_eq(&place.smtpctl(&["monitor", "x"]));
    expect![[r"
        [stderr]
        smtpctl: unexpected argument '--foo' found; try --help
        [exit 255]
    "]]
    .assert_eq(&place.smtpctl(&["show", "queue", "--foo"]));
    expect![[r"
        [stderr]
        smtpctl: invalid value '0' for '--timeout <SECONDS>': expected whole seconds from 1 to 86400; try --help
        [exit 255]
    "]]
    .assert_eq(&place.smtpctl(&["--timeout", "0", "show", "queue"]));
    expect![[r"
        [stderr]
        smtpctl: show queue: --count is not for this command, but for monitor; try --help
        [exit 255]
    "]]
    .assert_eq(&place.smtpctl(&["--count", "1", "show", "queue"]));
}

#[test]
fn the_version_is_printed_whatever_else_is_asked() {
    let place = Place::new();
    let want = format!("redspool {}\n[exit 0]\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(place.smtpctl(&["--version"]), want);
    assert_eq!(place.smtpctl(&["show", "queue", "-V"]), want);
    assert_eq!(
        place.shown(program("mailq").args(["-v", "--version"])),
        want
    );
}

#[test]
fn help_narrows_with_every_word() {
    let place = Place::new();
    let help = |words: &[&str]| {
        let shown = place.smtpctl(&[words, &["--help"]].concat());
        assert!(shown.ends_with("[exit 0]\n"), "{shown}");
        shown
    };
    let (all, show, queue) = (help(&[]), help(&["sh"]), help(&["sh", "q"]));
    assert!(all.contains("\nremove all\n") && all.contains("\nshow queue\n"));
    assert!(!show.contains("\nremove all\n") && show.contains("\nshow queue\n"));
    assert!(!show.contains("--sender") && queue.contains("--sender"));
    assert!(queue.starts_with("Usage: smtpctl [options] show queue\n"));
}

#[test]
fn help_explains_every_level() {
    let place = Place::new();
    expect![[r"
        Usage: smtpctl [options] show queue
               smtpctl [options] show queue <msgid>
               smtpctl [options] show queue <evpid>

        List what is queued, one envelope per line, in order of ids. The fourteen
        fields are separated by `|`: envelope-id, address family of the client, type,
        flags, sender, recipient, destination, creation, expiration, last attempt (UNIX
        times), attempts, run state, seconds until due or since the attempt began,
        error. In the error, unprintable octets are escaped as vis(3) does; in
        addresses, `|` is shown as `\174`. Works while smtpd is not running, too; the
        run state is `offline` then. Options select envelopes: what they ask for must
        all hold, and of an option that is given several times, one. `--summary` counts
        what is selected by domain and by age in minutes, as qshape(1) does.
        For root, the user smtpd runs as, and the group that `smtpd --operators` names.

        Options:
          -s, --socket <PATH>      Control socket of smtpd. Default: REDSPOOL_SOCKET;
                                   smtpd.sock in a spool that was named;
                                   /var/run/redspool.sock for root; redspool/smtpd.sock
                                   in XDG_RUNTIME_DIR, XDG_DATA_HOME or ~/.local/share
                                   for others
          -q, --spool <DIR>        Spool of smtpd; its daemon is the one that is asked,
                                   unless --socket names another. Default:
                                   REDSPOOL_SPOOL; /var/spool/redspool for root;
                                   redspool/spool in XDG_DATA_HOME or ~/.local/share
                                   for others
              --timeout <SECONDS>  Longest wait for a sign of life of smtpd [default:
                                   10]
              --json               One JSON object per line
              --csv                Comma-separated values, with a line of names first
              --summary            Count by domain and age instead of listing
              --sender <ADDRESS>   With this return path: user@domain, @domain or user,
                                   * for any part; @ for none
              --rcpt <ADDRESS>     With this recipient, before or after expansion
              --domain <NAME>      To this domain, * for any part
              --error <TEXT>       Whose last failure has this code, such as 451 or
                                   4.7.1, or this text in it
              --older <AGE>        Accepted longer ago than this, such as 30m, 2h, 4d
                                   or 1d12h
              --newer <AGE>        Accepted not longer ago than this
              --state <STATE>      At this run state, or with this flag [possible
                                   values: pending, inflight, offline, suspend, hold]
              --type <TYPE>        For this agent [possible values: mta, mda, bounce]
              --tag <NAME>         From a listener with this tag, * for any part
              --limit <N>          The first so many of these
          -h, --help               Explain the words so far, and what can follow
          -V, --version            Print the version
        [exit 0]
    "]]
    .assert_eq(&place.smtpctl(&["show", "queue", "--help"]));
    expect![[r"
        Usage: smtpctl [options] pause <command>

        pause mta
            Start no more transfers to other hosts.
        pause mta from <addr> for <str>
            Start no more transfers from one local address to one domain, or to one
            smart host by its name; `*` is any.
        pause envelope <evpid>
        pause envelope <msgid>
        pause envelope all
            Attempt no delivery of an envelope, of all envelopes of a message, or of
            any envelope.
        pause mda
            Start no more local deliveries.
        pause smtp
            Accept no more SMTP connections.

        Options:
          -s, --socket <PATH>      Control socket of smtpd. Default: REDSPOOL_SOCKET;
                                   smtpd.sock in a spool that was named;
                                   /var/run/redspool.sock for root; redspool/smtpd.sock
                                   in XDG_RUNTIME_DIR, XDG_DATA_HOME or ~/.local/share
                                   for others
          -q, --spool <DIR>        Spool of smtpd; its daemon is the one that is asked,
                                   unless --socket names another. Default:
                                   REDSPOOL_SPOOL; /var/spool/redspool for root;
                                   redspool/spool in XDG_DATA_HOME or ~/.local/share
                                   for others
              --timeout <SECONDS>  Longest wait for a sign of life of smtpd [default:
                                   10]
          -h, --help               Explain the words so far, and what can follow
          -V, --version            Print the version
        [exit 0]
    "]]
    .assert_eq(&place.smtpctl(&["-h", "pa"]));
    expect![[r"
        Usage: smtpctl [options] <command>

        discover <evpid>
        discover <msgid>
        discover all
            Make the schedule notice envelopes that were put into the store by other
            means.
        pause mta
            Start no more transfers to other hosts.
        pause mta from <addr> for <str>
            Start no more transfers from one local address to one domain, or to one
            smart host by its name; `*` is any.
        pause envelope <evpid>
        pause envelope <msgid>
        pause envelope all
            Attempt no delivery of an envelope, of all envelopes of a message, or of
            any envelope.
        pause mda
            Start no more local deliveries.
        pause smtp
            Accept no more SMTP connections.
        resume mta
            Start transfers to other hosts again.
        resume mta from <addr> for <str>
            Start transfers from one local address to one domain again.
        resume envelope <evpid>
        resume envelope <msgid>
        resume envelope all
            Deliver paused envelopes again, each when it is due.
        resume mda
            Start local deliveries again.
        resume route <routeid>
            Use a disabled route again at once, and forget its penalty.
        resume smtp
            Accept SMTP connections again.
        show mta paused
            List what `pause mta from` has paused.
        show envelope <evpid>
            Print everything that is stored about an envelope, one `key: value` per
            line.
        show hoststats
            List recipient domains with the date (UNIX time) and text of their last
            reply, separated by `|`.
        show message <msgid>
        show message <evpid>
            Print the content of a message.
        show queue
        show queue <msgid>
        show queue <evpid>
            List what is queued, one envelope per line, in order of ids.
        show hosts
            List the remote hosts in memory: address, name, what refers to it,
            connections, time since the last connect.
        show relays
            List the relays in memory, each with its connectors.
        show routes
            List the routes in memory.
        show stats
            Print the counters, one `key=value` per line, in order of keys.
        show status
            Print which subsystems are running and which are paused.
        show trash
        show trash <msgid>
        show trash <evpid>
            List what `remove` has taken out of the queue and `undo` can bring back, in
            the form of `show queue`.
        log brief
            Log what operators need to know.
        log verbose
            Log what developers need to know, too.
        monitor
            Print a line of numbers every second: SMTP clients now, connected,
            disconnected; envelopes now, enqueued, dequeued; deliveries that succeeded,
            failed for now, failed for good, looped; envelopes expired, removed,
            bounced.
        profile <str>
            Log how long things take, in seconds, until `unprofile`.
        remove <evpid>
        remove <msgid>
        remove all
            Take an envelope, all envelopes of a message, or all envelopes out of the
            queue, without telling the sender.
        schedule <msgid>
        schedule <evpid>
        schedule all
            Make an envelope, all envelopes of a message, or all envelopes due now.
        trace <str>
            Log what a subsystem does, one event per line, until `untrace`.
        uncorrupt <msgid>
            Bring a message back from the corrupt bucket, if all of it proves sound
            now, and queue it.
        unprofile <str>
            Stop what `profile` began.
        untrace <str>
            Stop what `trace` began; `untrace all` stops every trace.
        update table <str>
            Read the file of a table again.
        encrypt
        encrypt <str>
            Print the hash of a password for a credentials table.
        spf walk
            Print the networks that the SPF records of domains allow.
        explain <evpid>
            Say on one screen where an envelope is and why it is not moving: whether it
            or its agent is paused, whether it is held, when its next attempt is due,
            and the limits in force with their numbers; how many attempts failed, and
            of the last ones when each began, which addresses it went between, with
            which TLS, and what was said; and for mail to other hosts the relay, its
            routes with their penalties and when they end, and the hosts it does not
            use for a while because they did not prove what TLS options, TLSA records
            or a policy ask for.
        undo
        undo last
            Bring back what was removed last: all of one `remove`, or of those within
            one second.
        undo <evpid>
        undo <msgid>
        undo all
            Bring an envelope, all envelopes of a message, or everything back from the
            trash, as `undo last` does.
        store check
            Read every record and every content in the spool and prove it; nothing is
            written, and a daemon may run.
        store rebuild
            Build the database of a stopped daemon anew from the log.
        store compact
            Move together what is queued in the spool of a stopped daemon, and give the
            disk back that nothing needs.
        store import <dir>
            Take the mail of another server into the spool of a stopped daemon: from a
            spool of OpenSMTPD (the directory that holds `queue`; envelopes of version
            2 and 3, compressed or encrypted ones, too), or from what `store export`
            has written.
        store export <dir>
            Write everything that is queued into a new or empty directory: each content
            as `messages/MSGID.eml`, octet for octet, and the envelopes into
            `envelopes.jsonl`, one JSON object per line behind one that names the form.
        completions bash
        completions zsh
        completions fish
            Print a script with which a shell completes the words of this command.

        Every word may be abbreviated as long as only one word begins so. `--help`
        after some words explains them, and the options of a command.

        Options:
          -s, --socket <PATH>      Control socket of smtpd. Default: REDSPOOL_SOCKET;
                                   smtpd.sock in a spool that was named;
                                   /var/run/redspool.sock for root; redspool/smtpd.sock
                                   in XDG_RUNTIME_DIR, XDG_DATA_HOME or ~/.local/share
                                   for others
          -q, --spool <DIR>        Spool of smtpd; its daemon is the one that is asked,
                                   unless --socket names another. Default:
                                   REDSPOOL_SPOOL; /var/spool/redspool for root;
                                   redspool/spool in XDG_DATA_HOME or ~/.local/share
                                   for others
              --timeout <SECONDS>  Longest wait for a sign of life of smtpd [default:
                                   10]
          -h, --help               Explain the words so far, and what can follow
          -V, --version            Print the version
        [exit 0]
    "]]
    .assert_eq(&place.smtpctl(&["--help"]));
    let version = format!("redspool {}\n[exit 0]\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(place.smtpctl(&["--version"]), version);
}
