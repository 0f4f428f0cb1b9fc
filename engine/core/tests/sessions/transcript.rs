//! Transcripts (`*.smtp`): each reads like the protocol, and is played with the client's octets
//! cut in several ways.
//!
//! `C:` the client sends a line, `C|` octets with the escapes `\r \n \t \\ \xNN` and `{A*9}` for
//! repetition; lines in a row are pipelined. `S:` we say exactly this, `S>` this at
//! last. `M:` a line of the content
//! last committed; if there is one, all must be there. `@` is what is not octets:
//!
//! `given WHAT`, before all else: `local`, `authenticated USER`, `no-dsn`, `mask-src`,
//! `source IP`, `rdns NAME`, `limit NAME NUMBER`, `starttls`, `tls-require`, `smtps`, `verified`
//! (with a certificate), `auth`, `auth-optional`, `received-auth`; and where to start: `greeted` (after EHLO),
//! `mail` (after MAIL FROM:<a@example.org>, id 00000001), `rcpt` (after RCPT TO:<b@example.net>
//! as well), `data` (after 354).
//! Then: `disk full`, `reserve ID`, `expand <SENDER> <RCPT> -> DEST..`, `commit ID N octets N envelopes`, each with
//! `-> REPLY` instead to refuse it (`utf8` behind a commit: the content needs SMTPUTF8); `rcpt ADDRESS`, any `expand` to itself; `spooled`, if the
//! content was in a temporary file; `committed`, `discard ID`, `close REASON`, `gone`, `stop`,
//! `starttls` (the handshake is asked for), `secured` (it is done), `authenticate USER PASSWORD`
//! with `-> known`, `-> unknown`, `-> unknown +5s` (to be held back) or `-> REPLY`,
//! `+5m`, and `log TEXT` for the next note that is like it.

use crate::driver::{self, Driver, Seen, Taken};
use redspool_core::limits::Limits;
use redspool_core::smtp::session::{Auth, Event, Note, Params, Settings, Starttls, Verdict};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[test]
fn transcripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sessions");
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "smtp"))
        .collect();
    names.sort();
    assert!(names.len() > 20, "transcripts are missing");
    let mut failures = String::new();
    for path in names {
        let text = std::fs::read_to_string(&path).unwrap();
        for step in [usize::MAX, 1, 2, 5, 64] {
            if let Err(failure) = play(&text, step) {
                let name = path.file_name().unwrap().display();
                writeln!(failures, "{name}:{failure} (reads of {step})").unwrap();
                break;
            }
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

/// Plays one transcript; says which line was not as it should be.
fn play(text: &str, step: usize) -> Result<(), String> {
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .peekable();
    let mut params = driver::params(Limits::default());
    let mut start = None;
    while let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with("@ given ")) {
        let what = line.trim_start_matches("@ given ");
        match STARTS.iter().position(|(name, _)| *name == what) {
            Some(place) => start = Some(place),
            None => given(&mut params, what),
        }
    }
    let mut player = Player {
        driver: Driver::new(params, step),
        content: None,
        shown: false,
        spooled: false,
        pipelined: false,
    };
    let starts = STARTS.iter().take(start.map_or(0, |place| place + 1));
    for line in starts.flat_map(|(_, lines)| lines.lines()) {
        player.line(line).unwrap();
    }
    for (number, line) in lines {
        player
            .line(line)
            .map_err(|why| format!("{number}: {line}\n    {why}"))?;
    }
    player.settle().map_err(|why| format!("end: {why}"))
}

/// Places to start at, each behind the one before.
const STARTS: [(&str, &str); 4] = [
    (
        "greeted",
        "S: 220 mx.example ESMTP redspool\nC: EHLO client.example\nS> 250 HELP",
    ),
    (
        "mail",
        "C: MAIL FROM:<a@example.org>\n@ reserve 00000001\nS: 250 2.0.0 Ok",
    ),
    (
        "rcpt",
        "C: RCPT TO:<b@example.net>\n\
         @ expand <a@example.org> <b@example.net> -> b@example.net\n\
         S: 250 2.1.5 Destination address valid: Recipient ok",
    ),
    (
        "data",
        "C: DATA\nS: 354 Enter mail, end with \".\" on a line by itself",
    ),
];

fn given(params: &mut Params, what: &str) {
    let settings: &mut Settings = Arc::make_mut(&mut params.settings);
    let limits = Arc::make_mut(&mut settings.limits);
    let words: Vec<&str> = what.split(' ').collect();
    match words.as_slice() {
        ["local"] => params.local = true,
        ["authenticated", user] => {
            params.authenticated = true;
            params.username = (*user).into();
        }
        ["no-dsn"] => settings.dsn = false,
        ["mask-src"] => settings.mask_source = true,
        ["starttls"] => settings.starttls = Starttls::Offered,
        ["tls-require"] => settings.starttls = Starttls::Required,
        ["smtps"] => params.tls = Some(driver::tls(false)),
        ["verified"] => params.tls = Some(driver::tls(true)),
        ["auth"] => settings.auth = Auth::Required,
        ["auth-optional"] => settings.auth = Auth::Optional,
        ["received-auth"] => settings.received_auth = true,
        ["source", ip] => params.source = ip.parse::<std::net::IpAddr>().unwrap().into(),
        ["rdns", name @ ..] => params.rdns = name.join(" ").into(),
        ["limit", name, number] => {
            let number: usize = number.parse().unwrap();
            match *name {
                "message_size" => limits.message_size = number.try_into().unwrap(),
                "command_line" => limits.command_line = number,
                "text_line" => limits.text_line = number,
                "message_in_memory" => limits.message_in_memory = number,
                "header_size" => limits.header_size = number,
                "recipients" => limits.recipients = number,
                "mails_per_session" => limits.mails_per_session = number,
                "errors_per_session" => limits.errors_per_session = number,
                "auth_line" => limits.auth_line = number,
                "received_fields" => limits.received_fields = number,
                _ => panic!("no such limit: {name}"),
            }
        }
        _ => panic!("cannot be given: {what}"),
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(inside) = rest.strip_prefix('{') {
            let mut depth = 1;
            let closing = inside.find(|c| {
                depth += i32::from(c == '{') - i32::from(c == '}');
                depth == 0
            });
            let (repeated, after) = inside.split_at(closing.unwrap());
            let after = &after[1..];
            let (unit, times) = repeated.rsplit_once('*').unwrap();
            octets.extend(unescape(unit).repeat(times.parse().unwrap()));
            rest = after;
        } else if first == '\\' {
            let (code, length) = match rest.as_bytes()[1] {
                b'r' => (b'\r', 2),
                b'n' => (b'\n', 2),
                b't' => (b'\t', 2),
                b'x' => (u8::from_str_radix(&rest[2..4], 16).unwrap(), 4),
                other => (other, 2),
            };
            octets.push(code);
            rest = &rest[length..];
        } else {
            octets.extend(first.to_string().bytes());
            rest = &rest[first.len_utf8()..];
        }
    }
    octets
}

struct Player {
    driver: Driver,
    /// Lines of the content last committed.
    content: Option<VecDeque<String>>,
    shown: bool,
    /// Whether it came in a temporary file.
    spooled: bool,
    pipelined: bool,
}

impl Player {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let (kind, rest) = line.split_at_checked(2).unwrap_or((line, ""));
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        let result = match kind {
            "C:" => self.say(&[rest.as_bytes(), b"\r\n"].concat()),
            "C|" => self.say(&unescape(rest)),
            "S:" => self.hear(rest),
            "S>" => self.hear_until(rest),
            "M:" => self.show(rest),
            _ => self.act(line.trim_start_matches("@ ")),
        };
        self.pipelined = kind.starts_with('C');
        result
    }

    fn say(&mut self, octets: &[u8]) -> Result<(), String> {
        if !self.pipelined {
            self.settle()?;
        }
        self.driver.unsent.extend(octets);
        Ok(())
    }

    /// Nothing is left that the transcript did not mention.
    fn settle(&mut self) -> Result<(), String> {
        while self.driver.feed() {}
        self.content_shown()?;
        if let Some(line) = self.driver.line() {
            return Err(format!("they also said: {}", line.trim_end()));
        }
        match self.driver.seen.front() {
            Some(seen) => Err(format!("they also did: {seen:?}")),
            None => Ok(()),
        }
    }

    fn content_shown(&mut self) -> Result<(), String> {
        let content = self.content.take().filter(|_| self.shown);
        self.shown = false;
        match content.and_then(|mut lines| lines.pop_front()) {
            Some(line) => Err(format!("more content: {line}")),
            None => Ok(()),
        }
    }

    fn hear(&mut self, want: &str) -> Result<(), String> {
        let line = loop {
            match self.driver.line() {
                Some(line) => break line,
                None if self.driver.feed() => {}
                None => return Err(format!("silence; {:?}", self.driver.seen)),
            }
        };
        assert!(line.len() <= 512, "reply line too long: {line}");
        match line.strip_suffix("\r\n") {
            Some(got) if got == want => Ok(()),
            _ => Err(format!("they said: {line:?}")),
        }
    }

    /// Skips lines up to this one.
    fn hear_until(&mut self, last: &str) -> Result<(), String> {
        while self.hear(last).is_err() {
            if self.driver.output.is_empty() && !self.driver.feed() {
                return Err("never said".into());
            }
        }
        Ok(())
    }

    fn show(&mut self, want: &str) -> Result<(), String> {
        self.shown = true;
        match self.content.as_mut().and_then(VecDeque::pop_front) {
            Some(line) if line == want => Ok(()),
            line => Err(format!("content is {line:?}")),
        }
    }

    fn next(&mut self) -> Result<Seen, String> {
        loop {
            match self.driver.seen.pop_front() {
                Some(seen) => return Ok(seen),
                None if self.driver.feed() => {}
                None => return Err("nothing happens".into()),
            }
        }
    }

    fn act(&mut self, what: &str) -> Result<(), String> {
        if let Some(what) = what.strip_prefix("authenticate ") {
            return self.authenticate(what);
        }
        let (what, refused) = match what.split_once(" -> ") {
            Some((what, answer)) if answer.starts_with(['4', '5']) => {
                (what, Some(driver::reply(answer)))
            }
            _ => (what, None),
        };
        let words: Vec<&str> = what.split(' ').collect();
        match words.as_slice() {
            ["starttls"] => want(&self.next()?, &Seen::StartTls)?,
            ["secured"] => self.driver.handle(Event::Secured(driver::tls(false))),
            ["disk", "full"] => self.driver.disk_full = true,
            ["gone"] => {
                while self.driver.feed() {}
                self.driver.handle(Event::Closed);
            }
            ["stop"] => {
                while self.driver.feed() {}
                self.driver.handle(Event::Stopping);
            }
            ["reserve", id @ ..] => {
                want(&self.next()?, &Seen::Reserve)?;
                self.driver.handle(match refused {
                    Some(reply) => Event::ReserveFailed(reply),
                    None => Event::Reserved(id.first().unwrap().parse().unwrap()),
                });
            }
            ["expand", sender, rcpt, dests @ ..] => {
                let address = |text: &str| text.trim_matches(['<', '>']).parse().unwrap();
                want(&self.next()?, &Seen::Expand(address(sender), address(rcpt)))?;
                let dests = dests.iter().skip(1);
                self.driver.handle(Event::Expanded(match refused {
                    Some(reply) => Err(reply),
                    None => Ok(dests
                        .map(|dest| driver::recipient(address(dest), dest != rcpt))
                        .collect()),
                }));
            }
            ["rcpt", ..] => {
                let rcpt = what.trim_start_matches("rcpt ").parse().unwrap();
                let Seen::Expand(_, expanded) = self.next()? else {
                    return Err("that is no recipient".into());
                };
                if expanded != rcpt {
                    return Err(format!("it is {expanded:?}"));
                }
                let recipients = vec![driver::recipient(rcpt, false)];
                self.driver.handle(Event::Expanded(Ok(recipients)));
            }
            ["spooled"] if self.spooled => {}
            ["spooled"] => return Err("it was in memory".into()),
            ["commit", id, octets, "octets", count, ..] => {
                let Seen::Commit(taken) = self.next()? else {
                    return Err("that is no commit".into());
                };
                assert_eq!(taken.message.id.to_string(), *id);
                let (size, envelopes) = (taken.content.len(), taken.envelopes.len());
                if size.to_string() != *octets || envelopes.to_string() != *count {
                    return Err(format!("{size} octets {envelopes} envelopes"));
                }
                if taken.message.utf8 != (words.last() == Some(&"utf8")) {
                    return Err(format!("utf8 is {}", taken.message.utf8));
                }
                self.check(&taken)?;
                if let Some(reply) = refused {
                    self.driver.handle(Event::CommitFailed(reply));
                }
            }
            ["committed"] => {
                self.content_shown()?;
                if let Some(line) = self.driver.line() {
                    return Err(format!("acknowledged before: {line}"));
                }
                self.driver.handle(Event::Committed);
            }
            ["discard", id] => want(&self.next()?, &Seen::Discard(id.parse().unwrap()))?,
            ["close", reason] => match self.next()? {
                Seen::Close(ending) if ending.word() == *reason => {}
                seen => return Err(format!("they did: {seen:?}")),
            },
            ["log", ..] => {
                let text = what.trim_start_matches("log ");
                let notes = std::mem::take(&mut self.driver.notes);
                let lines: Vec<String> = notes.iter().map(line_of).collect();
                if !lines.iter().any(|line| line.contains(text)) {
                    return Err(format!("logged: {lines:?}"));
                }
            }
            [time] if time.starts_with('+') => {
                while self.driver.feed() {}
                let (number, unit) = time[1..].split_at(time.len() - 2);
                let number: u64 = number.parse().unwrap();
                self.driver.wait(match unit {
                    "s" => Duration::from_secs(number),
                    "m" => Duration::from_mins(number),
                    _ => panic!("unit of {time}"),
                });
            }
            _ => panic!("unknown: {what}"),
        }
        Ok(())
    }

    fn authenticate(&mut self, what: &str) -> Result<(), String> {
        let (credentials, answer) = what.split_once(" -> ").unwrap_or((what, ""));
        let Seen::Authenticate(seen) = self.next()? else {
            return Err("that is no question for a password".into());
        };
        let password = String::from_utf8_lossy(&seen.password);
        if format!("{} {password}", seen.username) != credentials {
            return Err(format!("they asked for {} {password}", seen.username));
        }
        let words: Vec<&str> = answer.split(' ').collect();
        let wait =
            |seconds: &str| Duration::from_secs(seconds.trim_matches(['+', 's']).parse().unwrap());
        let verdict = match words.as_slice() {
            [""] => return Ok(()),
            ["known"] => Verdict::Known,
            ["unknown"] => Verdict::Unknown {
                wait: Duration::ZERO,
            },
            ["unknown", time] => Verdict::Unknown { wait: wait(time) },
            _ => Verdict::Failed(driver::reply(answer)),
        };
        self.driver.handle(Event::Authenticated(verdict));
        Ok(())
    }

    /// What is true of every message.
    fn check(&mut self, taken: &Taken) -> Result<(), String> {
        let size = u64::try_from(taken.content.len()).unwrap();
        if taken.message.size != size {
            return Err(format!("its size is said to be {}", taken.message.size));
        }
        let text = String::from_utf8_lossy(&taken.content);
        let lines = text.split_terminator("\r\n").map(str::to_owned);
        self.content = Some(lines.collect());
        self.spooled = taken.spooled;
        let message = taken.message.id;
        let mut ids: Vec<_> = taken.envelopes.iter().map(|envelope| envelope.id).collect();
        ids.dedup();
        if ids.len() != taken.envelopes.len() || ids.iter().any(|id| id.message() != message) {
            return Err(format!("ids: {ids:?}"));
        }
        Ok(())
    }
}

fn want(seen: &Seen, wanted: &Seen) -> Result<(), String> {
    if seen == wanted {
        Ok(())
    } else {
        Err(format!("they did: {seen:?}"))
    }
}

fn line_of(note: &Note) -> String {
    match note {
        Note::Message {
            message,
            size,
            recipients,
            extended,
        } => {
            let proto = if *extended { "ESMTP" } else { "SMTP" };
            format!("message msgid={message} size={size} nrcpt={recipients} proto={proto}")
        }
        Note::Envelope { sender, dest, .. } => {
            format!("envelope from=<{}> to=<{}>", sender.as_str(), dest.as_str())
        }
        Note::Tls(tls) => format!("tls ciphers={tls}"),
        Note::Authentication { username, result } => {
            format!("authentication user={username} result={}", result.word())
        }
        Note::FailedCommand { command, reply } => {
            format!(
                "failed-command command=\"{}\" result=\"{reply}\"",
                command.escape_ascii()
            )
        }
    }
}
