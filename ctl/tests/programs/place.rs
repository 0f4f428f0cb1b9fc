//! A daemon that says what it is told to, and the built programs that talk to it.

use redspool_core::control::frame;
use redspool_core::control::{Reply, Request};
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use tempfile::TempDir;

pub(crate) const FRAME_MAX: usize = 1 << 20;

/// A directory with a control socket in it.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path().join("smtpd.sock")
    }

    /// Answers requests with what `answers` gives, and tells them to the test.
    pub(crate) fn daemon(
        &self,
        mut answers: impl FnMut(Request) -> Vec<Reply> + Send + 'static,
    ) -> Receiver<Request> {
        let (tell, told) = channel();
        self.listen(move |mut stream| {
            while let Some(request) = read_request(&mut stream) {
                let _ = tell.send(request.clone());
                for reply in answers(request) {
                    let frame = frame::encode(&reply, FRAME_MAX).unwrap();
                    if stream.write_all(&frame).is_err() {
                        return;
                    }
                }
            }
        });
        told
    }

    /// Serves every connection with `serve`, one after the other.
    pub(crate) fn listen(&self, mut serve: impl FnMut(UnixStream) + Send + 'static) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap());
            }
        });
    }

    /// Runs smtpctl on this place's spool and shows what came of it.
    pub(crate) fn smtpctl(&self, args: &[&str]) -> String {
        let spool = format!("--spool={}", self.path().display());
        self.shown(program("smtpctl").arg(spool).args(args))
    }

    /// Runs a program and shows what came of it, this place's path as DIR.
    pub(crate) fn shown(&self, command: &mut Command) -> String {
        let output = command.stdin(Stdio::null()).output().unwrap();
        shown(&output).replace(&self.path().display().to_string(), "DIR")
    }
}

/// One of our programs, in an environment without any settings.
pub(crate) fn program(name: &str) -> Command {
    let path = match name {
        "mailq" => env!("CARGO_BIN_EXE_mailq"),
        _ => env!("CARGO_BIN_EXE_smtpctl"),
    };
    let mut command = Command::new(path);
    command.env_clear().env("HOME", "/nonexistent");
    command
}

/// Standard output, standard error, exit status.
pub(crate) fn shown(output: &Output) -> String {
    let out = String::from_utf8(output.stdout.clone()).unwrap();
    let err = String::from_utf8(output.stderr.clone()).unwrap();
    let err = if err.is_empty() {
        err
    } else {
        format!("[stderr]\n{err}")
    };
    format!("{out}{err}[exit {}]\n", output.status.code().unwrap())
}

fn read_request(stream: &mut UnixStream) -> Option<Request> {
    let mut read = Vec::new();
    let mut octets = [0; 4096];
    loop {
        if let Some((request, _)) = frame::decode(&read, FRAME_MAX).unwrap() {
            return Some(request);
        }
        match stream.read(&mut octets) {
            Ok(0) | Err(_) => return None,
            Ok(count) => read.extend_from_slice(&octets[..count]),
        }
    }
}
