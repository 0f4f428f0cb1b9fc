//! AUTH of an outgoing session (RFC 4954): which mechanism, and what it says.
//!
//! Promises: a password is in nothing but [`Hidden`] lines and the mechanism itself; an exchange
//! ends after as many steps as its mechanism has.

use super::extensions::Extensions;
use crate::config::table::Secret;
use bytes::Bytes;
use mail_builder::encoders::Base64Encoder;
use mail_parser::decoders::base64::base64_decode;
use rsasl::config::SASLConfig;
use rsasl::prelude::{Mechname, SASLClient, Session, State};
use std::fmt;

/// Octets to send that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(Bytes);

impl Hidden {
    /// What to send.
    pub fn reveal(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// RFC 4954 section 4: with an initial response beyond the length of a command line (RFC 5321
/// section 4.5.3.1.4, without its CR LF), the client leaves it out and waits to be asked.
const LINE_MAX: usize = 510;

/// An exchange under way.
pub(super) struct Exchange {
    session: Session,
    /// A response that was too long for the command.
    kept: Option<Hidden>,
    finished: bool,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mechanism = self.session.get_mechname().as_str();
        f.debug_tuple("Exchange").field(&mechanism).finish()
    }
}

impl Exchange {
    /// Begins with the best mechanism both sides know; gives the command. `None` if there is none.
    pub(super) fn begin(secret: &Secret, offered: &Extensions) -> Option<(Self, Hidden)> {
        let name: &[u8] = match offered {
            Extensions {
                auth_plain: true, ..
            } => b"PLAIN",
            Extensions {
                auth_login: true, ..
            } => b"LOGIN",
            _ => return None,
        };
        let mechanism = Mechname::parse(name).ok()?;
        let (user, password) = (secret.user.to_string(), secret.password.to_string());
        let config = SASLConfig::with_credentials(None, user, password).ok()?;
        let session = SASLClient::new(config).start_suggested(&[mechanism]).ok()?;
        let mut exchange = Self {
            session,
            kept: None,
            finished: false,
        };
        let mut command = [b"AUTH ", name].concat();
        if exchange.session.are_we_first() {
            let response = exchange.step(None)?;
            if command.len() + 1 + response.len() > LINE_MAX {
                exchange.kept = Some(line(response));
            } else {
                command.push(b' ');
                command.extend(response);
            }
        }
        Some((exchange, line(command)))
    }

    /// The answer to a challenge in base64; `None` if the mechanism has nothing more to say.
    pub(super) fn respond(&mut self, challenge: &[u8]) -> Option<Hidden> {
        if let Some(kept) = self.kept.take() {
            return Some(kept);
        }
        if self.finished {
            return None;
        }
        let challenge = base64_decode(challenge.trim_ascii()).unwrap_or_default();
        self.step(Some(&challenge)).map(line)
    }

    fn step(&mut self, input: Option<&[u8]>) -> Option<Vec<u8>> {
        let mut response = Vec::new();
        let state = self.session.step(input, &mut response).ok()?;
        self.finished = !matches!(state, State::Running);
        Base64Encoder::new().encode(&response).ok()
    }
}

fn line(mut octets: Vec<u8>) -> Hidden {
    octets.extend_from_slice(b"\r\n");
    Hidden(octets.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::table::{Service, Table};

    fn secret(value: &str) -> Secret {
        let mut table = Table::mapping([("me", value)]);
        table.serve(Service::Secret).unwrap();
        table.secret("me").unwrap()
    }

    fn begin(value: &str, plain: bool, login: bool) -> Option<(Exchange, Hidden)> {
        let offered = Extensions {
            auth_plain: plain,
            auth_login: login,
            ..Extensions::default()
        };
        Exchange::begin(&secret(value), &offered)
    }

    fn text(hidden: &Hidden) -> String {
        String::from_utf8(hidden.reveal().to_vec()).unwrap()
    }

    #[test]
    fn plain_comes_in_one_line() {
        let (mut exchange, command) = begin("me:word", true, true).unwrap();
        assert_eq!(text(&command), "AUTH PLAIN AG1lAHdvcmQ=\r\n");
        assert_eq!(exchange.respond(b""), None);
    }

    #[test]
    fn a_long_password_waits_until_it_is_asked_for() {
        let (mut exchange, command) =
            begin(&format!("me:{}", "x".repeat(400)), true, false).unwrap();
        assert_eq!(text(&command), "AUTH PLAIN\r\n");
        let response = text(&exchange.respond(b"").unwrap());
        assert!(response.starts_with("AG1lAHh4"), "{response}");
        assert_eq!(exchange.respond(b""), None);
    }

    #[test]
    fn login_answers_two_questions() {
        let (mut exchange, command) = begin("me:word", false, true).unwrap();
        assert_eq!(text(&command), "AUTH LOGIN\r\n");
        let user = exchange.respond(b"VXNlcm5hbWU6").unwrap();
        assert_eq!(text(&user), "bWU=\r\n");
        let password = exchange.respond(b"UGFzc3dvcmQ6").unwrap();
        assert_eq!(text(&password), "d29yZA==\r\n");
        assert_eq!(exchange.respond(b""), None);
    }

    #[test]
    fn nothing_secret_is_shown() {
        let (exchange, command) = begin("me:word", true, false).unwrap();
        assert_eq!(
            format!("{exchange:?} {command:?}"),
            "Exchange(\"PLAIN\") [hidden]"
        );
        assert!(begin("me:word", false, false).is_none());
    }
}
