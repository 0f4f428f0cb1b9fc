//! SQLite in WAL mode with full sync, written by one thread with the same group commit.
//!
//! What: a table of messages with their content and one of envelopes, both by number; a group is
//! one transaction; the cache is as large as redb's, the WAL as large as our log may grow (64 MiB)
//! before it is checkpointed. Reading has a connection of its own.
//! Absent on purpose: checksums per record, which our stores have and SQLite does not.

use super::batch::{Batch, Sink};
use crate::mail::{self, End, Mail};
use crate::queue::{Done, Listing, Queue};
use bytes::Bytes;
use redspool_core::envelope::Envelope;
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::queue::{Body, Scheduled, Submission};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

const TABLES: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA cache_size = -131072;
    PRAGMA wal_autocheckpoint = 16384;
    CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS envelopes (id INTEGER PRIMARY KEY, record BLOB NOT NULL);
";

const PAGE: &str = "SELECT id, record FROM envelopes WHERE id > ?1 ORDER BY id LIMIT ?2";

/// Ids of the benches are below 2^63, so their order is that of SQLite's integers.
fn key(id: EnvelopeId) -> i64 {
    id.get().cast_signed()
}

fn failed(why: rusqlite::Error) -> io::Error {
    io::Error::other(why)
}

pub(super) fn open(spool: &Path) -> io::Result<Box<dyn Queue>> {
    let connect = || {
        let connection = Connection::open(spool.join("queue.sqlite")).map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(16);
        connection.execute_batch(TABLES).map_err(failed)?;
        io::Result::Ok(connection)
    };
    Ok(Box::new(Sqlite {
        writer: Batch::start(Writer(connect()?))?,
        reader: Mutex::new(connect()?),
    }))
}

struct Sqlite {
    writer: Batch<Work>,
    reader: Mutex<Connection>,
}

enum Work {
    Submit {
        id: MessageId,
        body: Bytes,
        envelopes: Vec<(i64, Vec<u8>)>,
    },
    Settle(Mail, End),
}

struct Writer(Connection);

impl Sink for Writer {
    type Work = Work;

    fn commit(&mut self, group: &[Work]) -> io::Result<()> {
        let mut commit = || {
            let transaction = self.0.transaction()?;
            for work in group {
                match work {
                    Work::Submit {
                        id,
                        body,
                        envelopes,
                    } => submit(&transaction, *id, body, envelopes)?,
                    Work::Settle(mail, End::Delivered) => delivered(&transaction, *mail)?,
                    Work::Settle(mail, End::Deferred) => deferred(&transaction, *mail)?,
                }
            }
            transaction.commit()
        };
        commit().map_err(failed)
    }
}

fn submit(
    transaction: &Transaction<'_>,
    id: MessageId,
    body: &[u8],
    envelopes: &[(i64, Vec<u8>)],
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT INTO messages (id, body) VALUES (?1, ?2)")?
        .execute(params![id.get(), body])?;
    let mut insert =
        transaction.prepare_cached("INSERT INTO envelopes (id, record) VALUES (?1, ?2)")?;
    for (id, record) in envelopes {
        insert.execute(params![id, record])?;
    }
    Ok(())
}

fn delivered(transaction: &Transaction<'_>, mail: Mail) -> rusqlite::Result<()> {
    let mut delete = transaction.prepare_cached("DELETE FROM envelopes WHERE id = ?1")?;
    for id in mail.envelopes() {
        delete.execute([key(id)])?;
    }
    let (first, last) = mail.id.envelopes().into_inner();
    transaction
        .prepare_cached(
            "DELETE FROM messages WHERE id = ?1
             AND NOT EXISTS (SELECT 1 FROM envelopes WHERE id BETWEEN ?2 AND ?3)",
        )?
        .execute(params![mail.id.get(), key(first), key(last)])?;
    Ok(())
}

fn deferred(transaction: &Transaction<'_>, mail: Mail) -> rusqlite::Result<()> {
    let mut select =
        transaction.prepare_cached("SELECT id, record FROM envelopes WHERE id = ?1")?;
    let mut update =
        transaction.prepare_cached("UPDATE envelopes SET record = ?2 WHERE id = ?1")?;
    for id in mail.envelopes() {
        if let Some(mut envelope) = select.query_row([key(id)], envelope).optional()? {
            mail::defer(&mut envelope);
            let mut record = Vec::new();
            envelope.encode(&mut record);
            update.execute(params![key(id), record])?;
        }
    }
    Ok(())
}

fn damaged(why: Box<dyn Error + Send + Sync>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(1, Type::Blob, why)
}

/// A row of envelopes: id and record.
fn raw<'r>(row: &'r Row<'_>) -> rusqlite::Result<(EnvelopeId, &'r [u8])> {
    let id = EnvelopeId::new(row.get::<_, i64>(0)?.cast_unsigned());
    let id = id.ok_or(rusqlite::Error::InvalidQuery)?;
    Ok((id, row.get_ref(1)?.as_blob()?))
}

fn envelope(row: &Row<'_>) -> rusqlite::Result<Envelope> {
    let (id, record) = raw(row)?;
    Envelope::decode(id, record).map_err(|why| damaged(why.into()))
}

impl Sqlite {
    fn reader(&self) -> MutexGuard<'_, Connection> {
        self.reader.lock().expect("no reader panics")
    }
}

impl Queue for Sqlite {
    fn submit(&self, submission: Submission, done: Done) {
        let Body::Whole(body) = submission.body else {
            return done(Err(io::ErrorKind::Unsupported.into()));
        };
        let mut octets = body.len();
        let mut envelopes = Vec::with_capacity(submission.envelopes.len());
        for envelope in &submission.envelopes {
            let mut record = Vec::with_capacity(512);
            envelope.encode(&mut record);
            octets += record.len();
            envelopes.push((key(envelope.id), record));
        }
        let work = Work::Submit {
            id: submission.message.id,
            body,
            envelopes,
        };
        self.writer.order(work, octets, true, done);
    }

    fn settle(&self, mail: Mail, end: End, done: Done) {
        self.writer.order(Work::Settle(mail, end), 64, false, done);
    }

    fn load(&self, mail: Mail) -> io::Result<u64> {
        let reader = self.reader();
        let load = || {
            let mut select =
                reader.prepare_cached("SELECT id, record FROM envelopes WHERE id = ?1")?;
            for id in mail.envelopes() {
                select.query_row([key(id)], envelope)?;
            }
            let body: Vec<u8> = reader
                .prepare_cached("SELECT body FROM messages WHERE id = ?1")?
                .query_row([mail.id.get()], |row| row.get(0))?;
            Ok(body.len() as u64)
        };
        load().map_err(failed)
    }

    fn listing(&self) -> Option<&dyn Listing> {
        Some(self)
    }
}

impl Listing for Sqlite {
    fn page(&self, after: Option<EnvelopeId>, limit: usize) -> io::Result<Vec<Envelope>> {
        let reader = self.reader();
        let page = || {
            let mut select = reader.prepare_cached(PAGE)?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            select
                .query_map(params![after.map_or(0, key), limit], envelope)?
                .collect::<Result<Vec<_>, _>>()
        };
        page().map_err(failed)
    }

    fn walk(&self, visit: &mut dyn FnMut(Scheduled)) -> io::Result<()> {
        let reader = self.reader();
        let mut walk = || {
            let mut select = reader.prepare_cached(PAGE)?;
            let mut rows = select.query(params![0, i64::MAX])?;
            while let Some(row) = rows.next()? {
                let (id, record) = raw(row)?;
                let scheduled = Scheduled::decode(id, record);
                visit(scheduled.map_err(|why| damaged(why.into()))?);
            }
            Ok(())
        };
        walk().map_err(failed)
    }

    fn exists(&self, message: MessageId) -> io::Result<bool> {
        let reader = self.reader();
        let mut select = reader
            .prepare_cached("SELECT 1 FROM messages WHERE id = ?1")
            .map_err(failed)?;
        select.exists([message.get()]).map_err(failed)
    }
}
