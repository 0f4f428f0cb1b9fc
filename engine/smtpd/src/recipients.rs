//! Answers where a recipient leads: the rules in memory, local users and their files elsewhere.
//!
//! Promises: what is relayed or refused by a rule is answered at once; what asks the system for
//! users or reads a `.forward` does so off the runtime's threads.

use crate::daemon::Shared;
use crate::log::{Brief, Shown};
use crate::{helper, users};
use redspool_core::addr::Address;
use redspool_core::config::Config;
use redspool_core::limits::Limits;
use redspool_core::lookup::{
    Client, Directory, Expanded, Forward, Question, Step, Temporary, Trail, User,
    expand as expand_local, expand::immediate,
};
use redspool_core::reply::{Reply, Status};
use redspool_core::smtp::session::Recipient;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Steps of a traced expansion that are printed.
const TRAIL: usize = 256;

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
    let at_once = traced(|trail| immediate(&config, &question, trail));
    let answer = match at_once {
        (Some(answer), trail) => {
            print(trail);
            answer
        }
        // What the rules have said is said again on the way to the user.
        (None, _) => local(shared, config, question.clone()).await,
    };
    match &answer {
        Ok(all) => all.iter().for_each(|one| {
            tracing::trace!(
                target: "trace::expand",
                "{} -> {} action={} delivery={}",
                question.rcpt, one.dest, one.action, Brief(&one.delivery)
            );
        }),
        Err(reply) => {
            tracing::trace!(target: "trace::expand", "{} -> refused: {reply}", question.rcpt);
        }
    }
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
    let expanded = tokio::task::spawn_blocking(move || {
        let (answer, trail) =
            traced(|trail| expand_local(&config, &mut directory, &question, trail));
        print(trail);
        answer
    });
    expanded.await.unwrap_or_else(|error| {
        tracing::error!("expansion failed: {error}");
        Err(Reply::new(
            451,
            Some(Status::transient(3, 0)),
            "Local problem, try again later",
        ))
    })
}

/// Answers a question, and keeps the way there if somebody traces it.
fn traced<T>(answer: impl FnOnce(Option<&Trail>) -> T) -> (T, Option<Trail>) {
    let wanted = tracing::enabled!(target: "trace::expand", tracing::Level::TRACE)
        || tracing::enabled!(target: "trace::lookup", tracing::Level::TRACE)
        || tracing::enabled!(target: "trace::rules", tracing::Level::TRACE);
    let trail = wanted.then(|| Trail::new(TRAIL));
    (answer(trail.as_ref()), trail)
}

/// The name of a table as smtpd.conf(5) refers to it; those written in place have none, or one in
/// brackets.
fn bracketed(name: &str) -> String {
    match name {
        "" => "<static>".into(),
        name if name.starts_with('<') => name.into(),
        name => format!("<{name}>"),
    }
}

/// Prints the way to an answer.
fn print(trail: Option<Trail>) {
    let Some((steps, more)) = trail.map(Trail::into_steps) else {
        return;
    };
    for step in steps {
        match step {
            Step::Visited { depth, item } => {
                tracing::trace!(target: "trace::expand", "{} [depth={depth}]", Shown(&item));
            }
            Step::Asked {
                service,
                table,
                key,
                value,
            } => {
                let answer = value.as_deref().map_or("no", |value| match value {
                    "" => "yes",
                    value => value,
                });
                tracing::trace!(
                    target: "trace::lookup",
                    "\"{}\" as {service} in table {} -> {}",
                    Shown(&key), bracketed(&table), Shown(answer)
                );
            }
            Step::Ruled {
                dest,
                place: Some(place),
                action,
            } => {
                let verdict = if action.is_empty() {
                    "reject"
                } else {
                    "action"
                };
                tracing::trace!(
                    target: "trace::rules",
                    "{}:{} matched {dest}: {verdict} {action}", place.file, place.line
                );
            }
            Step::Ruled { dest, .. } => {
                tracing::trace!(target: "trace::rules", "no rule matched {dest}");
            }
        }
    }
    if more {
        tracing::trace!(target: "trace::expand", "more than {TRAIL} steps");
    }
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
        let known = if found.is_some() { "yes" } else { "no" };
        tracing::trace!(target: "trace::lookup", "\"{}\" as user of the system -> {known}", Shown(name));
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
        tracing::trace!(
            target: "trace::expand", "~/.forward of {}: {}", Shown(&user.name), Brief(&read)
        );
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
