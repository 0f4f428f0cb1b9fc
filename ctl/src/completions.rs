//! `completions`: scripts with which bash, zsh and fish complete smtpctl's words.
//!
//! Promises: made from the command table and the options alone, so that they cannot name what is
//! not there; abbreviated words lead on as they do in the grammar.
//! Absent on purpose: ids and names of what is queued, which would take a question to the daemon
//! for every key pressed.

use crate::commands::COMMANDS;
use crate::console::Console;
use crate::options::{self, Known, Options, ValueKind};
use crate::parse::Parsed;
use std::fmt::Write as _;

/// A place on the command line: the words so far, values as `*`.
#[derive(Debug, Default)]
struct Place {
    words: String,
    next: Vec<&'static str>,
    value: bool,
    options: Vec<&'static str>,
}

/// Prints the script for the shell that the command names.
pub(crate) fn serve(console: &mut Console, _: &Options, parsed: &Parsed) {
    let places = places();
    let options = options::known();
    let script = match parsed.path.rsplit(' ').next() {
        Some("bash") => bash(&places, &options),
        Some("zsh") => zsh(&places, &options),
        _ => fish(&places, &options),
    };
    console.print(script.as_bytes());
}

/// Every place that the table makes, in its order.
fn places() -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for command in COMMANDS {
        for pattern in command.patterns {
            let mut words = String::new();
            for token in pattern.split(' ') {
                let place = place(&mut places, &words);
                let value = token.starts_with('<');
                if value {
                    place.value = true;
                } else if !place.next.contains(&token) {
                    place.next.push(token);
                }
                if !words.is_empty() {
                    words.push(' ');
                }
                words.push_str(if value { "*" } else { token });
            }
            let options = &mut place(&mut places, &words).options;
            options.extend(command.options);
            options.dedup();
        }
    }
    places
}

fn place<'a>(places: &'a mut Vec<Place>, words: &str) -> &'a mut Place {
    let at = places.iter().position(|place| place.words == words);
    let at = at.unwrap_or_else(|| {
        places.push(Place {
            words: words.to_owned(),
            ..Place::default()
        });
        places.len().saturating_sub(1)
    });
    &mut places[at]
}

impl Place {
    /// The words that can follow, `*` among them for a value.
    fn followers(&self) -> String {
        let value = self.value.then_some("*");
        let words: Vec<_> = self.next.iter().copied().chain(value).collect();
        words.join(" ")
    }

    /// The long options that can stand here.
    fn options(&self, options: &[Known]) -> String {
        let here = options
            .iter()
            .filter(|known| known.general || self.options.contains(&known.long.as_str()));
        let long: Vec<_> = here.map(|known| format!("--{}", known.long)).collect();
        long.join(" ")
    }
}

/// The names of an option: `--socket`, `-s`.
fn names(known: &Known) -> Vec<String> {
    let short = known.short.map(|short| format!("-{short}"));
    std::iter::once(format!("--{}", known.long))
        .chain(short)
        .collect()
}

/// The names of all options with a value.
fn valued(options: &[Known], separator: &str) -> String {
    let valued = options
        .iter()
        .filter(|known| !matches!(known.value, ValueKind::None));
    let names: Vec<_> = valued.flat_map(names).collect();
    names.join(separator)
}

fn bash(places: &[Place], options: &[Known]) -> String {
    let mut table = String::new();
    for place in places {
        let _ = writeln!(
            table,
            "        \"{}\") next=\"{}\" options=\"{}\" ;;",
            place.words,
            place.followers(),
            place.options(options)
        );
    }
    let mut values = String::new();
    for known in options {
        let reply = match &known.value {
            ValueKind::None | ValueKind::Free => continue,
            ValueKind::File => "$(compgen -f -- \"$cur\")".to_owned(),
            ValueKind::OneOf(words) => format!("$(compgen -W \"{}\" -- \"$cur\")", words.join(" ")),
        };
        let names = names(known).join(" | ");
        let _ = writeln!(values, "            {names}) COMPREPLY=({reply}) ;;");
    }
    format!(
        r#"# bash completion for smtpctl(8), printed by `smtpctl completions bash`.

_smtpctl_place() {{
    next= options=
    case $1 in
{table}    esac
}}

_smtpctl() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} place= skip= next options word child found i
    local IFS=$' \t\n'
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${{COMP_WORDS[i]}}
        if [[ $word == "=" ]]; then
            continue
        fi
        if [[ -n $skip ]]; then
            skip=
            continue
        fi
        case $word in
            {valued}) skip=$word; continue ;;
            -*) continue ;;
        esac
        _smtpctl_place "$place"
        found=
        set -f
        for child in $next; do
            if [[ $child == "$word" ]]; then
                found=$child
                break
            fi
            if [[ $child == "$word"* ]]; then
                # A second one makes the beginning ambiguous.
                found=${{found:+?}}
                found=${{found:-$child}}
            fi
        done
        if [[ -z $found && " $next " == *" * "* ]]; then
            found="*"
        fi
        set +f
        place=${{place:+$place }}${{found:-?}}
    done
    if [[ $cur == "=" ]]; then
        cur=
    fi
    if [[ -n $skip ]]; then
        case $skip in
{values}        esac
        return
    fi
    _smtpctl_place "$place"
    if [[ $cur == -* ]]; then
        next=$options
    fi
    next=${{next//\*/}}
    COMPREPLY=($(compgen -W "$next" -- "$cur"))
}}

complete -F _smtpctl smtpctl
"#,
        valued = valued(options, " | "),
    )
}

fn zsh(places: &[Place], options: &[Known]) -> String {
    let mut table = String::new();
    for place in places {
        let _ = writeln!(
            table,
            "        (\"{}\") next=({}) options=({}) ;;",
            place.words,
            place.followers().replace('*', "'*'"),
            place.options(options)
        );
    }
    let mut values = String::new();
    for known in options {
        let act = match &known.value {
            ValueKind::None | ValueKind::Free => continue,
            ValueKind::File => "_files".to_owned(),
            ValueKind::OneOf(words) => format!("compadd -- {}", words.join(" ")),
        };
        let names = names(known).join("|");
        let _ = writeln!(values, "            ({names}) {act} ;;");
    }
    format!(
        r#"#compdef smtpctl
# zsh completion for smtpctl(8), printed by `smtpctl completions zsh`.

_smtpctl_place() {{
    next=() options=()
    case $1 in
{table}    esac
}}

_smtpctl() {{
    local place= skip= word child found
    local -a next options
    for word in "${{(@)words[2,CURRENT-1]}}"; do
        if [[ -n $skip ]]; then
            skip=
            continue
        fi
        case $word in
            ({valued}) skip=$word; continue ;;
            (-*) continue ;;
        esac
        _smtpctl_place "$place"
        found=
        for child in $next; do
            if [[ $child == "$word" ]]; then
                found=$child
                break
            fi
            if [[ $child == "$word"* ]]; then
                # A second one makes the beginning ambiguous.
                found=${{found:+?}}
                found=${{found:-$child}}
            fi
        done
        if [[ -z $found && -n ${{next[(r)\*]}} ]]; then
            found='*'
        fi
        place=${{place:+$place }}${{found:-?}}
    done
    if [[ -n $skip ]]; then
        case $skip in
{values}        esac
        return
    fi
    _smtpctl_place "$place"
    if [[ ${{words[CURRENT]}} == -* ]]; then
        compadd -- $options
    else
        compadd -- ${{next:#\*}}
    fi
}}

if [[ $funcstack[1] == _smtpctl ]]; then
    _smtpctl "$@"
elif (( $+functions[compdef] )); then
    compdef _smtpctl smtpctl
fi
"#,
        valued = valued(options, "|"),
    )
}

fn fish(places: &[Place], options: &[Known]) -> String {
    let mut table = String::new();
    for place in places {
        let _ = writeln!(
            table,
            "        case '{}'\n            string split ' ' -- {}",
            place.words.replace('*', "\\*"),
            // One list, told apart by the dashes.
            quoted(&format!("{} {}", place.followers(), place.options(options)))
        );
    }
    let mut lines = String::new();
    for known in options {
        let short = known
            .short
            .map_or(String::new(), |short| format!(" -s {short}"));
        let value = match &known.value {
            ValueKind::None => String::new(),
            ValueKind::Free => " -x".to_owned(),
            ValueKind::File => " -r -F".to_owned(),
            ValueKind::OneOf(words) => format!(" -x -a {}", quoted(&words.join(" "))),
        };
        let _ = writeln!(
            lines,
            "complete -c smtpctl -n '__smtpctl_next | string match -q -- --{long}' -l {long}{short}{value} -d {help}",
            long = known.long,
            help = quoted(&known.help),
        );
    }
    format!(
        r#"# fish completion for smtpctl(8), printed by `smtpctl completions fish`.

function __smtpctl_place
    switch "$argv[1]"
{table}    end
end

function __smtpctl_next
    set -l place ''
    set -l skip
    for word in (commandline -opc)[2..-1]
        if test -n "$skip"
            set skip
            continue
        end
        switch $word
            case {valued}
                set skip yes
                continue
            case '-*'
                continue
        end
        set -l found
        for child in (__smtpctl_place "$place")
            if test "$child" = "$word"
                set found $child
                break
            end
            if test (string sub -l (string length -- "$word") -- "$child") = "$word"
                set -a found $child
            end
        end
        if test (count $found) -eq 0; and contains -- '*' (__smtpctl_place "$place")
            set found '*'
        end
        if test (count $found) -ne 1
            set found '?'
        end
        set place (string trim -- "$place $found")
    end
    __smtpctl_place "$place"
end

complete -c smtpctl -f -a '(__smtpctl_next | string match -v -- "-*" | string match -v -- "\\*")'
{lines}"#,
        valued = valued(options, " "),
    )
}

/// A word of fish, whatever is in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
