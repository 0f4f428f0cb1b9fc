//! Who may ask what of smtpd.
//!
//! What: the right a request needs, and the one decision whether a user has it.
//! Promises: a request without a right of its own here does not compile, so nothing is open by
//! default; root and the daemon's own user may everything, members of the operator group may
//! look, anybody may submit.
//! Absent on purpose: uids, groups and their names, which the daemon asks the system for.

use super::{Request, Verb};
use serde::{Deserialize, Serialize};

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Right {
    /// Hand in mail.
    Submit,
    /// See what is queued and how things are, and change nothing.
    Look,
    /// Everything.
    Control,
}

/// What the system says of the user who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Root, or the user the daemon runs as when it was not started by root.
    Owner,
    /// A member of the operator group.
    Operator,
    /// Anybody else.
    Stranger,
}

impl Standing {
    /// The most this user may do.
    pub const fn right(self) -> Right {
        match self {
            Self::Owner => Right::Control,
            Self::Operator => Right::Look,
            Self::Stranger => Right::Submit,
        }
    }

    /// Whether this user may do what needs `right`.
    pub fn may(self, right: Right) -> bool {
        right <= self.right()
    }
}

impl Request {
    /// The right this request needs.
    pub const fn right(&self) -> Right {
        match self {
            Self::Submit => Right::Submit,
            Self::ShowQueue(_)
            | Self::ShowEnvelope(_)
            | Self::ShowStatus
            | Self::ShowStats
            | Self::ShowMta(_)
            | Self::ShowTrash(_)
            | Self::Explain(_)
            | Self::Monitor
            // It counts what would be hit, and hits nothing.
            | Self::Select { dry_run: true, .. } => Right::Look,
            // What people have written to each other is not for operators.
            Self::ShowMessage(_)
            | Self::Schedule(_)
            | Self::Remove(_)
            | Self::RemoveNow(_)
            | Self::Undo { .. }
            | Self::Uncorrupt(_)
            | Self::Suspend { .. }
            | Self::Pause { .. }
            | Self::Log { .. }
            | Self::Select {
                verb:
                    Verb::Schedule | Verb::Remove | Verb::RemoveNow | Verb::Suspend | Verb::Resume,
                ..
            }
            | Self::ResumeRoute(_)
            | Self::Block { .. }
            | Self::Discover(_)
            | Self::Trace { .. }
            | Self::Profile { .. }
            | Self::UpdateTable(_) => Right::Control,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Selection, Selector};
    use super::*;

    #[test]
    fn each_standing_may_what_those_below_may() {
        for (standing, look, control) in [
            (Standing::Owner, true, true),
            (Standing::Operator, true, false),
            (Standing::Stranger, false, false),
        ] {
            assert!(standing.may(Right::Submit), "{standing:?}");
            assert_eq!(standing.may(Right::Look), look, "{standing:?}");
            assert_eq!(standing.may(Right::Control), control, "{standing:?}");
        }
    }

    #[test]
    fn looking_changes_nothing() {
        let select = |dry_run| Request::Select {
            verb: Verb::Remove,
            selector: Selector::All,
            selection: Box::new(Selection::default()),
            dry_run,
        };
        assert_eq!(select(true).right(), Right::Look);
        assert_eq!(select(false).right(), Right::Control);
        assert_eq!(Request::ShowMessage(1).right(), Right::Control);
        assert_eq!(Request::Monitor.right(), Right::Look);
        assert_eq!(Request::Submit.right(), Right::Submit);
    }
}
