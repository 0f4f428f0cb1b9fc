//! Questions asked of a configuration: which rule takes this recipient, and what becomes of it.
//!
//! What: [`rules`] finds the first `match` line, [`expand`] turns a recipient into deliveries.
//! Absent on purpose: system users and their `.forward` files. A [`Directory`] answers for them.

pub mod expand;
mod item;
pub mod rules;
#[cfg(test)]
mod tests;
mod trail;

pub use crate::config::{format, table};
pub use expand::{Directory, Expanded, Forward, Question, Temporary, User, expand};
pub use rules::Client;
pub use trail::{Step, Trail};
