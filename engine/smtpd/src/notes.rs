//! Log lines of deliveries (spec/smtpd.md Appendix C).

use crate::log::Shown;
use redspool_core::engine::{Note, Via};
use redspool_core::envelope::{Agent, Delivery, Envelope, Relay};
use redspool_core::queue::Outcome;
use redspool_core::time::short;

/// Writes what the engine found worth a line.
pub(crate) fn write(note: &Note) {
    match note {
        Note::Delivery {
            envelope,
            via,
            delay,
            outcome,
        } => {
            let (result, text) = result(outcome);
            let (from, to) = (envelope.sender.as_str(), envelope.dest.as_str());
            let id = via.as_ref().map_or(0, |via| via.session.0);
            let (delay, stat) = (short(*delay), Shown(text));
            match envelope.agent() {
                Agent::Mta => tracing::info!(
                    "{id:016x} mta delivery evpid={} from=<{from}> to=<{to}> rcpt=<{}> {} \
                     delay={delay} result=\"{result}\" stat=\"{stat}\"",
                    envelope.id,
                    rcpt(envelope),
                    way(envelope, via.as_ref()),
                ),
                Agent::Mda => tracing::info!(
                    "{id:016x} mda delivery evpid={} from=<{from}> to=<{to}> rcpt=<{}> user={} \
                     delay={delay} result=\"{result}\" stat=\"{stat}\"",
                    envelope.id,
                    rcpt(envelope),
                    Shown(user(envelope)),
                ),
                Agent::Bounce => tracing::info!(
                    "{id:016x} bounce evpid={} to=<{from}> rcpt=<{to}> delay={delay} \
                     result=\"{result}\" stat=\"{stat}\"",
                    envelope.id,
                ),
            }
        }
        Note::Expired(envelope) => tracing::info!(
            "scheduler expired evpid={} from=<{}> to=<{}>",
            envelope.id,
            envelope.sender.as_str(),
            envelope.dest.as_str()
        ),
        Note::DoubleBounce(envelope) => tracing::warn!(
            "bounce dropped evpid={} to=<{}>: a notice could not be delivered and has no sender",
            envelope.id,
            envelope.dest.as_str()
        ),
        Note::ClockSet(step) => tracing::warn!("scheduler the wall clock was set: {step:?}"),
    }
}

fn result(outcome: &Outcome) -> (&'static str, &str) {
    match outcome {
        Outcome::Delivered { text, .. } => ("Ok", text),
        Outcome::TempFail(failure) => ("TempFail", &failure.text),
        Outcome::PermFail(failure) => ("PermFail", &failure.text),
        Outcome::Loop => ("PermFail", "Loop detected"),
    }
}

/// What relayed mail was sent over; its destination's name if it did not come to a session.
fn way(envelope: &Envelope, via: Option<&Via>) -> String {
    let Some(via) = via else {
        let relay = match &envelope.delivery {
            Delivery::Mta(Relay {
                host: Some(host), ..
            }) => &host.host,
            _ => envelope.dest.domain(),
        };
        return format!("source=\"-\" relay=\"{}\" tls=-", Shown(relay));
    };
    let source = match via.source {
        Some(source) => source.to_string(),
        None => "-".into(),
    };
    let (target, name) = (via.target, Shown(&via.name));
    let tls = if via.tls.is_empty() { "-" } else { &via.tls };
    format!("source=\"{source}\" relay=\"{target} ({name})\" tls={tls}")
}

/// The recipient as given, if it differs from the destination.
fn rcpt(envelope: &Envelope) -> &str {
    if envelope.rcpt == envelope.dest {
        "-"
    } else {
        envelope.rcpt.as_str()
    }
}

fn user(envelope: &Envelope) -> &str {
    match &envelope.delivery {
        Delivery::Mda(mda) => &mda.user,
        _ => "",
    }
}
