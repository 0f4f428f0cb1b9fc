//! Checking the password of a user of the system, in a process of its own that may read shadow(5).
//!
//! Promises: hashes stay in this process, and what comes out is yes or no; a user who is not
//! there, is locked or has expired is refused, after as long a check as any other.
//! Absent on purpose: PAM. What its modules demand beyond shadow(5) is not demanded here.
//! Fails: with 75 (`EX_TEMPFAIL`) if the system cannot be asked.

use super::protocol::Exit;
use crate::local::Fault;
use crate::passwords::{NOBODY, verify};
use crate::users::is_name;
use redspool_core::config::crypt::Scheme;
use std::io::Read;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where the system keeps hashed passwords (shadow(5)).
const SHADOW: &str = "/etc/shadow";

/// Octets of that file that are read at most.
const SHADOW_MOST: u64 = 64 << 20;

/// Octets of a password, which the session bounds more narrowly.
const PASSWORD_MOST: u64 = 4096;

/// It is not the user's password (sysexits(3): `EX_NOPERM`).
const REFUSED: u8 = 77;

/// Reads the end and the output of the process that ran [`check`].
pub(super) fn from_exit(exit: Exit, output: &[u8]) -> Result<bool, String> {
    match exit {
        Exit::Code(0) => Ok(true),
        Exit::Code(code) if code == i32::from(REFUSED) => Ok(false),
        _ => Err(super::last_line(output).unwrap_or_else(|| format!("{exit:?}"))),
    }
}

/// Ends well if the input is the password of the user.
pub(super) fn check(user: &str, input: &mut impl Read) -> Result<(), Fault> {
    let mut password = Vec::new();
    input
        .take(PASSWORD_MOST)
        .read_to_end(&mut password)
        .map_err(|cause| Fault::temporary(format_args!("cannot read a password: {cause}")))?;
    let unreadable = |cause| Fault::temporary(format_args!("cannot read {SHADOW}: {cause}"));
    let mut shadow = Vec::new();
    std::fs::File::open(SHADOW)
        .and_then(|file| file.take(SHADOW_MOST).read_to_end(&mut shadow))
        .map_err(unreadable)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let shadow = String::from_utf8_lossy(&shadow);
    if admits(&shadow, user, &password, now.unwrap_or_default()) {
        Ok(())
    } else {
        Err(Fault::new(REFUSED, "wrong password"))
    }
}

/// Whether shadow(5) of this text admits a user with a password at a time since 1970.
fn admits(shadow: &str, user: &str, password: &[u8], now: Duration) -> bool {
    let entries = || shadow.lines().filter_map(|line| line.split_once(':'));
    let own = entries().find(|(name, _)| *name == user && is_name(user));
    let usable = own.and_then(|(_, rest)| Some((hash_of(rest)?, is_open(rest, now))));
    let (hash, open) = usable.unwrap_or_else(|| {
        let other = entries().find_map(|(_, rest)| hash_of(rest));
        (other.unwrap_or(NOBODY), false)
    });
    verify(hash, password) && open
}

/// The hash of an entry whose name was cut off; none if it is locked.
fn hash_of(rest: &str) -> Option<&str> {
    let hash = rest.split(':').next()?;
    Scheme::of(hash).map(|_| hash)
}

/// Whether the account of an entry has not expired: its day is the seventh field behind the name.
fn is_open(rest: &str, now: Duration) -> bool {
    let today = now.as_secs() / (24 * 60 * 60);
    match rest.split(':').nth(6).map(str::parse::<u64>) {
        Some(Ok(day)) => today < day,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shadow_admits_its_users() {
        let hash = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5";
        let shadow = format!(
            "root:*:19000:0:99999:7:::\n\
             locked:!{hash}:19000:0:99999:7:::\n\
             empty::19000:0:99999:7:::\n\
             alice:{hash}:19000:0:99999:7:::\n\
             gone:{hash}:19000:0:99999:7::100:\n\
             later:{hash}:19000:0:99999:7::101:\n\
             short:{hash}\n"
        );
        let now = Duration::from_hours(24 * 100);
        let check = |user: &str, password: &str, want: bool| {
            assert_eq!(
                admits(&shadow, user, password.as_bytes(), now),
                want,
                "{user}"
            );
        };
        check("alice", "Hello world!", true);
        check("alice", "hello world!", false);
        check("later", "Hello world!", true);
        check("short", "Hello world!", true);
        for user in [
            "gone", "locked", "root", "empty", "nobody", "", "alice:", "../alice",
        ] {
            check(user, "Hello world!", false);
            check(user, "", false);
        }
        assert!(!admits("", "alice", b"Hello world!", now));
    }

    #[test]
    fn ends_are_understood() {
        assert_eq!(from_exit(Exit::Code(0), b""), Ok(true));
        assert_eq!(from_exit(Exit::Code(77), b"wrong password\n"), Ok(false));
        assert_eq!(from_exit(Exit::Code(75), b"why\n"), Err("why".into()));
        assert!(from_exit(Exit::TimedOut, b"").is_err());
    }
}
