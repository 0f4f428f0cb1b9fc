//! Placeholder head, replaced by the crate.

pub mod local;
