//! Where the spool and the control socket lie: one rule for smtpd and smtpctl.
//!
//! The command line beats the environment, and that beats the defaults. On each of these steps a
//! socket that is named counts before the one inside a spool that is named:
//!
//! 1. `--socket PATH`; else `smtpd.sock` inside `--spool DIR`;
//! 2. `REDSPOOL_SOCKET`; else `smtpd.sock` inside `REDSPOOL_SPOOL`;
//! 3. root: `/var/run/redspool.sock`, spool `/var/spool/redspool`; others:
//!    `redspool/smtpd.sock` in `XDG_RUNTIME_DIR` or else where the data is, spool
//!    `redspool/spool` in `XDG_DATA_HOME`, or else in `~/.local/share`.
//!
//! So `--spool` never leads to the daemon of another spool. Fails: only without any home.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

/// Name of the control socket inside a spool that was named.
const SOCKET: &str = "smtpd.sock";

/// What the command line named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// `--spool`.
    pub spool: Option<PathBuf>,
    /// `--socket`.
    pub socket: Option<PathBuf>,
}

/// The values of the environment that matter here; an empty value counts as none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `REDSPOOL_SPOOL`.
    pub spool: Option<OsString>,
    /// `REDSPOOL_SOCKET`.
    pub socket: Option<OsString>,
    /// `HOME`.
    pub home: Option<OsString>,
    /// `XDG_DATA_HOME`.
    pub data_home: Option<OsString>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<OsString>,
}

impl Environment {
    /// Collects the values with `var`, which gives the value of a variable by its name.
    pub fn collect(var: impl Fn(&'static str) -> Option<OsString>) -> Self {
        Self {
            spool: var("REDSPOOL_SPOOL"),
            socket: var("REDSPOOL_SOCKET"),
            home: var("HOME"),
            data_home: var("XDG_DATA_HOME"),
            runtime_dir: var("XDG_RUNTIME_DIR"),
        }
    }
}

/// Where things lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The directory of the store.
    pub spool: PathBuf,
    /// The control socket.
    pub socket: PathBuf,
    /// The socket was named and the spool was not: a daemon uses the default spool, but a client
    /// cannot know whether the daemon it calls does so too, and must not read it instead.
    pub spool_assumed: bool,
}

/// There is neither a home directory nor anything that makes it unnecessary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHome;

impl fmt::Display for NoHome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HOME is not set: name the spool with --spool or REDSPOOL_SPOOL")
    }
}

impl std::error::Error for NoHome {}

/// Decides where spool and socket of the daemon lie that user `uid` means.
pub fn resolve(uid: u32, named: &Named, environment: &Environment) -> Result<Paths, NoHome> {
    let env_spool = path(environment.spool.as_deref());
    let env_socket = path(environment.socket.as_deref());
    let spool = named.spool.clone().or(env_spool.clone());
    let socket = (named.socket.clone())
        .or_else(|| inside(named.spool.as_deref()))
        .or(env_socket)
        .or_else(|| inside(env_spool.as_deref()));
    let spool_assumed = socket.is_some() && spool.is_none();
    Ok(Paths {
        spool: match spool {
            Some(spool) => spool,
            None => default_spool(uid, environment)?,
        },
        socket: match socket {
            Some(socket) => socket,
            None => default_socket(uid, environment)?,
        },
        spool_assumed,
    })
}

fn path(value: Option<&OsStr>) -> Option<PathBuf> {
    value.filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn inside(spool: Option<&Path>) -> Option<PathBuf> {
    spool.map(|spool| spool.join(SOCKET))
}

fn default_spool(uid: u32, environment: &Environment) -> Result<PathBuf, NoHome> {
    if uid == 0 {
        return Ok("/var/spool/redspool".into());
    }
    Ok(data_home(environment)?.join("redspool/spool"))
}

fn default_socket(uid: u32, environment: &Environment) -> Result<PathBuf, NoHome> {
    if uid == 0 {
        return Ok("/var/run/redspool.sock".into());
    }
    let base = match absolute(environment.runtime_dir.as_deref()) {
        Some(runtime) => runtime,
        None => data_home(environment)?,
    };
    Ok(base.join("redspool").join(SOCKET))
}

fn data_home(environment: &Environment) -> Result<PathBuf, NoHome> {
    absolute(environment.data_home.as_deref())
        .or_else(|| Some(path(environment.home.as_deref())?.join(".local/share")))
        .ok_or(NoHome)
}

/// The XDG Base Directory specification wants relative paths ignored.
fn absolute(value: Option<&OsStr>) -> Option<PathBuf> {
    path(value).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: u32 = 1000;

    fn environment(spool: &str, socket: &str) -> Environment {
        Environment {
            spool: Some(spool.into()),
            socket: Some(socket.into()),
            home: Some("/home/a".into()),
            ..Environment::default()
        }
    }

    fn check(uid: u32, named: [&str; 2], environment: &Environment, want: [&str; 2]) {
        let [spool, socket] = named.map(|name| path(Some(OsStr::new(name))));
        let paths = resolve(uid, &Named { spool, socket }, environment).unwrap();
        let got = [paths.spool, paths.socket];
        assert_eq!(got, want.map(PathBuf::from), "{named:?} {environment:?}");
    }

    #[test]
    fn the_command_line_beats_the_environment() {
        let env = environment("/e", "/e.sock");
        check(USER, ["/o", "/o.sock"], &env, ["/o", "/o.sock"]);
        check(USER, ["/o", ""], &env, ["/o", "/o/smtpd.sock"]);
        check(USER, ["", "/o.sock"], &env, ["/e", "/o.sock"]);
        check(USER, ["", ""], &env, ["/e", "/e.sock"]);
        check(
            USER,
            ["", ""],
            &environment("/e", ""),
            ["/e", "/e/smtpd.sock"],
        );
    }

    #[test]
    fn root_has_the_places_of_the_system() {
        let env = environment("", "");
        check(
            0,
            ["", ""],
            &env,
            ["/var/spool/redspool", "/var/run/redspool.sock"],
        );
    }

    #[test]
    fn others_have_their_own_places() {
        let mut env = environment("", "");
        check(
            USER,
            ["", ""],
            &env,
            [
                "/home/a/.local/share/redspool/spool",
                "/home/a/.local/share/redspool/smtpd.sock",
            ],
        );
        env.runtime_dir = Some("/run/user/1000".into());
        env.data_home = Some("relative".into());
        check(
            USER,
            ["", ""],
            &env,
            [
                "/home/a/.local/share/redspool/spool",
                "/run/user/1000/redspool/smtpd.sock",
            ],
        );
        env.data_home = Some("/data".into());
        check(
            USER,
            ["", ""],
            &env,
            ["/data/redspool/spool", "/run/user/1000/redspool/smtpd.sock"],
        );
    }

    #[test]
    fn a_socket_alone_says_nothing_about_the_spool() {
        let named = Named {
            spool: None,
            socket: Some("/o.sock".into()),
        };
        let assumed = |env| resolve(USER, &named, &env).unwrap().spool_assumed;
        assert!(assumed(environment("", "")));
        assert!(!assumed(environment("/e", "")));
        assert!(
            !resolve(0, &Named::default(), &environment("", ""))
                .unwrap()
                .spool_assumed
        );
    }

    #[test]
    fn without_a_home_everything_must_be_named() {
        let nowhere = Environment::default();
        assert_eq!(resolve(USER, &Named::default(), &nowhere), Err(NoHome));
        check(USER, ["/o", ""], &nowhere, ["/o", "/o/smtpd.sock"]);
    }
}
