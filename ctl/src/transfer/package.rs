//! An export of ours, read back: `envelopes.jsonl` and `messages/MSGID.eml`.
//!
//! Promises: lines of one message that follow each other come in together; a line that is not
//! sound is told with its number, and the others go on.

use super::content::{Content, Lines};
use super::import::{Arrival, Intake};
use super::json::{Head, Line};
use super::object::Object;
use super::{LIST, MESSAGES};
use redspool_core::envelope::Envelope;
use redspool_core::limits::Limits;
use redspool_core::queue::{Message, StoreError};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;

/// Octets of a line, at most: escapes take six for one.
const LINE: u64 = 1 << 20;

/// Envelopes of one message, gathered.
struct Gathered {
    message: Message,
    digest: u64,
    envelopes: Vec<Envelope>,
}

/// Hands over everything in the export. Gives false if nobody listens any more.
pub(super) fn walk(
    root: &Path,
    limits: &Limits,
    intake: &mut Intake<'_, '_>,
) -> Result<bool, StoreError> {
    let path = root.join(LIST);
    let told = |error: io::Error| format!("{}: {error}", path.display());
    let file = File::open(&path).map_err(|error| StoreError::Io(told(error)))?;
    let total = file.metadata().map_or(0, |facts| facts.len());
    let mut file = BufReader::new(file);
    let (mut number, mut done) = (0_u64, 0_u64);
    let mut gathered: Option<Gathered> = None;
    let mut line = Vec::new();
    loop {
        line.clear();
        number += 1;
        let read = line_of(&mut file, &mut line).map_err(|error| StoreError::Io(told(error)))?;
        if read == 0 {
            break;
        }
        done += read;
        let text = line.strip_suffix(b"\n");
        if number == 1 {
            if let Err(why) = Head::check(text.unwrap_or(&line)) {
                intake.report.fault(&path, &why);
                return Ok(true);
            }
            continue;
        }
        let one = text
            .ok_or_else(|| "it does not end, or is longer than an envelope can be".to_owned())
            .and_then(|text| read_one(text, limits));
        let (message, digest, envelope) = match one {
            Ok(one) => one,
            Err(why) => {
                intake.report.fault(&path, &format!("line {number}: {why}"));
                continue;
            }
        };
        let same = |open: &&mut Gathered| open.message == message && open.digest == digest;
        match gathered.as_mut().filter(same) {
            Some(open) if open.envelopes.len() < limits.import_recipients => {
                open.envelopes.push(envelope);
            }
            _ => {
                let next = Gathered {
                    message,
                    digest,
                    envelopes: vec![envelope],
                };
                if let Some(full) = gathered.replace(next) {
                    hand_over(root, limits, full, intake)?;
                    intake.report.progress(done, total);
                }
            }
        }
        if intake.report.gone() {
            return Ok(false);
        }
    }
    if let Some(last) = gathered {
        hand_over(root, limits, last, intake)?;
    }
    Ok(true)
}

/// Reads a line, or as much of it as one may have; what is left of a longer one is passed over.
fn line_of(file: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<u64> {
    let mut read = file.by_ref().take(LINE).read_until(b'\n', line)? as u64;
    if read == LINE && line.last() != Some(&b'\n') {
        read += file.skip_until(b'\n')? as u64;
    }
    Ok(read)
}

fn read_one(text: &[u8], limits: &Limits) -> Result<(Message, u64, Envelope), String> {
    let line = Line::parse(text)?;
    Ok((line.message()?, line.digest()?, line.envelope(limits)?))
}

fn hand_over(
    root: &Path,
    limits: &Limits,
    gathered: Gathered,
    intake: &mut Intake<'_, '_>,
) -> Result<(), StoreError> {
    let Gathered {
        message,
        digest,
        envelopes,
    } = gathered;
    let path = root.join(MESSAGES).join(format!("{}.eml", message.id));
    let content = Object::raw(&path)
        .and_then(|object| Content::measure(object, Lines::CrLf, limits.import_content))
        .and_then(|content| {
            if (content.size, content.digest) == (message.size, digest) {
                return Ok(content);
            }
            Err(format!(
                "it is not what was exported: {} octets instead of {}, or changed ones",
                content.size, message.size
            ))
        });
    match content {
        Ok(content) => intake.take(&Arrival {
            ctime: message.ctime,
            eight_bit: message.eight_bit,
            utf8: message.utf8,
            content,
            envelopes,
        }),
        Err(why) => {
            intake.report.fault(&path, &why);
            Ok(())
        }
    }
}
