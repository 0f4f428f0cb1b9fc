//! Who may ask what over the control socket, as the system knows the users.
//!
//! Promises: the uid and group are those of the kernel; membership of the operator group is looked
//! up for every request, so that a change of groups counts at once; whoever cannot be looked up is
//! a stranger. What a standing may do is core's decision.

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use redspool_core::control::{Lack, Right, Standing};
use std::ffi::CString;

/// Members of this group may look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operators {
    /// Its name.
    name: String,
    /// Its number.
    gid: u32,
}

impl Operators {
    /// The group of this name. Fails with what to do about it.
    pub fn named(name: &str) -> Result<Self, String> {
        let found = Group::from_name(name).map_err(|error| format!("group {name}: {error}"))?;
        let Some(group) = found else {
            return Err(format!(
                "group {name} does not exist: make it with `groupadd --system {name}`, or name \
                 another with --operators"
            ));
        };
        Ok(Self {
            name: group.name,
            gid: group.gid.as_raw(),
        })
    }
}

/// Who may everything, and who may look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// May everything, besides root.
    pub owner: u32,
    /// May look; nobody if there is no such group.
    pub operators: Option<Operators>,
}

/// Who is at the other end of a connection, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) uid: u32,
    /// The group its process had when it connected.
    pub(crate) gid: u32,
}

impl Access {
    /// Whether this user may everything; needs no look at groups.
    pub(crate) fn is_owner(&self, uid: u32) -> bool {
        uid == 0 || uid == self.owner
    }

    /// Whether the caller may do what needs `right`; else who may.
    pub(crate) async fn check(&self, caller: Caller, right: Right) -> Result<(), Lack> {
        if self.standing(caller).await.may(right) {
            return Ok(());
        }
        Err(Lack {
            uid: caller.uid,
            right,
            owner: (self.owner != 0).then_some(self.owner),
            operators: self.operators.as_ref().map(|group| group.name.clone()),
        })
    }

    async fn standing(&self, caller: Caller) -> Standing {
        if self.is_owner(caller.uid) {
            return Standing::Owner;
        }
        let Some(group) = &self.operators else {
            return Standing::Stranger;
        };
        if caller.gid == group.gid {
            return Standing::Operator;
        }
        let (uid, gid) = (caller.uid, group.gid);
        // The system may ask a directory service.
        let looked = tokio::task::spawn_blocking(move || is_member(uid, gid)).await;
        match looked {
            Ok(Ok(true)) => Standing::Operator,
            Ok(Ok(false)) => Standing::Stranger,
            Ok(Err(error)) => {
                tracing::warn!("groups of uid {uid} cannot be looked up: {error}");
                Standing::Stranger
            }
            Err(error) => {
                tracing::warn!("groups of uid {uid} cannot be looked up: {error}");
                Standing::Stranger
            }
        }
    }
}

/// Whether a user is a member of a group, by its own group or a supplementary one.
fn is_member(uid: u32, gid: u32) -> nix::Result<bool> {
    let Some(user) = User::from_uid(Uid::from_raw(uid))? else {
        return Ok(false);
    };
    let name = CString::new(user.name).map_err(|_| nix::errno::Errno::EINVAL)?;
    let groups = getgrouplist(&name, user.gid)?;
    Ok(groups.contains(&Gid::from_raw(gid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(owner: u32, gid: Option<u32>) -> Access {
        let name = "operators".to_owned();
        let operators = gid.map(|gid| Operators { name, gid });
        Access { owner, operators }
    }

    #[tokio::test]
    async fn the_owner_may_everything_and_strangers_may_submit() {
        let access = access(990, None);
        for (uid, right, may) in [
            (0, Right::Control, true),
            (990, Right::Control, true),
            (1000, Right::Submit, true),
            (1000, Right::Look, false),
            (1000, Right::Control, false),
        ] {
            let caller = Caller { uid, gid: 1000 };
            let checked = access.check(caller, right).await;
            assert_eq!(checked.is_ok(), may, "{uid} {right:?}");
        }
    }

    #[tokio::test]
    async fn operators_may_look_by_any_of_their_groups() {
        // Whoever runs this is in a group of its own, and root is in the group of root.
        let access = access(0, Some(0));
        let by_process = Caller {
            uid: 4_000_000,
            gid: 0,
        };
        assert_eq!(access.check(by_process, Right::Look).await, Ok(()));
        let lack = access.check(by_process, Right::Control).await.unwrap_err();
        assert_eq!(lack.operators.as_deref(), Some("operators"));
        assert_eq!((lack.uid, lack.owner), (4_000_000, None));
        let unknown = Caller {
            uid: 4_000_000,
            gid: 4_000_000,
        };
        assert!(access.check(unknown, Right::Look).await.is_err());
        assert_eq!(is_member(0, 0), Ok(true));
        assert_eq!(is_member(0, 4_000_000), Ok(false));
    }

    #[test]
    fn a_group_that_is_missing_is_named() {
        let why = Operators::named("no-such-group-here").unwrap_err();
        assert!(
            why.starts_with("group no-such-group-here does not exist"),
            "{why}"
        );
        assert_eq!(Operators::named("root").unwrap().gid, 0);
    }
}
