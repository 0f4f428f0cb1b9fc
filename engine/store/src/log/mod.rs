//! The store with a commit log in front and redb behind: see DESIGN.md.
//!
//! What: a commit is one write and one sync of the log, whatever is in it. Beside the log stands an
//! index in memory; a checkpoint brings the database up to date now and then, so that a start has
//! little to replay and the log can be used again.
//! Order of reading: `frame`, `segment`, `form` (what lies in the log); `table`, `index`, `slots`
//! (what is in memory); `prepare`, `plan`, `draft`, `store` (how it changes); `keeper`, `database`,
//! `summary` (what is done behind it); `open`, `rows`, `heads`, `scan`, `replay`, `rebuild` (how it comes back); `shared`, `run`,
//! `read`, `offline` (how it is read);
//! `care` (what is done to a stopped one).

mod care;
mod control;
mod database;
mod draft;
mod extent;
mod findings;
mod form;
mod frame;
mod heads;
mod imports;
mod index;
mod keeper;
mod offline;
mod open;
mod options;
mod place;
mod plan;
mod prepare;
mod read;
mod rebuild;
mod replay;
mod rows;
mod run;
mod scan;
mod segment;
mod shared;
mod slots;
mod start;
mod store;
mod summary;
mod suspect;
mod table;
#[cfg(test)]
mod tests;
mod trash;

pub use self::care::{Compacted, Report, check, compact, rebuild, stopped};
pub use self::control::Controls;
pub use self::findings::{Finding, Findings};
pub use self::imports::{ContentDigest, Imported, Importer, Incoming, Ready};
pub use self::offline::Offline;
pub use self::options::Options;
pub use self::prepare::{LogPreparer, Prepared as LogPrepared};
pub use self::read::LogReader;
pub use self::store::LogStore;
pub use self::suspect::watch;
pub use self::table::Held;
