//! What a run that was killed left: a file for each setting of an interface that is changed, or may be forgotten by its driver
//! over XDP, there as long as it is.
//!
//! The files are in `/run/xdprobe`, which goes with a reboot as the settings themselves do. They are written and
//! read under a lock on that folder, so that of two runs that start together one sees the other. What is set, and what is made of
//! a file that is found, is `hwtstamp`'s and `napi`'s.
#![forbid(unsafe_code)]

use nix::fcntl::{Flock, FlockArg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the files are.
pub(in crate::net) const FOLDER: &str = "/run/xdprobe";

/// One process, even where its id is given to another after its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::net) struct Process {
    pub(in crate::net) pid: u32,
    /// When it started, in clock ticks since the system's start: field 22 of `/proc/PID/stat` (proc_pid_stat(5)).
    pub(in crate::net) started: u64,
}

impl Process {
    pub(in crate::net) fn this() -> Self {
        let pid = std::process::id();
        Self { pid, started: start_of(pid).unwrap_or(0) }
    }

    /// The one that has this id now.
    #[cfg(test)]
    pub(in crate::net) fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, started: start_of(pid)? })
    }

    pub(in crate::net) fn is_alive(self) -> bool {
        start_of(self.pid) == Some(self.started)
    }

    /// Whether it is at work, and not this one.
    pub(in crate::net) fn is_another(self) -> bool {
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

/// What a file says of a setting of type `T`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::net) struct Marker<T> {
    #[serde(flatten)]
    pub(in crate::net) process: Process,
    /// `/proc/sys/kernel/random/boot_id`: after a reboot the setting is gone too.
    pub(in crate::net) boot: String,
    pub(in crate::net) interface: String,
    /// What is to be restored.
    pub(in crate::net) original: T,
    /// What the process has set, or has found as long as it has set nothing; `None` while it is about to set something.
    pub(in crate::net) set: Option<T>,
}

impl<T> Marker<T> {
    /// This process's, of this boot.
    pub(in crate::net) fn new(interface: &str, original: T, set: Option<T>) -> Self {
        Self { process: Process::this(), boot: boot(), interface: interface.to_owned(), original, set }
    }
}

/// The file for one setting of one interface, whether it is there or not.
#[derive(Debug, Clone)]
pub(in crate::net) struct Slot {
    folder: PathBuf,
    file: PathBuf,
}

impl Slot {
    /// That of the interface with this index in the calling thread's network namespace; `setting` begins its name.
    pub(in crate::net) fn of(folder: &Path, setting: &str, if_index: u32) -> Self {
        // 0 is no inode's number.
        let namespace = fs::metadata("/proc/thread-self/ns/net").map_or(0, |namespace| namespace.ino());
        Self { folder: folder.into(), file: folder.join(format!("{setting}-{namespace}-{if_index}")) }
    }

    /// Makes the folder, and waits until no other run is between looking and changing.
    ///
    /// # Errors
    /// What the kernel answered: without the folder there can be no file either.
    pub(in crate::net) fn lock(&self) -> io::Result<Flock<File>> {
        fs::create_dir_all(&self.folder)?;
        Flock::lock(File::open(&self.folder)?, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
    }

    /// What is in the file; `None` where there is none, or it is not of this boot or cannot be read.
    pub(in crate::net) fn read<T: DeserializeOwned>(&self) -> Option<Marker<T>> {
        let marker: Marker<T> = serde_json::from_slice(&fs::read(&self.file).ok()?).ok()?;
        (marker.boot == boot()).then_some(marker)
    }

    /// Puts `marker` there, whole or not at all.
    ///
    /// # Errors
    /// What the kernel answered.
    pub(in crate::net) fn write<T: Serialize>(&self, marker: &Marker<T>) -> io::Result<()> {
        let new = self.file.with_extension("new");
        fs::write(&new, serde_json::to_vec(marker)?)?;
        fs::rename(&new, &self.file)
    }

    /// Removes the file. One that is not there is no error.
    pub(in crate::net) fn remove(&self) {
        // What cannot be removed is found by the next run, which says so.
        let _ = fs::remove_file(&self.file);
    }

    /// Whether the file is there, whatever is in it.
    pub(in crate::net) fn is_there(&self) -> bool {
        self.file.exists()
    }

    pub(in crate::net) fn path(&self) -> &Path {
        &self.file
    }
}

/// The id of this boot of the system.
pub(in crate::net) fn boot() -> String {
    crate::clock::boot_id().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::hwtstamp::{Config, RxFilter, TxType};

    fn marker() -> Marker<Config> {
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
        let slot = Slot::of(&folder.path().join("run"), "hwtstamp", 7);
        assert!(slot.read::<Config>().is_none());
        let lock = slot.lock().unwrap();
        slot.write(&marker()).unwrap();
        drop(lock);
        assert_eq!(slot.read(), Some(marker()));
        for another in [("hwtstamp", 8), ("napi", 7)] {
            assert!(Slot::of(&folder.path().join("run"), another.0, another.1).read::<Config>().is_none());
        }
        slot.remove();
        slot.remove();
        assert!(slot.read::<Config>().is_none());
    }

    #[test]
    fn another_boots_marker_and_nonsense_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let slot = Slot::of(folder.path(), "hwtstamp", 7);
        slot.write(&Marker { boot: "another".into(), ..marker() }).unwrap();
        assert!(slot.read::<Config>().is_none());
        fs::write(slot.path(), "{").unwrap();
        assert!(slot.read::<Config>().is_none());
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
