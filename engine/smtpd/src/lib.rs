//! Placeholder head, replaced by the crate.

pub mod helper;
pub mod local;
pub mod mda;
pub mod users;
