//! Every decision of redspool, and nothing else.
//!
//! What: ids, addresses, envelopes, configuration, rule evaluation, SMTP sessions in both
//! directions, the schedule, relaying, bounces, and the messages of the control socket.
//! Promises: the same values in give the same values out; nothing here waits, panics on input or
//! grows without a limit from [`limits::Limits`].
//! Absent on purpose: clocks, sockets, files, threads, processes, entropy. Time comes in as
//! [`time::Now`], randomness as a seeded [`rng::Rng`], everything else as events.
//!
//! Modules stand on floors; a module uses lower floors only, or its own folder:
//! words (`id addr reply time tls rng limits machine`), records (`envelope message config stats`),
//! `queue lookup spf`, `smtp control dane sts`, `scheduler mta mda bounce`, `engine`.

pub mod addr;
pub mod bounce;
pub mod config;
pub mod control;
pub mod dane;
pub mod engine;
pub mod envelope;
pub mod foreign;
mod hash;
pub mod id;
pub mod limits;
pub mod lookup;
pub mod machine;
pub mod mda;
pub mod mta;
mod pressure;
pub mod queue;
pub mod reply;
pub mod rng;
pub mod scheduler;
pub mod smtp;
pub mod space;
pub mod spf;
pub mod stats;
pub mod sts;
pub mod time;
pub mod tls;
