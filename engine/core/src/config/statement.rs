//! From files to directives: macros are replaced, included files spliced in, lines joined.
//!
//! Promises: a fault in one directive leaves the next one alone; reading ends, whatever files
//! include each other.
//! Absent on purpose: what directives mean, and how files are read: a loader does that.

use super::source::{Report, Span};
use super::token::{DIRECTIVES, RawToken, Token, keyword};
use super::{Input, Loader};
use logos::Logos;
use std::collections::BTreeMap;

/// A directive: its tokens, with line ends kept inside braces only.
#[derive(Debug)]
pub(super) struct Statement {
    /// Not empty.
    pub(super) tokens: Vec<(Token, Span)>,
    /// A fault was reported already: do not parse it.
    pub(super) spoiled: bool,
}

/// Longest token, in octets (spec/smtpd.md 1.1).
const TOKEN_MAX: usize = 8095;

/// Reads the main file and all it includes into directives.
pub(super) fn read(
    report: &mut Report,
    input: &Input<'_>,
    loader: Loader<'_>,
    includes_max: usize,
) -> Vec<Statement> {
    let mut reader = Reader {
        report,
        loader,
        includes_left: includes_max,
        open: Vec::new(),
        macros: BTreeMap::new(),
        statements: Vec::new(),
    };
    for (name, value) in input.macros {
        reader.define_outside(name, value);
    }
    reader.file(input.file, input.text);
    reader.report_unused();
    reader.statements
}

#[derive(Debug)]
struct Macro {
    value: String,
    defined: Span,
    used: bool,
    /// From the command line, which wins over the file.
    outside: bool,
}

struct Reader<'a, 'l> {
    report: &'a mut Report,
    loader: Loader<'l>,
    includes_left: usize,
    /// Files being read, outermost first.
    open: Vec<String>,
    macros: BTreeMap<String, Macro>,
    statements: Vec<Statement>,
}

/// The directive being read.
#[derive(Default)]
struct Current {
    tokens: Vec<(Token, Span)>,
    /// Braces that are open.
    braces: Vec<Span>,
    /// Whether the last token was a line end inside braces.
    fresh: bool,
    spoiled: bool,
}

impl Reader<'_, '_> {
    fn define_outside(&mut self, name: &str, value: &str) {
        let base = self.report.add_file("-D", &format!("{name}={value}"));
        let span = Span::from(base..base + name.len());
        if !is_macro_name(name) {
            let fault = self.report.error(
                span,
                "not the name of a macro",
                "letters, digits and `_` only",
            );
            fault.help("write -D name=value");
        }
        let value = value.to_owned();
        let made = Macro {
            value,
            defined: span,
            used: false,
            outside: true,
        };
        self.macros.insert(name.to_owned(), made);
    }

    fn file(&mut self, name: &str, text: &str) {
        let base = self.report.add_file(name, text);
        self.open.push(name.to_owned());
        let mut lexer = RawToken::lexer(text);
        let mut current = Current::default();
        while let Some(raw) = lexer.next() {
            let range = lexer.span();
            let span = Span::from(base + range.start..base + range.end);
            match raw {
                Ok(RawToken::Macro) => {
                    let following = word_run(lexer.remainder());
                    self.expand(lexer.slice(), following, span, &mut current);
                    lexer.bump(following.len());
                }
                Ok(raw) => {
                    let after = lexer.remainder().chars().next();
                    self.token(raw, lexer.slice(), after, span, &mut current);
                }
                Err(()) => self.stray(lexer.slice(), span, &mut current),
            }
        }
        self.close_braces(&mut current);
        self.finish(&mut current);
        self.open.pop();
    }

    /// Replaces `$name` by its value, which is read again. What follows without a blank belongs
    /// to the value's last word.
    fn expand(&mut self, slice: &str, following: &str, span: Span, current: &mut Current) {
        let name = slice.trim_start_matches('$');
        let Some(found) = self.macros.get_mut(name) else {
            let message = if name.is_empty() {
                "a macro has a name".to_owned()
            } else {
                format!("no macro is named `{name}`")
            };
            let fault = self
                .report
                .error(span, message, "not defined before this line");
            fault.help(format!(
                "define it above with {name} = \"value\", or put the word in quotes"
            ));
            current.spoiled = true;
            current.tokens.push((Token::Text(name.into()), span));
            return;
        };
        found.used = true;
        let text = format!("{}{following}", found.value);
        let span = Span::from(span.start..span.end + following.len());
        let mut lexer = RawToken::lexer(&text);
        while let Some(raw) = lexer.next() {
            let after = lexer.remainder().chars().next();
            match raw {
                Ok(RawToken::Newline) => {}
                Ok(RawToken::Macro) | Err(()) => self.stray(lexer.slice(), span, current),
                Ok(raw) => self.token(raw, lexer.slice(), after, span, current),
            }
        }
    }

    fn token(
        &mut self,
        raw: RawToken,
        slice: &str,
        after: Option<char>,
        span: Span,
        current: &mut Current,
    ) {
        if slice.len() > TOKEN_MAX {
            let message = format!("a word of more than {TOKEN_MAX} octets");
            self.report.error(span, message, "too long");
            current.spoiled = true;
        }
        let token = match raw {
            RawToken::Newline if current.braces.is_empty() => {
                self.finish(current);
                return;
            }
            RawToken::Newline => Token::Newline,
            RawToken::Number => self.number(slice, after, span),
            RawToken::Word => word(slice),
            RawToken::Quoted(Some(text)) => Token::Text(text),
            RawToken::Quoted(None) => {
                let fault = self
                    .report
                    .error(span, "a quote that is never closed", "opened here");
                fault.help("close the string with the same quote");
                current.spoiled = true;
                Token::Text(slice.into())
            }
            RawToken::Open => {
                current.braces.push(span);
                Token::Open
            }
            RawToken::Close => {
                current.braces.pop();
                Token::Close
            }
            RawToken::Less => Token::Less,
            RawToken::Greater => Token::Greater,
            RawToken::Comma => Token::Comma,
            RawToken::Not => Token::Not,
            RawToken::Assign => Token::Assign,
            RawToken::Parenthesis => Token::Parenthesis,
            RawToken::Macro | RawToken::Stray => {
                self.stray(slice, span, current);
                return;
            }
        };
        // No reserved word stands inside braces: a directive here means they were left open.
        let directive = matches!(token, Token::Keyword(word) if DIRECTIVES.contains(&word));
        if current.fresh && directive {
            self.close_braces(current);
            self.finish(current);
        }
        current.fresh = token == Token::Newline;
        current.tokens.push((token, span));
    }

    fn number(&mut self, slice: &str, after: Option<char>, span: Span) -> Token {
        let ends = |c: char| c.is_ascii_whitespace() || "),/}=".contains(c);
        if !after.is_none_or(ends) {
            return Token::Text(slice.into());
        }
        Token::Number(slice.parse().unwrap_or_else(|_| {
            self.report
                .error(span, format!("the number {slice} is out of range"), "");
            0
        }))
    }

    /// Text that may only stand in quotes. It is taken as if it did.
    fn stray(&mut self, slice: &str, span: Span, current: &mut Current) {
        let first = slice.chars().next().unwrap_or(' ');
        // `h` and what follows it without a blank were meant as one word.
        let before = match current.tokens.pop() {
            Some((Token::Text(text), at)) if at.end == span.start => Some((text, at)),
            other => {
                current.tokens.extend(other);
                None
            }
        };
        let (text, span, where_) = match before {
            Some((text, at)) => {
                let span = Span::from(at.start..span.end);
                (format!("{text}{slice}"), span, "hold")
            }
            None => (slice.to_owned(), span, "begin with"),
        };
        let message = format!("a word cannot {where_} `{}`", first.escape_debug());
        let fault = self.report.error(span, message, "must be in quotes");
        fault.help(format!("write \"{text}\""));
        current.fresh = false;
        current.spoiled |= current.tokens.is_empty();
        current.tokens.push((Token::Text(text.into()), span));
    }

    fn close_braces(&mut self, current: &mut Current) {
        for brace in current.braces.drain(..) {
            let fault = self
                .report
                .error(brace, "a brace that is never closed", "opened here");
            fault.help("close the list with `}`");
            current.spoiled = true;
        }
    }

    /// Ends a directive: macros and includes are carried out, all others are kept.
    fn finish(&mut self, current: &mut Current) {
        let Current {
            tokens, spoiled, ..
        } = std::mem::take(current);
        match tokens.as_slice() {
            [] => {}
            [(name, at), (Token::Assign, _), value @ ..] if !spoiled => {
                self.define(name, *at, value);
            }
            [(Token::Keyword("include"), at), path @ ..] if !spoiled => self.include(*at, path),
            _ => self.statements.push(Statement { tokens, spoiled }),
        }
    }

    fn define(&mut self, name: &Token, at: Span, value: &[(Token, Span)]) {
        let Token::Text(name) = name else {
            let message = format!("{name} cannot be the name of a macro");
            let fault = self.report.error(at, message, "reserved");
            fault.help("choose another name: letters, digits and `_`");
            return;
        };
        if !is_macro_name(name) {
            let message = format!("`{}` cannot be the name of a macro", name.escape_debug());
            let fault = self.report.error(at, message, "never found by $name");
            fault.help("use letters, digits and `_` only");
        }
        let [(Token::Text(value), _)] = value else {
            let found = value
                .iter()
                .map(|(_, span)| *span)
                .reduce(|a, b| Span::from(a.start..b.end.max(a.start)));
            let fault = self.report.error(
                found.unwrap_or_else(|| Span::from(at.end..at.end)),
                "the value of a macro must be one word",
                "not one word",
            );
            fault.help(format!("put the value in quotes: {name} = \"value\""));
            return;
        };
        if self.macros.get(&**name).is_some_and(|old| old.outside) {
            return;
        }
        let made = Macro {
            value: value.to_string(),
            defined: at,
            used: false,
            outside: false,
        };
        self.macros.insert(name.to_string(), made);
    }

    fn include(&mut self, at: Span, path: &[(Token, Span)]) {
        let [(Token::Text(path), span)] = path else {
            let fault = self
                .report
                .error(at, "`include` takes one path", "expected one path");
            fault.help("write include \"/path/of/file\"");
            return;
        };
        let span = *span;
        if self.open.iter().any(|open| **open == **path) {
            let message = format!("`{}` includes itself", path.escape_debug());
            let fault = self
                .report
                .error(span, message, "this file is being read already");
            fault.help("remove one of the include lines that lead back here");
            return;
        }
        if self.includes_left == 0 {
            let fault = self
                .report
                .error(span, "too many included files", "not read");
            fault.help("include each file once");
            return;
        }
        self.includes_left -= 1;
        match (self.loader)(path) {
            Ok(text) => self.file(path, &text),
            Err(why) => {
                let message = format!("cannot read `{}`: {why}", path.escape_debug());
                let fault = self.report.error(span, message, "included here");
                fault.help("make the file readable, or remove this line");
            }
        }
    }

    fn report_unused(&mut self) {
        for (name, unused) in self.macros.iter().filter(|(_, made)| !made.used) {
            let message = format!("the macro `{name}` is never used");
            self.report.warning(unused.defined, message, "");
        }
    }
}

fn is_macro_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A word with its line joins taken out; reserved words are told apart.
fn word(slice: &str) -> Token {
    let joined;
    let text = if slice.contains('\n') {
        joined = slice.replace("\\\r\n", "").replace("\\\n", "");
        &*joined
    } else {
        slice
    };
    keyword(text).map_or_else(|| Token::Text(text.into()), Token::Keyword)
}

/// The characters at the start of the text that can go on a word.
fn word_run(text: &str) -> &str {
    let ends = |c: char| {
        let allowed = c.is_ascii_alphanumeric()
            || (c.is_ascii_punctuation() && !"(){}<>!=#,\\\"'".contains(c));
        !allowed
    };
    let end = text.find(ends).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}
