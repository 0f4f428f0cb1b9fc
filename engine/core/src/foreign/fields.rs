//! How to deliver: from the fields of format 2, or by the action that format 3 names.
//!
//! Fails: with the field, for what cannot be carried over without changing its meaning.

use super::text::Fields;
use super::{Actions, Flaw, NAME_MAX};
use crate::config::table::Service;
use crate::config::{ActionKind, Config, format, is_hostname, lmtp_destination, relay_url};
use crate::envelope::{Delivery, Mda, Method, Relay};
use crate::lookup::expand::relay_of;
use std::path::PathBuf;
use std::time::Duration;

/// Octets of a command or path.
const COMMAND_MAX: usize = 2047;

/// How the reference delivers to a file that an alias names.
const FILE_HELPER: &str = "/mail.mboxfile -f %{mbox.from} ";

/// The delivery of a format 3 envelope, and the lifetime its action gives.
pub(super) fn by_action(
    fields: &Fields<'_>,
    kind: &str,
    name: &str,
    actions: Actions<'_>,
) -> Result<(Delivery, Option<Duration>), Flaw> {
    let flaw = |why: String| Flaw::new("dispatcher", why);
    let shown = name.escape_debug();
    let Some(salvage) = actions.salvage else {
        return Err(flaw(format!(
            "only the configuration says what the action `{shown}` is; name it with -f FILE"
        )));
    };
    if let Some(why) = salvage.faulty.get(name) {
        return Err(flaw(format!("the action `{shown}` cannot be used: {why}")));
    }
    let config = &salvage.config;
    let action = config.actions().iter().find(|action| *action.name == *name);
    let Some(action) = action else {
        return Err(flaw(format!(
            "the configuration has no action `{shown}`; declare it there"
        )));
    };
    let delivery = match (&action.kind, kind) {
        (ActionKind::Relay(relay), "mta") => {
            let relay = relay_of(config, relay, actions.turn);
            let empty = || flaw(format!("the action `{shown}` has no smart host"));
            Delivery::Mta(relay.ok_or_else(empty)?)
        }
        (ActionKind::Local(local), "mda") => {
            let method = match fields.text("mda-exec", COMMAND_MAX)? {
                "" => local.method.clone(),
                command => program(fields, command)?,
            };
            let userbase = local.userbase.map(|table| config.table_name(table));
            Delivery::Mda(Mda {
                method,
                user: user(fields)?,
                userbase: userbase.unwrap_or_default().into(),
                delivery_user: local.user.clone().unwrap_or_default(),
                subaddress: fields.name("mda-subaddress")?.into(),
            })
        }
        (ActionKind::Relay(_), _) => {
            return Err(flaw(format!(
                "the action `{shown}` relays, but the envelope is for a user here"
            )));
        }
        (ActionKind::Local(_), _) => {
            return Err(flaw(format!(
                "the action `{shown}` delivers here, but the envelope is to be relayed"
            )));
        }
    };
    Ok((delivery, action.ttl))
}

/// What an alias or forward file asked for: a command, or the helper that appends to a file.
fn program(fields: &Fields<'_>, command: &str) -> Result<Method, Flaw> {
    if user(fields)?.eq_ignore_ascii_case("root") {
        return Err(Flaw::new("mda-exec", "a command is not run as root"));
    }
    let file = command.split_once(FILE_HELPER);
    let file = file.filter(|(directory, _)| !directory.contains(' '));
    match file {
        Some((_, path)) => file_at("mda-exec", path),
        None => template("mda-exec", command).map(Method::Command),
    }
}

fn file_at(key: &'static str, path: &str) -> Result<Method, Flaw> {
    if !path.starts_with('/') {
        return Err(Flaw::new(key, "the path of a file is not absolute"));
    }
    Ok(Method::File(PathBuf::from(path)))
}

/// A path or command whose format specifiers are sound.
fn template(key: &'static str, text: &str) -> Result<Box<str>, Flaw> {
    format::check(text).map_err(|why| Flaw::new(key, why.to_string()))?;
    Ok(text.into())
}

fn user(fields: &Fields<'_>) -> Result<Box<str>, Flaw> {
    let user = fields.needed("mda-user", NAME_MAX)?;
    if user.contains(['/', ' ']) {
        return Err(Flaw::new("mda-user", "not the name of a user"));
    }
    Ok(user.into())
}

/// The local delivery of a format 2 envelope. Its specifiers were expanded when it was queued.
pub(super) fn mda(fields: &Fields<'_>, actions: Actions<'_>) -> Result<Mda, Flaw> {
    let argument = fields.text("mda-buffer", COMMAND_MAX)?;
    let plain = argument.replace('%', "%%");
    let method = match fields.needed("mda-method", NAME_MAX)? {
        "mbox" => Method::Mbox,
        "maildir" if argument.starts_with('/') || argument.starts_with("~/") => Method::Maildir {
            path: template("mda-buffer", &plain)?,
        },
        "maildir" => return Err(Flaw::new("mda-buffer", "the path is not absolute")),
        "lmtp" => {
            let (dest, rcpt_to) = match argument.strip_suffix(" rcpt-to") {
                Some(dest) => (dest, true),
                None => (argument, false),
            };
            lmtp_destination(dest).map_err(|why| Flaw::new("mda-buffer", why))?;
            Method::Lmtp {
                dest: dest.into(),
                rcpt_to,
            }
        }
        "mda" if argument.is_empty() => return Err(Flaw::new("mda-buffer", "missing")),
        "mda" => program(fields, &plain)?,
        "filename" if user(fields)?.eq_ignore_ascii_case("root") => {
            return Err(Flaw::new("mda-user", "a file is not written as root"));
        }
        "filename" => file_at("mda-buffer", argument)?,
        other => {
            let why = format!("unknown method `{}`", other.escape_debug());
            return Err(Flaw::new("mda-method", why));
        }
    };
    Ok(Mda {
        method,
        user: user(fields)?,
        userbase: match fields.name("mda-usertable")? {
            "" | "<getpwnam>" => Box::default(),
            name => table("mda-usertable", name, Service::Userinfo, actions)?,
        },
        delivery_user: fields.name("mda-delivery-user")?.into(),
        subaddress: Box::default(),
    })
}

/// The next hop of a format 2 envelope.
pub(super) fn relay(fields: &Fields<'_>, actions: Actions<'_>) -> Result<Relay, Flaw> {
    for (key, what) in [
        ("mta-relay-auth", "authentication to the next hop"),
        ("mta-relay-cert", "a certificate of our own"),
        ("mta-relay-ca", "a certificate authority"),
        ("mta-relay-flags", "TLS"),
    ] {
        let value = fields.name(key)?;
        if !value.is_empty() {
            let why = format!(
                "`{}` asks for {what}, which is not carried over",
                value.escape_debug()
            );
            return Err(Flaw::new(key, why));
        }
    }
    let url = fields.text("mta-relay", COMMAND_MAX)?;
    let mut relay = match url.split_once("://") {
        None if url.is_empty() => Relay::to(None),
        Some(("backup", exchanger)) => {
            let exchanger = match exchanger {
                "" => fields.needed("smtpname", NAME_MAX)?,
                given => given,
            };
            if !is_hostname(exchanger) {
                return Err(Flaw::new("mta-relay", "no host name behind `backup://`"));
            }
            Relay {
                backup: Some(exchanger.into()),
                ..Relay::to(None)
            }
        }
        // In that version: with TLS if the server offers it.
        Some(("smtp+tls", rest)) => Relay::to(Some(next_hop(&format!("smtp://{rest}"))?)),
        _ => Relay::to(Some(next_hop(url)?)),
    };
    let helo = fields.name("mta-relay-heloname")?;
    if !helo.is_empty() && !is_hostname(helo) {
        return Err(Flaw::new("mta-relay-heloname", "not a host name"));
    }
    relay.helo = helo.into();
    let named = |key, service| match fields.name(key)? {
        "" => Ok(Box::default()),
        name => table(key, name, service, actions),
    };
    relay.src = named("mta-relay-source", Service::Source)?;
    relay.helo_src = named("mta-relay-helotable", Service::Heloname)?;
    Ok(relay)
}

fn next_hop(url: &str) -> Result<crate::envelope::RelayHost, Flaw> {
    relay_url(url).map_err(|why| Flaw::new("mta-relay", why))
}

/// The name of a table, which the configuration must have for this use.
fn table(
    key: &'static str,
    name: &str,
    service: Service,
    actions: Actions<'_>,
) -> Result<Box<str>, Flaw> {
    let config: Option<&Config> = actions.salvage.map(|salvage| &salvage.config);
    let found = config.and_then(|config| config.table_named(name));
    if found.is_some_and(|table| table.serves(service)) {
        return Ok(name.into());
    }
    let shown = name.escape_debug();
    Err(Flaw::new(
        key,
        if name.starts_with('<') {
            format!("the table `{shown}` was made by the server that wrote this, and is unknown")
        } else {
            format!("no configuration given with -f uses a table `{shown}` for this")
        },
    ))
}
