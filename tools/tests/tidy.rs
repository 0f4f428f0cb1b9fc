//! The test about the code itself: layer borders, floors, statics, heads, words, README commands.
//!
//! Promises: what would break the house is found here, with the file and the line to look at.
//! Absent on purpose: matters of taste, such as lengths; those are for review.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What each layer may depend on (ARCHITECTURE.md gives the reasons). A crate is added here and
/// there in the same change.
const BORDERS: [(&str, &[&str]); 3] = [
    (
        "engine/core",
        &[
            "annotate-snippets",
            "bytes",
            "chumsky",
            "email_address",
            "ipnet",
            "jiff",
            "logos",
            "mail-builder",
            "mail-parser",
            "postcard",
            "rand",
            "rsasl",
            "serde",
            "smtp-proto",
        ],
    ),
    (
        "engine/store",
        &[
            "redspool-core",
            "bytes",
            "crc32fast",
            "memchr",
            "parking_lot",
            "redb",
            "rustix",
            "tracing",
            "twox-hash",
            "zerocopy",
        ],
    ),
    (
        "ctl",
        &[
            "redspool-core",
            "redspool-store",
            "aes-gcm",
            "bcrypt",
            "bytes",
            "clap",
            "flate2",
            "hickory-resolver",
            "indicatif",
            "jiff",
            "mimalloc",
            "nix",
            "rand",
            "rpassword",
            "rustix",
            "serde",
            "serde_json",
            "sha-crypt",
            "tokio",
            "yescrypt",
            "zeroize",
        ],
    ),
];

/// The floors of core, lowest first: a module uses lower floors only, or itself.
const FLOORS: [&[&str]; 8] = [
    &[
        "addr", "hash", "limits", "pressure", "reply", "rng", "time", "tls",
    ],
    &["id", "machine", "space"],
    &["dns", "envelope", "message", "stats"],
    &["config", "queue", "spf"],
    &["lookup"],
    &["control", "dane", "smtp", "sts"],
    &["bounce", "foreign", "mda", "mta", "scheduler"],
    &["engine"],
];

fn root() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR"));
    tools
        .parent()
        .expect("tools lies in the workspace")
        .to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below `directory` with one of these endings, but nothing built.
fn files(directory: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(directory).expect("a folder of the workspace can be listed");
    for entry in entries {
        let path = entry
            .expect("a folder of the workspace can be listed")
            .path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                found.extend(files(&path, endings));
            }
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<(String, String)> {
    let root = root();
    let name = |path: &Path| {
        path.strip_prefix(&root)
            .expect("below")
            .display()
            .to_string()
    };
    files(&root, &[".rs"])
        .iter()
        .map(|path| (name(path), read(path)))
        .collect()
}

/// Fails with all faults at once.
fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// The lines of a file that are code, with their numbers.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text
        .lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line.trim()));
    lines.filter(|(_, line)| !line.starts_with("//"))
}

/// The names in a section of a Cargo.toml.
fn dependencies(manifest: &str, section: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == section;
        } else if let Some((name, _)) = line
            .split_once(['=', '.'])
            .filter(|_| inside && !line.starts_with('#'))
        {
            names.insert(name.trim().to_owned());
        }
    }
    names
}

#[test]
fn layers_depend_on_what_they_may() {
    let mut faults = Vec::new();
    for (layer, allowed) in BORDERS {
        let manifest = read(&root().join(layer).join("Cargo.toml"));
        for name in dependencies(&manifest, "[dependencies]") {
            if !allowed.contains(&name.as_str()) {
                faults.push(format!(
                    "{layer}/Cargo.toml: {name} is not allowed in this layer"
                ));
            }
        }
    }
    none(&faults);
}

#[test]
fn every_dependency_is_in_architecture() {
    let architecture = read(&root().join("ARCHITECTURE.md"));
    let mut faults = Vec::new();
    for name in dependencies(
        &read(&root().join("Cargo.toml")),
        "[workspace.dependencies]",
    ) {
        if !name.starts_with("redspool-") && !architecture.contains(&format!("`{name}`")) {
            faults.push(format!(
                "ARCHITECTURE.md: the dependency `{name}` is not explained"
            ));
        }
    }
    none(&faults);
}

#[test]
fn nobody_depends_on_the_roof() {
    let mut faults = Vec::new();
    for layer in ["engine/core", "engine/store", "engine/smtpd", "ctl"] {
        let manifest = read(&root().join(layer).join("Cargo.toml"));
        for roof in ["redspool-benches", "redspool-proptests", "redspool-tools"] {
            if dependencies(&manifest, "[dependencies]").contains(roof) {
                faults.push(format!("{layer}/Cargo.toml: {roof} is for tests only"));
            }
        }
    }
    none(&faults);
}

#[test]
fn modules_of_core_use_lower_floors_only() {
    let floor = |module: &str| FLOORS.iter().position(|floor| floor.contains(&module));
    let mut faults = Vec::new();
    for (name, text) in sources() {
        let Some(inside) = name.strip_prefix("engine/core/src/") else {
            continue;
        };
        let module = inside.split(['/', '.']).next().unwrap_or_default();
        if module == "lib" {
            continue;
        }
        let Some(own) = floor(module) else {
            faults.push(format!(
                "{name}: the module {module} stands on no floor of tidy.rs"
            ));
            continue;
        };
        // What tests use is no matter of layers.
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (at, line) in code(text) {
            for used in line.split("crate::").skip(1) {
                let used = used
                    .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .next();
                let used = used.unwrap_or_default();
                if used != module && floor(used).is_some_and(|floor| floor >= own) {
                    faults.push(format!("{name}:{at}: {module} must not use {used}"));
                }
            }
        }
    }
    none(&faults);
}

#[test]
fn libraries_are_named_in_their_layer_only() {
    let places = [
        ("redb::", &["engine/store/"][..]),
        ("hickory_resolver::", &["engine/smtpd/", "ctl/src/spf.rs"]),
        ("tokio::", &["engine/smtpd/", "ctl/src/spf.rs"]),
        ("smtp_proto::", &["engine/core/"]),
    ];
    let mut faults = Vec::new();
    for (name, text) in sources().iter().filter(|(name, _)| name.contains("src/")) {
        for (at, line) in code(text) {
            for (word, homes) in places {
                // The rivals in the benches may be anything.
                let at_home =
                    homes.iter().any(|home| name.starts_with(home)) || name.starts_with("benches/");
                let named = line.match_indices(word).any(|(start, _)| {
                    !line[..start].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                });
                if named && !at_home {
                    faults.push(format!("{name}:{at}: {word} belongs to {homes:?}"));
                }
            }
        }
    }
    none(&faults);
}

#[test]
fn no_state_hides_in_a_static() {
    let cells = [
        "Atomic",
        "Cell<",
        "Lock<",
        "Mutex<",
        "RwLock<",
        "OnceLock",
        "thread_local!",
    ];
    let mut faults = Vec::new();
    for (name, text) in sources() {
        if !name.contains("src/") || name.ends_with("/main.rs") {
            continue;
        }
        for (at, line) in code(&text) {
            let declared = line.starts_with("static ")
                || line.contains("pub static ")
                || line.contains("pub(crate) static ")
                || line.starts_with("thread_local!");
            if declared && cells.iter().any(|cell| line.contains(cell)) {
                faults.push(format!("{name}:{at}: process-wide state: {line}"));
            }
        }
    }
    none(&faults);
}

#[test]
fn sources_are_ascii() {
    let mut faults = Vec::new();
    for path in files(&root(), &[".rs", ".toml"]) {
        for (at, line) in read(&path).lines().enumerate() {
            if !line.is_ascii() {
                faults.push(format!("{}:{}: not ASCII: {line}", path.display(), at + 1));
            }
        }
    }
    none(&faults);
}

#[test]
fn every_file_says_what_it_is() {
    let starts = |text: &str| text.starts_with("//! ") || text.starts_with("#!");
    let unsaid = |(name, text): &(String, String)| {
        (!starts(text)).then(|| format!("{name}:1: no head comment"))
    };
    none(&sources().iter().filter_map(unsaid).collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_for_later_or_switched_off() {
    // Spelled in halves, so that this file does not find itself.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("#[ign", "ore"),
        concat!("should_", "panic"),
        concat!("#[al", "low("),
        concat!("unimpl", "emented!"),
    ];
    let mut faults = Vec::new();
    for (name, text) in sources() {
        for (at, line) in text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                faults.push(format!("{name}:{}: {word}: {}", at + 1, line.trim()));
            }
        }
    }
    none(&faults);
}

#[test]
fn readme_commands_name_what_exists() {
    let readme = read(&root().join("README.md"));
    for command in [
        "cargo build && target/debug/smtpd --local",
        "cargo test --workspace",
    ] {
        assert!(
            readme.contains(command),
            "README.md does not say `{command}`"
        );
    }
    let ci = read(&root().join(".ci/run"));
    assert!(
        ci.contains("cargo test --workspace"),
        ".ci/run does not run the README's tests"
    );
    // Every path named in a document is there.
    let mut faults = Vec::new();
    for document in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = read(&root().join(document));
        for word in text.split('`').skip(1).step_by(2) {
            let top = [
                "engine/",
                "ctl/",
                "benches/",
                "proptests/",
                "tools/",
                ".ci/",
                ".cargo/",
            ];
            let path = word.split([' ', '#']).next().unwrap_or_default();
            let named = top.iter().any(|top| path.starts_with(top));
            if named && !path.contains('*') && !root().join(path).exists() {
                faults.push(format!("{document}: {path} does not exist"));
            }
        }
    }
    none(&faults);
}

#[test]
fn no_folder_beside_the_house() {
    let known = ["benches", "ctl", "engine", "proptests", "tools"];
    let built = ["target", "redspool-local"];
    for entry in fs::read_dir(root()).expect("the workspace can be listed") {
        let entry = entry.expect("the workspace can be listed");
        let name = entry.file_name().to_string_lossy().into_owned();
        let fits = name.starts_with('.')
            || !entry.path().is_dir()
            || known.contains(&name.as_str())
            || built.contains(&name.as_str());
        assert!(
            fits,
            "{name}: a document or program lies in one of {known:?}"
        );
    }
}
