//! The short life of a process between the helper and a program: it becomes the user, then the
//! program.
//!
//! Promises: own session, supplementary groups gone, then group, then user, each verified, and
//! the way back closed, before anything of the user is touched (reliability T34). Nothing is read
//! from the environment; it is handed on as it is.
//! Absent on purpose: threads; choices. The helper has checked the job.
//! Fails: with exit code 71 (`EX_OSERR`) and one line, which counts as temporary.

use super::{forward, password};
use crate::local::{self, Fault};
use nix::unistd::{Gid, Uid, getgroups, getresgid, getresuid, setgroups, setresgid, setresuid};
use std::ffi::OsString;
use std::fmt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

/// First argument: become the user, then execute the program given.
pub(super) const EXECUTE: &str = "execute";

/// First argument: become the user, then print `~/.forward`.
pub(super) const FORWARD: &str = "forward";

/// First argument: say whether standard input is the password of a user.
pub(super) const PASSWORD: &str = "password";

/// The user and group to become; none to stay who we are.
type Identity = Option<(Uid, Gid)>;

/// Runs `smtpd-priv execute UID:GID|- HOME PROGRAM [ARGUMENT]...`,
/// `smtpd-priv forward UID:GID|- HOME LIMIT` or `smtpd-priv password UID:GID|- HOME USER`; `arguments` are those after the program's own name.
pub fn main(arguments: &[OsString]) -> ExitCode {
    local::main(|| match arguments {
        [verb, identity, home, rest @ ..] => {
            nix::unistd::setsid().map_err(os_error("open a session"))?;
            if let Some((uid, gid)) = parse(identity)? {
                become_user(uid, gid)?;
            }
            nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
            let home = Path::new(home);
            match (verb.to_str(), rest) {
                (Some(EXECUTE), [program, arguments @ ..]) => {
                    std::env::set_current_dir(home)
                        .or_else(|_| std::env::set_current_dir("/"))
                        .map_err(os_error("enter the home directory"))?;
                    let cause = Command::new(program).args(arguments).exec();
                    Err(os_error(Path::new(program).display())(cause))
                }
                (Some(FORWARD), [limit]) => {
                    let limit = limit.to_str().and_then(|limit| limit.parse().ok());
                    let limit = limit.ok_or_else(usage)?;
                    forward::print(home, limit, &mut std::io::stdout())
                }
                (Some(PASSWORD), [user]) => {
                    let user = user.to_str().ok_or_else(usage)?;
                    password::check(user, &mut std::io::stdin())
                }
                _ => Err(usage()),
            }
        }
        _ => Err(usage()),
    })
}

fn usage() -> Fault {
    Fault::usage("smtpd-priv is run by smtpd alone")
}

/// A fault of the system: what could not be done or run, and why.
fn os_error<E: fmt::Display>(what: impl fmt::Display) -> impl FnOnce(E) -> Fault {
    move |cause| Fault::new(71, format_args!("cannot run {what}: {cause}"))
}

fn parse(identity: &OsString) -> Result<Identity, Fault> {
    let text = identity.to_str().ok_or_else(usage)?;
    if text == "-" {
        return Ok(None);
    }
    let (uid, gid) = text.split_once(':').ok_or_else(usage)?;
    let number = |text: &str| text.parse().map_err(|_| usage());
    Ok(Some((
        Uid::from_raw(number(uid)?),
        Gid::from_raw(number(gid)?),
    )))
}

/// Gives up all that is not this user's, for good.
pub(super) fn become_user(uid: Uid, gid: Gid) -> Result<(), Fault> {
    let failed = |what| os_error::<nix::Error>(what);
    setgroups(&[gid]).map_err(failed("setgroups"))?;
    setresgid(gid, gid, gid).map_err(failed("setresgid"))?;
    setresuid(uid, uid, uid).map_err(failed("setresuid"))?;

    let users = getresuid().map_err(failed("getresuid"))?;
    let groups = getresgid().map_err(failed("getresgid"))?;
    let is_user = [users.real, users.effective, users.saved] == [uid; 3]
        && [groups.real, groups.effective, groups.saved] == [gid; 3]
        && getgroups().map_err(failed("getgroups"))? == [gid];
    let root = Uid::from_raw(0);
    let way_back = !uid.is_root() && setresuid(root, root, root).is_ok();
    if is_user && !way_back {
        Ok(())
    } else {
        Err(Fault::new(71, "the change of user did not take effect"))
    }
}
