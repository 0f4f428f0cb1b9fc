//! `match`.

use super::Builder;
use crate::config::grammar::{MatchOption, MatchWhat, TableArgument, Verdict as Written};
use crate::config::source::Span;
use crate::config::table::Service;
use crate::config::{Criterion, Destination, Origin, Rule, TableId, Verdict};

/// Criteria while they are gathered. The inner `None` is one that is faulty.
#[derive(Default)]
struct Criteria {
    from: Option<(Span, Option<Criterion<Origin>>)>,
    to: Option<(Span, Option<Criterion<Destination>>)>,
    tag: Option<(Span, Option<Criterion<TableId>>)>,
    helo: Option<(Span, Option<Criterion<TableId>>)>,
    tls: Option<(Span, Option<Criterion<()>>)>,
    auth: Option<(Span, Option<Criterion<Option<TableId>>>)>,
    sender: Option<(Span, Option<Criterion<TableId>>)>,
    rcpt: Option<(Span, Option<Criterion<TableId>>)>,
}

/// A part of the rule is faulty, which has been reported.
struct Faulty;

impl Builder<'_> {
    pub(super) fn matching(&mut self, span: Span, options: Vec<MatchOption>, verdict: &Written) {
        let mut criteria = Criteria::default();
        for option in options {
            self.criterion(&mut criteria, option);
        }
        let verdict = match verdict {
            Written::Reject => Some(Verdict::Reject),
            Written::Action(name) => self.action_named(name).map(Verdict::Action),
        };
        let rule = verdict
            .ok_or(Faulty)
            .and_then(|verdict| self.rule(span, &criteria, verdict));
        self.config.rules.extend(rule);
    }

    /// The rule, unless a part of it is faulty.
    fn rule(&self, span: Span, criteria: &Criteria, verdict: Verdict) -> Result<Rule, Faulty> {
        let local = Criterion {
            negated: false,
            what: Origin::Local,
        };
        let here = Criterion {
            negated: false,
            what: Destination::Local,
        };
        Ok(Rule {
            place: self.report.place(span),
            from: sound(criteria.from)?.unwrap_or(local),
            to: sound(criteria.to)?.unwrap_or(here),
            tag: sound(criteria.tag)?,
            helo: sound(criteria.helo)?,
            tls: sound(criteria.tls)?,
            auth: sound(criteria.auth)?,
            sender: sound(criteria.sender)?,
            rcpt: sound(criteria.rcpt)?,
            verdict,
        })
    }

    fn criterion(&mut self, criteria: &mut Criteria, option: MatchOption) {
        let MatchOption {
            negated,
            span,
            what,
        } = option;
        let from = |what| Some(Criterion { negated, what });
        let to = |what| Some(Criterion { negated, what });
        // `from auth` and `from mail-from` ask about mail from anywhere; `!` turns the rest.
        let anywhere = Some(Criterion {
            negated: false,
            what: Origin::Any,
        });
        let everywhere = Some(Criterion {
            negated: false,
            what: Destination::Any,
        });
        match what {
            MatchWhat::FromAny => self.once(&mut criteria.from, "from", span, from(Origin::Any)),
            MatchWhat::FromLocal => {
                self.once(&mut criteria.from, "from", span, from(Origin::Local));
            }
            MatchWhat::FromSocket => {
                self.once(&mut criteria.from, "from", span, from(Origin::Socket));
            }
            MatchWhat::FromSource(table) => {
                let table = self.argument(&table, Service::Netaddr, "");
                let value = table.and_then(|table| from(Origin::Source(table)));
                self.once(&mut criteria.from, "from", span, value);
            }
            MatchWhat::FromAuth(users) => {
                self.once(&mut criteria.from, "from", span, anywhere);
                self.auth(criteria, negated, span, users);
            }
            MatchWhat::FromSender(table) => {
                self.once(&mut criteria.from, "from", span, anywhere);
                let value = self.table_criterion(negated, &table, Service::Mailaddr);
                self.once(&mut criteria.sender, "mail-from", span, value);
            }
            MatchWhat::ForAny => self.once(&mut criteria.to, "for", span, to(Destination::Any)),
            MatchWhat::ForLocal => {
                self.once(&mut criteria.to, "for", span, to(Destination::Local));
            }
            MatchWhat::ForDomain(table) => {
                let table = self.argument(&table, Service::Domain, "");
                let value = table.and_then(|table| to(Destination::Domain(table)));
                self.once(&mut criteria.to, "for", span, value);
            }
            MatchWhat::ForRcpt(table) => {
                self.once(&mut criteria.to, "for", span, everywhere);
                let value = self.table_criterion(negated, &table, Service::Mailaddr);
                self.once(&mut criteria.rcpt, "rcpt-to", span, value);
            }
            MatchWhat::Tag(table) => {
                let value = self.table_criterion(negated, &table, Service::Text);
                self.once(&mut criteria.tag, "tag", span, value);
            }
            MatchWhat::Helo(table) => {
                let value = self.table_criterion(negated, &table, Service::Domain);
                self.once(&mut criteria.helo, "helo", span, value);
            }
            MatchWhat::Sender(table) => {
                let value = self.table_criterion(negated, &table, Service::Mailaddr);
                self.once(&mut criteria.sender, "mail-from", span, value);
            }
            MatchWhat::Rcpt(table) => {
                let value = self.table_criterion(negated, &table, Service::Mailaddr);
                self.once(&mut criteria.rcpt, "rcpt-to", span, value);
            }
            MatchWhat::Tls => {
                let value = Some(Criterion { negated, what: () });
                self.once(&mut criteria.tls, "tls", span, value);
            }
            MatchWhat::Auth(users) => self.auth(criteria, negated, span, users),
            MatchWhat::Unserved(what) => self.unserved(what),
        }
    }

    fn table_criterion(
        &mut self,
        negated: bool,
        argument: &TableArgument,
        service: Service,
    ) -> Option<Criterion<TableId>> {
        let what = self.argument(argument, service, "")?;
        Some(Criterion { negated, what })
    }

    fn auth(
        &mut self,
        criteria: &mut Criteria,
        negated: bool,
        span: Span,
        users: Option<TableArgument>,
    ) {
        let value = match users {
            None => Some(Criterion {
                negated,
                what: None,
            }),
            Some(users) => self
                .table_criterion(negated, &users, Service::Mailaddr)
                .map(|criterion| Criterion {
                    negated,
                    what: Some(criterion.what),
                }),
        };
        self.once(&mut criteria.auth, "auth", span, value);
    }
}

/// A criterion that was not given, or is sound.
fn sound<T: Copy>(given: Option<(Span, Option<T>)>) -> Result<Option<T>, Faulty> {
    given.map(|(_, value)| value.ok_or(Faulty)).transpose()
}
