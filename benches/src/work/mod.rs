//! The workloads: what is done to a queue, and how long it takes.

pub mod day;
pub mod engine;
pub mod list;
pub mod memory;
pub mod restart;
pub mod settle;
pub mod submit;
