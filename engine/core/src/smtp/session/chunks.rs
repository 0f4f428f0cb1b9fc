//! BDAT (RFC 3030): a message that comes in chunks, each as long as its command says.
//!
//! Promises: a chunk is read to its end whatever becomes of it, within the time a message has, so
//! that no octet of it is taken for a command; what DATA refuses is refused here with the same
//! reply, after the first chunk that shows it; a message is made of all chunks since MAIL and RCPT
//! or not at all: a chunk that is refused ends the transaction.
//! Absent on purpose: BINARYMIME. Content is lines that end with CR LF, however it comes.

use super::{Action, Arriving, Ending, Phase, Session, replies};
use crate::reply::Reply;
use crate::smtp::data::len;
use crate::smtp::lines;
use crate::time::Now;
use bytes::Bytes;
use std::mem;
use std::time::Instant;

/// A chunk that is arriving.
#[derive(Clone, Copy)]
pub(super) struct Chunk {
    size: u64,
    /// Octets that are missing.
    rest: u64,
    /// Whether the message ends with it.
    last: bool,
}

/// A chunk that belongs to no message.
pub(super) struct Stray {
    chunk: Chunk,
    /// When it began.
    pub(super) since: Instant,
    /// What to say when it is here.
    reply: Reply,
}

impl Session {
    pub(super) fn bdat(&mut self, argument: &str, now: Now) {
        let Some((size, last)) = lines::chunk(argument) else {
            // If octets follow, nobody knows how many. Postfix ends the session, too (521).
            self.refuse(replies::chunk_syntax());
            return self.close(Ending::Error);
        };
        let chunk = Chunk {
            size,
            rest: size,
            last,
        };
        self.phase = match self.message(now, size) {
            Ok(mut arriving) => {
                arriving.data.expect(size, self.limits());
                Phase::Chunk(arriving, chunk)
            }
            Err(reply) => {
                // What comes behind it must not become a message without it.
                self.forget();
                Phase::Stray(Box::new(Stray {
                    chunk,
                    since: now.mono,
                    reply,
                }))
            }
        };
    }

    /// The message to which a chunk of this size belongs; it may be the first one.
    fn message(&mut self, now: Now, size: u64) -> Result<Box<Arriving>, Reply> {
        match mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Chunks(arriving) => Ok(arriving),
            phase => {
                self.phase = phase;
                self.begin(now, size)
            }
        }
    }

    /// Ends the session if this line, which was refused, may have a chunk behind it.
    pub(super) fn beware_of_chunk(&mut self, line: &[u8]) {
        if lines::announces_chunk(line) {
            self.close(Ending::Error);
        }
    }

    /// Takes octets of a chunk off the input; says whether there was something to do.
    pub(super) fn read_chunk(&mut self, now: Now) -> bool {
        let chunk = match &mut self.phase {
            Phase::Chunk(_, chunk) => chunk,
            Phase::Stray(stray) => &mut stray.chunk,
            _ => return false,
        };
        if self.input.is_empty() && chunk.rest > 0 {
            return false;
        }
        let here = self.input.len();
        let taken = usize::try_from(chunk.rest).map_or(here, |rest| rest.min(here));
        chunk.rest = chunk.rest.saturating_sub(len(taken));
        let ended = chunk.rest == 0;
        let octets = self.input.split_to(taken);
        self.transcript.content(taken);
        self.waiting_since = now.mono;
        if let Phase::Chunk(arriving, _) = &mut self.phase {
            let limits = &self.params.settings.limits;
            arriving.data.chunk(&octets, limits);
            if let Some(piece) = arriving.data.piece(limits) {
                self.spooling += 1;
                self.actions.push_back(Action::Spool(piece));
            }
        }
        if ended {
            self.chunk_ended(now);
        }
        true
    }

    fn chunk_ended(&mut self, now: Now) {
        match mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Chunk(mut arriving, chunk) if chunk.last => {
                arriving.data.end_line(self.limits());
                self.arrived(now, *arriving);
            }
            Phase::Chunk(arriving, chunk) => {
                if let Some(flaw) = arriving.data.flaw().cloned() {
                    self.reject(&arriving.transaction, flaw);
                    self.spoiled = true;
                } else {
                    self.phase = Phase::Chunks(arriving);
                    self.say(&format!("250 2.0.0 {} octets", chunk.size));
                }
            }
            Phase::Stray(stray) => {
                self.turn_down(stray.reply);
                self.spoiled = !stray.chunk.last;
            }
            phase => self.phase = phase,
        }
    }

    /// Refuses a chunk that belongs to no message. Those on their way behind one that was refused
    /// are no errors: a client that sends without waiting could not know (RFC 3030 section 2).
    fn turn_down(&mut self, reply: Reply) {
        if self.spoiled {
            self.transcript.judged(&self.command, false);
            self.write(&reply);
            self.command = Bytes::new();
        } else {
            self.refuse(reply);
        }
    }
}
