//! Who the local users are: the system's, or those of a `userbase` table.
//!
//! Promises: a system lookup never holds up the runtime, and is not repeated within a few seconds.
//! Absent on purpose: tables themselves; a value of theirs is read here ([`User::from_value`]).
//! Fails: with [`LookupFailed`], which is temporary; a user who does not exist is `None`.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an answer is used again: long enough for one message to many, short enough that
/// nobody waits for a new account.
const LIFE: Duration = Duration::from_secs(5);

/// Answers kept; more names than that within [`LIFE`] are somebody guessing.
const ANSWERS_MAX: usize = 1024;

/// Octets of a user's name.
const NAME_MAX: usize = 255;

/// A local user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Number of the user.
    pub uid: u32,
    /// Number of the user's group.
    pub gid: u32,
    /// Home directory, an absolute path.
    pub home: PathBuf,
}

/// The users could not be asked now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupFailed(pub String);

impl fmt::Display for LookupFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot look up user: {}", self.0)
    }
}

impl std::error::Error for LookupFailed {}

impl User {
    /// Reads the value of a `userbase` table, `uid:gid:home`.
    pub fn from_value(name: &str, value: &str) -> Result<Self, LookupFailed> {
        let parsed = || {
            let mut parts = value.trim().splitn(3, ':');
            let uid = parts.next()?.parse().ok()?;
            let gid = parts.next()?.parse().ok()?;
            let home = PathBuf::from(parts.next()?);
            home.is_absolute().then(|| Self {
                name: name.into(),
                uid,
                gid,
                home,
            })
        };
        parsed().ok_or_else(|| {
            LookupFailed(format!(
                "{} has {} instead of uid:gid:/home",
                name.escape_debug(),
                value.escape_debug()
            ))
        })
    }
}

/// Whether a text can be a user's name at all: one harmless component of a path.
pub fn is_name(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && !text.contains(|c: char| c.is_control() || c.is_whitespace() || "/:\\".contains(c))
}

/// The system's users, with a short memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct SystemUsers {
    answers: Arc<Mutex<BTreeMap<String, (Instant, Option<User>)>>>,
}

impl SystemUsers {
    /// Looks a user up by name.
    pub async fn find(&self, name: &str) -> Result<Option<User>, LookupFailed> {
        if !is_name(name) {
            return Ok(None);
        }
        let now = Instant::now();
        if let Some((asked, user)) = self.answers.lock().get(name)
            && now.duration_since(*asked) < LIFE
        {
            return Ok(user.clone());
        }
        let owned = name.to_owned();
        let user = tokio::task::spawn_blocking(move || find(&owned))
            .await
            .map_err(|cause| LookupFailed(cause.to_string()))??;
        let mut answers = self.answers.lock();
        if answers.len() >= ANSWERS_MAX {
            answers.retain(|_, (asked, _)| now.duration_since(*asked) < LIFE);
        }
        if answers.len() < ANSWERS_MAX {
            answers.insert(name.into(), (now, user.clone()));
        }
        Ok(user)
    }
}

/// Looks a user up by name, and waits for the answer.
pub fn find(name: &str) -> Result<Option<User>, LookupFailed> {
    if !is_name(name) {
        return Ok(None);
    }
    let user = nix::unistd::User::from_name(name);
    let user = user.map_err(|cause| LookupFailed(cause.to_string()))?;
    Ok(user.map(|user| User {
        name: name.into(),
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        home: user.dir,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_userbase_are_read_strictly() {
        let check = |value, want: Option<(u32, u32, &str)>| {
            let got = User::from_value("u", value).ok();
            let got = got.map(|user| (user.uid, user.gid, user.home));
            let want = want.map(|(uid, gid, home)| (uid, gid, PathBuf::from(home)));
            assert_eq!(got, want, "{value}");
        };
        check("1000:100:/home/u", Some((1000, 100, "/home/u")));
        check("1000:100:/srv/a:b", Some((1000, 100, "/srv/a:b")));
        check("", None);
        check("1000:100", None);
        check("1000:100:home", None);
        check("-1:100:/home/u", None);
        check("4294967296:100:/home/u", None);
        check("u:100:/home/u", None);
    }

    #[test]
    fn t7_names_are_one_harmless_component() {
        for name in ["root", "a.b", "_x", "o'brien", "j\u{fc}rg"] {
            assert!(is_name(name), "{name}");
        }
        let long = "x".repeat(256);
        for name in [
            "", ".", "..", ".x", "-x", "a/b", "a:b", "a b", "a\n", "\0", &long,
        ] {
            assert!(!is_name(name), "{name:?}");
        }
    }

    #[tokio::test]
    async fn the_system_knows_root_and_not_everybody() {
        let users = SystemUsers::default();
        for _ in 0..2 {
            let root = users.find("root").await.unwrap().unwrap();
            assert_eq!((root.uid, root.gid), (0, 0));
            assert_eq!(users.find("no-such-user-here").await, Ok(None));
            assert_eq!(users.find("../root").await, Ok(None));
        }
        assert_eq!(users.answers.lock().len(), 2);
    }
}
