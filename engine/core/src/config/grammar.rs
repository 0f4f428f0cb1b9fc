//! The grammar of smtpd.conf (spec/smtpd.md 1.2): from the tokens of a directive to its parts.
//!
//! Promises: the whole language is recognised, so that what this version does not serve can be
//! refused by name; a fault says what could have stood there.
//! Absent on purpose: the meaning of names and values.

use super::source::Span;
use super::token::Token;
use chumsky::input::ValueInput;
use chumsky::prelude::*;

/// A word or string with its place.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub(super) text: Box<str>,
    pub(super) span: Span,
}

/// Anything with its place.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) what: T,
    pub(super) span: Span,
}

/// A directive.
#[derive(Clone, Debug)]
pub(super) enum Directive {
    /// Known, but not served.
    Unserved(Unserved),
    WarnInterval(Span, Vec<Word>),
    MessageSize(Span, Word),
    SubaddressDelimiter(Word),
    SmtpCiphers(Span, Word),
    QueueTtl(Span, Word),
    TrashTtl(Span, Word),
    TrashSize(Span, Word),
    TrashShare(Span, At<i64>),
    MaxDeferred(Span, At<i64>),
    /// With the domain of `mta limit for domain`.
    Limits(Scope, Option<Word>, Vec<Limit>),
    Pki(Word, Vec<PkiPart>),
    Authority(Word, Word),
    Table(Word, TableSource),
    Listen(Word, Vec<ListenOption>),
    ListenSocket(Vec<ListenOption>),
    Action(Word, ActionKind, Option<Word>),
    Match(Span, Vec<MatchOption>, Verdict),
}

/// A feature by the word that stands for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unserved {
    pub(super) word: &'static str,
    pub(super) span: Span,
}

/// Whose limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Smtp,
    Queue,
    Scheduler,
    Mda,
    Mta,
}

#[derive(Clone, Debug)]
pub(super) enum Limit {
    Number(Word, At<i64>),
    Size(Word, Word),
    Inet4,
    Inet6,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: Word,
    pub(super) value: Option<Word>,
}

#[derive(Clone, Debug)]
pub(super) enum TableSource {
    File(Word),
    Inline(Span, Vec<Entry>),
}

/// A part of a `pki` line.
#[derive(Clone, Debug)]
pub(super) enum PkiPart {
    Cert(Word),
    Key(Word),
    Dhe(Word),
}

/// A table as an argument.
#[derive(Clone, Debug)]
pub(super) enum TableArgument {
    Named(Word),
    Literal(Word),
    Inline(Span, Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) enum ListenOption {
    Inet4(Span),
    Inet6(Span),
    Port(Span, Word),
    Tag(Span, Word),
    Hostname(Span, Word),
    MaskSource(Span),
    NoDsn(Span),
    Tls(Span),
    /// With `verify`.
    TlsRequire(Span, bool),
    /// With `verify`.
    Smtps(Span, bool),
    Pki(Word),
    Authority(Span, Word),
    Auth(Span, Option<TableArgument>),
    AuthOptional(Span, Option<TableArgument>),
    ReceivedAuth(Span),
    Ciphers(Word),
    Protocols(Word),
    Unserved(Unserved),
}

#[derive(Clone, Debug)]
pub(super) enum ActionKind {
    Local(Method, Vec<LocalOption>),
    Relay(Vec<RelayOption>),
}

#[derive(Clone, Debug)]
pub(super) enum Method {
    Mbox(Span),
    /// The path, and `junk`.
    Maildir(Option<Word>, Option<Unserved>),
    Lmtp(Word, bool),
    Mda(Word),
    Unserved(Unserved),
}

#[derive(Clone, Debug)]
pub(super) enum LocalOption {
    Alias(Span, TableArgument),
    Virtual(Span, TableArgument),
    Userbase(Span, TableArgument),
    User(Span, Word),
    Unserved(Unserved),
}

#[derive(Clone, Debug)]
pub(super) enum RelayOption {
    Host(Span, TableArgument),
    Helo(Span, Word),
    Src(Span, TableArgument),
    HeloSrc(Span, TableArgument),
    /// With the name of the exchanger, if it is given.
    Backup(Span, Option<Word>),
    Auth(Span, TableArgument),
    /// Whether certificates are verified.
    Tls(Span, bool),
    Pki(Span, Word),
    Ca(Span, Word),
    Ciphers(Span, Word),
    Protocols(Span, Word),
    Dane(Span, Word),
    MtaSts(Span, Word),
    Unserved(Unserved),
}

#[derive(Clone, Debug)]
pub(super) struct MatchOption {
    pub(super) negated: bool,
    pub(super) span: Span,
    pub(super) what: MatchWhat,
}

#[derive(Clone, Debug)]
pub(super) enum MatchWhat {
    FromAny,
    FromLocal,
    FromSocket,
    FromSource(TableArgument),
    FromAuth(Option<TableArgument>),
    FromSender(TableArgument),
    ForAny,
    ForLocal,
    ForDomain(TableArgument),
    ForRcpt(TableArgument),
    Tag(TableArgument),
    Helo(TableArgument),
    Auth(Option<TableArgument>),
    Tls,
    Sender(TableArgument),
    Rcpt(TableArgument),
    Unserved(Unserved),
}

#[derive(Clone, Debug)]
pub(super) enum Verdict {
    Action(Word),
    Reject,
}

/// What the parsers read: tokens with their places.
pub(super) trait Tokens<'t>: ValueInput<'t, Token = Token, Span = Span> + 't {}
impl<'t, I: ValueInput<'t, Token = Token, Span = Span> + 't> Tokens<'t> for I {}

/// What the parsers report.
pub(super) type Fault<'t> = Rich<'t, Token, Span>;
type Extra<'t> = extra::Err<Fault<'t>>;

/// A parser with its type erased: nested as they are, whole types would take minutes to compile.
type Grammar<'t, I, T> = Boxed<'t, 't, I, T, Extra<'t>>;

/// One directive, all of it.
pub(super) fn directive<'t, I: Tokens<'t>>() -> Grammar<'t, I, Directive> {
    choice((
        settings(),
        unserved_directive(),
        pki(),
        authority(),
        table(),
        listen(),
        action(),
        matching(),
    ))
    .then_ignore(end())
    .boxed()
}

fn settings<'t, I: Tokens<'t>>() -> Grammar<'t, I, Directive> {
    let delay = || text("a delay such as 4d");
    let bounce = word("bounce")
        .ignore_then(word("warn-interval"))
        .then(
            delay()
                .separated_by(just(Token::Comma))
                .at_least(1)
                .collect(),
        )
        .map(|(span, delays)| Directive::WarnInterval(span, delays));
    let smtp = word("smtp").ignore_then(choice((
        word("max-message-size")
            .then(size())
            .map(|(span, size)| Directive::MessageSize(span, size)),
        word("sub-addr-delim")
            .ignore_then(text("one character in quotes"))
            .map(Directive::SubaddressDelimiter),
        limits(Scope::Smtp),
        word("ciphers")
            .then(text("a list of ciphers"))
            .map(|(span, list)| Directive::SmtpCiphers(span, list)),
    )));
    let queue = word("queue").ignore_then(choice((
        word("ttl")
            .then(delay())
            .map(|(span, delay)| Directive::QueueTtl(span, delay)),
        limits(Scope::Queue),
        word("trash-ttl")
            .then(delay())
            .map(|(span, delay)| Directive::TrashTtl(span, delay)),
        word("trash-size")
            .then(size())
            .map(|(span, size)| Directive::TrashSize(span, size)),
        word("trash-share")
            .then(number())
            .map(|(span, share)| Directive::TrashShare(span, share)),
        refused("compression", empty()).map(Directive::Unserved),
        refused("encryption", text("a key").or_not().ignored()).map(Directive::Unserved),
    )));
    let wrapper = text("a name").then(text("a command")).ignored();
    let mda = word("mda").ignore_then(choice((
        limits(Scope::Mda),
        refused("wrapper", wrapper).map(Directive::Unserved),
    )));
    let mta = word("mta").ignore_then(choice((
        word("max-deferred")
            .then(number())
            .map(|(span, number)| Directive::MaxDeferred(span, number)),
        limits(Scope::Mta),
    )));
    let scheduler = word("scheduler").ignore_then(limits(Scope::Scheduler));
    choice((bounce, smtp, queue, mda, mta, scheduler)).boxed()
}

fn limits<'t, I: Tokens<'t>>(scope: Scope) -> Grammar<'t, I, Directive> {
    let key = text("the name of a limit");
    let one = match scope {
        Scope::Queue => key
            .then(size())
            .map(|(key, size)| Limit::Size(key, size))
            .boxed(),
        _ => key
            .then(number())
            .map(|(key, number)| Limit::Number(key, number))
            .boxed(),
    };
    let family = choice((
        word("inet4").to(Limit::Inet4),
        word("inet6").to(Limit::Inet6),
    ));
    let one = match scope {
        Scope::Mta => one.or(family).boxed(),
        _ => one.boxed(),
    };
    let domain = word("for")
        .ignore_then(word("domain"))
        .ignore_then(text("a domain"));
    let domain = match scope {
        Scope::Mta => domain.or_not().boxed(),
        _ => empty().to(None).boxed(),
    };
    word("limit")
        .ignore_then(domain)
        .then(one.repeated().at_least(1).collect::<Vec<_>>())
        .map(move |(domain, limits)| Directive::Limits(scope, domain, limits))
        .boxed()
}

fn unserved_directive<'t, I: Tokens<'t>>() -> Grammar<'t, I, Directive> {
    let string = |label| text(label).ignored();
    let srs = choice((
        word("key")
            .then(word("backup").or_not())
            .then(text("a key"))
            .ignored(),
        word("ttl").then(text("a delay such as 4d")).ignored(),
    ));
    let options = choice((
        word("user").then(text("a user")).ignored(),
        word("group").then(text("a group")).ignored(),
        word("chroot").then(text("a path")).ignored(),
    ))
    .repeated();
    // The rest of a filter has a grammar of its own; all of it is refused.
    let rest = any().repeated();
    choice((
        refused("admd", string("a name")),
        refused("srs", srs),
        refused(
            "proc",
            text("a name").then(text("a command")).ignore_then(options),
        ),
        refused("filter", text("a name").ignore_then(rest)),
    ))
    .map(Directive::Unserved)
    .boxed()
}

fn pki<'t, I: Tokens<'t>>() -> Grammar<'t, I, Directive> {
    let part = choice((
        word("cert").ignore_then(text("a path")).map(PkiPart::Cert),
        word("key").ignore_then(text("a path")).map(PkiPart::Key),
        word("dhe")
            .ignore_then(text("none, auto or legacy"))
            .map(PkiPart::Dhe),
    ));
    word("pki")
        .ignore_then(text("a host name"))
        .then(part.repeated().at_least(1).collect())
        .map(|(name, parts)| Directive::Pki(name, parts))
        .boxed()
}

fn authority<'t, I: Tokens<'t>>() -> Grammar<'t, I, Directive> {
    word("ca")
        .ignore_then(text("a host name"))
        .then(word("cert").ignore_then(text("a path")))
        .map(|(name, cert)| Directive::Authority(name, cert))
        .boxed()
}

fn table<'t, I: Tokens<'t>>() -> Grammar<'t, I, Directive> {
    let source = choice((
        text("a file as file:/path").map(TableSource::File),
        entries().map(|(span, entries)| TableSource::Inline(span, entries)),
    ));
    word("table")
        .ignore_then(text("a name"))
        .then(source)
        .map(|(name, source)| Directive::Table(name, source))
        .boxed()
}

/// A list or mapping in braces.
fn entries<'t, I: Tokens<'t>>() -> Grammar<'t, I, (Span, Vec<Entry>)> {
    let newlines = just(Token::Newline).repeated();
    let separator = newlines
        .clone()
        .then(just(Token::Comma).or_not())
        .then(newlines.clone());
    let value = just(Token::Assign).ignore_then(text("a value"));
    let entry = text("an entry")
        .then(value.or_not())
        .map(|(key, value)| Entry { key, value });
    just(Token::Open)
        .then(newlines)
        .ignore_then(entry.then_ignore(separator).repeated().collect())
        .then_ignore(just(Token::Close))
        .map_with(|entries, extra| (extra.span(), entries))
        .boxed()
}

/// A table as an argument: by name, or written in place.
fn table_argument<'t, I: Tokens<'t>>(label: &'static str) -> Grammar<'t, I, TableArgument> {
    let name = text("the name of a table")
        .delimited_by(just(Token::Less), just(Token::Greater))
        .map(TableArgument::Named);
    let inline = entries().map(|(span, entries)| TableArgument::Inline(span, entries));
    choice((name, text(label).map(TableArgument::Literal), inline)).boxed()
}

fn listen<'t, I: Tokens<'t>>() -> Grammar<'t, I, Directive> {
    let on = word("listen").then(word("on"));
    let socket = word("socket")
        .ignore_then(socket_option().repeated().collect())
        .map(Directive::ListenSocket);
    let interface = text("an interface, address or host name")
        .then(interface_option().repeated().collect())
        .map(|(interface, options)| Directive::Listen(interface, options));
    on.ignore_then(socket.or(interface)).boxed()
}

fn socket_option<'t, I: Tokens<'t>>() -> Grammar<'t, I, ListenOption> {
    choice((
        word("mask-src").map(ListenOption::MaskSource),
        word("no-dsn").map(ListenOption::NoDsn),
        word("tag")
            .then(text("a tag"))
            .map(|(span, tag)| ListenOption::Tag(span, tag)),
        refused("filter", filter_argument()).map(ListenOption::Unserved),
    ))
    .boxed()
}

fn filter_argument<'t, I: Tokens<'t>>() -> Grammar<'t, I, ()> {
    choice((text("a filter").ignored(), entries().ignored())).boxed()
}

fn interface_option<'t, I: Tokens<'t>>() -> Grammar<'t, I, ListenOption> {
    let port = choice((
        text("a port"),
        number().map(|number| Word {
            text: number.what.to_string().into(),
            span: number.span,
        }),
        word("smtp").map(|span| literal("smtp", span)),
        word("smtps").map(|span| literal("smtps", span)),
    ))
    .labelled("a port");
    let verify = || word("verify").or_not().map(|found| found.is_some());
    let users = || table_argument("a table").or_not();
    let senders = table_argument("a table").then(word("masquerade").or_not());
    choice((
        socket_option(),
        word("inet4").map(ListenOption::Inet4),
        word("inet6").map(ListenOption::Inet6),
        word("port")
            .then(port)
            .map(|(span, port)| ListenOption::Port(span, port)),
        word("hostname")
            .then(text("a host name"))
            .map(|(span, name)| ListenOption::Hostname(span, name)),
        word("tls").map(ListenOption::Tls),
        word("tls-require")
            .then(verify())
            .map(|(span, verify)| ListenOption::TlsRequire(span, verify)),
        word("smtps")
            .then(verify())
            .map(|(span, verify)| ListenOption::Smtps(span, verify)),
        word("pki")
            .ignore_then(text("a name"))
            .map(ListenOption::Pki),
        word("ca")
            .then(text("a name"))
            .map(|(span, name)| ListenOption::Authority(span, name)),
        word("auth")
            .then(users())
            .map(|(span, users)| ListenOption::Auth(span, users)),
        word("auth-optional")
            .then(users())
            .map(|(span, users)| ListenOption::AuthOptional(span, users)),
        word("received-auth").map(ListenOption::ReceivedAuth),
        word("ciphers")
            .ignore_then(text("a list of ciphers"))
            .map(ListenOption::Ciphers),
        word("protocols")
            .ignore_then(text("a list of protocols"))
            .map(ListenOption::Protocols),
        choice((
            refused("hostnames", table_argument("a table").ignored()),
            refused("proxy-v2", empty()),
            refused("senders", senders.ignored()),
        ))
        .map(ListenOption::Unserved),
    ))
    .boxed()
}

fn action<'t, I: Tokens<'t>>() -> Grammar<'t, I, Directive> {
    let ttl = word("ttl").ignore_then(text("a delay such as 4d"));
    word("action")
        .ignore_then(text("a name"))
        .then(choice((local(), relay())))
        .then(ttl.or_not())
        .map(|((name, kind), ttl)| Directive::Action(name, kind, ttl))
        .boxed()
}

fn local<'t, I: Tokens<'t>>() -> Grammar<'t, I, ActionKind> {
    let flag = |keyword| word(keyword).or_not().map(|found| found.is_some());
    let method = choice((
        word("mbox").map(Method::Mbox),
        word("maildir")
            .ignore_then(text("a path").or_not())
            .then(refused("junk", empty()).or_not())
            .map(|(path, junk)| Method::Maildir(path, junk)),
        word("lmtp")
            .ignore_then(text("a server as host:port or \"/socket\""))
            .then(flag("rcpt-to"))
            .map(|(dest, rcpt_to)| Method::Lmtp(dest, rcpt_to)),
        word("mda").ignore_then(text("a command")).map(Method::Mda),
        refused("forward-only", empty()).map(Method::Unserved),
        refused("expand-only", empty()).map(Method::Unserved),
    ));
    let table = || table_argument("a table as <name>");
    let option = choice((
        word("alias")
            .then(table())
            .map(|(span, table)| LocalOption::Alias(span, table)),
        word("virtual")
            .then(table())
            .map(|(span, table)| LocalOption::Virtual(span, table)),
        word("userbase")
            .then(table())
            .map(|(span, table)| LocalOption::Userbase(span, table)),
        word("user")
            .then(text("a user"))
            .map(|(span, user)| LocalOption::User(span, user)),
        refused("wrapper", text("a name").ignored()).map(LocalOption::Unserved),
    ));
    method
        .then(option.repeated().collect())
        .map(|(method, options)| ActionKind::Local(method, options))
        .boxed()
}

fn relay<'t, I: Tokens<'t>>() -> Grammar<'t, I, ActionKind> {
    let table = || table_argument("a table").ignored();
    let backup = word("mx").ignore_then(text("a host name")).or_not();
    let option = choice((
        word("host")
            .then(table_argument("a URL as smtp://host:port"))
            .map(|(span, table)| RelayOption::Host(span, table)),
        word("helo")
            .then(text("a host name"))
            .map(|(span, name)| RelayOption::Helo(span, name)),
        word("src")
            .then(table_argument("an address, or a table"))
            .map(|(span, table)| RelayOption::Src(span, table)),
        word("helo-src")
            .then(table_argument("a table as <name>"))
            .map(|(span, table)| RelayOption::HeloSrc(span, table)),
        word("backup")
            .then(backup)
            .map(|(span, name)| RelayOption::Backup(span, name)),
        choice((
            refused("domain", table()),
            refused("mail-from", text("an address").ignored()),
            refused("filter", filter_argument()),
            refused("srs", empty()),
        ))
        .map(RelayOption::Unserved),
        relay_security(),
    ));
    word("relay")
        .ignore_then(option.repeated().collect())
        .map(ActionKind::Relay)
        .boxed()
}

fn relay_security<'t, I: Tokens<'t>>() -> Grammar<'t, I, RelayOption> {
    choice((
        word("auth")
            .then(table_argument("a table as <name>"))
            .map(|(span, table)| RelayOption::Auth(span, table)),
        word("tls")
            .then(word("no-verify").or_not())
            .map(|(span, lax)| RelayOption::Tls(span, lax.is_none())),
        word("pki")
            .then(text("a name"))
            .map(|(span, name)| RelayOption::Pki(span, name)),
        word("ca")
            .then(text("a name"))
            .map(|(span, name)| RelayOption::Ca(span, name)),
        word("ciphers")
            .then(text("a list of ciphers"))
            .map(|(span, list)| RelayOption::Ciphers(span, list)),
        word("protocols")
            .then(text("a list of protocols"))
            .map(|(span, list)| RelayOption::Protocols(span, list)),
        word("dane")
            .then(text("none, opportunistic or required"))
            .map(|(span, rule)| RelayOption::Dane(span, rule)),
        word("mta-sts")
            .then(text("none, opportunistic or required"))
            .map(|(span, rule)| RelayOption::MtaSts(span, rule)),
    ))
    .boxed()
}

fn matching<'t, I: Tokens<'t>>() -> Grammar<'t, I, Directive> {
    let from = word("from").ignore_then(choice((
        word("any").to(MatchWhat::FromAny),
        word("local").to(MatchWhat::FromLocal),
        word("socket").to(MatchWhat::FromSocket),
        criterion("src", "an address or network", MatchWhat::FromSource),
        criterion("mail-from", "an address", MatchWhat::FromSender),
        optional("auth", MatchWhat::FromAuth),
        refused("rdns", patterns().or_not().ignored()).map(MatchWhat::Unserved),
    )));
    let to = word("for").ignore_then(choice((
        word("any").to(MatchWhat::ForAny),
        word("local").to(MatchWhat::ForLocal),
        criterion("domain", "a domain", MatchWhat::ForDomain),
        criterion("rcpt-to", "an address", MatchWhat::ForRcpt),
    )));
    let transaction = choice((
        criterion("tag", "a tag", MatchWhat::Tag),
        criterion("helo", "a host name", MatchWhat::Helo),
        criterion("mail-from", "an address", MatchWhat::Sender),
        criterion("rcpt-to", "an address", MatchWhat::Rcpt),
        optional("auth", MatchWhat::Auth),
        word("tls").to(MatchWhat::Tls),
    ));
    let option = just(Token::Not)
        .or_not()
        .then(choice((from.boxed(), to.boxed(), transaction.boxed())))
        .map_with(|(not, what), extra| MatchOption {
            negated: not.is_some(),
            span: extra.span(),
            what,
        });
    let verdict = choice((
        word("action")
            .ignore_then(text("the name of an action"))
            .map(Verdict::Action),
        word("reject").to(Verdict::Reject),
    ));
    word("match")
        .then(option.repeated().collect())
        .then(verdict)
        .map(|((span, options), verdict)| Directive::Match(span, options, verdict))
        .boxed()
}

/// A criterion with a table, or with regular expressions, which are refused.
fn criterion<'t, I: Tokens<'t>>(
    keyword: &'static str,
    label: &'static str,
    make: fn(TableArgument) -> MatchWhat,
) -> Grammar<'t, I, MatchWhat> {
    let regex = refused("regex", table_argument(label).ignored()).map(MatchWhat::Unserved);
    word(keyword)
        .ignore_then(regex.or(table_argument(label).map(make)))
        .boxed()
}

/// A criterion that can do without a table.
fn optional<'t, I: Tokens<'t>>(
    keyword: &'static str,
    make: fn(Option<TableArgument>) -> MatchWhat,
) -> Grammar<'t, I, MatchWhat> {
    let regex = refused("regex", table_argument("a user").ignored()).map(MatchWhat::Unserved);
    word(keyword)
        .ignore_then(regex.or(table_argument("a user").or_not().map(make)))
        .boxed()
}

fn patterns<'t, I: Tokens<'t>>() -> Grammar<'t, I, ()> {
    word("regex")
        .or_not()
        .then(table_argument("a host name"))
        .ignored()
        .boxed()
}

/// A feature that is not served, with its arguments.
fn refused<'t, I: Tokens<'t>>(
    keyword: &'static str,
    arguments: impl Parser<'t, I, (), Extra<'t>> + 't,
) -> Grammar<'t, I, Unserved> {
    word(keyword)
        .then_ignore(arguments)
        .map(move |span| Unserved {
            word: keyword,
            span,
        })
        .boxed()
}

fn word<'t, I: Tokens<'t>>(keyword: &'static str) -> Grammar<'t, I, Span> {
    just(Token::Keyword(keyword))
        .map_with(|_, extra| extra.span())
        .boxed()
}

fn text<'t, I: Tokens<'t>>(label: &'static str) -> Grammar<'t, I, Word> {
    select! { Token::Text(text) => text }
        .map_with(|text, extra| Word {
            text,
            span: extra.span(),
        })
        .labelled(label)
        .boxed()
}

fn number<'t, I: Tokens<'t>>() -> Grammar<'t, I, At<i64>> {
    select! { Token::Number(number) => number }
        .map_with(|what, extra| At {
            what,
            span: extra.span(),
        })
        .labelled("a number")
        .boxed()
}

fn size<'t, I: Tokens<'t>>() -> Grammar<'t, I, Word> {
    let octets = number().map(|number| Word {
        text: number.what.to_string().into(),
        span: number.span,
    });
    text("a size such as 35M").or(octets).boxed()
}

fn literal(text: &str, span: Span) -> Word {
    Word {
        text: text.into(),
        span,
    }
}
