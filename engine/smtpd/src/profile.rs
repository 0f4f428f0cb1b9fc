//! The local profile: a private mail server under one directory, for whoever wants to try it.
//!
//! Promises: writes only under that directory; keeps what is there, the configuration included,
//! so that a second start finds the first one's mail.

use crate::privileges::make_directory;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

const TEMPLATE: &str = include_str!("../local.conf");

const HELLO: &str = "From: Bob <bob@localhost>\r\nTo: Alice <alice@localhost>\r\n\
    Subject: Hello from redspool\r\n\r\nIf you can read this, the mail arrived.\r\n";

/// The directory of a local profile and what lies in it.
#[derive(Clone, Debug)]
pub struct Profile {
    directory: PathBuf,
}

impl Profile {
    /// Makes the directory and what is missing in it.
    pub fn prepare(directory: &Path) -> io::Result<Self> {
        make_directory(directory)?;
        let directory = fs::canonicalize(directory)?;
        let profile = Self { directory };
        let user = nix::unistd::User::from_uid(nix::unistd::getuid())
            .ok()
            .flatten();
        let user = user.map_or_else(|| "me".to_owned(), |user| user.name);
        make_directory(&profile.mail())?;
        for name in ["alice", "bob", user.as_str()] {
            make_directory(&profile.mail().join(name))?;
        }
        write_new(&profile.config(), &profile.configuration(&user))?;
        write_new(&profile.hello(), HELLO)?;
        Ok(profile)
    }

    /// Its smtpd.conf.
    pub fn config(&self) -> PathBuf {
        self.directory.join("smtpd.conf")
    }

    /// Its queue.
    pub fn spool(&self) -> PathBuf {
        self.directory.join("spool")
    }

    fn mail(&self) -> PathBuf {
        self.directory.join("mail")
    }

    fn hello(&self) -> PathBuf {
        self.directory.join("hello.eml")
    }

    fn configuration(&self, user: &str) -> String {
        let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
        TEMPLATE
            .replace(
                "@DIR@",
                &self.directory.to_string_lossy().replace('"', "\\\""),
            )
            .replace("@USER@", user)
            .replace("@UID@", &uid.to_string())
            .replace("@GID@", &gid.to_string())
    }

    /// What to tell the user once the server listens at `addresses`: where things are and what to
    /// type next.
    pub fn welcome(&self, addresses: &[SocketAddr]) -> String {
        let smtpctl = std::env::current_exe()
            .unwrap_or_default()
            .with_file_name("smtpctl");
        let ctl = format!("{} --spool {}", shown(&smtpctl), shown(&self.spool()));
        let mail = self.mail();
        let server = addresses
            .first()
            .map(ToString::to_string)
            .unwrap_or_default();
        let hello = shown(&self.hello());
        let mut text = String::new();
        let _ = write!(
            text,
            "
redspool is running. Everything it keeps is under {directory}

  listens on     {server}
  configuration  {config}
  queue          {spool}
  mailboxes      {mail}/alice, {mail}/bob, ...

Type next, in another terminal:

  send           curl smtp://{server} --mail-from bob@localhost --mail-rcpt alice@localhost \\
                      --upload-file {hello}
  read           cat {mail}/alice/Maildir/new/*
  hold back      {ctl} pause mda
  send again, then look at the queue
                 {ctl} show queue
  let it go      {ctl} resume mda
  watch          {ctl} monitor
  all commands   {ctl} --help
  stop           Ctrl-C here; the queue stays, and `show queue` works without the server, too

",
            directory = shown(&self.directory),
            config = shown(&self.config()),
            spool = shown(&self.spool()),
            mail = shown(&mail),
        );
        text
    }
}

/// A path as it can be typed into a shell, relative to the working directory if it is below it.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let path = path
        .strip_prefix(&here)
        .unwrap_or(path)
        .to_string_lossy()
        .into_owned();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+:@%".contains(&b);
    if path.bytes().all(plain) {
        path
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}

/// Writes a file unless it exists.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Ok(mut file) => file.write_all(text.as_bytes()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}
