//! What a run that was killed left: a file for each interface whose stamping is changed, or may be forgotten by its driver
//! over XDP, there as long as it is.
//!
//! The files are in `/run/xdprobe`, which goes with a reboot as the configuration itself does. They are written and
//! read under a lock on that folder, so that of two runs that start together one sees the other.
#![forbid(unsafe_code)]

use super::Config;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the files are.
pub(super) const FOLDER: &str = "/run/xdprobe";

/// One process, even where its id is given to another after its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// When it started, in clock ticks since the system's start: field 22 of `/proc/PID/stat` (proc_pid_stat(5)).
    pub(super) started: u64,
}

impl Process {
    pub(super) fn this() -> Self {
        let pid = std::process::id();
        Self { pid, started: start_of(pid).unwrap_or(0) }
    }

    /// The one that has this id now.
    #[cfg(test)]
    pub(super) fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, started: start_of(pid)? })
    }

    pub(super) fn is_alive(self) -> bool {
        start_of(self.pid) == Some(self.started)
    }

    /// Whether it is at work, and not this one.
    pub(super) fn is_another(self) -> bool {
        self != Self::this() && self.is_alive()
    }
}

fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, which can have blanks and parentheses itself.
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_whitespace();
    let state = fields.next()?;
    // One that ended and was not waited for yet holds nothing any more.
    if matches!(state, "Z" | "X") {
        return None;
    }
    // The state is field 3.
    fields.nth(22 - 4)?.parse().ok()
}

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    #[serde(flatten)]
    pub(super) process: Process,
    /// `/proc/sys/kernel/random/boot_id`: after a reboot the configuration is gone too.
    pub(super) boot: String,
    pub(super) interface: String,
    /// What is to be restored.
    pub(super) original: Config,
    /// What the process has set, or has found as long as it has set nothing; `None` while it is about to set something.
    pub(super) set: Option<Config>,
}

/// The file for one interface, whether it is there or not.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    folder: PathBuf,
    file: PathBuf,
}

impl Slot {
    /// That of the interface with this index in the calling thread's network namespace.
    pub(super) fn of(folder: &Path, if_index: u32) -> Self {
        // 0 is no inode's number.
        let namespace = fs::metadata("/proc/thread-self/ns/net").map_or(0, |namespace| namespace.ino());
        Self { folder: folder.into(), file: folder.join(format!("hwtstamp-{namespace}-{if_index}")) }
    }

    /// Makes the folder, and waits until no other run is between looking and changing.
    ///
    /// # Errors
    /// What the kernel answered: without the folder there can be no file either.
    pub(super) fn lock(&self) -> io::Result<Flock<File>> {
        fs::create_dir_all(&self.folder)?;
        Flock::lock(File::open(&self.folder)?, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
    }

    /// What is in the file; `None` where there is none, or it is not of this boot or cannot be read.
    pub(super) fn read(&self) -> Option<Marker> {
        let marker: Marker = serde_json::from_slice(&fs::read(&self.file).ok()?).ok()?;
        (marker.boot == boot()).then_some(marker)
    }

    /// Puts `marker` there, whole or not at all.
    ///
    /// # Errors
    /// What the kernel answered.
    pub(super) fn write(&self, marker: &Marker) -> io::Result<()> {
        let new = self.file.with_extension("new");
        fs::write(&new, serde_json::to_vec(marker)?)?;
        fs::rename(&new, &self.file)
    }

    /// Removes the file. One that is not there is no error.
    pub(super) fn remove(&self) {
        // What cannot be removed is found by the next run, which says so.
        let _ = fs::remove_file(&self.file);
    }

    pub(super) fn path(&self) -> &Path {
        &self.file
    }
}

/// The id of this boot of the system.
pub(super) fn boot() -> String {
    crate::clock::boot_id().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::hwtstamp::{RxFilter, TxType};

    fn marker() -> Marker {
        Marker {
            process: Process::this(),
            boot: boot(),
            interface: "eth0".into(),
            original: Config { flags: 0, tx: TxType::Off, rx: RxFilter::None },
            set: Some(Config { flags: 0, tx: TxType::On, rx: RxFilter::All }),
        }
    }

    #[test]
    fn what_is_written_is_read_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let slot = Slot::of(&folder.path().join("run"), 7);
        assert!(slot.read().is_none());
        let lock = slot.lock().unwrap();
        slot.write(&marker()).unwrap();
        drop(lock);
        assert_eq!(slot.read(), Some(marker()));
        assert!(Slot::of(&folder.path().join("run"), 8).read().is_none());
        slot.remove();
        slot.remove();
        assert!(slot.read().is_none());
    }

    #[test]
    fn another_boots_marker_and_nonsense_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let slot = Slot::of(folder.path(), 7);
        slot.write(&Marker { boot: "another".into(), ..marker() }).unwrap();
        assert!(slot.read().is_none());
        fs::write(slot.path(), "{").unwrap();
        assert!(slot.read().is_none());
    }

    #[test]
    fn a_process_is_alive_until_its_end_and_its_id_alone_does_not_stand_for_it() {
        let this = Process::this();
        assert!(this.started > 0 && this.is_alive() && !this.is_another());
        assert!(!Process { started: this.started + 1, ..this }.is_alive());
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let other = Process { pid: child.id(), started: start_of(child.id()).unwrap() };
        assert!(other.is_alive() && other.is_another());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!other.is_alive());
    }
}
