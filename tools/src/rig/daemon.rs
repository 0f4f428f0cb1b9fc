//! A daemon, its configuration, its queue and its control program.

use super::wait::PATIENCE;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tempfile::TempDir;

/// A built program, beside the running test or tool. Panics with what to type if it is not there.
pub fn program(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("a running program has a path");
    let mut directory = here.parent().expect("a program lies in a directory");
    if directory.ends_with("deps") {
        directory = directory
            .parent()
            .expect("deps lies in the target directory");
    }
    let path = directory.join(name);
    assert!(
        path.exists(),
        "{} is not built: cargo build --workspace",
        path.display()
    );
    path
}

/// What a program printed, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Exit status; `None` if a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl From<std::process::Output> for Output {
    fn from(output: std::process::Output) -> Self {
        Self {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A directory with a configuration and a queue, for one daemon at a time.
pub struct Rig {
    directory: TempDir,
    spool: PathBuf,
    arguments: Vec<String>,
}

impl Rig {
    /// A new directory with this smtpd.conf. In the text, `@DIR@` becomes the directory, `@UID@`
    /// and `@GID@` who we are.
    pub fn new(configuration: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("redspool").tempdir();
        let directory = directory.expect("a temporary directory can be made");
        let spool = directory.path().join("spool");
        let rig = Self {
            directory,
            spool,
            arguments: Vec::new(),
        };
        rig.configure(configuration);
        rig
    }

    /// With these arguments for smtpd, too.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// With the queue in another place than the directory.
    #[must_use]
    pub fn with_spool(mut self, spool: &Path) -> Self {
        self.spool = spool.into();
        self
    }

    /// Writes another smtpd.conf.
    pub fn configure(&self, configuration: &str) {
        let text = configuration
            .replace("@DIR@", &self.path().to_string_lossy())
            .replace("@UID@", &nix::unistd::getuid().to_string())
            .replace("@GID@", &nix::unistd::getgid().to_string());
        fs::write(self.config(), text).expect("the configuration can be written");
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The smtpd.conf.
    pub fn config(&self) -> PathBuf {
        self.path().join("smtpd.conf")
    }

    /// The queue.
    pub fn spool(&self) -> &Path {
        &self.spool
    }

    /// The command that runs smtpd on this rig in the foreground.
    pub fn smtpd(&self) -> Command {
        let mut command = Command::new(program("smtpd"));
        command
            .arg("-d")
            .arg("-f")
            .arg(self.config())
            .arg("--spool")
            .arg(&self.spool);
        command
            .args(["--user", "root"])
            .args(&self.arguments)
            .current_dir(self.path());
        command
            .stdin(Stdio::null())
            .env_remove("REDSPOOL_SPOOL")
            .env_remove("REDSPOOL_SOCKET");
        command
    }

    /// Starts smtpd and waits until it is ready. Panics with its log if it ends instead.
    pub fn start(&self) -> Daemon {
        Daemon::start(self.smtpd())
    }

    /// Runs smtpd where it should not come up, and waits for its end.
    pub fn start_in_vain(&self) -> Output {
        let daemon = Daemon::spawn(self.smtpd());
        let log = daemon
            .log
            .wait(|log| (log.ended || log.has("smtpd ready")).then(|| log.text()));
        assert!(
            !log.contains("smtpd ready"),
            "smtpd came up, but should not have:\n{log}"
        );
        let status = daemon.reap();
        Output {
            status: status.code(),
            stdout: String::new(),
            stderr: log,
        }
    }

    /// Runs `smtpctl` with these words.
    pub fn smtpctl(&self, words: &[&str]) -> Output {
        self.run("smtpctl", words)
    }

    /// Runs `smtpctl` with these words and returns what it printed. Panics if it fails.
    pub fn show(&self, words: &[&str]) -> String {
        let output = self.smtpctl(words);
        assert_eq!(output.status, Some(0), "smtpctl {words:?}: {output:?}");
        output.stdout
    }

    /// Runs `mailq`.
    pub fn mailq(&self) -> Output {
        let mut command = Command::new(program("mailq"));
        command
            .env("REDSPOOL_SPOOL", &self.spool)
            .current_dir(self.path());
        command.output().expect("mailq can be started").into()
    }

    /// Runs a built program on the queue of this rig.
    fn run(&self, name: &str, words: &[&str]) -> Output {
        self.command(name, words)
            .output()
            .expect("a built program can be started")
            .into()
    }

    /// The command that runs a built program on the queue of this rig.
    pub fn command(&self, name: &str, words: &[&str]) -> Command {
        let mut command = Command::new(program(name));
        command.arg("--spool").arg(&self.spool).args(words);
        command.current_dir(self.path()).stdin(Stdio::null());
        command
            .env_remove("REDSPOOL_SPOOL")
            .env_remove("REDSPOOL_SOCKET");
        command
    }

    /// The lines of `show queue`.
    pub fn queue(&self) -> Vec<String> {
        self.show(&["show", "queue"])
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

/// A running smtpd. Killed when dropped.
pub struct Daemon {
    child: Child,
    log: Arc<Log>,
}

impl Daemon {
    /// Starts smtpd by this command and waits until it is ready. Panics with its log if it ends
    /// instead.
    pub fn start(command: Command) -> Self {
        let daemon = Self::spawn(command);
        daemon.ready();
        daemon
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .expect("smtpd can be started");
        let stderr = child.stderr.take().expect("standard error is a pipe");
        let log = Arc::new(Log::default());
        let reader = Arc::clone(&log);
        std::thread::spawn(move || reader.read(stderr));
        Self { child, log }
    }

    fn ready(&self) {
        let ready = self.log.wait(|log| {
            log.has("smtpd ready")
                .then_some(true)
                .or(log.ended.then_some(false))
        });
        assert!(ready, "smtpd ended instead of starting:\n{}", self.log());
    }

    /// The address of the first listener.
    pub fn address(&self) -> SocketAddr {
        let word = "smtp listening address=";
        let log = self.log();
        let found = log.lines().find_map(|line| line.split_once(word));
        let (_, rest) = found.unwrap_or_else(|| panic!("no `{word}` in the log:\n{log}"));
        let text = rest.split_whitespace().next().unwrap_or_default();
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.log.state().text()
    }

    /// Waits for a line that contains `text`, from the start of the log on, and returns it.
    pub fn logged(&self, text: &str) -> String {
        let line = self.log.wait(|log| match log.line(text) {
            Some(line) => Some(Some(line.to_owned())),
            None => log.ended.then_some(None),
        });
        line.unwrap_or_else(|| panic!("smtpd ended without logging {text:?}:\n{}", self.log()))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the daemon is our child");
    }

    /// Asks it to stop (SIGTERM) and waits for the end.
    pub fn stop(self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.reap()
    }

    /// Waits for its end, which something else brings about.
    pub fn reap(mut self) -> ExitStatus {
        self.log.wait(|log| log.ended.then_some(()));
        self.child.wait().expect("the daemon is our child")
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub fn kill(mut self) {
        self.end();
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(
            self.child
                .id()
                .try_into()
                .expect("a process id is a small number"),
        )
    }

    fn end(&mut self) {
        // An error means that it has ended already; the wait is then immediate.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("log of smtpd:\n{}", self.log());
        }
    }
}

/// The lines of a daemon's log as they come.
#[derive(Default)]
struct Log {
    state: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    fn line(&self, text: &str) -> Option<&str> {
        self.lines
            .iter()
            .find(|line| line.contains(text))
            .map(String::as_str)
    }

    fn has(&self, text: &str) -> bool {
        self.line(text).is_some()
    }

    fn text(&self) -> String {
        self.lines.join("\n")
    }
}

impl Log {
    fn state(&self) -> MutexGuard<'_, Lines> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, stderr: ChildStderr) {
        for line in BufReader::new(stderr).split(b'\n') {
            let Ok(line) = line else { break };
            self.state()
                .lines
                .push(String::from_utf8_lossy(&line).into_owned());
            self.changed.notify_all();
        }
        self.state().ended = true;
        self.changed.notify_all();
    }

    /// Waits until `condition` gives a value. Panics with the log after [`PATIENCE`].
    fn wait<T>(&self, mut condition: impl FnMut(&Lines) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state();
        loop {
            if let Some(value) = condition(&state) {
                return value;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "waited {PATIENCE:?} in vain; the log:\n{}",
                state.text()
            );
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
