//! `pki` and `ca`: certificates, keys and authorities by name.
//!
//! Promises: what is named is vetted before anything uses it, each file once, and a fault shows the
//! path it is about; nothing that a key file holds is ever shown.

use super::Builder;
use crate::config::grammar::{PkiPart, Word};
use crate::config::source::Span;
use crate::config::{Authority, Material, Pki, Unfit, value};
use std::collections::BTreeMap;

/// What was declared, by name in lower case.
#[derive(Default)]
pub(super) struct Trust {
    /// Names that actions use, each with the word before it.
    pub(super) used: Vec<(&'static str, Word)>,
    pkis: BTreeMap<Box<str>, Draft>,
    authorities: BTreeMap<Box<str>, Word>,
}

/// A `pki` while its lines are gathered.
struct Draft {
    declared: Span,
    cert: Option<Word>,
    key: Option<Word>,
}

impl Builder<'_> {
    pub(super) fn pki(&mut self, name: &Word, parts: Vec<PkiPart>) {
        let Some(lower) = self.trust_name(name) else {
            return;
        };
        let (mut cert, mut key) = match self.trust.pkis.remove(&lower) {
            Some(old) => (Some((old.declared, old.cert)), old.key),
            None => (None, None),
        };
        let declared = cert.as_ref().map_or(name.span, |(declared, _)| *declared);
        let mut cert = cert.take().and_then(|(_, cert)| cert);
        for part in parts {
            match part {
                PkiPart::Cert(path) => self.replace(&mut cert, "cert", path),
                PkiPart::Key(path) => self.replace(&mut key, "key", path),
                PkiPart::Dhe(word) => self.check_dhe(&word),
            }
        }
        let draft = Draft {
            declared,
            cert,
            key,
        };
        self.trust.pkis.insert(lower, draft);
    }

    pub(super) fn authority(&mut self, name: &Word, cert: Word) {
        if let Some(lower) = self.trust_name(name) {
            let mut slot = self.trust.authorities.remove(&lower);
            self.replace(&mut slot, "cert", cert);
            self.trust
                .authorities
                .extend(slot.map(|cert| (lower, cert)));
        }
    }

    /// Whether a `pki` stands above; reports it if not.
    pub(super) fn pki_declared(&mut self, name: &Word) -> bool {
        let known = self.trust.pkis.contains_key(&*name.text.to_lowercase());
        if !known {
            let help = "declare it above: pki NAME cert \"/path\" key \"/path\"";
            self.unknown(name, "pki", help);
        }
        known
    }

    /// Whether a `ca` stands above; reports it if not.
    pub(super) fn authority_declared(&mut self, name: &Word) -> bool {
        let lower = name.text.to_lowercase();
        let known = self.trust.authorities.contains_key(&*lower);
        if !known {
            self.unknown(name, "ca", "declare it above: ca NAME cert \"/path\"");
        }
        known
    }

    /// Has all files looked at, and takes those that can be used into the configuration.
    pub(super) fn settle_trust(&mut self) {
        let Trust {
            used,
            pkis,
            authorities,
        } = std::mem::take(&mut self.trust);
        for (what, name) in used {
            let lower = &*name.text.to_lowercase();
            let (known, key) = match what {
                "pki" => (pkis.contains_key(lower), " key \"/path\""),
                _ => (authorities.contains_key(lower), ""),
            };
            if !known {
                let shown = name.text.escape_debug();
                let message = format!("no {what} is named `{shown}`");
                let fault = self.report.error(name.span, message, "not declared");
                fault.help(format!("declare it: {what} NAME cert \"/path\"{key}"));
            }
        }
        for (name, draft) in pkis {
            let (Some(cert), Some(key)) = (&draft.cert, &draft.key) else {
                let missing = if draft.cert.is_some() { "key" } else { "cert" };
                let message = format!("the pki `{name}` has no {missing}");
                let fault = self.report.error(draft.declared, message, "");
                fault.help(format!("write pki {name} {missing} \"/path\""));
                continue;
            };
            let chain = Material::Chain(&cert.text);
            if let Err(unfit) = (self.vet)(chain) {
                self.unfit(cert, "certificate", unfit);
                continue;
            }
            let pair = Material::Key {
                cert: &cert.text,
                key: &key.text,
            };
            if let Err(unfit) = (self.vet)(pair) {
                self.unfit(key, "private key", unfit);
                continue;
            }
            self.config.pkis.push(Pki {
                name,
                cert: cert.text.clone(),
                key: key.text.clone(),
            });
        }
        for (name, cert) in authorities {
            if let Err(unfit) = (self.vet)(Material::Authorities(&cert.text)) {
                self.unfit(&cert, "certificates of the authority", unfit);
                continue;
            }
            let cert = cert.text;
            self.config.authorities.push(Authority { name, cert });
        }
    }

    /// The name in lower case, if it is one.
    fn trust_name(&mut self, name: &Word) -> Option<Box<str>> {
        if &*name.text != "*" && !value::is_hostname(&name.text) {
            let message = format!("`{}` is not a host name", name.text.escape_debug());
            let fault = self.report.error(name.span, message, "");
            fault.help("write a host name, or \"*\"");
            return None;
        }
        Some(name.text.to_lowercase().into())
    }

    /// The last of equal paths counts, as in the reference; but that is seldom meant.
    fn replace(&mut self, slot: &mut Option<Word>, word: &str, path: Word) {
        if let Some(first) = slot {
            let mark = self.report.mark(first.span, "this one does not count");
            let message = format!("`{word}` is given twice");
            let warning = self.report.warning(path.span, message, "this one counts");
            warning.related(mark).help("remove one of the two");
        }
        *slot = Some(path);
    }

    fn check_dhe(&mut self, word: &Word) {
        match &*word.text {
            "none" => {}
            "auto" | "legacy" => {
                let message = format!("`dhe {}` is not served by this version", word.text);
                let fault = self.report.error(word.span, message, "not served");
                fault.help(
                    "remove it: key exchange is by elliptic curves, which all peers of today know",
                );
            }
            other => {
                let message = format!("`{}` is not a choice of dhe", other.escape_debug());
                let fault = self.report.error(word.span, message, "");
                fault.help("write none, or leave it out");
            }
        }
    }

    fn unfit(&mut self, path: &Word, what: &str, unfit: Unfit) {
        let shown = path.text.escape_debug();
        let message = format!("cannot use the {what} `{shown}`: {}", unfit.reason);
        let fault = self.report.error(path.span, message, "named here");
        fault.help(unfit.help);
    }
}
