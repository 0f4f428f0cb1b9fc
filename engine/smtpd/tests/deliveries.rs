//! Local deliveries through the real helper and real programs.
//!
//! What needs several users runs as root only, as in CI; everything else runs as anybody.

#![expect(clippy::unwrap_used, reason = "this is a test, helpers included")]

use bytes::Bytes;
use redspool_core::addr::Source;
use redspool_core::config::table::Table;
use redspool_core::envelope::{
    Attempts, Delivery, Dsn, Envelope, Flags, Mda as Parameters, Method,
};
use redspool_core::id::EnvelopeId;
use redspool_core::limits::Limits;
use redspool_core::queue::{Outcome, StoreError};
use redspool_core::time::Timestamp;
use redspool_smtpd::helper::protocol::{self, Answer, Exit, Job, Program, Reply, Request, Verb};
use redspool_smtpd::helper::{self, Forward, Helper, HelperError, Identity, Options};
use redspool_smtpd::mda::Mda;
use redspool_smtpd::mda::content::Content;
use redspool_smtpd::users::{User, Users};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::fs::{self, File, Permissions};
use std::io::{PipeReader, PipeWriter, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const MESSAGE: &str = "Received: by x\r\nSubject: y\r\n\r\nbody \u{e9}\r\n";
const AS_READ: &str = "Return-Path: <sender@example.org>\nDelivered-To: rcpt+tag@example.net\n\
                       Received: by x\nSubject: y\n\nbody \u{e9}\n";

/// The number Debian and most others give to nobody.
const NOBODY: u32 = 65534;

fn limits() -> Arc<Limits> {
    Arc::new(Limits::default())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A directory with a home and the programs, where every user can reach them.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        for name in ["home", "mail", "bin"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let built = Path::new(env!("CARGO_BIN_EXE_smtpd-priv"))
            .parent()
            .unwrap();
        for name in ["smtpd-priv", "mail-maildir", "mail-mbox", "mail-lmtp"] {
            let copy = dir.path().join("bin").join(name);
            fs::hard_link(built.join(name), &copy)
                .or_else(|_| fs::copy(built.join(name), &copy).map(|_| ()))
                .unwrap();
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn home(&self) -> PathBuf {
        self.path("home")
    }

    fn options(&self, identity: Identity) -> Options {
        Options {
            program: self.path("bin/smtpd-priv"),
            identity,
            mailboxes: self.path("mail"),
            keys: Vec::new(),
        }
    }

    fn helper(&self, identity: Identity) -> Helper {
        Helper::attach(helper::start(&self.options(identity)).unwrap()).unwrap()
    }

    fn table(&self, id: u32) -> Table {
        let value = format!("{id}:{id}:{}", self.home().display());
        Table::mapping([("user", value.as_str())])
    }

    fn give_home_to(&self, id: u32) {
        chown(self.home(), Some(id), Some(id)).unwrap();
    }

    async fn deliver(&self, identity: Identity, id: u32, method: Method) -> Outcome {
        let mda = Mda::new(self.helper(identity), Users::default(), limits());
        mda.deliver(
            &envelope(method),
            Some(&self.table(id)),
            '+',
            content(MESSAGE),
        )
        .await
    }

    /// Runs a command of the configuration as ourselves.
    async fn command(&self, command: &str) -> Outcome {
        self.deliver(Identity::Own, 1000, Method::Command(command.into()))
            .await
    }
}

fn envelope(method: Method) -> Envelope {
    Envelope {
        id: EnvelopeId::new(0x1_0000_0001).unwrap(),
        action: "local".into(),
        tag: "".into(),
        delivery: Delivery::Mda(Parameters {
            method,
            user: "user".into(),
            userbase: "users".into(),
            delivery_user: "".into(),
            subaddress: "tag".into(),
        }),
        smtpname: "mx.example.net".into(),
        helo: "client".into(),
        hostname: "client".into(),
        username: "".into(),
        source: Source::Local,
        sender: "sender@example.org".parse().unwrap(),
        rcpt: "rcpt+tag@example.net".parse().unwrap(),
        dest: "user@example.net".parse().unwrap(),
        ctime: Timestamp::EPOCH,
        last_try: Timestamp::EPOCH,
        last_bounce: Timestamp::EPOCH,
        ttl: Duration::from_secs(1),
        retry: 0,
        flags: Flags::default(),
        dsn: Dsn::default(),
        status: None,
        errorline: "".into(),
        remote: "".into(),
        attempts: Attempts::default(),
    }
}

/// Content that is there already.
struct Pieces<I>(I);

impl<I> Content for Pieces<I>
where
    I: Iterator<Item = Result<Bytes, StoreError>> + Send,
{
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        self.0.next().transpose()
    }
}

/// Content in pieces of 7 octets, so that line ends and header end are cut.
fn content(text: &'static str) -> impl Content {
    Pieces(
        text.as_bytes()
            .chunks(7)
            .map(|piece| Ok(Bytes::from_static(piece))),
    )
}

fn show(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Delivered { .. } => "delivered".into(),
        Outcome::TempFail(failure) | Outcome::PermFail(failure) => {
            format!("{} {}", failure.status.unwrap(), failure.text)
        }
        Outcome::Loop => "loop".into(),
    }
}

fn only_file(directory: &Path) -> PathBuf {
    let mut entries = fs::read_dir(directory).unwrap();
    let file = entries.next().unwrap().unwrap().path();
    assert!(entries.next().is_none());
    file
}

fn maildir() -> Method {
    Method::Maildir {
        path: "~/Maildir/%{dest.user}".into(),
    }
}

#[tokio::test]
async fn built_in_methods_deliver_the_message_with_its_trace() {
    let place = Place::new();
    let outcome = place.deliver(Identity::Own, 1000, maildir()).await;
    assert_eq!(show(&outcome), "delivered");
    let file = only_file(&place.path("home/Maildir/user/new"));
    assert_eq!(fs::read_to_string(file).unwrap(), AS_READ);

    let file = place.path("file");
    for (method, path) in [
        (Method::File(file.clone()), file),
        (Method::Mbox, place.path("mail/user")),
    ] {
        let outcome = place.deliver(Identity::Own, 1000, method).await;
        assert_eq!(show(&outcome), "delivered");
        let text = fs::read_to_string(path).unwrap();
        let (from, rest) = text.split_once('\n').unwrap();
        assert!(from.starts_with("From sender@example.org "), "{from}");
        assert_eq!(rest, format!("{AS_READ}\n"));
    }
}

#[tokio::test]
async fn d7_the_exit_of_a_command_decides() {
    let place = Place::new();
    for (command, want) in [
        ("cat >out", "delivered"),
        ("cat >out; exit 71", "4.3.0 exited abnormally"),
        ("cat >out; exit 75", "4.3.0 exited abnormally"),
        ("cat >out; exit 1", "5.3.0 exited abnormally"),
        ("cat >out; exit 67", "5.3.0 exited abnormally"),
        ("cat >out; kill -9 $$", "4.3.0 terminated; signal 9"),
        ("cat >out; kill -TERM $$", "4.3.0 terminated; signal 15"),
        ("exit 0", "4.3.0 exited prematurely"),
        ("exec 0<&-; exit 0", "4.3.0 exited prematurely"),
        ("exit 69", "5.3.0 exited abnormally"),
        (
            "cat >out; echo a; echo 'it \\ failed' >&2; exit 69",
            "5.3.0 \"it \\\\ failed\"",
        ),
    ] {
        assert_eq!(show(&place.command(command).await), want, "{command}");
    }
    assert_eq!(fs::read_to_string(place.path("home/out")).unwrap(), AS_READ);
}

#[tokio::test]
async fn a_program_may_end_before_a_large_message_does() {
    let place = Place::new();
    let mda = Mda::new(place.helper(Identity::Own), Users::default(), limits());
    let large = Bytes::from(vec![b'x'; 64 << 10]);
    for (command, want) in [
        ("head -c 100 >out", "4.3.0 exited prematurely"),
        ("exit 69", "5.3.0 exited abnormally"),
        ("wc -c", "delivered"),
    ] {
        let content = Pieces(std::iter::repeat_n(Ok(large.clone()), 32));
        let envelope = envelope(Method::Command(command.into()));
        let outcome = mda
            .deliver(&envelope, Some(&place.table(1)), '+', content)
            .await;
        assert_eq!(show(&outcome), want, "{command}");
    }
}

#[tokio::test]
async fn output_without_end_is_bounded_and_does_not_block() {
    let place = Place::new();
    let command = "cat >/dev/null; head -c 3000000 /dev/zero | tr '\\0' y; echo; echo last; exit 1";
    assert_eq!(show(&place.command(command).await), "5.3.0 \"last\"");
}

#[tokio::test]
async fn the_environment_is_exactly_ours() {
    let place = Place::new();
    let outcome = place
        .command("cat >/dev/null; cat /proc/$$/environ >env")
        .await;
    assert_eq!(show(&outcome), "delivered");
    let text = fs::read_to_string(place.path("home/env")).unwrap();
    let variables: Vec<_> = text.split_terminator('\0').collect();
    let home = format!("HOME={}", place.home().display());
    assert_eq!(
        variables,
        [
            "PATH=/usr/bin:/bin",
            "SHELL=/bin/sh",
            &home,
            "LOGNAME=user",
            "USER=user",
            "SENDER=sender@example.org",
            "RECIPIENT=user@example.net",
            "ORIGINAL_RECIPIENT=rcpt+tag@example.net",
            "DOMAIN=example.net",
            "LOCAL=rcpt+tag",
            "EXTENSION=tag",
        ]
    );
}

#[tokio::test]
async fn t34_a_program_gets_a_session_default_signals_and_three_descriptors() {
    let place = Place::new();
    // A daemon that was itself started with signals ignored and files open.
    fs::rename(place.path("bin/smtpd-priv"), place.path("bin/real")).unwrap();
    let script =
        "#!/bin/sh\ntrap '' HUP USR1\nexec 7</dev/null 9</dev/null\nexec \"${0%/*}/real\" \"$@\"\n";
    fs::write(place.path("bin/smtpd-priv"), script).unwrap();
    fs::set_permissions(place.path("bin/smtpd-priv"), Permissions::from_mode(0o755)).unwrap();
    let command = "cat >/dev/null; cat /proc/self/status >status; cat /proc/$$/stat >stat; \
                   echo $$ >pid; (ls /proc/$$/fd) >fd; pwd >pwd; umask >umask";
    assert_eq!(show(&place.command(command).await), "delivered");
    let read = |name: &str| fs::read_to_string(place.home().join(name)).unwrap();
    let status = read("status");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(field("SigBlk:"), "0000000000000000");
    // The C library keeps signals 32 and 33 for itself.
    let ignored = u64::from_str_radix(&field("SigIgn:"), 16).unwrap();
    assert_eq!(ignored & !(0b11 << 31), 0);
    let stat = read("stat");
    let after_name = stat.rsplit(") ").next().unwrap();
    let session = after_name.split(' ').nth(3).unwrap();
    assert_eq!(session, read("pid").trim());
    assert_eq!(read("fd"), "0\n1\n2\n");
    assert_eq!(
        Path::new(read("pwd").trim()),
        place.home().canonicalize().unwrap()
    );
    assert_eq!(read("umask"), "0077\n");
}

/// A FIFO whose reader sees the end when the last process that has it open is gone.
fn fifo(path: &Path) -> std::thread::JoinHandle<String> {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let path = path.to_owned();
    std::thread::spawn(move || fs::read_to_string(path).unwrap())
}

#[tokio::test]
async fn d7_the_end_of_its_time_kills_the_whole_group() {
    let place = Place::new();
    let alive = fifo(&place.path("home/fifo"));
    let limits = Limits {
        mda_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let helper = place.helper(Identity::Own);
    let mda = Mda::new(helper, Users::default(), Arc::new(limits));
    let command = "cat >/dev/null; (trap '' TERM HUP; sleep 1000) >fifo & wait";
    let outcome = mda
        .deliver(
            &envelope(Method::Command(command.into())),
            Some(&place.table(1)),
            '+',
            content(MESSAGE),
        )
        .await;
    assert_eq!(show(&outcome), "4.3.0 terminated; time is up");
    assert_eq!(alive.join().unwrap(), "");
}

#[tokio::test]
async fn a_message_that_cannot_be_read_to_its_end_has_none_for_the_program() {
    let place = Place::new();
    let mda = Mda::new(place.helper(Identity::Own), Users::default(), limits());
    let pieces = [
        Ok(Bytes::from_static(b"Subject: x\r\n\r\nhalf")),
        Err(StoreError::Io("bad sector".into())),
    ];
    let broken = Pieces(pieces.into_iter());
    let outcome = mda
        .deliver(
            &envelope(Method::Command("cat >part; touch whole".into())),
            Some(&place.table(1)),
            '+',
            broken,
        )
        .await;
    assert_eq!(
        show(&outcome),
        "4.3.0 cannot read the message: i/o error: bad sector"
    );
    assert!(!place.path("home/whole").exists());
}

#[tokio::test]
async fn a_message_that_was_here_before_loops() {
    let place = Place::new();
    let mda = Mda::new(place.helper(Identity::Own), Users::default(), limits());
    let envelope = envelope(Method::Command("touch ran; cat >/dev/null".into()));
    let again = content("Delivered-To: rcpt+tag@example.net\r\nSubject: y\r\n\r\nx\r\n");
    let table = place.table(1);
    let outcome = mda.deliver(&envelope, Some(&table), '+', again).await;
    assert_eq!(outcome, Outcome::Loop);
    assert!(!place.path("home/ran").exists());
}

#[tokio::test]
async fn users_that_are_not_there_are_told_from_tables_that_are_not() {
    let place = Place::new();
    let mda = Mda::new(place.helper(Identity::Own), Users::default(), limits());
    let check = async |change: fn(&mut Parameters), table: Option<&Table>, want: &str| {
        let mut envelope = envelope(maildir());
        if let Delivery::Mda(parameters) = &mut envelope.delivery {
            change(parameters);
        }
        let outcome = mda.deliver(&envelope, table, '+', content(MESSAGE)).await;
        assert_eq!(show(&outcome), want);
    };
    let table = place.table(1000);
    check(
        |parameters| parameters.user = "other".into(),
        Some(&table),
        "5.1.6 user 'other' does not exist",
    )
    .await;
    check(|_| (), None, "4.3.0 there is no table users any more").await;
    check(
        |parameters| parameters.delivery_user = "no-such-user-here".into(),
        Some(&table),
        "5.3.0 delivery user 'no-such-user-here' does not exist",
    )
    .await;
    check(
        |parameters| {
            parameters.method = Method::Maildir {
                path: "Maildir".into(),
            };
        },
        Some(&table),
        "4.3.0 not an absolute path: Maildir",
    )
    .await;
}

#[tokio::test]
async fn t1_an_address_cannot_leave_its_place_in_a_command() {
    let place = Place::new();
    let mda = Mda::new(place.helper(Identity::Own), Users::default(), limits());
    let mut envelope = envelope(Method::Command(
        "cat >/dev/null; echo %{sender} >out".into(),
    ));
    envelope.sender = "a`touch${IFS}x`|&'b@example.org".parse().unwrap();
    let outcome = mda
        .deliver(&envelope, Some(&place.table(1)), '+', content(MESSAGE))
        .await;
    assert_eq!(show(&outcome), "delivered");
    let out = fs::read_to_string(place.path("home/out")).unwrap();
    assert_eq!(out, "a:touch::IFS:x::::b@example.org\n");
    assert!(!place.path("home/x").exists());
}

fn job(home: PathBuf, command: &str) -> Job {
    Job {
        program: Program::Shell {
            command: command.into(),
        },
        uid: NOBODY,
        gid: NOBODY,
        home,
        environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
        timeout: Duration::from_mins(5),
    }
}

fn pipes() -> ((PipeReader, PipeWriter), (PipeReader, PipeWriter)) {
    (std::io::pipe().unwrap(), std::io::pipe().unwrap())
}

#[tokio::test]
async fn dropping_a_delivery_kills_it_before_it_sees_an_end() {
    let place = Place::new();
    let helper = place.helper(Identity::Own);
    let ((stdin, writer), (mut output, child_output)) = pipes();
    let running = helper
        .run(
            job(place.home(), "cat; touch whole"),
            [stdin.as_fd(), writer.as_fd()],
            child_output.as_fd(),
        )
        .await
        .unwrap();
    drop((stdin, writer, child_output));
    drop(running);
    let mut printed = String::new();
    output.read_to_string(&mut printed).unwrap();
    assert!(!place.path("home/whole").exists());
}

/// A helper driven by hand, as no daemon would.
struct Raw {
    socket: OwnedFd,
    process: std::process::Child,
}

impl Raw {
    fn start(place: &Place) -> Self {
        let (socket, there) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let process = Command::new(place.path("bin/smtpd-priv"))
            .args(["serve", "own"])
            .args([place.path("bin"), place.path("mail")])
            .stdin(Stdio::from(there))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { socket, process }
    }

    fn send(&self, id: u64, verb: Verb, attached: &[BorrowedFd]) {
        protocol::send(&self.socket, &Request { id, verb }, attached).unwrap();
    }

    fn run(&self, id: u64, job: Job, output: &impl AsFd) {
        let (stdin, writer) = std::io::pipe().unwrap();
        let attached = [stdin.as_fd(), writer.as_fd(), output.as_fd()];
        self.send(id, Verb::Run(job), &attached);
    }

    fn finish(&self, id: u64) {
        self.send(id, Verb::Finish, &[]);
    }

    fn answer(&self) -> (u64, Answer) {
        let (reply, _) = protocol::receive::<Reply>(&self.socket).unwrap().unwrap();
        (reply.id, reply.answer)
    }
}

#[test]
fn the_death_of_the_daemon_is_not_the_end_of_a_message() {
    let place = Place::new();
    let mut helper = Raw::start(&place);
    let (mut output, child_output) = std::io::pipe().unwrap();
    // Our ends of its input close at once, which is not yet the end of the message.
    helper.run(
        1,
        job(place.home(), "echo ready; cat; touch whole"),
        &child_output,
    );
    drop(child_output);
    let mut line = [0; 6];
    output.read_exact(&mut line).unwrap();
    // A program as long as the first one has left to live, if it saw an end.
    helper.run(
        2,
        job(place.home(), "cat; touch other"),
        &File::create("/dev/null").unwrap(),
    );
    helper.finish(2);
    assert_eq!(helper.answer(), (2, Answer::Exited(Exit::Code(0))));

    // All the daemon had open closes.
    drop(helper.socket);
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert!(helper.process.wait().unwrap().success());
    assert!(place.path("home/other").exists());
    assert!(!place.path("home/whole").exists());
}

#[test]
fn a_number_cannot_be_used_twice_at_a_time() {
    let place = Place::new();
    let mut helper = Raw::start(&place);
    let (_output, child_output) = std::io::pipe().unwrap();
    for _ in 0..2 {
        helper.run(1, job(place.home(), "cat"), &child_output);
    }
    assert!(!helper.process.wait().unwrap().success());
}

#[test]
fn t32_the_helper_ends_on_nonsense() {
    let place = Place::new();
    let mut helper = Raw::start(&place);
    rustix::io::write(&helper.socket, b"\xff\xff nonsense").unwrap();
    assert!(!helper.process.wait().unwrap().success());
    assert!(
        protocol::receive::<Reply>(&helper.socket)
            .unwrap()
            .is_none()
    );

    let mut helper = Raw::start(&place);
    helper.send(7, Verb::Run(job(place.home(), "true")), &[]);
    let (id, answer) = helper.answer();
    assert_eq!(id, 7);
    assert!(matches!(answer, Answer::Refused(_)), "{answer:?}");
    drop(helper.socket);
    assert!(helper.process.wait().unwrap().success());
}

#[tokio::test]
async fn everybody_learns_that_the_helper_is_gone() {
    let place = Place::new();
    let connection = helper::start(&place.options(Identity::Own)).unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(connection.pid).unwrap());
    let helper = Helper::attach(connection).unwrap();
    let ((stdin, writer), (_output, child_output)) = pipes();
    let mut running = helper
        .run(
            job(place.home(), "cat"),
            [stdin.as_fd(), writer.as_fd()],
            child_output.as_fd(),
        )
        .await
        .unwrap();
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(running.exited().await, Err(HelperError::Gone));
    helper.gone().await;
    let refused = helper.bind("127.0.0.1:0".parse().unwrap()).await;
    assert_eq!(refused.unwrap_err(), HelperError::Gone);
}

#[tokio::test]
async fn many_programs_run_at_a_time() {
    let place = Place::new();
    let mda = Mda::new(place.helper(Identity::Own), Users::default(), limits());
    let tasks: Vec<_> = (0..40)
        .map(|number| {
            let (mda, table) = (mda.clone(), place.table(1));
            tokio::spawn(async move {
                let command = format!("cat >out{number}; exit {}", number % 2 * 69);
                let envelope = envelope(Method::Command(command.into()));
                let outcome = mda
                    .deliver(&envelope, Some(&table), '+', content(MESSAGE))
                    .await;
                assert_eq!(
                    matches!(outcome, Outcome::Delivered { .. }),
                    number % 2 == 0,
                    "{outcome:?}"
                );
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    for number in 0..40 {
        let path = place.home().join(format!("out{number}"));
        assert_eq!(fs::read_to_string(path).unwrap(), AS_READ);
    }
}

#[tokio::test]
async fn low_ports_are_opened_by_the_helper() {
    let place = Place::new();
    let listener = place
        .helper(Identity::Own)
        .bind("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    std::net::TcpStream::connect(address).unwrap();
    assert!(listener.accept().is_ok());
    let taken = place.helper(Identity::Own).bind(address).await;
    assert!(matches!(taken, Err(HelperError::Io(_))), "{taken:?}");
    let high = place.helper(Identity::Recipient);
    let refused = high.bind("127.0.0.1:1024".parse().unwrap()).await;
    assert!(
        matches!(refused, Err(HelperError::Refused(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn keys_named_at_the_start_are_opened_by_the_helper_and_no_other_file() {
    let place = Place::new();
    let key = place.path("mx.key");
    fs::write(&key, "first").unwrap();
    let options = Options {
        keys: vec![key.clone()],
        ..place.options(Identity::Own)
    };
    let helper = Helper::attach(helper::start(&options).unwrap()).unwrap();
    // As a renewal does: another file of the same name.
    fs::remove_file(&key).unwrap();
    fs::write(&key, "second").unwrap();
    let file = helper.key(0).await.unwrap();
    assert_eq!(std::io::read_to_string(file).unwrap(), "second");
    let refused = helper.key(1).await;
    assert!(
        matches!(refused, Err(HelperError::Refused(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_missing_helper_is_named() {
    let place = Place::new();
    fs::remove_file(place.path("bin/smtpd-priv")).unwrap();
    let why = helper::start(&place.options(Identity::Own)).unwrap_err();
    let why = why.to_string();
    assert!(why.contains("bin/smtpd-priv is missing"), "{why}");
}

fn user(place: &Place, id: u32) -> User {
    User {
        name: "user".into(),
        uid: id,
        gid: id,
        home: place.home(),
    }
}

#[tokio::test]
async fn t33_a_forward_file_is_read_with_all_checks() {
    let place = Place::new();
    let helper = place.helper(Identity::Own);
    let user = user(&place, 1000);
    assert_eq!(helper.forward(&user, 100).await, Forward::Absent);
    let file = place.path("home/.forward");
    fs::write(&file, "a@b.c\n|cmd\n").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let text = Forward::Text("a@b.c\n|cmd\n".into());
    assert_eq!(helper.forward(&user, 100).await, text);
    assert!(matches!(
        helper.forward(&user, 5).await,
        Forward::Temporary(_)
    ));
    fs::set_permissions(&file, Permissions::from_mode(0o606)).unwrap();
    assert!(matches!(
        helper.forward(&user, 100).await,
        Forward::Insecure(_)
    ));
}

#[tokio::test]
async fn root_reads_a_forward_file_as_its_user() {
    if !is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let place = Place::new();
    let helper = place.helper(Identity::Recipient);
    let nobody = user(&place, NOBODY);
    fs::write(place.path("home/.forward"), "x").unwrap();
    place.give_home_to(NOBODY);
    fs::set_permissions(place.home(), Permissions::from_mode(0o700)).unwrap();
    // It belongs to root.
    assert!(matches!(
        helper.forward(&nobody, 9).await,
        Forward::Insecure(_)
    ));
    chown(place.path("home/.forward"), Some(NOBODY), Some(NOBODY)).unwrap();
    assert_eq!(helper.forward(&nobody, 9).await, Forward::Text("x".into()));
    // Nobody has no business in the home of root.
    let mut of_root = nobody;
    of_root.home = "/root".into();
    fs::metadata("/root").unwrap();
    assert!(!matches!(
        helper.forward(&of_root, 9).await,
        Forward::Text(_)
    ));
}

#[tokio::test]
async fn t34_root_delivers_as_the_user_and_nothing_more() {
    if !is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let place = Place::new();
    place.give_home_to(NOBODY);
    let outcome = place.deliver(Identity::Recipient, NOBODY, maildir()).await;
    assert_eq!(show(&outcome), "delivered");
    let file = File::open(only_file(&place.path("home/Maildir/user/new"))).unwrap();
    let facts = file.metadata().unwrap();
    assert_eq!((facts.uid(), facts.gid()), (NOBODY, NOBODY));
    assert_eq!(facts.mode() & 0o777, 0o600);

    let outcome = place
        .deliver(Identity::Recipient, NOBODY, Method::Mbox)
        .await;
    assert_eq!(show(&outcome), "delivered");
    let facts = fs::metadata(place.path("mail/user")).unwrap();
    assert_eq!((facts.uid(), facts.gid()), (NOBODY, NOBODY));
    assert_eq!(facts.mode() & 0o777, 0o600);

    let command = "cat >/dev/null; cat /proc/$$/status >status";
    let method = Method::Command(command.into());
    let outcome = place.deliver(Identity::Recipient, NOBODY, method).await;
    assert_eq!(show(&outcome), "delivered");
    let status = fs::read_to_string(place.path("home/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace()
            .skip(1)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let number = NOBODY.to_string();
    assert_eq!(field("Uid:"), vec![number.clone(); 4]);
    assert_eq!(field("Gid:"), vec![number.clone(); 4]);
    assert_eq!(field("Groups:"), [number]);
    assert_eq!(field("CapEff:"), ["0000000000000000"]);
    assert_eq!(field("CapPrm:"), ["0000000000000000"]);
}

#[tokio::test]
async fn t32_root_itself_gets_mail_into_its_mailbox_alone() {
    if !is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let place = Place::new();
    for method in [maildir(), Method::Command("cat >/dev/null".into())] {
        let outcome = place.deliver(Identity::Recipient, 0, method).await;
        assert_eq!(show(&outcome), "5.3.0 MDA not allowed to deliver to: user");
    }
    let outcome = place.deliver(Identity::Recipient, 0, Method::Mbox).await;
    assert_eq!(show(&outcome), "delivered");

    // The helper does not rely on the daemon to say so.
    let helper = place.helper(Identity::Recipient);
    let ((stdin, writer), (_output, child_output)) = pipes();
    let mut root = job(place.home(), "cat");
    root.uid = 0;
    let mut running = helper
        .run(root, [stdin.as_fd(), writer.as_fd()], child_output.as_fd())
        .await
        .unwrap();
    let refused = running.exited().await;
    assert!(
        matches!(refused, Err(HelperError::Refused(_))),
        "{refused:?}"
    );
}

/// Set for the process that gives up root, which cannot be the one that runs the other tests.
const CHILD: &str = "REDSPOOL_TEST_GIVES_UP_ROOT";

#[test]
fn t32_a_daemon_started_as_root_keeps_none_of_it_but_the_helper() {
    if !is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    if std::env::var_os(CHILD).is_none() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "t32_a_daemon_started_as_root_keeps_none_of_it_but_the_helper",
            ])
            .args(["--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        return;
    }
    let place = Place::new();
    place.give_home_to(1);
    let options = place.options(Identity::Recipient);
    assert!(helper::start_as_root("root", &options).is_err());
    assert!(helper::start_as_root("no-such-user-here", &options).is_err());
    let connection = helper::start_as_root("nobody", &options).unwrap();
    assert_eq!(rustix::process::geteuid().as_raw(), NOBODY);
    assert!(nix::unistd::setuid(nix::unistd::Uid::from_raw(0)).is_err());
    assert!(rustix::thread::no_new_privs().unwrap());

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let outcome = runtime.block_on(async {
        let mda = Mda::new(
            Helper::attach(connection).unwrap(),
            Users::default(),
            limits(),
        );
        let table = place.table(1);
        mda.deliver(&envelope(maildir()), Some(&table), '+', content(MESSAGE))
            .await
    });
    assert_eq!(show(&outcome), "delivered");
}
