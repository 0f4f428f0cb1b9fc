//! Format specifiers in Maildir paths and delivery commands: `%{name[range]:modifier|modifier}`.
//!
//! Promises: a value that a sender can choose reaches a path or a shell only with its dangerous
//! characters replaced by `:`, unless the administrator wrote `raw`; the result is bounded.
//! Absent on purpose: the shell. Quoting is the administrator's.
//! Fails: with [`FormatError`]; a delivery that meets one fails.

use crate::addr::Address;
use std::fmt;

/// The values specifiers stand for.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Return path.
    pub sender: &'a Address,
    /// Recipient as given in RCPT.
    pub rcpt: &'a Address,
    /// Recipient after expansion.
    pub dest: &'a Address,
    /// Name of the user.
    pub user: &'a str,
    /// Home directory of the user.
    pub directory: &'a str,
    /// Character between a user and a sub-address.
    pub delimiter: char,
}

/// Why a template cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormatError {
    /// A `%{` without its `}`.
    Unclosed,
    /// A `%` that begins nothing.
    Stray,
    /// No value has this name.
    UnknownName(String),
    /// No modifier has this name.
    UnknownModifier(String),
    /// The range is not numbers, or lies outside the value.
    Range(String),
    /// The result is longer than [`EXPANDED_MAX`] octets.
    TooLong,
}

/// Longest result, in octets (spec/smtpd.md: expansion buffer).
pub const EXPANDED_MAX: usize = 1024;

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unclosed => f.write_str("`%{` without `}`"),
            Self::Stray => f.write_str("`%` must begin `%{name}` or `%%`"),
            Self::UnknownName(name) => {
                write!(f, "unknown format specifier: {}", name.escape_debug())
            }
            Self::UnknownModifier(name) => {
                write!(f, "unknown modifier: {}", name.escape_debug())
            }
            Self::Range(range) => {
                write!(f, "range outside the value: [{}]", range.escape_debug())
            }
            Self::TooLong => f.write_str("longer than 1024 octets after expansion"),
        }
    }
}

impl std::error::Error for FormatError {}

/// The names there are (spec/smtpd.md 5.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Sender(Part),
    Rcpt(Part),
    Dest(Part),
    Username,
    Directory,
    MboxFrom,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    User,
    Domain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Modifier {
    Lowercase,
    Uppercase,
    Strip,
    Raw,
}

/// First and last character, as written; negative ones count from the end.
#[derive(Clone, Copy, Debug)]
struct Slice<'t> {
    text: &'t str,
    begin: i32,
    end: End,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Single,
    Last,
    At(i32),
}

#[derive(Debug)]
struct Specifier<'t> {
    name: Name,
    slice: Option<Slice<'t>>,
    modifiers: Vec<Modifier>,
}

enum Piece<'t> {
    Text(&'t str),
    Home,
    Value(Specifier<'t>),
}

/// Replaces the specifiers of a template by their values. A leading `~/` is the user's home.
pub fn expand(template: &str, context: &Context<'_>) -> Result<String, FormatError> {
    let mut out = String::new();
    pieces(template, |piece| {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Home => out.push_str(context.directory),
            Piece::Value(specifier) => out.push_str(&value(&specifier, context)?),
        }
        if out.len() > EXPANDED_MAX {
            return Err(FormatError::TooLong);
        }
        Ok(())
    })?;
    Ok(out)
}

/// Checks a template without values: names, modifiers and the form of ranges.
pub fn check(template: &str) -> Result<(), FormatError> {
    pieces(template, |_| Ok(()))
}

fn pieces<'t>(
    template: &'t str,
    mut take: impl FnMut(Piece<'t>) -> Result<(), FormatError>,
) -> Result<(), FormatError> {
    let mut rest = template;
    if rest.starts_with("~/") {
        take(Piece::Home)?;
        rest = rest.get(1..).unwrap_or_default();
    }
    while let Some((text, tail)) = rest.split_once('%') {
        take(Piece::Text(text))?;
        rest = if let Some(tail) = tail.strip_prefix('%') {
            take(Piece::Text("%"))?;
            tail
        } else if let Some(tail) = tail.strip_prefix('{') {
            let (inside, tail) = tail.split_once('}').ok_or(FormatError::Unclosed)?;
            take(Piece::Value(specifier(inside)?))?;
            tail
        } else {
            return Err(FormatError::Stray);
        };
    }
    take(Piece::Text(rest))
}

fn specifier(inside: &str) -> Result<Specifier<'_>, FormatError> {
    // A colon separates the bounds of a range too, so the range goes first.
    let (name, slice, modifiers) = match inside.split_once('[') {
        Some((name, tail)) => {
            let (range, tail) = tail
                .split_once(']')
                .ok_or_else(|| FormatError::Range(tail.to_owned()))?;
            let modifiers = match tail.strip_prefix(':') {
                Some(modifiers) => Some(modifiers),
                None if tail.is_empty() => None,
                None => return Err(FormatError::UnknownModifier(tail.to_owned())),
            };
            (name, Some(slice(range)?), modifiers)
        }
        None => match inside.split_once(':') {
            Some((name, modifiers)) => (name, None, Some(modifiers)),
            None => (inside, None, None),
        },
    };
    let modifiers = modifiers.map_or_else(
        || Ok(Vec::new()),
        |list| list.split('|').map(modifier).collect(),
    )?;
    Ok(Specifier {
        name: self::name(name)?,
        slice,
        modifiers,
    })
}

fn name(name: &str) -> Result<Name, FormatError> {
    Ok(match name {
        "sender" => Name::Sender(Part::Whole),
        "sender.user" => Name::Sender(Part::User),
        "sender.domain" => Name::Sender(Part::Domain),
        "rcpt" => Name::Rcpt(Part::Whole),
        "rcpt.user" => Name::Rcpt(Part::User),
        "rcpt.domain" => Name::Rcpt(Part::Domain),
        "dest" => Name::Dest(Part::Whole),
        "dest.user" => Name::Dest(Part::User),
        "dest.domain" => Name::Dest(Part::Domain),
        "user.username" => Name::Username,
        "user.directory" => Name::Directory,
        "mbox.from" => Name::MboxFrom,
        other => return Err(FormatError::UnknownName(other.to_owned())),
    })
}

fn modifier(name: &str) -> Result<Modifier, FormatError> {
    Ok(match name {
        "lowercase" => Modifier::Lowercase,
        "uppercase" => Modifier::Uppercase,
        "strip" => Modifier::Strip,
        "raw" => Modifier::Raw,
        other => return Err(FormatError::UnknownModifier(other.to_owned())),
    })
}

fn slice(text: &str) -> Result<Slice<'_>, FormatError> {
    let number = |digits: &str| {
        let parsed = digits.parse::<i32>();
        parsed.map_err(|_| FormatError::Range(text.to_owned()))
    };
    let (begin, end) = match text.split_once(':') {
        None => (number(text)?, End::Single),
        Some((begin, "")) => (number(begin)?, End::Last),
        Some((begin, end)) => (number(begin)?, End::At(number(end)?)),
    };
    Ok(Slice { text, begin, end })
}

fn value(specifier: &Specifier<'_>, context: &Context<'_>) -> Result<String, FormatError> {
    let part = |address: &Address, part| match part {
        Part::Whole => address.as_str().to_owned(),
        Part::User => address.local().to_owned(),
        Part::Domain => address.domain().to_owned(),
    };
    let mut text = match specifier.name {
        Name::Sender(which) => part(context.sender, which),
        Name::Rcpt(which) => part(context.rcpt, which),
        Name::Dest(which) => part(context.dest, which),
        Name::Username => context.user.to_owned(),
        Name::Directory => context.directory.to_owned(),
        Name::MboxFrom if context.sender.is_null() => "MAILER-DAEMON".to_owned(),
        Name::MboxFrom => context.sender.as_str().to_owned(),
    };
    for modifier in &specifier.modifiers {
        match modifier {
            Modifier::Lowercase => text = text.to_lowercase(),
            Modifier::Uppercase => text = text.to_uppercase(),
            Modifier::Strip => text = strip(&text, context.delimiter),
            Modifier::Raw => {}
        }
    }
    if let Some(slice) = specifier.slice {
        text = cut(&text, slice)?;
    }
    if specifier.name != Name::Directory && !specifier.modifiers.contains(&Modifier::Raw) {
        text = text
            .chars()
            .map(|c| if is_dangerous(c) { ':' } else { c })
            .collect();
    }
    Ok(text)
}

fn strip(text: &str, delimiter: char) -> String {
    let (local, domain) = match text.rfind('@').and_then(|at| text.split_at_checked(at)) {
        Some((local, domain)) => (local, domain),
        None => (text, ""),
    };
    format!("{}{domain}", super::table::base(local, delimiter))
}

/// The part between the bounds. The end is inclusive; a negative one says how many characters to
/// leave out at the end; one beyond the end is the end.
fn cut(text: &str, slice: Slice<'_>) -> Result<String, FormatError> {
    let outside = || FormatError::Range(slice.text.to_owned());
    let length = i32::try_from(text.chars().count()).map_err(|_| FormatError::TooLong)?;
    if length == 0 {
        return Ok(String::new());
    }
    let begin = if slice.begin < 0 {
        length.saturating_add(slice.begin)
    } else {
        slice.begin
    };
    let end = match slice.end {
        End::Single => begin.saturating_add(1),
        End::Last => length,
        End::At(end) if end < 0 => length.saturating_add(end),
        End::At(end) => end.saturating_add(1).min(length),
    };
    let begin = usize::try_from(begin).map_err(|_| outside())?;
    let end = usize::try_from(end).map_err(|_| outside())?;
    if begin >= end || slice.begin >= length {
        return Err(outside());
    }
    Ok(text.chars().skip(begin).take(end - begin).collect())
}

/// What may mean something to a shell, or lead out of a directory. Quoted local parts can hold
/// all of it.
fn is_dangerous(c: char) -> bool {
    c.is_whitespace() || c.is_control() || "!#$%&'*?`{|}~\"\\;()<>,/".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_expansion(rcpt: &str, template: &str, want: &str) {
        let rcpt: Address = rcpt.parse().unwrap();
        let context = Context {
            sender: &Address::null(),
            rcpt: &rcpt,
            dest: &rcpt,
            user: "bob",
            directory: "/home/bob",
            delimiter: '+',
        };
        let got = expand(template, &context).unwrap_or_else(|why| format!("error: {why}"));
        assert_eq!(got, want, "{template}");
    }

    #[test]
    fn names_ranges_and_modifiers_give_what_the_manual_says() {
        let check = |template, want| check_expansion("User+Tag@example.org", template, want);
        check("~/Maildir", "/home/bob/Maildir");
        check("%{rcpt}", "User+Tag@example.org");
        check("%{rcpt.domain[0]}", "e");
        check("%{rcpt.domain[1]}", "x");
        check("%{rcpt.domain[-1]}", "g");
        check("%{rcpt.domain[-2]}", "r");
        check("%{rcpt.domain[8:]}", "org");
        check("%{rcpt.domain[-3:]}", "org");
        check("%{rcpt.domain[0:6]}", "example");
        check("%{rcpt.domain[0:-4]}", "example");
        check("%{rcpt.domain[0:99]}", "example.org");
        check("%{rcpt:lowercase}", "user+tag@example.org");
        check("%{rcpt:uppercase}", "USER+TAG@EXAMPLE.ORG");
        check("%{rcpt:strip}", "User@example.org");
        check("%{dest.user:lowercase|strip}", "user");
        check("%{sender}|%{mbox.from}", "|MAILER-DAEMON");
        check("%{user.directory}/%{user.username}%%", "/home/bob/bob%");
    }

    #[test]
    fn faults_of_a_template_are_named() {
        let check = |template, want| check_expansion("a@b.c", template, want);
        check("%{rcpt", "error: `%{` without `}`");
        check("50%", "error: `%` must begin `%{name}` or `%%`");
        check("%{home}", "error: unknown format specifier: home");
        check("%{rcpt:upper}", "error: unknown modifier: upper");
        check("%{rcpt[9]}", "error: range outside the value: [9]");
        check("%{rcpt[-9:]}", "error: range outside the value: [-9:]");
        check("%{rcpt[x]}", "error: range outside the value: [x]");
        check(
            "%{rcpt[2147483647:2147483647]}",
            "error: range outside the value: [2147483647:2147483647]",
        );
        check(
            &"%{rcpt}".repeat(300),
            "error: longer than 1024 octets after expansion",
        );
    }

    #[test]
    fn nothing_a_sender_chooses_reaches_the_shell() {
        let check = |rcpt, template, want| check_expansion(rcpt, template, want);
        check("user+t?g@example.org", "%{rcpt}", "user+t:g@example.org");
        check(
            "user+t?g@example.org",
            "%{rcpt:raw}",
            "user+t?g@example.org",
        );
        check("`id`|{x}&@b.c", "%{rcpt.user}", ":id:::x::");
        check(
            "\"../../x; rm $HOME\"@b.c",
            "%{rcpt.user}",
            ":..:..:x::rm::HOME:",
        );
    }
}
