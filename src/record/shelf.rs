//! The files of many sessions' logs: named so that none is overwritten, and not all of them open at once.

use super::file::{RecordError, Sink};
use super::meta::file_stamp;
use crate::clock::{Realtime, Time};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// How many logs are open at once: a quarter of what a process may usually have (`ulimit -n`).
pub(super) const OPEN: usize = 256;
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

/// The logs that are open, the one that was written to last at the back.
#[derive(Debug, Default)]
pub(super) struct Shelf(VecDeque<(u64, File)>);

impl Shelf {
    pub(super) fn put(&mut self, id: u64, file: File) {
        if self.0.len() == OPEN {
            self.0.pop_front();
        }
        self.0.push_back((id, file));
    }

    fn take(&mut self, id: u64) -> Option<File> {
        let at = self.0.iter().position(|(open, _)| *open == id)?;
        self.0.remove(at).map(|(_, file)| file)
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
