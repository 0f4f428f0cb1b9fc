//! Who may authenticate at a listener: the users of a table, or those of the system.
//!
//! Promises: passwords are checked away from the threads that serve sessions, a few at a time; an
//! unknown user costs as much as a known one.
//! Fails: with the reason, which is for the log; the client is told to come back.

use crate::daemon::Shared;
use crate::passwords::{NOBODY, verify};
use redspool_core::config::table::Table;
use redspool_core::config::{Config, ListenerAuth};
use redspool_core::smtp::Credentials;
use std::sync::Arc;

/// Whose passwords a listener asks for.
#[derive(Clone, Debug)]
pub enum Accounts {
    /// Those of the system's users, which only the helper can check.
    System,
    /// Those in the table of this name, with what it holds at the time.
    Named(Box<str>),
    /// Those in a table that was written in place.
    Inline(Arc<Table>),
}

impl Accounts {
    /// Those a listener of this configuration wants.
    pub(crate) fn of(auth: ListenerAuth, config: &Config) -> Self {
        let Some(table) = auth.users else {
            return Self::System;
        };
        match config.table_name(table) {
            "" => Self::Inline(Arc::new(config.table(table).clone())),
            name => Self::Named(name.into()),
        }
    }

    /// Whether the password is the user's.
    pub(crate) async fn admit(
        &self,
        shared: &Shared,
        credentials: Credentials,
    ) -> Result<bool, String> {
        let permit = shared.password_checks.acquire().await;
        let _permit = permit.map_err(|error| error.to_string())?;
        let (hash, known) = match self {
            Self::System => return shared.helper.password(credentials).await,
            Self::Inline(table) => choose(table, &credentials.username),
            Self::Named(name) => {
                let config = shared.config.load();
                let table = config.table_named(name);
                let table = table.ok_or_else(|| format!("there is no table {name} any more"))?;
                choose(table.table(), &credentials.username)
            }
        };
        let verified = tokio::task::spawn_blocking(move || verify(&hash, &credentials.password));
        let verified = verified.await.map_err(|error| error.to_string())?;
        Ok(verified && known)
    }
}

/// The hash to check, and whether it is the user's own.
fn choose(table: &Table, username: &str) -> (String, bool) {
    let (hash, known) = table.password(username).unwrap_or((NOBODY, false));
    (hash.into(), known)
}
