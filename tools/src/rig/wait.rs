//! Waiting for what announces itself by no event.

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up. Long enough for a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Pause between two looks. Only for conditions without an event, such as the answer of a program.
const LOOK: Duration = Duration::from_millis(20);

/// Looks until `condition` gives a value, and returns it. Panics after [`PATIENCE`], naming `what`.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(
            Instant::now() < deadline,
            "waited {PATIENCE:?} in vain for: {what}"
        );
        std::thread::park_timeout(LOOK);
    }
}
