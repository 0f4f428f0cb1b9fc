//! Reads a single table again (`smtpctl update table`).
//!
//! Promises: the new content is in force for whoever asks after the answer; a file that cannot be
//! used changes nothing and is told with its name, line and reason; never at the same time as the
//! configuration is re-read.

use crate::configuration;
use crate::daemon::Shared;
use crate::log::Shown;
use redspool_core::config::{Config, NamedTable};
use redspool_core::control::Reply;
use std::path::Path;
use std::sync::Arc;

/// Reads a table again, by its name.
pub(crate) async fn update(shared: &Arc<Shared>, name: String) -> Reply {
    let alone = shared.reloading.lock().await;
    let (config, file) = (shared.config.load_full(), shared.config_file.clone());
    let table = name.clone();
    let read = tokio::task::spawn_blocking(move || renewed(&config, &file, &table)).await;
    let shown = Shown(&name);
    let why = match read {
        Ok(Ok(Some(config))) => {
            shared.adopt(config).await;
            drop(alone);
            tracing::info!("table \"{shown}\" updated");
            return Reply::Done;
        }
        Ok(Ok(None)) => {
            tracing::info!("table \"{shown}\" is written in the configuration: nothing to read");
            return Reply::Done;
        }
        Ok(Err(why)) => why,
        Err(error) => error.to_string(),
    };
    tracing::warn!("table \"{shown}\" not updated: {}", Shown(&why));
    Reply::Fail { reason: why }
}

/// The configuration with a table read anew; `None` if the table has no file.
fn renewed(config: &Config, file: &Path, name: &str) -> Result<Option<Config>, String> {
    let Some(named) = config.table_named(name) else {
        let names = config.tables().iter().map(NamedTable::name);
        // Those written in place have no name, or one nobody has given them.
        let names: Vec<_> = names
            .filter(|name| !name.is_empty() && !name.starts_with('<'))
            .collect();
        let known = match names.as_slice() {
            [] => "none has a name".to_owned(),
            names => format!("there are {}", names.join(", ")),
        };
        return Err(format!("no table of this name: {name}; {known}"));
    };
    let Some(path) = named.path() else {
        return Ok(None);
    };
    let table = configuration::table(file, path)?;
    let mut config = config.clone();
    match config.replace_table(name, table) {
        Ok(_) => Ok(Some(config)),
        Err(fault) => Err(configuration::table_fault(path, &fault)),
    }
}
