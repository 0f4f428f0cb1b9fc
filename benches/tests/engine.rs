//! What the workload of the engine's bench shows besides its time.

use redspool_benches::work::engine::{envelopes, hand_out};
use redspool_core::limits::Limits;
use std::time::Duration;

/// Ten times the mail that is in flight at a time, for ten times the destinations that have a
/// connection at a time, in turns.
#[test]
fn many_destinations_share_few_connections_without_waiting_for_idle_ones() {
    let mail = envelopes(50_000, 5_000).expect("addresses are well-formed");
    let done = hand_out(&mail, Limits::default());
    assert_eq!(done.delivered, 50_000);
    assert!(done.connections < 6_000, "{} connections", done.connections);
    let took = done.virtual_time;
    assert!(took < Duration::from_mins(1), "it took {took:?}");
}
