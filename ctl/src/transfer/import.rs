//! `store import`: mail from elsewhere into the store of a stopped daemon.
//!
//! What: messages arrive from a spool or an export, get their ids, and are committed in groups; the
//! store's journal knows what came in before.
//! Promises: an id that is free is kept; the others come in under a new one, and that is told. A
//! dry run opens the store for reading only.
//! Fails: with what the store says; what was committed stays, and the next run brings the rest.

use super::content::Content;
use super::object::Key;
use super::report::{Count, Report};
use super::{LIST, UNFINISHED, package, spool};
use crate::console::Console;
use crate::options::Options;
use crate::parse::Parsed;
use crate::rights::Rights;
use crate::store;
use redspool_core::config::{self, Input, LocalNames, Salvage};
use redspool_core::envelope::Envelope;
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::limits::Limits;
use redspool_core::queue::{Body, Message, Reader, StoreError, Submission};
use redspool_core::rng::Rng;
use redspool_core::time::Timestamp;
use redspool_store::{Imported, Importer, Incoming, LogReader, Offline, Ready};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Messages of one commit, and octets of what they write, at most.
const GROUP: usize = 256;
const GROUP_OCTETS: usize = 4 << 20;

/// A message on its way in, with the ids it had.
pub(super) struct Arrival {
    pub(super) ctime: Timestamp,
    pub(super) eight_bit: bool,
    pub(super) utf8: bool,
    pub(super) content: Content,
    pub(super) envelopes: Vec<Envelope>,
}

/// What messages go into.
enum Target {
    Store(Box<Importer>, Rights),
    /// Nothing: only what would happen is counted. `None` if there is no store yet.
    Dry(Option<LogReader>, Imported),
}

impl Target {
    fn exists(&self, message: MessageId) -> Result<bool, StoreError> {
        match self {
            Self::Store(importer, _) => importer.exists(message),
            Self::Dry(Some(reader), _) => reader.exists(message),
            Self::Dry(None, _) => Ok(false),
        }
    }

    fn known(&self) -> &Imported {
        match self {
            Self::Store(importer, _) => importer.known(),
            Self::Dry(_, known) => known,
        }
    }
}

/// Where messages arrive.
pub(super) struct Intake<'r, 'c> {
    pub(super) report: &'r mut Report<'c>,
    target: Target,
    rng: Rng,
    /// Envelopes of one message that come in together.
    most: usize,
    group: Vec<Ready>,
    weight: usize,
    /// Ids that the group takes, and the envelopes in it by original id and content.
    taken: BTreeSet<MessageId>,
    pending: BTreeSet<(EnvelopeId, u64)>,
    came: Count,
    before: Count,
    renamed: u64,
}

impl Intake<'_, '_> {
    /// Takes a message in, but for what came in before.
    pub(super) fn take(&mut self, arrival: &Arrival) -> Result<(), StoreError> {
        let digest = arrival.content.digest;
        let mut fresh: Vec<&Envelope> = Vec::with_capacity(arrival.envelopes.len());
        for envelope in &arrival.envelopes {
            let known = self.target.known().has(envelope.id, digest);
            if !known && self.pending.insert((envelope.id, digest)) {
                fresh.push(envelope);
            }
        }
        let known = arrival.envelopes.len() - fresh.len();
        if known > 0 {
            self.before.add(known, arrival.content.size);
        }
        for part in fresh.chunks(self.most) {
            self.bring(arrival, part)?;
        }
        Ok(())
    }

    fn bring(&mut self, arrival: &Arrival, envelopes: &[&Envelope]) -> Result<(), StoreError> {
        let Some(original) = envelopes.first().map(|envelope| envelope.id.message()) else {
            return Ok(());
        };
        let id = self.free(original)?;
        self.came.add(envelopes.len(), arrival.content.size);
        if id != original {
            self.renamed += 1;
            let path = original.to_string();
            let text = format!("that id is in use: it comes in as {id}");
            self.report.note(Path::new(&path), &text);
        }
        let Target::Store(importer, rights) = &self.target else {
            return Ok(());
        };
        let renamed = envelopes.iter().map(|envelope| Envelope {
            id: moved(envelope.id, id),
            ..(*envelope).clone()
        });
        let incoming = Incoming {
            submission: Submission {
                message: Message {
                    id,
                    size: arrival.content.size,
                    ctime: arrival.ctime,
                    eight_bit: arrival.eight_bit,
                    utf8: arrival.utf8,
                },
                body: Body::Pieces(arrival.content.pieces()),
                envelopes: renamed.collect(),
            },
            originals: envelopes.iter().map(|envelope| envelope.id).collect(),
            digest: arrival.content.digest,
        };
        let ready = rights.used(|| importer.prepare(incoming))?;
        self.weight += ready.weight;
        self.group.push(ready);
        if self.group.len() >= GROUP || self.weight >= GROUP_OCTETS {
            self.commit()?;
        }
        Ok(())
    }

    /// The id itself if it is free, else one that is.
    fn free(&mut self, original: MessageId) -> Result<MessageId, StoreError> {
        let mut id = original;
        while self.target.exists(id)? || !self.taken.insert(id) {
            let number = self.rng.nonzero_u32();
            id = MessageId::new(number.get()).unwrap_or(original);
        }
        Ok(id)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let group = std::mem::take(&mut self.group);
        self.weight = 0;
        if let Target::Store(importer, rights) = &mut self.target
            && !group.is_empty()
        {
            rights.used(|| importer.take(group))?;
            // From now on the store knows them.
            self.taken.clear();
            self.pending.clear();
        }
        Ok(())
    }

    /// Commits the rest.
    fn finish(mut self) -> Result<(Count, Count, u64), StoreError> {
        self.commit()?;
        if let Target::Store(importer, rights) = self.target {
            rights.used(|| importer.close())?;
        }
        Ok((self.came, self.before, self.renamed))
    }
}

/// The envelope of another message with the same lower half.
fn moved(envelope: EnvelopeId, message: MessageId) -> EnvelopeId {
    let number = u64::from(message.get()) << 32 | envelope.get() & u64::from(u32::MAX);
    EnvelopeId::new(number).unwrap_or(envelope)
}

/// Serves the command.
pub(crate) fn serve(console: &mut Console, options: &Options, parsed: &Parsed) {
    let Some(spool) = store::spool(console, options) else {
        return;
    };
    let source = Path::new(parsed.args.text().unwrap_or_default());
    let prepared = given(source, options);
    let mut report = Report::new(console, options.json);
    let Given { key, salvage, kind } = match prepared {
        Ok(given) => given,
        Err(why) => return report.fail(&why, store::UNREADABLE),
    };
    let target = match target(&spool, options.dry_run) {
        Ok(target) => target,
        Err(why) => return report.fail(&store::told(&spool, &why), store::UNREADABLE),
    };
    let limits = Limits::default();
    let mut intake = Intake {
        report: &mut report,
        target,
        rng: Rng::new(rand::random()),
        most: limits.import_recipients,
        group: Vec::new(),
        weight: 0,
        taken: BTreeSet::new(),
        pending: BTreeSet::new(),
        came: Count::default(),
        before: Count::default(),
        renamed: 0,
    };
    let walked = match kind {
        Kind::Export => package::walk(source, &limits, &mut intake),
        Kind::Spool => {
            let spool = spool::Spool {
                root: source,
                key: key.as_ref(),
                salvage: salvage.as_ref(),
                limits: &limits,
            };
            spool.walk(&mut intake)
        }
    };
    match walked.and_then(|_| intake.finish()) {
        Ok((came, before, renamed)) => {
            let faults = report.faults;
            let what = if options.dry_run {
                "would come in"
            } else {
                "imported"
            };
            let text = format!(
                "{}{}{renamed} messages under another id\n{faults} faults\n",
                came.text(what),
                before.text("came in before"),
            );
            let object = json!({
                "dry-run": options.dry_run,
                "imported": came.described(),
                "before": before.described(),
                "renamed": renamed,
                "faults": faults,
            });
            report.end(&text, &object);
        }
        Err(why) => {
            let why = format!(
                "{}; what came in so far is safe, and the same command brings the rest",
                store::told(&spool, &why)
            );
            report.fail(&why, store::UNREADABLE);
        }
    }
}

/// What a directory holds.
enum Kind {
    Spool,
    Export,
}

/// What the command line names.
struct Given {
    key: Option<Key>,
    salvage: Option<Salvage>,
    kind: Kind,
}

fn given(source: &Path, options: &Options) -> Result<Given, String> {
    let kind = if source.join(LIST).is_file() {
        Kind::Export
    } else if source.join(spool::QUEUE).is_dir() {
        Kind::Spool
    } else {
        let why = if source.join(UNFINISHED).exists() {
            "the export was not completed; make it again"
        } else {
            "neither a spool of OpenSMTPD, which has a directory `queue`, nor an export, which has \
             a file `envelopes.jsonl`"
        };
        return Err(format!("{}: {why}", source.display()));
    };
    let key = options.key.as_deref().map(Key::read).transpose()?;
    let salvage = options.config.as_deref().map(configuration).transpose()?;
    Ok(Given { key, salvage, kind })
}

fn target(spool: &Path, dry: bool) -> Result<Target, StoreError> {
    if dry {
        return match Offline::open(spool) {
            Ok(store) => {
                let reader = store.reader();
                let known = Imported::read(spool, &reader)?;
                Ok(Target::Dry(Some(reader), known))
            }
            Err(StoreError::Absent) if Importer::fits(spool) => {
                Ok(Target::Dry(None, Imported::default()))
            }
            Err(why) => Err(why),
        };
    }
    let rights = Rights::on(spool).map_err(|_| StoreError::Absent)?;
    let importer = rights.used(|| Importer::open(spool))?;
    Ok(Target::Store(Box::new(importer), rights))
}

/// Reads the configuration under which the mail was queued.
fn configuration(path: &Path) -> Result<Salvage, String> {
    let most = Limits::default().table_size;
    let name = path.to_string_lossy();
    let text = text_of(path, most).map_err(|why| format!("{name}: {why}"))?;
    let server = nix::unistd::gethostname().unwrap_or_default();
    let input = Input {
        file: &name,
        text: &text,
        macros: &[],
        names: LocalNames {
            server: server.to_string_lossy().into(),
            addresses: Vec::new(),
        },
    };
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut load = |name: &str| text_of(&directory.join(name), most);
    Ok(config::salvage(&input, &mut load))
}

fn text_of(path: &Path, most: usize) -> Result<String, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let bound = u64::try_from(most).unwrap_or(u64::MAX);
    let mut text = String::new();
    let read = file.take(bound.saturating_add(1)).read_to_string(&mut text);
    read.map_err(|error| error.to_string())?;
    if text.len() > most {
        return Err(format!("larger than {most} octets"));
    }
    Ok(text)
}
