//! Reads smtpd.conf(5) and the files it names.
//!
//! Promises: all faults are shown at once; a file is read whole or not at all, up to a bound.
//! Absent on purpose: the grammar (core's `config`).

use crate::addresses;
use crate::tls::{Loaded, Reader};
use redspool_core::config::table::{Table, TableFault};
use redspool_core::config::{self, Config, Diagnostic, Input, LocalNames, Severity};
use redspool_core::limits::Limits;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

/// What is wrong with a configuration.
pub enum Faults {
    /// The file itself cannot be read, for this reason.
    Unreadable(String),
    /// It has these faults.
    Found(Vec<Diagnostic>),
}

impl Faults {
    /// Shows them on standard error.
    pub fn report(&self) {
        match self {
            Self::Unreadable(why) => eprintln!("smtpd: {why}"),
            Self::Found(faults) => show(faults),
        }
    }

    /// Writes them to the log: the old configuration stays.
    pub fn log(&self) {
        match self {
            Self::Unreadable(why) => tracing::error!("{why}"),
            Self::Found(faults) => {
                for fault in faults {
                    let place = fault.place();
                    tracing::error!("{}:{}: {}", place.file, place.line, fault.message());
                }
            }
        }
        tracing::error!("configuration not changed");
    }
}

/// Where the configuration is when nobody says: the first of these files that exists, or the
/// first of them.
pub fn default_file() -> PathBuf {
    let home = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    let own = home.map(|home| home.join("redspool/smtpd.conf"));
    let system = ["/etc/mail/smtpd.conf", "/etc/smtpd.conf"].map(PathBuf::from);
    let root = nix::unistd::geteuid().is_root();
    let candidates: Vec<_> = if root {
        system.into()
    } else {
        own.into_iter().chain(system).collect()
    };
    let found = candidates
        .iter()
        .find(|path| path.exists())
        .or(candidates.first());
    found.cloned().unwrap_or_default()
}

/// The private keys a configuration names, by their whole paths.
pub fn keys(file: &Path, config: &Config) -> Vec<PathBuf> {
    let directory = directory(file);
    let whole = |path: &str| std::path::absolute(directory.join(path)).ok();
    config
        .pkis
        .iter()
        .filter_map(|pki| whole(&pki.key))
        .collect()
}

/// Where the files are that a configuration names.
fn directory(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new("."))
}

/// Reads and checks a configuration and the files of TLS it names; `before` is what of those is in
/// force, `lent` are private keys, by whole paths, that are open since we may not open them. Warnings are shown; any error means none of it is used.
pub fn load(
    file: &Path,
    macros: &[(String, String)],
    before: &Loaded,
    lent: BTreeMap<PathBuf, File>,
) -> Result<(Config, Loaded), Faults> {
    let name = file.to_string_lossy();
    let most = Limits::default().table_size;
    let text = match read(file, most) {
        Ok(text) => text,
        Err(why) => {
            let why = format!("configuration {name}: {why}; write it, or name another with -f");
            return Err(Faults::Unreadable(why));
        }
    };
    let names = LocalNames {
        server: addresses::server_name().into(),
        addresses: addresses::own(),
    };
    let directory = directory(file);
    let mut load = |path: &str| read(&directory.join(path), most);
    let mut reader = Reader::new(directory, before, lent);
    let input = Input {
        file: &name,
        text: &text,
        macros,
        names,
    };
    match config::parse(&input, &mut load, &mut |material| reader.vet(material)) {
        Ok((config, warnings)) => {
            show(&warnings);
            Ok((config, reader.finish()))
        }
        Err(faults) => Err(Faults::Found(faults)),
    }
}

/// Reads a table's file, which the configuration `file` names as `path`.
pub fn table(file: &Path, path: &str) -> Result<Table, String> {
    let text = read(&beside(file, path), Limits::default().table_size);
    let text = text.map_err(|why| format!("{path}: {why}"))?;
    Table::parse_file(&text).map_err(|fault| table_fault(path, &fault))
}

/// What is wrong with a table's file, and where.
pub fn table_fault(path: &str, fault: &TableFault) -> String {
    match fault.line {
        0 => format!("{path}: {}", fault.reason),
        line => format!("{path}:{line}: {}", fault.reason),
    }
}

/// Names in a configuration are relative to the directory it lies in.
fn beside(file: &Path, path: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new(".")).join(path)
}

fn show(diagnostics: &[Diagnostic]) {
    let color = std::io::stderr().is_terminal();
    for diagnostic in diagnostics {
        eprintln!("{}\n", diagnostic.render(color).trim_end());
    }
    let errors = diagnostics
        .iter()
        .filter(|one| one.severity() == Severity::Error)
        .count();
    if errors > 0 {
        let noun = if errors == 1 { "fault" } else { "faults" };
        eprintln!("smtpd: {errors} {noun} in the configuration; nothing was started");
    }
}

fn read(path: &Path, most: usize) -> Result<String, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    let bound = u64::try_from(most).unwrap_or(u64::MAX);
    let mut reader = file.take(bound.saturating_add(1));
    reader
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    if text.len() > most {
        return Err(format!("larger than {most} octets"));
    }
    Ok(text)
}
