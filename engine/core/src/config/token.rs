//! Words, strings and marks of smtpd.conf (spec/smtpd.md 1.1).
//!
//! Promises: every octet of a text is covered by a token, a comment or a blank, so reading ends;
//! offsets are those of the text.
//! Absent on purpose: what the words mean, macros' values, included files.

use logos::{Lexer, Logos};
use std::fmt;

/// A token as it stands in a file.
#[derive(Logos, Clone, Debug, PartialEq, Eq)]
#[logos(skip(r"([ \t\r\f]|\\\r?\n)+"))]
#[logos(skip(r"#(\\\r?\n|\\|[^\\\n])*", allow_greedy = true))]
pub(super) enum RawToken {
    #[token("\n")]
    Newline,
    #[regex(r"-?[0-9]+", priority = 20)]
    Number,
    #[regex(
        r#"[A-Za-z0-9:_]([A-Za-z0-9"$%&'*+\-./:;?@\[\\\]^_`|~]|\\\r?\n)*"#,
        priority = 10
    )]
    Word,
    #[token("\"", |lexer| quoted(lexer, '"'))]
    #[token("'", |lexer| quoted(lexer, '\''))]
    Quoted(Option<Box<str>>),
    #[regex(r"\$[A-Za-z0-9_]*")]
    Macro,
    #[token("{")]
    Open,
    #[token("}")]
    Close,
    #[token("<")]
    Less,
    #[token(">")]
    Greater,
    #[token(",")]
    Comma,
    #[token("!")]
    Not,
    #[token("=")]
    #[token("=>")]
    Assign,
    #[token("(")]
    #[token(")")]
    Parenthesis,
    /// What may only stand in quotes.
    #[regex(
        r#"[^A-Za-z0-9:_ \t\r\n\f{}()<>,!=#$"'][^ \t\r\n\f{}()<>,!=#]*"#,
        priority = 1
    )]
    Stray,
}

/// Reads a quoted string behind its opening quote; `None` if the closing one is missing, and
/// then only the line is taken.
fn quoted(lexer: &mut Lexer<'_, RawToken>, quote: char) -> Option<Box<str>> {
    let rest = lexer.remainder();
    let mut text = String::new();
    let mut chars = rest.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => {
                lexer.bump(at + 1);
                return Some(text.into());
            }
            '\\' => match chars.peek() {
                Some((_, next)) if *next == quote || matches!(next, ' ' | '\t') => {
                    text.push(*next);
                    chars.next();
                }
                Some((_, '\n')) => {
                    chars.next();
                }
                _ => text.push('\\'),
            },
            '\n' => {}
            c => text.push(c),
        }
    }
    lexer.bump(rest.find('\n').unwrap_or(rest.len()));
    None
}

/// A token as the grammar sees it: macros are replaced, words and reserved words told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A reserved word.
    Keyword(&'static str),
    /// Any other word, or a string in quotes.
    Text(Box<str>),
    Number(i64),
    Open,
    Close,
    Less,
    Greater,
    Comma,
    Not,
    Assign,
    /// A line end inside braces.
    Newline,
    /// A parenthesis: no directive has one.
    Parenthesis,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keyword(word) => write!(f, "`{word}`"),
            Self::Text(text) => write!(f, "`{}`", text.escape_debug()),
            Self::Number(number) => write!(f, "`{number}`"),
            Self::Open => f.write_str("`{`"),
            Self::Close => f.write_str("`}`"),
            Self::Less => f.write_str("`<`"),
            Self::Greater => f.write_str("`>`"),
            Self::Comma => f.write_str("`,`"),
            Self::Not => f.write_str("`!`"),
            Self::Assign => f.write_str("`=`"),
            Self::Newline => f.write_str("end of line"),
            Self::Parenthesis => f.write_str("a parenthesis"),
        }
    }
}

/// The reserved word this is, if it is one. Reserved words are case sensitive.
pub(super) fn keyword(word: &str) -> Option<&'static str> {
    let at = KEYWORDS.binary_search(&word).ok()?;
    KEYWORDS.get(at).copied()
}

/// The reserved words of smtpd.conf, in order: those of the grammar, but not the keys of `limit`.
pub const fn reserved_words() -> &'static [&'static str] {
    KEYWORDS
}

/// Words that begin a directive.
pub(super) const DIRECTIVES: &[&str] = &[
    "action",
    "admd",
    "bounce",
    "ca",
    "filter",
    "include",
    "listen",
    "match",
    "mda",
    "mta",
    "mta-sts",
    "pki",
    "proc",
    "queue",
    "scheduler",
    "smtp",
    "srs",
    "table",
];

/// The reserved words, in order: those of the grammar, but not the keys of `limit`.
const KEYWORDS: &[&str] = &[
    "action",
    "admd",
    "alias",
    "any",
    "auth",
    "auth-optional",
    "backup",
    "bounce",
    "bypass",
    "ca",
    "cert",
    "chain",
    "chroot",
    "ciphers",
    "commit",
    "compression",
    "connect",
    "dane",
    "data",
    "dhe",
    "disconnect",
    "domain",
    "ehlo",
    "encryption",
    "expand-only",
    "fcrdns",
    "filter",
    "for",
    "forward-only",
    "from",
    "group",
    "helo",
    "helo-src",
    "host",
    "hostname",
    "hostnames",
    "include",
    "inet4",
    "inet6",
    "junk",
    "key",
    "limit",
    "listen",
    "lmtp",
    "local",
    "mail-from",
    "maildir",
    "mask-src",
    "masquerade",
    "match",
    "max-deferred",
    "max-message-size",
    "mbox",
    "mda",
    "mta",
    "mta-sts",
    "mx",
    "no-dsn",
    "no-verify",
    "on",
    "phase",
    "pki",
    "port",
    "proc",
    "proc-exec",
    "protocols",
    "proxy-v2",
    "queue",
    "rcpt-to",
    "rdns",
    "received-auth",
    "regex",
    "reject",
    "relay",
    "report",
    "rewrite",
    "scheduler",
    "senders",
    "smtp",
    "smtps",
    "socket",
    "src",
    "srs",
    "sub-addr-delim",
    "table",
    "tag",
    "tls",
    "tls-require",
    "trash-share",
    "trash-size",
    "trash-ttl",
    "ttl",
    "user",
    "userbase",
    "verify",
    "virtual",
    "warn-interval",
    "wrapper",
];
