//! STARTTLS and AUTH under streams of any kind.

use crate::driver::{self, Driver, Seen};
use crate::properties::play_with;
use bytes::Bytes;
use mail_builder::encoders::base64::base64_encode_slice;
use proptest::prelude::*;
use redspool_core::limits::Limits;
use redspool_core::smtp::session::{Auth, Ending, Event, Params, Starttls};
use std::sync::Arc;

/// A session that has TLS, of a listener with `auth`.
fn secure() -> Params {
    let mut params = driver::params(Limits {
        errors_per_session: 8,
        ..Limits::default()
    });
    let settings = Arc::make_mut(&mut params.settings);
    settings.auth = Auth::Required;
    settings.received_auth = true;
    params.tls = Some(driver::tls(false));
    params
}

/// A session in clear, of a listener with `tls-require auth`.
fn clear() -> Params {
    let mut params = secure();
    Arc::make_mut(&mut params.settings).starttls = Starttls::Required;
    params.tls = None;
    params
}

fn said(driver: &mut Driver, text: &str) -> String {
    driver.handle(Event::Received(Bytes::copy_from_slice(text.as_bytes())));
    String::from_utf8(std::mem::take(&mut driver.output)).unwrap()
}

#[test]
fn t12_octets_behind_starttls_end_the_session() {
    for behind in [
        "NOOP\r\n",
        "M",
        "\r\n",
        "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n",
    ] {
        let mut driver = Driver::new(clear(), usize::MAX);
        let stream = format!("EHLO a.example\r\nSTARTTLS\r\n{behind}");
        let output = said(&mut driver, &stream);
        let last = "554 5.7.0 Nothing may follow STARTTLS before the reply to it\r\n";
        assert!(output.ends_with(last), "{behind:?}: {output}");
        assert_eq!(driver.seen.pop_front(), Some(Seen::Close(Ending::Error)));
    }
}

#[test]
fn t12_octets_in_clear_during_the_handshake_end_the_session() {
    let mut driver = Driver::new(clear(), usize::MAX);
    let output = said(&mut driver, "EHLO a.example\r\nSTARTTLS\r\n");
    assert!(
        output.ends_with("220 2.0.0 Ready to start TLS\r\n"),
        "{output}"
    );
    assert_eq!(driver.seen.pop_front(), Some(Seen::StartTls));
    assert!(!driver.session.wants_input());
    assert_eq!(said(&mut driver, "EHLO b.example\r\n"), "");
    assert_eq!(driver.seen.pop_front(), Some(Seen::Close(Ending::Error)));
    driver.handle(Event::Secured(driver::tls(false)));
    assert_eq!(said(&mut driver, "EHLO b.example\r\n"), "");
}

#[test]
fn credentials_are_checked_by_others_and_give_the_user_a_name() {
    let mut driver = Driver::new(secure(), usize::MAX);
    said(&mut driver, "EHLO a.example\r\nAUTH PLAIN AGEAcmlnaHQ=\r\n");
    let Some(Seen::Authenticate(credentials)) = driver.seen.pop_front() else {
        panic!("nobody asks for a password");
    };
    assert_eq!(
        (&*credentials.username, &*credentials.password),
        ("a", &b"right"[..])
    );
    driver.handle(Event::Authenticated(
        redspool_core::smtp::session::Verdict::Known,
    ));
    assert_eq!(driver.session.user(), Some("a"));
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let word = prop::sample::select(vec![
        "EHLO a.example\r\n",
        "MAIL FROM:<a@b>\r\n",
        "MAIL FROM:<a@b> AUTH=<>\r\n",
        "RCPT TO:<c@d>\r\n",
        "DATA\r\nA: b\r\n\r\nc\r\n.\r\n",
        "RSET\r\n",
        // a and right; a and wrong
        "AUTH PLAIN AGEAcmlnaHQ=\r\n",
        "AUTH PLAIN AGEAd3Jvbmc=\r\n",
        "AUTH PLAIN\r\n",
        "AUTH LOGIN\r\n",
        "AUTH LOGIN YQ==\r\n",
        "AUTH CRAM-MD5\r\n",
        "AGEAcmlnaHQ=\r\n",
        "YQ==\r\n",
        "cmlnaHQ=\r\n",
        "d3Jvbmc=\r\n",
        "*\r\n",
        "=\r\n",
        "\r\n",
        "\n",
        "?\r\n",
    ]);
    prop::collection::vec(word, 0..30).prop_map(|words| words.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn cutting_an_authentication_changes_nothing(
        stream in stream(),
        cuts in prop::collection::vec(1_usize..40, 1..8),
    ) {
        let whole = play_with(secure(), &stream, &[usize::MAX]);
        prop_assert_eq!(&play_with(secure(), &stream, &cuts), &whole);
        prop_assert_eq!(&play_with(secure(), &stream, &[1]), &whole);
    }

    #[test]
    fn no_mail_passes_before_the_right_password(stream in stream()) {
        let trace = play_with(secure(), &stream, &[usize::MAX]);
        if !trace.taken.is_empty() {
            let known = trace.output.find("235 2.7.0").unwrap();
            let mail = trace.output.find("354 ").unwrap();
            prop_assert!(known < mail);
        }
        for taken in &trace.taken {
            let text = String::from_utf8_lossy(&taken.content);
            prop_assert!(text.contains("with ESMTPSA id "), "{}", text);
            prop_assert!(text.contains(" auth=yes user=a\r\n"), "{}", text);
            prop_assert!(taken.envelopes.iter().all(|envelope| envelope.flags.authenticated));
        }
    }

    #[test]
    fn no_password_is_taken_and_no_mail_passes_in_clear(stream in stream()) {
        let trace = play_with(clear(), &stream, &[usize::MAX]);
        prop_assert!(trace.taken.is_empty());
        prop_assert!(!trace.output.contains("235 "));
        prop_assert!(!trace.output.contains("334 "));
    }

    #[test]
    fn any_credentials_are_survived(
        octets in prop::collection::vec(any::<u8>(), 0..60),
        text in "\\PC{0,40}",
        login: bool,
    ) {
        let mut encoded = vec![0; octets.len().div_ceil(3) * 4];
        let length = base64_encode_slice(&octets, &mut encoded);
        encoded.truncate(length);
        for response in [&encoded[..], text.as_bytes()] {
            let first: &[u8] = if login { b"LOGIN YQ==\r\n" } else { b"PLAIN " };
            // The first NOOP may be taken for the answer to a challenge.
            let stream = [b"EHLO a.example\r\nAUTH ", first, response, b"\r\nNOOP\r\nNOOP\r\n"].concat();
            let trace = play_with(secure(), &stream, &[usize::MAX]);
            prop_assert!(trace.output.ends_with("250 2.0.0 Ok\r\n"), "{}", trace.output);
        }
    }

    #[test]
    fn no_note_holds_a_password(stream in stream()) {
        let trace = play_with(secure(), &stream, &[usize::MAX]);
        for note in &trace.notes {
            let shown = format!("{note:?}");
            prop_assert!(!shown.contains("AGEA"), "{}", shown);
        }
    }
}
