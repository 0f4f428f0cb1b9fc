//! What the store costs, beside the layouts of other mail servers and beside databases; and what
//! the engine costs.
//!
//! What: [`RIVALS`] are the queues that are measured, [`Mailbag`] makes their mail, `work` has the
//! workloads, `usage`, `figures` and `table` make figures of them. `benches/store.rs` times single
//! points with criterion; `benches/store_table` prints the whole comparison.
//! Promises: all run on the same disk in the same run, in turns.
//! Absent on purpose: SMTP; `tools/bench` measures whole servers.

pub mod figures;
mod mail;
pub mod points;
mod queue;
mod rivals;
pub mod spool;
pub mod table;
pub mod usage;
pub mod words;
pub mod work;

/// That of the programs.
#[cfg(not(feature = "system-allocator"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub use mail::{End, Mail, Mailbag};
pub use queue::{Done, Listing, Queue};
pub use rivals::{Kind, LEFT_OUT, Purpose, RIVALS, Rival, named};
