//! What a server offers in its reply to EHLO or LHLO.
//!
//! Each line is read on its own, so that one that makes no sense takes no other along.

use super::reply::ServerReply;
use smtp_proto::{
    AUTH_LOGIN, AUTH_PLAIN, EXT_8BIT_MIME, EXT_CHUNKING, EXT_DSN, EXT_PIPELINING, EXT_SIZE,
    EXT_SMTP_UTF8, EXT_START_TLS, EhloResponse,
};

/// The extensions we use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Extensions {
    /// Commands may be sent in groups (RFC 2920).
    pub(super) pipelining: bool,
    /// Content above 127 is taken (RFC 6152).
    pub(super) eight_bit: bool,
    /// Addresses and header fields in UTF-8 are taken (RFC 6531).
    pub(super) utf8: bool,
    /// Content may come in chunks (RFC 3030).
    pub(super) chunking: bool,
    /// Notification parameters are understood (RFC 3461).
    pub(super) dsn: bool,
    /// SIZE is understood (RFC 1870); the largest message taken, or the largest number if the
    /// server does not say.
    pub(super) size: Option<u64>,
    /// TLS can be started (RFC 3207).
    pub(super) start_tls: bool,
    /// AUTH PLAIN is taken (RFC 4616).
    pub(super) auth_plain: bool,
    /// AUTH LOGIN is taken.
    pub(super) auth_login: bool,
}

impl Extensions {
    /// RFC 1870 section 5: a size is at most 20 digits. Behind that smtp-proto starts over.
    const SIZE_DIGITS: usize = 20;

    /// Reads a positive reply; its first line is the greeting.
    pub(super) fn read(reply: &ServerReply) -> Self {
        let mut offered = Self::default();
        for line in reply.lines().skip(1) {
            offered.read_line(line);
        }
        offered
    }

    fn read_line(&mut self, line: &[u8]) {
        let wire = [b"250-peer\r\n250 ", line, b"\r\n"].concat();
        let Ok(response) = EhloResponse::parse(&mut wire.iter()) else {
            return;
        };
        self.pipelining |= response.has_capability(EXT_PIPELINING);
        self.eight_bit |= response.has_capability(EXT_8BIT_MIME);
        self.utf8 |= response.has_capability(EXT_SMTP_UTF8);
        self.chunking |= response.has_capability(EXT_CHUNKING);
        self.dsn |= response.has_capability(EXT_DSN);
        self.start_tls |= response.has_capability(EXT_START_TLS);
        self.auth_plain |= response.auth_mechanisms & AUTH_PLAIN != 0;
        self.auth_login |= response.auth_mechanisms & AUTH_LOGIN != 0;
        let digits = line.iter().filter(|b| b.is_ascii_digit()).count();
        if response.has_capability(EXT_SIZE) && digits <= Self::SIZE_DIGITS {
            let most = u64::try_from(response.size).unwrap_or(u64::MAX);
            self.size = Some(if most == 0 { u64::MAX } else { most });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, want: &Extensions) {
        let mut offered = Extensions::default();
        offered.read_line(line.as_bytes());
        assert_eq!(&offered, want, "{line:?}");
    }

    #[test]
    fn keywords_are_read_in_any_case() {
        let none = Extensions::default;
        let pipelining = || Extensions {
            pipelining: true,
            ..none()
        };
        let size = |most| Extensions {
            size: Some(most),
            ..none()
        };
        check("PIPELINING", &pipelining());
        check("pipelining", &pipelining());
        check("PIPELININGS", &none());
        check("X-PIPELINING", &none());
        check(
            "8bitmime",
            &Extensions {
                eight_bit: true,
                ..none()
            },
        );
        check(
            "SmtpUtf8",
            &Extensions {
                utf8: true,
                ..none()
            },
        );
        check(
            "Chunking",
            &Extensions {
                chunking: true,
                ..none()
            },
        );
        check(
            "DSN",
            &Extensions {
                dsn: true,
                ..none()
            },
        );
        check(
            "StartTLS",
            &Extensions {
                start_tls: true,
                ..none()
            },
        );
        check(
            "auth plain cram-md5 LOGIN",
            &Extensions {
                auth_plain: true,
                auth_login: true,
                ..none()
            },
        );
        check(
            "AUTH LOGIN",
            &Extensions {
                auth_login: true,
                ..none()
            },
        );
        check("SIZE 1000", &size(1000));
        check("SIZE", &size(u64::MAX));
        check("SIZE 0", &size(u64::MAX));
        check("SIZE 18446744073709551616", &size(u64::MAX));
        check("", &none());
        check("\0", &none());
        check("AUTH \0\r=", &none());
    }

    #[test]
    fn a_size_that_overflows_does_not_become_small() {
        check("SIZE 99999999999999999999999999", &Extensions::default());
    }
}
