//! A file of results: a new file beside it that takes its place once it is whole.

use super::error::ReportError;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Bytes written at once.
const BLOCK: usize = 1 << 18;

/// A file that is being written. Dropped before [`Output::finish`] it leaves what was there.
#[derive(Debug)]
pub(super) struct Output {
    path: PathBuf,
    flag: &'static str,
    /// `None` where the name is that of a pipe or device, which nothing can take the place of.
    temporary: Option<PathBuf>,
    file: Option<BufWriter<File>>,
}

impl Output {
    pub(super) fn create(path: &Path, flag: &'static str) -> Result<Self, ReportError> {
        let is_special = fs::metadata(path).is_ok_and(|status| !status.is_file());
        // What a symbolic link leads to is replaced, not the link.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let temporary = (!is_special).then(|| {
            let mut name = OsString::from(&path);
            name.push(format!(".{}.tmp", std::process::id()));
            PathBuf::from(name)
        });
        match File::create(temporary.as_deref().unwrap_or(&path)) {
            Ok(file) => Ok(Self { path, flag, temporary, file: Some(BufWriter::with_capacity(BLOCK, file)) }),
            Err(answer) => Err(ReportError::Write { path, flag, answer }),
        }
    }

    pub(super) fn failed(&self, answer: io::Error) -> ReportError {
        ReportError::Write { path: self.path.clone(), flag: self.flag, answer }
    }

    /// What is written to.
    pub(super) fn writer(&mut self) -> &mut BufWriter<File> {
        self.file.as_mut().expect("it is there until the file is finished")
    }

    /// All is written: the file takes its place.
    pub(super) fn finish(mut self) -> Result<(), ReportError> {
        let written = self.writer().flush();
        self.file = None;
        let moved = match &self.temporary {
            Some(temporary) => written.and_then(|()| fs::rename(temporary, &self.path)),
            None => written,
        };
        moved.map_err(|answer| self.failed(answer))?;
        self.temporary = None;
        Ok(())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer().flush()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = fs::remove_file(temporary);
        }
    }
}
