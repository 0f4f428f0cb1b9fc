//! TLS and authentication of relay actions.
//!
//! Promises: an action that could never connect, or would send a password that nobody named, is
//! refused here.

use super::Builder;
use crate::config::grammar::{RelayOption, Word};
use crate::config::source::Span;
use crate::config::table::Service;
use crate::config::{NextHop, TableId};
use crate::envelope::{RelayHost, Security, Stance, TlsRule};
use crate::tls::{Protocols, Suites};

/// The options while they are gathered, each with its place.
#[derive(Default)]
pub(super) struct Draft {
    auth: Option<(Span, Option<TableId>)>,
    tls: Option<(Span, TlsRule)>,
    pki: Option<(Span, Word)>,
    ca: Option<(Span, Word)>,
    ciphers: Option<(Span, Word)>,
    protocols: Option<(Span, Word)>,
    dane: Option<(Span, Stance)>,
    mta_sts: Option<(Span, Stance)>,
}

impl Builder<'_> {
    /// Notes an option of TLS or authentication of the action with this name.
    pub(super) fn secure(&mut self, draft: &mut Draft, action: &Word, option: RelayOption) {
        match option {
            RelayOption::Auth(span, table) => {
                // Envelopes name their table, so one written in place needs a name, too.
                let anonymous = format!("<{}:auth>", action.text);
                let table = self.argument(&table, Service::Secret, &anonymous);
                self.once(&mut draft.auth, "auth", span, table);
            }
            RelayOption::Tls(span, verify) => {
                let rule = if verify {
                    TlsRule::Verified
                } else {
                    TlsRule::Unverified
                };
                self.once(&mut draft.tls, "tls", span, rule);
            }
            RelayOption::Pki(span, name) => {
                self.trust.used.push(("pki", name.clone()));
                self.once(&mut draft.pki, "pki", span, name);
            }
            RelayOption::Ca(span, name) => {
                self.trust.used.push(("ca", name.clone()));
                self.once(&mut draft.ca, "ca", span, name);
            }
            RelayOption::Ciphers(span, list) => {
                self.once(&mut draft.ciphers, "ciphers", span, list);
            }
            RelayOption::Protocols(span, list) => {
                self.once(&mut draft.protocols, "protocols", span, list);
            }
            RelayOption::Dane(span, word) => {
                let stance = self.stance("dane", &word);
                self.once(&mut draft.dane, "dane", span, stance);
            }
            RelayOption::MtaSts(span, word) => {
                let stance = self.stance("mta-sts", &word);
                self.once(&mut draft.mta_sts, "mta-sts", span, stance);
            }
            _ => {}
        }
    }

    /// The options, checked against each other and the next hop.
    /// `host` is where the next hop was written; `hop` is missing if it is faulty.
    pub(super) fn security(
        &mut self,
        draft: Draft,
        host: Option<Span>,
        hop: Option<&NextHop>,
    ) -> Option<Security> {
        let hosts = self.hosts(hop?);
        let rule = draft.tls.map_or(TlsRule::Scheme, |(_, rule)| rule);
        if let Some((span, _)) = draft.tls {
            self.check_rule(span, &hosts);
        }
        let by_mx = [
            (draft.dane, "dane", "DANE"),
            (draft.mta_sts, "mta-sts", "MTA-STS"),
        ];
        for (option, word, what) in by_mx {
            if let (Some((span, stance)), Some(host)) = (option, host)
                && stance != Stance::Never
            {
                let mark = self.report.mark(host, "the other one");
                let message = format!("`{word}` and `host` exclude each other");
                let fault = self.report.error(span, message, "");
                fault.related(mark).help(format!(
                    "{what} is for exchangers found by MX: remove `{word}`, or have the host's \
                     certificate verified with smtp+tls:// and `ca`"
                ));
            }
        }
        let word = |slot: &Option<(Span, Word)>| slot.as_ref().map(|(_, word)| word.clone());
        self.suites(
            word(&draft.protocols).as_ref(),
            word(&draft.ciphers).as_ref(),
        );
        let auth = self.relay_auth(&draft, host, &hosts)?;
        let lower = |word: Option<(Span, Word)>| {
            word.map(|(_, word)| word.text.to_lowercase().into())
                .unwrap_or_default()
        };
        let text = |word: Option<(Span, Word)>| word.map(|(_, word)| word.text).unwrap_or_default();
        Some(Security {
            tls: rule,
            auth,
            pki: lower(draft.pki),
            ca: lower(draft.ca),
            ciphers: text(draft.ciphers),
            protocols: text(draft.protocols),
            dane: draft.dane.map(|(_, stance)| stance).unwrap_or_default(),
            mta_sts: draft.mta_sts.map(|(_, stance)| stance).unwrap_or_default(),
        })
    }

    fn stance(&mut self, option: &str, word: &Word) -> Stance {
        match &*word.text {
            "none" => Stance::Never,
            "opportunistic" => Stance::Opportunistic,
            "required" => Stance::Required,
            other => {
                let message = format!("`{}` is not a rule of {option}", other.escape_debug());
                let fault = self.report.error(word.span, message, "");
                fault.help("write none, opportunistic or required");
                Stance::default()
            }
        }
    }

    /// The smart hosts that are written down.
    fn hosts(&self, hop: &NextHop) -> Vec<RelayHost> {
        match hop {
            NextHop::Mx => Vec::new(),
            NextHop::Host(host) => vec![host.clone()],
            NextHop::Table(id) => {
                let table = self.tables.get(id.0);
                table.map_or_else(Vec::new, |draft| draft.table.relays().to_vec())
            }
        }
    }

    fn check_rule(&mut self, span: Span, hosts: &[RelayHost]) {
        if let Some(host) = hosts.iter().find(|host| !host.scheme.allows_tls()) {
            let scheme = host.scheme.word();
            let message = format!("`tls` asks for what `{scheme}://` rules out");
            let fault = self.report.error(span, message, "");
            fault.help("remove one of the two");
        }
    }

    /// Reads and checks `protocols` and `ciphers`; `None` stands for what is not given or faulty.
    pub(super) fn suites(
        &mut self,
        protocols: Option<&Word>,
        ciphers: Option<&Word>,
    ) -> (Option<Protocols>, Option<Suites>) {
        let mut given = (None, None);
        if let Some(word) = protocols {
            match Protocols::parse(&word.text) {
                Ok(found) => given.0 = Some(found),
                Err(why) => {
                    let fault = self.report.error(word.span, why, "");
                    fault.help("write a list such as \"tlsv1.2,tlsv1.3\"");
                }
            }
        }
        if let Some(word) = ciphers {
            const HELP: &str = "write names as OpenSSL has them, such as \
                                \"ECDHE-RSA-AES128-GCM-SHA256:TLS_AES_128_GCM_SHA256\", or \"HIGH\"";
            match Suites::parse(&word.text) {
                Ok(suites) if suites.serve(given.0.unwrap_or_default()) => given.1 = Some(suites),
                Ok(_) => {
                    let message = "none of these cipher suites is of the protocols asked for";
                    self.report.error(word.span, message, "").help(HELP);
                }
                Err(why) => {
                    self.report.error(word.span, why, "").help(HELP);
                }
            }
        }
        given
    }

    /// The name of the table with the credentials, or nothing if there is none.
    fn relay_auth(
        &mut self,
        draft: &Draft,
        host: Option<Span>,
        hosts: &[RelayHost],
    ) -> Option<Box<str>> {
        let labels: Vec<_> = hosts.iter().map(|host| &*host.label).collect();
        let labels: Vec<_> = labels.into_iter().filter(|l| !l.is_empty()).collect();
        match (&draft.auth, host, labels.as_slice()) {
            (Some((span, _)), None, _) => {
                let message = "`auth` without `host`: exchangers of strangers know no password";
                let fault = self.report.error(*span, message, "");
                fault.help("name the host: relay host smtp+tls://label@host auth <table>");
                None
            }
            (Some((span, _)), _, []) => {
                let message = "`auth` is not used: no host has a label";
                let warning = self.report.warning(*span, message, "");
                warning.help("write the label into the URL: smtp+tls://label@host");
                Some("".into())
            }
            (Some((span, table)), _, labels) => {
                let id = (*table)?;
                let draft = self.tables.get(id.0)?;
                let unknown = labels.iter().find(|l| draft.table.secret(l).is_none());
                let named = draft.named.clone();
                if let Some(label) = unknown {
                    let message = format!("the table has no credentials for `{label}`");
                    let warning = self.report.warning(*span, message, "");
                    warning.help("mail to this host will wait until the table has the label");
                }
                Some(named)
            }
            (None, Some(host), [label, ..]) => {
                let message = format!("the label `{label}` without `auth`");
                let fault = self.report.error(host, message, "");
                fault.help("name the table that has its user and password: auth <table>");
                None
            }
            (None, _, _) => Some("".into()),
        }
    }
}
