//! Whose rights the daemon has, and whose its deliveries have.
//!
//! Promises: started as root, everything that speaks to the network runs as another user, and only
//! the small helper keeps the rights to become a recipient; started by anybody else, or told to
//! stay root, deliveries have the daemon's own rights.

use crate::helper::{self, Connection, Identity};
use nix::unistd::{Uid, User, chown, geteuid};
use redspool_core::control::submission::OFFLINE;
use rustix::fs::{Mode, OFlags};
use std::fs::{DirBuilder, File, Permissions, set_permissions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

/// What was settled.
pub struct Rights {
    /// The way to the helper.
    pub helper: Connection,
    /// Who may control the daemon, besides root.
    pub owner: u32,
    /// Whether the helper may look at the passwords of the system's users.
    pub system_accounts: bool,
}

/// Makes a directory that nobody else may enter, if it is missing.
pub fn make_directory(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Gives the spool to `user`, starts the helper and becomes `user`, if we are root and `user` is not. Call
/// before there is a thread, when everything is open that only root may open. `keys` are private
/// keys to read again later.
pub fn settle(user: &str, spool: &Path, keys: Vec<PathBuf>) -> Result<Rights, String> {
    let options = |identity| helper::Options::new(identity).map_err(|error| error.to_string());
    if !geteuid().is_root() || user == "root" {
        let helper = helper::start(&options(Identity::Own)?).map_err(|error| error.to_string())?;
        return Ok(Rights {
            helper,
            owner: geteuid().as_raw(),
            system_accounts: geteuid().is_root(),
        });
    }
    let found = User::from_name(user).map_err(|error| format!("user {user}: {error}"))?;
    let Some(found) = found else {
        return Err(format!(
            "user {user} does not exist: make it with `useradd --system --shell \
             /usr/sbin/nologin {user}`, or name another with --user"
        ));
    };
    chown(spool, Some(found.uid), Some(found.gid))
        .map_err(|error| format!("spool {}: {error}", spool.display()))?;
    open_to_everybody(spool, &found)
        .map_err(|error| format!("spool {}: {error}", spool.display()))?;
    let options = helper::Options {
        keys,
        ..options(Identity::Recipient)?
    };
    let helper = helper::start_as_root(user, &options).map_err(|error| error.to_string())?;
    Ok(Rights {
        helper,
        owner: Uid::from_raw(0).as_raw(),
        system_accounts: true,
    })
}

/// Lets every user park messages: they may make files in `offline`, which its group can read, and
/// neither list nor remove those of others. Everything else in the spool is the daemon's alone.
fn open_to_everybody(spool: &Path, user: &User) -> std::io::Result<()> {
    let offline = spool.join(OFFLINE);
    make_directory(&offline)?;
    // The spool is another user's by now: a link in the place of the directory leads nowhere.
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let offline = File::from(rustix::fs::open(&offline, flags, Mode::empty())?);
    fchown(&offline, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    offline.set_permissions(Permissions::from_mode(0o3733))?;
    set_permissions(spool, Permissions::from_mode(0o711))
}
