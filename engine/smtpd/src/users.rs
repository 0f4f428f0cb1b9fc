//! Who the local users are: the system's, or those of a `userbase` table.
//!
//! Promises: a system lookup never holds up the runtime, and is not repeated within a few seconds.
//! Absent on purpose: which table an action means, which the configuration says.
//! Fails: with [`LookupFailed`], which is temporary; a user who does not exist is `None`.

use parking_lot::Mutex;
use redspool_core::config::table::{Table, Userinfo};
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
    /// Looks a user up in a `userbase` table.
    pub fn of_table(table: &Table, name: &str) -> Option<Self> {
        let Userinfo { uid, gid, home } = is_name(name).then(|| table.userinfo(name))??;
        Some(Self {
            name: name.into(),
            uid,
            gid,
            home: home.as_ref().into(),
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
pub struct Users {
    answers: Arc<Mutex<BTreeMap<String, Answer>>>,
}

/// What the system said, and when.
#[derive(Debug)]
struct Answer {
    asked: Instant,
    user: Option<User>,
}

impl Users {
    /// Looks a user up by name.
    pub async fn find(&self, name: &str) -> Result<Option<User>, LookupFailed> {
        if !is_name(name) {
            return Ok(None);
        }
        let now = Instant::now();
        if let Some(answer) = self.answers.lock().get(name)
            && now.duration_since(answer.asked) < LIFE
        {
            return Ok(answer.user.clone());
        }
        let owned = name.to_owned();
        let user = tokio::task::spawn_blocking(move || find(&owned))
            .await
            .map_err(|cause| LookupFailed(cause.to_string()))??;
        let mut answers = self.answers.lock();
        if answers.len() >= ANSWERS_MAX {
            answers.retain(|_, answer| now.duration_since(answer.asked) < LIFE);
        }
        if answers.len() < ANSWERS_MAX {
            let answer = Answer {
                asked: now,
                user: user.clone(),
            };
            answers.insert(name.into(), answer);
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
    fn a_table_knows_its_users_alone() {
        let table = Table::mapping([("u", "1000:100:/home/u"), ("../u", "1:1:/")]);
        let user = User::of_table(&table, "u").unwrap();
        assert_eq!(
            (user.name.as_str(), user.uid, user.gid, user.home.to_str()),
            ("u", 1000, 100, Some("/home/u"))
        );
        assert_eq!(User::of_table(&table, "root"), None);
        assert_eq!(User::of_table(&table, "../u"), None);
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
        let users = Users::default();
        for _ in 0..2 {
            let root = users.find("root").await.unwrap().unwrap();
            assert_eq!((root.uid, root.gid), (0, 0));
            assert_eq!(users.find("no-such-user-here").await, Ok(None));
            assert_eq!(users.find("../root").await, Ok(None));
        }
        assert_eq!(users.answers.lock().len(), 2);
    }
}
