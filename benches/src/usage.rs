//! What this process has used so far: processor time, octets written, memory.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::stat::{major, minor, stat};
use nix::sys::time::TimeVal;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Counters of this process, all threads, those that have ended included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system time.
    pub cpu: Duration,
    /// Octets it made dirty: `write_bytes` of /proc/self/io. What is made dirty twice before it goes
    /// out counts once; a kernel that caches files in large pieces counts whole pieces; what the
    /// file system writes on its own account, such as its journal, does not count at all.
    pub dirtied: u64,
}

impl Usage {
    /// The counters now.
    pub fn now() -> io::Result<Self> {
        let used = getrusage(UsageWho::RUSAGE_SELF)?;
        Ok(Self {
            cpu: duration(used.user_time()) + duration(used.system_time()),
            dirtied: field(&fs::read_to_string("/proc/self/io")?, "write_bytes:")?,
        })
    }

    /// What was used since an earlier reading.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            dirtied: self.dirtied.saturating_sub(earlier.dirtied),
        }
    }
}

/// Octets the device below a directory was given to write so far, by everybody, the file system's
/// journal included; `None` if the directory lies on no single block device.
pub fn device_written(directory: &Path) -> io::Result<Option<u64>> {
    let device = stat(directory)?.st_dev;
    let name = format!("/sys/dev/block/{}:{}/stat", major(device), minor(device));
    match fs::read_to_string(name) {
        Ok(text) => Ok(sectors_written(&text).map(|sectors| sectors * 512)),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(why) => Err(why),
    }
}

/// The seventh number of a block device's statistics.
fn sectors_written(text: &str) -> Option<u64> {
    text.split_whitespace().nth(6)?.parse().ok()
}

/// Octets of memory of its own this process has in use now: heap and stacks, no mapped files.
pub fn memory() -> io::Result<u64> {
    Ok(1024 * field(&fs::read_to_string("/proc/self/status")?, "RssAnon:")?)
}

fn duration(time: TimeVal) -> Duration {
    let micros = time.tv_sec() * 1_000_000 + time.tv_usec();
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// The number behind a name at the start of a line.
fn field(text: &str, name: &str) -> io::Result<u64> {
    let number = text.lines().find_map(|line| line.strip_prefix(name));
    number
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| io::Error::other(format!("the kernel does not tell {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "cancelled_write_bytes: 7\nwrite_bytes: 4096\nRssAnon:\t  12 kB\n";
        assert_eq!(field(text, "write_bytes:").unwrap(), 4096);
        assert_eq!(field(text, "RssAnon:").unwrap(), 12);
        assert!(field(text, "read_bytes:").is_err());
    }

    #[test]
    fn the_sectors_written_are_the_seventh_number() {
        let text =
            "  231068    33391 18710738   765026   272086   163383 37041632   253675  0  66100";
        assert_eq!(sectors_written(text), Some(37_041_632));
        assert_eq!(sectors_written("1 2 3"), None);
    }
}
