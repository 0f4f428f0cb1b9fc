//! `store check`, `store rebuild`, `store compact`: care for the store of a stopped daemon.
//!
//! Promises: a check writes nothing, and ends with 0 if all is sound, 1 if something is damaged, 2
//! if the store cannot be read. The others say who runs if a daemon does, and change nothing then.
//! Absent on purpose: how it is done, which is the store's.
//! Fails: with what the store says, after the place.

use crate::console::Console;
use crate::options::Options;
use crate::parse::Parsed;
use crate::rights::changed;
use indicatif::{ProgressBar, ProgressStyle};
use nix::unistd::geteuid;
use redspool_core::control::paths::{self, Environment};
use redspool_core::queue::StoreError;
use redspool_store::{Report, check, compact, rebuild};
use serde_json::json;
use std::path::{Path, PathBuf};

/// The store could not be read at all.
pub(crate) const UNREADABLE: u8 = 2;

/// Messages between two looks at the progress bar's clock.
const STEP: u64 = 256;

/// The spool that is meant, if it is known.
pub(crate) fn spool(console: &mut Console, options: &Options) -> Option<PathBuf> {
    let environment = Environment::collect(std::env::var_os);
    match paths::resolve(geteuid().as_raw(), &options.named(), &environment) {
        Ok(paths) => Some(paths.spool),
        Err(error) => {
            console.fail(&error.to_string());
            None
        }
    }
}

/// Why nothing can be done with a store, and what to do about it.
pub(crate) fn told(spool: &Path, why: &StoreError) -> String {
    let advice = match why {
        StoreError::Locked { .. } => "; stop the daemon first",
        StoreError::Absent => "; name it with --spool",
        _ => "",
    };
    format!("{}: {why}{advice}", spool.display())
}

/// Serves the three commands.
pub(crate) fn serve(console: &mut Console, options: &Options, parsed: &Parsed) {
    let Some(spool) = spool(console, options) else {
        return;
    };
    let done = match parsed.path.rsplit(' ').next() {
        Some("check") => checked(console, options, &spool),
        Some("rebuild") => changed(&spool, rebuild).map(|findings| {
            console.print(findings.to_string().as_bytes());
            console.print(b"database built anew\n");
        }),
        _ => changed(&spool, compact).map(|saved| {
            let line = |what: &str, (before, after): (u64, u64)| {
                format!("{what}: {before} octets before, {after} now\n")
            };
            console.print(line("segments", saved.segments).as_bytes());
            console.print(line("database", saved.database).as_bytes());
        }),
    };
    if let Err(why) = done {
        console.fail(&told(&spool, &why));
        console.end_with(UNREADABLE);
    }
}

/// Changes a store with the rights of its owner.
fn checked(console: &mut Console, options: &Options, spool: &Path) -> Result<(), StoreError> {
    // Drawn on the standard error, and only if that is a terminal.
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} messages, {eta} left");
    let bar =
        ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let mut told = 0;
    let report = check(spool, &mut |done, total| {
        if done >= told + STEP || done == total {
            told = done;
            bar.set_length(total);
            bar.set_position(done);
        }
    });
    bar.finish_and_clear();
    let report = report?;
    let text = if options.json {
        format!("{}\n", described(&report))
    } else {
        text(&report)
    };
    console.print(text.as_bytes());
    if !report.sound() {
        console.end_with(1);
    }
    Ok(())
}

fn text(report: &Report) -> String {
    let mut lines: Vec<String> = Vec::new();
    let findings = report.findings.all().iter();
    lines.extend(findings.map(|finding| {
        let kind = if finding.damage { "damage" } else { "note" };
        format!("{kind}: {finding}")
    }));
    let damaged = report.damaged.iter();
    lines.extend(damaged.map(|(message, reason)| format!("damage: message {message}: {reason}")));
    let bucket = report.corrupt.iter();
    lines.extend(
        bucket.map(|one| format!("corrupt bucket: message {}: {}", one.message, one.reason)),
    );
    lines.push(format!(
        "{} messages, {} envelopes, {} octets",
        report.messages, report.envelopes, report.octets
    ));
    if report.trashed > 0 {
        lines.push(format!("{} envelopes in the trash", report.trashed));
    }
    lines.push(format!(
        "{} octets of segments, {} needed, {} free",
        report.held.files, report.held.live, report.held.free
    ));
    lines.push(if report.sound() { "sound" } else { "damaged" }.into());
    lines.join("\n") + "\n"
}

fn described(report: &Report) -> serde_json::Value {
    let damaged = report.damaged.iter();
    let bucket = report.corrupt.iter();
    let findings = report.findings.all().iter();
    json!({
        "sound": report.sound(),
        "messages": report.messages,
        "envelopes": report.envelopes,
        "trashed": report.trashed,
        "octets": report.octets,
        "segments": {
            "octets": report.held.files,
            "needed": report.held.live,
            "free": report.held.free,
        },
        "damaged": damaged
            .map(|(message, reason)| json!({"message": message.to_string(), "reason": reason}))
            .collect::<Vec<_>>(),
        "corrupt": bucket
            .map(|one| json!({"message": one.message.to_string(), "reason": one.reason}))
            .collect::<Vec<_>>(),
        "findings": findings
            .map(|one| json!({"damage": one.damage, "text": one.to_string()}))
            .collect::<Vec<_>>(),
    })
}
