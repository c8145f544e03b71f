//! The files of many sessions' logs: named so that none is overwritten, and not all of them open at once.

use super::file::{RecordError, Sink};
use super::meta::file_stamp;
use crate::clock::{Realtime, Time};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Files that may be open beside the logs: sockets, rings, maps.
const OTHERS: u64 = 512;
/// Files of one name that are tried: a clock may stand.
const NAMES: u32 = 1000;

/// Finds out whether logs can be made in a folder, before anything else is touched; leaves it as it was.
///
/// # Errors
/// Why they cannot, with the flag.
pub fn check_folder(folder: &Path) -> Result<(), RecordError> {
    let path = folder.join(format!(".xdprobe.{}.tmp", std::process::id()));
    let failed = |answer| RecordError::Folder { path: folder.into(), answer };
    OpenOptions::new().append(true).create_new(true).open(&path).map_err(failed)?;
    std::fs::remove_file(&path).map_err(failed)
}

/// How many of so many logs may be open at once, after the process was allowed to have all of them open as far as that can be had
/// (`RLIMIT_NOFILE`, `getrlimit(2)`): of the others each is opened and closed whenever it is written to.
pub(super) fn may_be_open(logs: usize) -> usize {
    let wanted = (logs as u64).saturating_add(OTHERS);
    let allowed = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < wanted => {
            let raised = wanted.min(hard);
            setrlimit(Resource::RLIMIT_NOFILE, raised, hard).map_or(soft, |()| raised)
        }
        Ok((soft, _)) => soft,
        // Half of what a process has at least in any usual configuration.
        Err(_) => OTHERS,
    };
    logs.min(allowed.saturating_sub(OTHERS).max(allowed / 4) as usize).max(1)
}

/// The logs that are open, the one that was written to last at the back.
#[derive(Debug)]
pub(super) struct Shelf {
    open: VecDeque<(u64, File)>,
    /// How many they may be.
    most: usize,
}

impl Shelf {
    pub(super) fn new(most: usize) -> Self {
        Self { open: VecDeque::with_capacity(most), most }
    }

    pub(super) fn put(&mut self, id: u64, file: File) {
        if self.open.len() >= self.most {
            self.open.pop_front();
        }
        self.open.push_back((id, file));
    }

    fn take(&mut self, id: u64) -> Option<File> {
        // The one that is written to next is mostly the one that was written to the longest ago.
        let at = self.open.iter().position(|(open, _)| *open == id)?;
        self.open.remove(at).map(|(_, file)| file)
    }
}

/// A log that is opened when it is written to, so that there may be more of them than files may be open.
pub(super) struct Shelved {
    pub(super) id: u64,
    pub(super) path: PathBuf,
    pub(super) shelf: Arc<Mutex<Shelf>>,
}

impl Shelved {
    fn with<T>(&self, act: impl FnOnce(&mut File) -> T) -> io::Result<T> {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = match shelf.take(self.id) {
            Some(file) => file,
            None => OpenOptions::new().append(true).open(&self.path)?,
        };
        let answer = act(&mut file);
        shelf.put(self.id, file);
        Ok(answer)
    }
}

impl Write for Shelved {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|file| file.write(bytes))?
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Shelved {
    fn cut(&mut self, whole: u64, length: u64) -> bool {
        self.with(|file| file.cut(whole, length)).unwrap_or(false)
    }
}

impl Drop for Shelved {
    fn drop(&mut self) {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner).take(self.id);
    }
}

/// Makes the file of a session that began then: no other one's, whatever stands in the folder.
pub(super) fn reserve(folder: &Path, peer: SocketAddrV4, at: Time<Realtime>) -> Result<PathBuf, RecordError> {
    let name = format!("{}-{}-{}", file_stamp(at), peer.ip(), peer.port());
    let mut number = 1;
    loop {
        let further = if number > 1 { format!("-{number}") } else { String::new() };
        let path = folder.join(format!("{name}{further}.csv"));
        let taken = super::meta_path(&path).exists();
        match OpenOptions::new().append(true).create_new(true).open(&path) {
            Ok(_) if !taken => return Ok(path),
            Ok(_) => {
                // Somebody's meta file stands beside it.
                let _ = std::fs::remove_file(&path);
            }
            Err(answer) if answer.kind() == io::ErrorKind::AlreadyExists && number < NAMES => {}
            Err(answer) => return Err(RecordError::Folder { path: folder.into(), answer }),
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn as_many_are_open_as_the_process_may_have_and_some_in_any_case() {
        // More than anybody is allowed, and what everybody is.
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let most = may_be_open(usize::MAX) as u64;
        let (soft, still) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!((soft, still), (hard, hard));
        assert_eq!(most, hard.saturating_sub(OTHERS).max(hard / 4));
        assert_eq!((may_be_open(10), may_be_open(0)), (10, 1));
    }

    #[test]
    fn a_log_gets_a_name_that_nothing_has_yet() {
        let peer = SocketAddrV4::new(Ipv4Addr::new(10, 66, 0, 1), 7);
        let folder = tempfile::tempdir().unwrap();
        let at = Time::from_nanos(1_795_310_380_363_468_815);
        let names: Vec<String> = (0..3)
            .map(|_| reserve(folder.path(), peer, at).unwrap().file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        let name = "2026-11-22T011940.363468815Z-10.66.0.1-7";
        assert_eq!(names, [format!("{name}.csv"), format!("{name}-2.csv"), format!("{name}-3.csv")]);
        // Nor takes it the meta file of a log that is gone.
        std::fs::write(folder.path().join(format!("{name}-4.csv.meta.json")), "{}").unwrap();
        let next = reserve(folder.path(), peer, at).unwrap();
        assert!(next.ends_with(format!("{name}-5.csv")), "{next:?}");
    }
}
