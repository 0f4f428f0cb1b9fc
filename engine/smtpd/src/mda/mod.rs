//! Local deliveries: one envelope, one process.
//!
//! Promises: at most one program per call, with the environment of spec/smtpd.md 5.5 and nothing
//! else; built-in methods are executed without a shell; success only after the program has ended
//! and taken all of the message; a program whose message cannot be read to its end is killed
//! before it can see an end.
//! Absent on purpose: who may deliver when, which is the schedule's; signals and users, which are
//! the [helper](crate::helper)'s.
//! Fails: with an outcome; what is not known to be permanent is temporary.

pub mod content;
mod feed;
mod outcome;

use self::content::Content;
use self::outcome::{Ended, PERMANENT, TEMPORARY, Tail};
use crate::helper::protocol::{Job, Program};
use crate::helper::{Helper, HelperError, Identity};
use crate::users::{User, Users};
use bytes::Bytes;
use redspool_core::config::format;
use redspool_core::config::table::Table;
use redspool_core::envelope::{self, Delivery, Envelope, Method};
use redspool_core::limits::Limits;
use redspool_core::queue::{Failure, Outcome, StoreError};
use redspool_core::reply::Status;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

/// Search path of delivery programs: the system's default, nothing of the daemon's.
const PATH: &str = "/usr/bin:/bin";

/// Octets of a pipe that are read after a program has ended: what it can have held. Its
/// descendants may go on printing for ever.
const PIPE_SIZE: usize = 64 << 10;

/// Everything deliveries have in common.
#[derive(Clone, Debug)]
pub struct Mda {
    helper: Helper,
    users: Users,
    limits: Arc<Limits>,
}

/// Whose mail it is, and who runs the program.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Recipient {
    user: User,
    /// The action's `user`, or the recipient.
    runner: User,
}

impl Mda {
    /// Deliveries through `helper`, for users that `users` knows.
    pub fn new(helper: Helper, users: Users, limits: Arc<Limits>) -> Self {
        Self {
            helper,
            users,
            limits,
        }
    }

    /// Makes one delivery attempt. `userbase` is the table the envelope names, if it is still
    /// configured; `delimiter` stands between a user and a sub-address.
    pub async fn deliver(
        &self,
        envelope: &Envelope,
        userbase: Option<&Table>,
        delimiter: char,
        mut content: impl Content,
    ) -> Outcome {
        let Delivery::Mda(mda) = &envelope.delivery else {
            return permanent(PERMANENT, "not a local delivery");
        };
        let attempt = async {
            let recipient = self.recipient(mda, userbase).await?;
            let head = feed::head(&mut content, self.limits.header_size).await;
            let head = head.map_err(|why| unreadable(&why))?;
            let head = head.unwrap_or_default();
            if feed::was_delivered_to(&head, [&envelope.rcpt, &envelope.dest]) {
                return Err(Outcome::Loop);
            }
            let job = self.job(envelope, mda, &recipient, delimiter)?;
            let ended = self.run(job, envelope, head, &mut content).await?;
            Ok(ended.outcome())
        };
        attempt.await.unwrap_or_else(|outcome| outcome)
    }

    async fn recipient(
        &self,
        mda: &envelope::Mda,
        userbase: Option<&Table>,
    ) -> Result<Recipient, Outcome> {
        let lookup = |why: &dyn std::fmt::Display| temporary(&why.to_string());
        let user = match (&*mda.userbase, userbase) {
            ("", _) => self.users.find(&mda.user).await.map_err(|e| lookup(&e))?,
            (_, Some(table)) => User::of_table(table, &mda.user),
            (name, None) => {
                return Err(temporary(&format!("there is no table {name} any more")));
            }
        };
        let unknown = || {
            // The recipient was accepted, so the user was there (RFC 3463 section 3.2).
            let text = format!("user '{}' does not exist", mda.user);
            permanent(Status::permanent(1, 6), &text)
        };
        let user = user.ok_or_else(unknown)?;
        let runner = if mda.delivery_user.is_empty() {
            user.clone()
        } else {
            let found = self.users.find(&mda.delivery_user).await;
            found.map_err(|e| lookup(&e))?.ok_or_else(|| {
                let text = format!("delivery user '{}' does not exist", mda.delivery_user);
                permanent(PERMANENT, &text)
            })?
        };
        let is_root = runner.uid == 0 && self.helper.identity() == Identity::Recipient;
        if is_root && mda.method != Method::Mbox {
            let text = format!("MDA not allowed to deliver to: {}", runner.name);
            return Err(permanent(PERMANENT, &text));
        }
        Ok(Recipient { user, runner })
    }

    fn job(
        &self,
        envelope: &Envelope,
        mda: &envelope::Mda,
        recipient: &Recipient,
        delimiter: char,
    ) -> Result<Job, Outcome> {
        let directory = recipient.user.home.to_str().unwrap_or_default();
        let context = format::Context {
            sender: &envelope.sender,
            rcpt: &envelope.rcpt,
            dest: &envelope.dest,
            user: &recipient.user.name,
            directory,
            delimiter,
        };
        let expand = |template: &str| {
            format::expand(template, &context)
                .map_err(|why| temporary(&format!("cannot expand {template}: {why}")))
        };
        let absolute = |path: PathBuf| {
            if path.is_absolute() {
                Ok(path)
            } else {
                Err(temporary(&format!(
                    "not an absolute path: {}",
                    path.display()
                )))
            }
        };
        let program = match &mda.method {
            Method::Mbox => Program::Mailbox {
                user: recipient.user.name.clone(),
            },
            Method::Maildir { path } => Program::Maildir {
                path: absolute(expand(path)?.into())?,
            },
            Method::Lmtp { dest, rcpt_to } => Program::Lmtp {
                dest: dest.to_string(),
                rcpt_to: *rcpt_to,
            },
            Method::Command(command) => Program::Shell {
                command: expand(command)?,
            },
            Method::File(path) => Program::File {
                path: absolute(path.clone())?,
            },
        };
        Ok(Job {
            program,
            uid: recipient.runner.uid,
            gid: recipient.runner.gid,
            home: recipient.runner.home.clone(),
            environment: environment(envelope, mda, recipient),
            timeout: self.limits.mda_timeout,
        })
    }

    async fn run(
        &self,
        job: Job,
        envelope: &Envelope,
        head: Bytes,
        content: &mut impl Content,
    ) -> Result<Ended, Outcome> {
        let system = |cause: io::Error| temporary(&format!("cannot make a pipe: {cause}"));
        let helper = |why: HelperError| temporary(&why.to_string());
        let (stdin, writer) = io::pipe().map_err(system)?;
        let (output, child_output) = io::pipe().map_err(system)?;
        let inputs = [stdin.as_fd(), writer.as_fd()];
        let running = self.helper.run(job, inputs, child_output.as_fd()).await;
        let mut running = running.map_err(helper)?;
        drop(child_output);
        let writer = pipe::Sender::from_owned_fd(writer.into()).map_err(system)?;
        let mut output = pipe::Receiver::from_owned_fd(output.into()).map_err(system)?;

        let trace = feed::trace(&envelope.sender, &envelope.rcpt);
        let mut feeding = pin!(feed(writer, trace, head, content));
        let mut fed = None;
        let mut tail = Tail::new(self.limits.mda_output);
        let mut buffer = [0; 4096];
        let mut printing = true;
        let exit = loop {
            tokio::select! {
                result = &mut feeding, if fed.is_none() => {
                    // Only a message that is complete may come to an end for the program.
                    match &result {
                        Ok(()) => running.finish().await,
                        Err(_) => running.stop().await,
                    }
                    .map_err(helper)?;
                    fed = Some(result);
                }
                printed = output.read(&mut buffer), if printing => {
                    let length = printed.unwrap_or(0);
                    printing = length > 0;
                    tail.push(buffer.get(..length).unwrap_or_default());
                }
                exit = running.exited() => break exit.map_err(helper)?,
            }
        };
        for _ in 0..PIPE_SIZE / buffer.len() {
            let Ok(length @ 1..) = output.try_read(&mut buffer) else {
                break;
            };
            tail.push(buffer.get(..length).unwrap_or_default());
        }
        if let Some(Err(why)) = fed {
            return Err(why);
        }
        Ok(Ended {
            exit,
            consumed: fed.is_some() && rustix::io::ioctl_fionread(&stdin).is_ok_and(|n| n == 0),
            output: tail.into_octets(),
        })
    }
}

/// Writes the message into the pipe.
async fn feed(
    mut writer: pipe::Sender,
    trace: String,
    head: Bytes,
    content: &mut impl Content,
) -> Result<(), Outcome> {
    let broken = |cause: io::Error| temporary(&format!("cannot write to the program: {cause}"));
    let mut line_ends = feed::LineEnds::default();
    let mut out = trace.into_bytes();
    out.extend(line_ends.convert(&head));
    drop(head);
    loop {
        writer.write_all(&out).await.map_err(broken)?;
        out = match content.next().await {
            Ok(Some(piece)) => line_ends.convert(&piece),
            Ok(None) => break,
            Err(why) => return Err(unreadable(&why)),
        };
    }
    writer.write_all(line_ends.finish()).await.map_err(broken)
}

/// The whole environment of a delivery program (spec/smtpd.md 5.5).
fn environment(
    envelope: &Envelope,
    mda: &envelope::Mda,
    recipient: &Recipient,
) -> Vec<(String, String)> {
    let mut variables = vec![
        ("PATH", PATH),
        ("SHELL", "/bin/sh"),
        ("HOME", recipient.runner.home.to_str().unwrap_or("/")),
        ("LOGNAME", &recipient.user.name),
        ("USER", &recipient.user.name),
        ("SENDER", envelope.sender.as_str()),
        ("RECIPIENT", envelope.dest.as_str()),
        ("ORIGINAL_RECIPIENT", envelope.rcpt.as_str()),
        ("DOMAIN", envelope.rcpt.domain()),
        ("LOCAL", envelope.rcpt.local()),
    ];
    if !mda.subaddress.is_empty() {
        variables.push(("EXTENSION", &mda.subaddress));
    }
    variables
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn temporary(text: &str) -> Outcome {
    Outcome::TempFail(Failure::new(TEMPORARY, text))
}

fn permanent(status: Status, text: &str) -> Outcome {
    Outcome::PermFail(Failure::new(status, text))
}

fn unreadable(why: &StoreError) -> Outcome {
    temporary(&format!("cannot read the message: {why}"))
}
