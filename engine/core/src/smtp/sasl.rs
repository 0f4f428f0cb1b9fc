//! The server's side of SASL: PLAIN (RFC 4616) and LOGIN, as far as the credentials.
//!
//! What: an [`Exchange`] turns the lines of AUTH (RFC 4954) into [`Credentials`]; the mechanisms
//! themselves are rsasl's, which waits for nothing here: its check of the credentials only hands
//! them out.
//! Promises: base64 is taken in its one canonical form; credentials that come out are not empty
//! and hold no control character, and their size is bounded by the limits.
//! Absent on purpose: whether the credentials are right, which is an action of the session.
//! Fails: with [`Fault`], after which the exchange is over.

use crate::limits::Limits;
use mail_builder::encoders::base64::base64_encode_slice;
use mail_parser::decoders::base64::base64_decode;
use rsasl::callback::{Context, SessionCallback, SessionData};
use rsasl::prelude::{Mechname, SASLConfig, SASLServer, Session, State, Validation};
use rsasl::property::{AuthId, AuthzId, Password};
use rsasl::validate::{Validate, ValidationError};
use std::fmt;

/// The mechanisms that are offered, as EHLO lists them.
pub(super) const MECHANISMS: &str = "PLAIN LOGIN";

/// What a client says it is, and its proof.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name; not empty, without control characters.
    pub username: Box<str>,
    /// The password; not empty.
    pub password: Box<[u8]>,
}

impl fmt::Debug for Credentials {
    /// Without the password: traces are written to logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Credentials");
        shown.field("username", &self.username);
        shown.finish_non_exhaustive()
    }
}

/// What follows a line of the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// This is to be sent with 334, in base64; perhaps empty.
    Challenge(String),
    /// The exchange is over.
    Complete(Credentials),
}

/// Why an exchange cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A line is not base64.
    Encoding,
    /// A message is not what the mechanism has there.
    Message,
    /// The client wants to act as somebody else, which nobody may.
    Proxy,
}

/// One AUTH command and the lines that belong to it.
pub(super) struct Exchange {
    session: Session<Gathered>,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Exchange({})", self.session.get_mechname().as_str())
    }
}

/// What the mechanisms have read.
struct Gathered;

impl Validation for Gathered {
    type Value = (Credentials, Box<str>);
}

/// Hands out what a mechanism would have checked.
struct Gather;

impl SessionCallback for Gather {
    fn validate(
        &self,
        _: &SessionData,
        context: &Context<'_>,
        validate: &mut Validate<'_>,
    ) -> Result<(), ValidationError> {
        let missing = || ValidationError::MissingRequiredProperty;
        let username = context.get_ref::<AuthId>().ok_or_else(missing)?;
        let password = context.get_ref::<Password>().ok_or_else(missing)?;
        let acting = context.get_ref::<AuthzId>().unwrap_or_default();
        validate.finalize::<Gathered>((
            Credentials {
                username: username.into(),
                password: password.into(),
            },
            acting.into(),
        ));
        Ok(())
    }
}

impl Exchange {
    /// Begins an exchange; `None` if the mechanism is not offered.
    pub(super) fn new(mechanism: &str) -> Option<Self> {
        let name = mechanism.to_ascii_uppercase();
        let offered = MECHANISMS.split(' ').any(|offered| offered == name);
        let name = Mechname::parse(name.as_bytes()).ok().filter(|_| offered)?;
        let config = SASLConfig::builder()
            .with_default_mechanisms()
            .with_callback(Gather)
            .ok()?;
        let server = SASLServer::<Gathered>::new(config);
        let session = server.start_suggested(name).ok()?;
        Some(Self { session })
    }

    /// The first step, with the initial response if there is one; `=` stands for an empty one
    /// (RFC 4954 section 4).
    pub(super) fn start(&mut self, initial: Option<&str>, limits: &Limits) -> Result<Step, Fault> {
        let Some(initial) = initial else {
            return if self.session.are_we_first() {
                self.step(None, limits)
            } else {
                Ok(Step::Challenge(String::new()))
            };
        };
        if self.session.are_we_first() {
            // The response answers the challenge that was not sent.
            self.step(None, limits)?;
        }
        if initial == "=" {
            self.step(Some(&[]), limits)
        } else {
            self.respond(initial.as_bytes(), limits)
        }
    }

    /// The client's answer to a challenge.
    pub(super) fn respond(&mut self, line: &[u8], limits: &Limits) -> Result<Step, Fault> {
        let message = decode(line).ok_or(Fault::Encoding)?;
        self.step(Some(&message), limits)
    }

    fn step(&mut self, message: Option<&[u8]>, limits: &Limits) -> Result<Step, Fault> {
        let mut challenge = Vec::new();
        let state = self.session.step(message, &mut challenge);
        match state.map_err(|_| Fault::Message)? {
            State::Running => Ok(Step::Challenge(encode(prompt(&challenge)))),
            State::Finished(_) => {
                let (credentials, acting) = self.session.validation().ok_or(Fault::Message)?;
                if !acting.is_empty() && acting != credentials.username {
                    return Err(Fault::Proxy);
                }
                if sound(&credentials, limits) {
                    Ok(Step::Complete(credentials))
                } else {
                    Err(Fault::Message)
                }
            }
        }
    }
}

fn sound(credentials: &Credentials, limits: &Limits) -> bool {
    let Credentials { username, password } = credentials;
    (1..=limits.username).contains(&username.len())
        && (1..=limits.password).contains(&password.len())
        && !username.contains(char::is_control)
        && !password.contains(&0)
}

/// The prompts of LOGIN as clients know them; some compare them, and none knows the library's.
fn prompt(challenge: &[u8]) -> &[u8] {
    match challenge {
        b"User Name\0" => b"Username:",
        b"Password\0" => b"Password:",
        other => other,
    }
}

fn encode(octets: &[u8]) -> String {
    let mut text = vec![0; octets.len().div_ceil(3) * 4];
    let length = base64_encode_slice(octets, &mut text);
    text.truncate(length);
    String::from_utf8(text).unwrap_or_default()
}

/// Decodes base64. The decoder skips blanks and takes what lacks its padding; what is not the
/// canonical form of what comes out is refused, so nobody can say one thing in two ways.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let octets = base64_decode(text)?;
    (encode(&octets).as_bytes() == text).then_some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(mechanism: &str, initial: Option<&str>) -> Result<Step, Fault> {
        let mut exchange = Exchange::new(mechanism).unwrap();
        exchange.start(initial, &Limits::default())
    }

    fn credentials(username: &str, password: &str) -> Step {
        Step::Complete(Credentials {
            username: username.into(),
            password: password.as_bytes().into(),
        })
    }

    #[test]
    fn plain_with_and_without_an_initial_response() {
        let response = encode(b"\0alice\0se:cret");
        assert_eq!(
            start("plain", Some(&response)),
            Ok(credentials("alice", "se:cret"))
        );
        let mut exchange = Exchange::new("PLAIN").unwrap();
        let limits = Limits::default();
        assert_eq!(
            exchange.start(None, &limits),
            Ok(Step::Challenge(String::new()))
        );
        assert_eq!(
            exchange.respond(response.as_bytes(), &limits),
            Ok(credentials("alice", "se:cret"))
        );
    }

    #[test]
    fn login_asks_for_name_and_password() {
        let limits = Limits::default();
        let asks = |text: &str| Ok(Step::Challenge(encode(text.as_bytes())));
        let mut exchange = Exchange::new("LOGIN").unwrap();
        assert_eq!(exchange.start(None, &limits), asks("Username:"));
        assert_eq!(exchange.respond(b"Ym9i", &limits), asks("Password:"));
        assert_eq!(
            exchange.respond(b"c2VjcmV0", &limits),
            Ok(credentials("bob", "secret"))
        );
        assert_eq!(start("login", Some("Ym9i")), asks("Password:"));
    }

    #[test]
    fn only_what_is_offered_can_be_begun() {
        for name in [
            "",
            "ANONYMOUS",
            "EXTERNAL",
            "CRAM-MD5",
            "PLAIN LOGIN",
            "pl\u{e4}in",
        ] {
            assert!(Exchange::new(name).is_none(), "{name}");
        }
    }

    #[test]
    fn what_is_not_canonical_base64_is_refused() {
        for text in [
            "AGFsaWNlAHNlY3JldA",
            "AGEA\tYg==",
            "AGEAYh==",
            "?",
            "====",
            "AA=A",
        ] {
            let result = start("PLAIN", Some(text));
            assert_eq!(result, Err(Fault::Encoding), "{text}");
        }
        assert_eq!(decode(b""), Some(Vec::new()));
        for octets in [&b"a"[..], b"ab", b"abc", b"\xff\0\n\r"] {
            assert_eq!(decode(encode(octets).as_bytes()).as_deref(), Some(octets));
        }
    }

    #[test]
    fn unsound_messages_are_refused() {
        let plain = |message: &[u8]| start("PLAIN", Some(&encode(message)));
        for message in [
            &b"alice\0secret"[..],
            b"\0alice\0secret\0",
            b"\0\0secret",
            b"\0alice\0",
            b"\0al\nice\0secret",
            b"\0al\xffice\0secret",
            b"",
        ] {
            assert_eq!(plain(message), Err(Fault::Message), "{message:?}");
        }
        assert_eq!(start("PLAIN", Some("=")), Err(Fault::Message));
        assert_eq!(plain(b"root\0alice\0secret"), Err(Fault::Proxy));
        assert_eq!(
            plain(b"alice\0alice\0secret"),
            Ok(credentials("alice", "secret"))
        );
        let long = [b"\0alice\0", &[b'x'; 2000][..]].concat();
        assert_eq!(plain(&long), Err(Fault::Message));
    }

    #[test]
    fn no_trace_shows_a_password() {
        let shown = format!("{:?}", credentials("alice", "secret"));
        assert!(
            shown.contains("alice") && !shown.contains("secret"),
            "{shown}"
        );
    }
}
