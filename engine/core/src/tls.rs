//! Which versions and cipher suites of TLS may be used, as smtpd.conf words it.
//!
//! Promises: what is read is what will be used; a word for something we cannot do is refused,
//! unless it only takes away what is not there.
//! Absent on purpose: cryptography. Suites are names.
//! Fails: with a sentence that says which word makes no sense.

/// Versions of TLS that may be spoken; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocols {
    /// TLS 1.2 (RFC 5246).
    pub tls12: bool,
    /// TLS 1.3 (RFC 8446).
    pub tls13: bool,
}

impl Default for Protocols {
    fn default() -> Self {
        Self {
            tls12: true,
            tls13: true,
        }
    }
}

impl Protocols {
    /// Reads a list as that of tls_config_parse_protocols(3): versions and `all`, `secure`,
    /// `default` or `legacy`, separated by commas or colons; `!` takes one away.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut found = Self {
            tls12: false,
            tls13: false,
        };
        for (at, word) in text.split([',', ':']).map(str::trim).enumerate() {
            let lower = word.to_ascii_lowercase();
            let (name, wanted) = match lower.strip_prefix('!') {
                Some(name) => (name.trim(), false),
                None => (&*lower, true),
            };
            if !wanted && at == 0 {
                found = Self::default();
            }
            match name {
                "tlsv1.2" => found.tls12 = wanted,
                "tlsv1.3" => found.tls13 = wanted,
                "all" | "secure" | "default" | "legacy" | "tlsv1" => {
                    found = Self {
                        tls12: wanted,
                        tls13: wanted,
                    };
                }
                "tlsv1.0" | "tlsv1.1" if !wanted => {}
                "tlsv1.0" | "tlsv1.1" => {
                    return Err(format!("`{word}` is not spoken any more (RFC 8996)"));
                }
                _ => {
                    let word = word.escape_debug();
                    return Err(format!("`{word}` is not a version of TLS"));
                }
            }
        }
        if found.tls12 || found.tls13 {
            Ok(found)
        } else {
            Err("no version of TLS is left".into())
        }
    }
}

/// A cipher suite by its names.
struct Suite {
    /// As IANA and the TLS library have it.
    name: &'static str,
    /// As OpenSSL has it.
    openssl: &'static str,
    /// Words of cipher lists that mean it, among others.
    groups: &'static [&'static str],
}

/// Words that mean every suite we have.
const ALL: [&str; 9] = [
    "all", "default", "secure", "compat", "legacy", "insecure", "high", "ecdhe", "aead",
];

/// Words for what we do not have, which may be taken away.
const ABSENT: [&str; 34] = [
    "anull", "enull", "null", "md5", "rc4", "rc2", "des", "3des", "exp", "export", "low", "medium",
    "psk", "srp", "krsa", "dss", "adss", "camellia", "aria", "seed", "idea", "sha1", "sha", "dhe",
    "dh", "edh", "kdhe", "kedh", "adh", "aecdh", "cbc", "aesccm", "sslv3", "ssl",
];

/// In the order of preference.
const SUITES: [Suite; 9] = [
    Suite {
        name: "TLS13_AES_256_GCM_SHA384",
        openssl: "TLS_AES_256_GCM_SHA384",
        groups: &["tlsv1.3", "aesgcm", "aes256", "aes"],
    },
    Suite {
        name: "TLS13_AES_128_GCM_SHA256",
        openssl: "TLS_AES_128_GCM_SHA256",
        groups: &["tlsv1.3", "aesgcm", "aes128", "aes"],
    },
    Suite {
        name: "TLS13_CHACHA20_POLY1305_SHA256",
        openssl: "TLS_CHACHA20_POLY1305_SHA256",
        groups: &["tlsv1.3", "chacha20"],
    },
    Suite {
        name: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        openssl: "ECDHE-ECDSA-AES256-GCM-SHA384",
        groups: &["tlsv1.2", "aesgcm", "aes256", "aes", "ecdsa", "aecdsa"],
    },
    Suite {
        name: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        openssl: "ECDHE-ECDSA-AES128-GCM-SHA256",
        groups: &["tlsv1.2", "aesgcm", "aes128", "aes", "ecdsa", "aecdsa"],
    },
    Suite {
        name: "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        openssl: "ECDHE-ECDSA-CHACHA20-POLY1305",
        groups: &["tlsv1.2", "chacha20", "ecdsa", "aecdsa"],
    },
    Suite {
        name: "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        openssl: "ECDHE-RSA-AES256-GCM-SHA384",
        groups: &["tlsv1.2", "aesgcm", "aes256", "aes", "rsa", "arsa"],
    },
    Suite {
        name: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        openssl: "ECDHE-RSA-AES128-GCM-SHA256",
        groups: &["tlsv1.2", "aesgcm", "aes128", "aes", "rsa", "arsa"],
    },
    Suite {
        name: "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        openssl: "ECDHE-RSA-CHACHA20-POLY1305",
        groups: &["tlsv1.2", "chacha20", "rsa", "arsa"],
    },
];

impl Suite {
    fn is_tls13(&self) -> bool {
        self.name.starts_with("TLS13")
    }

    /// Whether a word of a cipher list means it: its name, a group it is in, or groups joined by
    /// `+`, all of which it must be in.
    fn is_meant(&self, word: &str) -> bool {
        self.name.eq_ignore_ascii_case(word)
            || self.openssl.eq_ignore_ascii_case(word)
            || word
                .split('+')
                .all(|part| ALL.contains(&part) || self.groups.contains(&part))
    }
}

/// Names of the cipher suites that may be used, best first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suites(Vec<&'static str>);

impl Default for Suites {
    fn default() -> Self {
        Self(SUITES.iter().map(|suite| suite.name).collect())
    }
}

impl Suites {
    /// Reads a list in the manner of OpenSSL's: suites and groups of them, separated by colons,
    /// commas or blanks; `!` or `-` takes away. Suites of TLS 1.3 stay unless some are named, as
    /// they do there.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut chosen: Vec<&Suite> = Vec::new();
        let mut banned: Vec<&str> = Vec::new();
        let words = text.split([':', ',', ' ']).filter(|word| !word.is_empty());
        for written in words {
            let word = written.to_ascii_lowercase();
            let (name, wanted) = match word.strip_prefix(['!', '-']) {
                Some(name) => (name, false),
                None => (&*word, true),
            };
            let meant: Vec<_> = SUITES.iter().filter(|one| one.is_meant(name)).collect();
            let absent = |part: &str| ABSENT.iter().any(|one| one.eq_ignore_ascii_case(part));
            if meant.is_empty() && (wanted || !name.split('+').any(absent)) {
                let written = written.escape_debug();
                return Err(format!("no cipher suite we have is meant by `{written}`"));
            }
            if wanted {
                chosen.extend(meant);
            } else {
                banned.extend(meant.iter().map(|suite| suite.name));
            }
        }
        if chosen.is_empty() {
            return Err("no cipher suite is named".into());
        }
        if !chosen.iter().any(|suite| suite.is_tls13()) {
            chosen.extend(SUITES.iter().filter(|suite| suite.is_tls13()));
        }
        let kept = SUITES.iter().filter(|suite| {
            let chosen = chosen.iter().any(|one| one.name == suite.name);
            chosen && !banned.contains(&suite.name)
        });
        let kept: Vec<_> = kept.map(|suite| suite.name).collect();
        if kept.is_empty() {
            return Err("no cipher suite is left".into());
        }
        Ok(Self(kept))
    }

    /// Whether a suite may be used, by the name the TLS library has for it.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains(&name)
    }

    /// Whether there is one for each of these versions.
    pub fn serve(&self, protocols: Protocols) -> bool {
        let has = |tls13: bool| self.0.iter().any(|name| name.starts_with("TLS13") == tls13);
        (protocols.tls12 && has(false)) || (protocols.tls13 && has(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_a_list() {
        let check = |text: &str, want: Result<(bool, bool), &str>| {
            let got = Protocols::parse(text).map(|found| (found.tls12, found.tls13));
            assert_eq!(got, want.map_err(str::to_owned), "{text}");
        };
        check("TLSv1.2", Ok((true, false)));
        check("tlsv1.2,tlsv1.3", Ok((true, true)));
        check("all:!tlsv1.2", Ok((false, true)));
        check("!tlsv1.0, !tlsv1.1", Ok((true, true)));
        check("!tlsv1.3", Ok((true, false)));
        check("secure", Ok((true, true)));
        check(
            "tlsv1.1:tlsv1.2",
            Err("`tlsv1.1` is not spoken any more (RFC 8996)"),
        );
        check("tls", Err("`tls` is not a version of TLS"));
        check("", Err("`` is not a version of TLS"));
        check("!tlsv1.2,!tlsv1.3", Err("no version of TLS is left"));
    }

    fn suites(text: &str) -> Result<Vec<&'static str>, String> {
        Suites::parse(text).map(|suites| suites.0)
    }

    #[test]
    fn cipher_lists_choose_among_what_there_is() {
        let all = Suites::default().0;
        for text in ["HIGH:!aNULL:!MD5", "default", "secure", "ALL:!RC4"] {
            assert_eq!(suites(text), Ok(all.clone()), "{text}");
        }
        assert_eq!(
            suites("ECDHE-RSA-AES128-GCM-SHA256"),
            Ok(vec![all[0], all[1], all[2], all[7]])
        );
        assert_eq!(
            suites("TLS_AES_128_GCM_SHA256:ecdhe+chacha20+tlsv1.2"),
            Ok(vec![all[1], all[5], all[8]])
        );
        assert_eq!(
            suites("ECDHE:!CHACHA20:!ECDSA:-AES128"),
            Ok(vec![all[0], all[6]])
        );
    }

    #[test]
    fn cipher_lists_of_nothing_are_refused() {
        let check = |text: &str, want: &str| {
            assert_eq!(suites(text), Err(want.to_owned()), "{text}");
        };
        check(
            "AES256-SHA",
            "no cipher suite we have is meant by `AES256-SHA`",
        );
        check(
            "HIGH:!AES\"",
            "no cipher suite we have is meant by `!AES\\\"`",
        );
        check("", "no cipher suite is named");
        check("!RC4", "no cipher suite is named");
        check("RC4", "no cipher suite we have is meant by `RC4`");
        check("ALL:!ALL", "no cipher suite is left");
    }

    #[test]
    fn suites_serve_their_versions() {
        let only13 = Protocols {
            tls12: false,
            tls13: true,
        };
        let only12 = Protocols {
            tls12: true,
            tls13: false,
        };
        let suites = Suites::parse("HIGH:!tlsv1.2").unwrap();
        assert!(suites.serve(only13) && !suites.serve(only12));
    }
}
