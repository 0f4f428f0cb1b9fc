//! Local delivery of one envelope for the engine.

use crate::daemon::Shared;
use crate::mda::content::Stored;
use redspool_core::engine::Event;
use redspool_core::envelope::{Delivery, Envelope};
use std::sync::Arc;

/// Delivers, and reports how it went.
pub(crate) async fn run(shared: Arc<Shared>, envelope: Box<Envelope>) {
    let _flight = shared.inflight.begin(envelope.id.message());
    let config = shared.config.load_full();
    let userbase = match &envelope.delivery {
        Delivery::Mda(mda) => config
            .table_named(&mda.userbase)
            .map(redspool_core::config::NamedTable::table),
        _ => None,
    };
    let content = Stored::new(shared.queue.reader(), envelope.id.message());
    let mda = shared.mda();
    let outcome = mda
        .deliver(&envelope, userbase, config.subaddress_delimiter, content)
        .await;
    shared
        .engine
        .tell(Event::Ran {
            envelope: envelope.id,
            outcome,
        })
        .await;
}
