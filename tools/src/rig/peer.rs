//! Programs of other projects that tests talk to.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Where a tool lies: in the search path, or where Debian puts servers. Without it a test fails
/// when the environment has `CI`; elsewhere it is left out, and says so.
pub fn tool(name: &str, package: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let found = places
        .map(|place| place.join(name))
        .find(|path| path.is_file());
    if found.is_none() {
        missing(name, package);
    }
    found
}

/// Says that a test is left out for want of a tool; fails instead when the environment has `CI`.
pub fn missing(name: &str, package: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "{name} is missing: apt-get install {package}"
    );
    eprintln!("skipped: {name} is missing (apt-get install {package})");
}

/// A running program of another project. Ended when dropped.
pub struct Peer(Child);

impl Peer {
    /// Starts it in `directory`.
    pub fn start(command: &mut Command, directory: &Path) -> Self {
        let child = command.current_dir(directory).stdin(Stdio::null()).spawn();
        Self(child.unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|status| status.is_some())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Ok(id) = self.0.id().try_into() {
            // An error means that it has ended already.
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        let _ = self.0.wait();
    }
}
