//! Answers where a recipient leads: the rules in memory, local users and their files elsewhere.
//!
//! Promises: what is relayed or refused by a rule is answered at once; what asks the system for
//! users or reads a `.forward` does so off the runtime's threads.

use crate::daemon::Shared;
use crate::{helper, users};
use redspool_core::addr::Address;
use redspool_core::config::Config;
use redspool_core::limits::Limits;
use redspool_core::lookup::{
    Client, Directory, Expanded, Forward, Question, Temporary, User, expand as expand_local,
    expand::immediate,
};
use redspool_core::reply::{Reply, Status};
use redspool_core::smtp::session::Recipient;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Where mail of `client` from `sender` to `rcpt` goes, or why it is refused.
pub(crate) async fn expand(
    shared: &Arc<Shared>,
    client: Client,
    sender: Address,
    rcpt: Address,
) -> Result<Vec<Recipient>, Reply> {
    let config = shared.config.load_full();
    let question = Question {
        client,
        sender,
        rcpt,
        turn: shared.turn(),
    };
    let answer = match immediate(&config, &question) {
        Some(answer) => answer,
        None => local(shared, config, question.clone()).await,
    };
    tracing::trace!(target: "trace::expand", "{} -> {answer:?}", question.rcpt);
    answer.map(|expanded| expanded.into_iter().map(recipient).collect())
}

async fn local(
    shared: &Arc<Shared>,
    config: Arc<Config>,
    question: Question,
) -> Result<Vec<Expanded>, Reply> {
    let mut directory = System {
        helper: shared.helper.clone(),
        users: shared.users.clone(),
        limits: shared.limits(),
        runtime: Handle::current(),
        own: shared.user.clone(),
    };
    let expanded =
        tokio::task::spawn_blocking(move || expand_local(&config, &mut directory, &question));
    expanded.await.unwrap_or_else(|error| {
        tracing::error!("expansion failed: {error}");
        Err(Reply::new(
            451,
            Some(Status::transient(3, 0)),
            "Local problem, try again later",
        ))
    })
}

fn recipient(expanded: Expanded) -> Recipient {
    Recipient {
        dest: expanded.dest,
        action: expanded.action,
        delivery: expanded.delivery,
        ttl: expanded.ttl,
        internal: expanded.internal,
    }
}

/// The users of this system. Used on a thread that may wait.
struct System {
    helper: helper::Helper,
    users: users::Users,
    limits: Arc<Limits>,
    runtime: Handle,
    /// The user the daemon runs as.
    own: Box<str>,
}

impl Directory for System {
    fn unprivileged(&self) -> &str {
        &self.own
    }

    fn user(&mut self, name: &str) -> Result<Option<User>, Temporary> {
        let found = self
            .runtime
            .block_on(self.users.find(name))
            .map_err(|error| {
                tracing::warn!("{error}");
                Temporary
            })?;
        Ok(found.map(|user| User {
            name: user.name.into(),
            uid: user.uid,
            gid: user.gid,
            home: user.home,
        }))
    }

    fn forward(&mut self, user: &User) -> Forward {
        let user = users::User {
            name: user.name.clone().into(),
            uid: user.uid,
            gid: user.gid,
            home: user.home.clone(),
        };
        let read = self
            .runtime
            .block_on(self.helper.forward(&user, self.limits.forward_size));
        match read {
            helper::Forward::Absent => Forward::Absent,
            helper::Forward::Text(text) => Forward::Text(text.into()),
            helper::Forward::Temporary(why) => {
                tracing::warn!("~/.forward of {}: {why}", user.name);
                Forward::Temporary
            }
            helper::Forward::Insecure(why) => {
                tracing::warn!("~/.forward of {} is not used: {why}", user.name);
                Forward::Unsafe
            }
        }
    }
}
