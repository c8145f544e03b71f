//! One file that rows are appended to: whole rows only, none dropped without being counted.
//!
//! Who makes the rows and when they are written is the writer's business.

use super::row::{HEADER, STAGES_HEADER};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Bytes written at once.
pub(super) const BLOCK: usize = 256 * 1024;
/// Bytes that may be put behind a full block before it is written.
const SLACK: usize = 256 * 1024;

/// How often it is looked whether a FIFO has a reader: no event tells.
const FIFO_LOOK: Duration = Duration::from_millis(10);

/// Which of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogKind {
    /// nanoprobe's log, `--log`.
    Main,
    /// The log of stages, `--log-stages`.
    Stages,
}

impl LogKind {
    /// The line at its top and before every later session.
    pub const fn header(self) -> &'static str {
        match self {
            Self::Main => HEADER,
            Self::Stages => STAGES_HEADER,
        }
    }

    const fn flag(self) -> &'static str {
        match self {
            Self::Main => "--log",
            Self::Stages => "--log-stages",
        }
    }

    /// What it is called in a sentence.
    const fn noun(self) -> &'static str {
        match self {
            Self::Main => "log",
            Self::Stages => "log of stages",
        }
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file cannot be opened.
    #[error("cannot open the {} {} for appending: {answer}: {}", kind.noun(), path.display(), advice(*kind, answer))]
    Open {
        /// Which file.
        kind: LogKind,
        /// Its name.
        path: PathBuf,
        /// What the kernel answered.
        answer: io::Error,
    },
    /// The file was opened, but its first line cannot be written.
    #[error("cannot write to the {} {}: {answer}: {}", kind.noun(), path.display(), advice(*kind, answer))]
    Header {
        /// Which file.
        kind: LogKind,
        /// Its name.
        path: PathBuf,
        /// What the kernel answered.
        answer: io::Error,
    },
    /// Both flags name one file.
    #[error("--log-stages {}: that is the file of --log too, and rows of two kinds cannot be told apart: name another file",
        path.display())]
    Same {
        /// As `--log-stages` names it.
        path: PathBuf,
    },
    /// No log can be made in the folder.
    #[error("cannot make a log in {} (--log-dir): {answer}: {}", path.display(), folder_advice(answer))]
    Folder {
        /// Its name.
        path: PathBuf,
        /// What the kernel answered.
        answer: io::Error,
    },
    /// The user wanted an end before a FIFO had a reader.
    #[error("stopped while the {} {} waited for its reader", kind.noun(), path.display())]
    Stopped {
        /// Which file.
        kind: LogKind,
        /// Its name.
        path: PathBuf,
    },
    /// No thread for the log.
    #[error("cannot start the thread that writes the log: {0}: raise the limit on processes (ulimit -u)")]
    Thread(io::Error),
}

fn advice(kind: LogKind, error: &io::Error) -> String {
    let flag = kind.flag();
    match error.kind() {
        io::ErrorKind::NotFound => format!("create its folder, or name another file with {flag}"),
        io::ErrorKind::PermissionDenied => format!("allow this user to write to it, or name another file with {flag}"),
        io::ErrorKind::IsADirectory => format!("it is a folder: name a file with {flag}"),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("make room, or name a file elsewhere with {flag}")
        }
        io::ErrorKind::ReadOnlyFilesystem => format!("name a file elsewhere with {flag}"),
        _ => format!("name another file with {flag}"),
    }
}

impl RecordError {
    /// The same of a log whose folder alone the user has named.
    pub(super) fn in_folder(self, folder: &Path) -> Self {
        match self {
            Self::Open { answer, .. } | Self::Header { answer, .. } => Self::Folder { path: folder.into(), answer },
            other => other,
        }
    }
}

fn folder_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room, or name a folder elsewhere",
        io::ErrorKind::ReadOnlyFilesystem => "name a folder elsewhere",
        _ => "name a folder that is there and that this user may write to",
    }
}

/// Finds out whether the logs can be written to, before anything else is touched; leaves everything as it was.
///
/// # Errors
/// [`RecordError::Open`] where one cannot be opened, [`RecordError::Same`] where both are one.
pub fn check_logs(log: Option<&Path>, stages: Option<&Path>) -> Result<(), RecordError> {
    if let (Some(log), Some(stages)) = (log, stages)
        && (is_same(log, stages) || is_same(&super::meta::meta_path(log), stages))
    {
        return Err(RecordError::Same { path: stages.into() });
    }
    log.map_or(Ok(()), |path| check_log(LogKind::Main, path))?;
    stages.map_or(Ok(()), |path| check_log(LogKind::Stages, path))
}

fn check_log(kind: LogKind, path: &Path) -> Result<(), RecordError> {
    let failed = |answer| RecordError::Open { kind, path: path.into(), answer };
    match path.metadata() {
        // A FIFO would wait for its reader, and opening it twice would look to that one like two writers.
        Ok(status) if !status.is_file() && !status.is_dir() => Ok(()),
        Ok(_) => OpenOptions::new().append(true).open(path).map(drop).map_err(failed),
        // A link to nowhere is made a file by whoever opens it, and cannot be tried without.
        Err(_) if path.is_symlink() => Ok(()),
        Err(_) => {
            OpenOptions::new().append(true).create_new(true).open(path).map_err(failed)?;
            std::fs::remove_file(path).map_err(failed)
        }
    }
}

/// Whether two names lead to one file, also one that is not there yet.
fn is_same(one: &Path, other: &Path) -> bool {
    if let (Ok(one), Ok(other)) = (one.metadata(), other.metadata()) {
        return (one.dev(), one.ino()) == (other.dev(), other.ino());
    }
    let place = |path: &Path| {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some((folder.canonicalize().ok()?, path.file_name()?.to_owned()))
    };
    one == other || place(one).is_some_and(|one| place(other) == Some(one))
}

/// Opens a log and writes its header; returns it with its length. A FIFO waits for its reader, and for room, until
/// `is_stopped`.
pub(super) fn open(kind: LogKind, path: &Path, is_stopped: &dyn Fn() -> bool) -> Result<(File, u64), RecordError> {
    let failed = |answer| RecordError::Open { kind, path: path.into(), answer };
    if path.metadata().is_ok_and(|status| status.file_type().is_fifo()) {
        return Ok((open_fifo(kind, path, is_stopped)?, kind.header().len() as u64));
    }
    let mut file = OpenOptions::new().append(true).create(true).open(path).map_err(failed)?;
    let status = file.metadata().map_err(failed)?;
    let mut length = if status.is_file() { status.len() } else { 0 };
    let mut first = String::new();
    if length > 0 && !ends_with_line(path) {
        // Somebody was killed in the middle of a row: the header must not become a part of it.
        first.push('\n');
    }
    first.push_str(kind.header());
    file.write_all(first.as_bytes()).map_err(|answer| RecordError::Header { kind, path: path.into(), answer })?;
    length += first.len() as u64;
    Ok((file, length))
}

/// Opens a FIFO and writes its header. Without waiting in the kernel, where a signal that is caught would end nothing.
fn open_fifo(kind: LogKind, path: &Path, is_stopped: &dyn Fn() -> bool) -> Result<File, RecordError> {
    let mut file = look_again(is_stopped, || {
        match OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path) {
            // Nobody reads yet (fifo(7)).
            Err(answer) if answer.raw_os_error() == Some(libc::ENXIO) => None,
            opened => Some(opened.map_err(|answer| RecordError::Open { kind, path: path.into(), answer })),
        }
    })
    .ok_or_else(|| RecordError::Stopped { kind, path: path.into() })??;
    let failed = |answer| RecordError::Header { kind, path: path.into(), answer };
    // What is shorter than PIPE_BUF is written as a whole, or not at all (pipe(7)).
    look_again(is_stopped, || match file.write_all(kind.header().as_bytes()) {
        Err(answer) if answer.kind() == io::ErrorKind::WouldBlock => None,
        written => Some(written.map_err(failed)),
    })
    .ok_or_else(|| RecordError::Stopped { kind, path: path.into() })??;
    // From now on it is the writing thread that waits.
    fcntl(&file, FcntlArg::F_SETFL(OFlag::empty())).map_err(|answer| failed(answer.into()))?;
    Ok(file)
}

/// Tries until there is an answer; `None` where the user wants an end before.
fn look_again<T>(is_stopped: &dyn Fn() -> bool, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    while !is_stopped() {
        if let Some(answer) = attempt() {
            return Some(answer);
        }
        std::thread::sleep(FIFO_LOOK);
    }
    None
}

/// Whether the file ends with a line feed, as far as it may be read.
fn ends_with_line(path: &Path) -> bool {
    let last_byte = || -> io::Result<u8> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        Ok(last[0])
    };
    last_byte().map_or(true, |byte| byte == b'\n')
}

/// Where rows go.
pub(super) trait Sink: Write + Send {
    /// Takes back what was written of a row that did not fit, where that can be done: the file has `length` bytes, of
    /// which `whole` end with a whole row. Returns whether it was.
    fn cut(&mut self, whole: u64, length: u64) -> bool;
}

impl Sink for File {
    fn cut(&mut self, whole: u64, length: u64) -> bool {
        // Not where somebody else has appended to it meanwhile.
        let ours = self.metadata().is_ok_and(|status| status.is_file() && status.len() == length);
        ours && self.set_len(whole).is_ok()
    }
}

/// What became of the rows of one file, for both threads to see.
#[derive(Debug, Default)]
pub(super) struct FileCounts {
    pub(super) rows_written: AtomicU64,
    pub(super) rows_lost: AtomicU64,
    /// Length of the file in bytes, as far as it was written by this process.
    pub(super) end: AtomicU64,
    pub(super) error: Mutex<Option<String>>,
}

impl FileCounts {
    /// A number that changes whenever rows leave the writer.
    pub(super) fn progress(&self) -> u64 {
        self.rows_written.load(Ordering::Relaxed) + self.rows_lost.load(Ordering::Relaxed)
    }
}

/// One file as the writer has it.
pub(super) struct LogFile {
    kind: LogKind,
    sink: Box<dyn Sink>,
    counts: Arc<FileCounts>,
    /// Whole rows, not yet written.
    block: Vec<u8>,
    /// Rows in `block`.
    held: u64,
    /// Length of the file in bytes.
    end: u64,
    /// Where the header of the newest session begins.
    session_start: u64,
    /// The disk has refused something: every further row is lost.
    broken: bool,
}

impl LogFile {
    /// A file of `end` bytes that ends with a header.
    pub(super) fn new(kind: LogKind, sink: Box<dyn Sink>, end: u64) -> Self {
        Self { block: Vec::with_capacity(BLOCK + SLACK), ..Self::growing(kind, sink, end) }
    }

    /// The same with memory only for what it holds: one of many.
    pub(super) fn growing(kind: LogKind, sink: Box<dyn Sink>, end: u64) -> Self {
        let counts = FileCounts { end: AtomicU64::new(end), ..FileCounts::default() };
        Self {
            kind,
            sink,
            counts: Arc::new(counts),
            block: Vec::new(),
            held: 0,
            end,
            session_start: end.saturating_sub(kind.header().len() as u64),
            broken: false,
        }
    }

    pub(super) fn counts(&self) -> Arc<FileCounts> {
        Arc::clone(&self.counts)
    }

    /// Where the header of the newest session begins, in bytes.
    pub(super) fn session_start(&self) -> u64 {
        self.session_start
    }

    pub(super) fn push_header(&mut self) {
        self.session_start = self.end + self.block.len() as u64;
        self.block.extend_from_slice(self.kind.header().as_bytes());
    }

    /// `append` puts one row, with its line feed, behind what is there.
    pub(super) fn push_row(&mut self, append: impl FnOnce(&mut Vec<u8>)) {
        append(&mut self.block);
        self.held += 1;
    }

    /// Puts so many rows, each with its line feed, behind what is there.
    pub(super) fn push_rows(&mut self, text: &[u8], rows: u64) {
        self.block.extend_from_slice(text);
        self.held += rows;
    }

    /// How many bytes wait to be written.
    pub(super) fn held_bytes(&self) -> usize {
        self.block.len()
    }

    /// Writes what is there, or counts it as lost. A sentence for the user where the disk refused it for the first time.
    pub(super) fn write(&mut self) -> Option<String> {
        if self.block.is_empty() {
            return None;
        }
        if self.broken {
            self.give_up(0);
            return None;
        }
        let mut written = 0;
        let failure = loop {
            match self.sink.write(&self.block[written..]) {
                Ok(0) => break Some(io::Error::from(io::ErrorKind::WriteZero)),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Some(error),
            }
            if written == self.block.len() {
                break None;
            }
        };
        let Some(failure) = failure else {
            self.end += written as u64;
            self.counts.end.store(self.end, Ordering::Release);
            self.counts.rows_written.fetch_add(self.held, Ordering::Release);
            self.held = 0;
            self.block.clear();
            return None;
        };
        self.broken = true;
        let whole = self.block[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let torn = whole < written;
        let cut = torn && self.sink.cut(self.end + whole as u64, self.end + written as u64);
        self.end += if cut || !torn { whole } else { written } as u64;
        self.counts.end.store(self.end, Ordering::Release);
        *self.counts.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure.to_string());
        self.give_up(whole);
        let noun = self.kind.noun();
        Some(format!("Cannot write to the {noun}: {failure}: no further row is written; they are counted."))
    }

    /// Counts the rows of the block: those within its first `whole` bytes are in the file, the others are lost.
    fn give_up(&mut self, whole: usize) {
        let lines = self.block[..whole].split_inclusive(|byte| *byte == b'\n');
        let written = lines.filter(|line| *line != self.kind.header().as_bytes()).count() as u64;
        self.counts.rows_written.fetch_add(written, Ordering::Release);
        self.counts.rows_lost.fetch_add(self.held - written, Ordering::Release);
        self.held = 0;
        self.block.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_names_of_one_file_are_refused_whether_it_is_there_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("log.csv"), folder.path().join("../log.csv"));
        let dotted = folder.path().join(".").join("log.csv");
        let same =
            |log: &Path, stages: &Path| matches!(check_logs(Some(log), Some(stages)), Err(RecordError::Same { .. }));
        assert!(same(&one, &dotted) && same(&one, &one));
        assert!(!is_same(&one, &other));
        std::fs::write(&one, "").unwrap();
        let linked = folder.path().join("link.csv");
        std::os::unix::fs::symlink(&one, &linked).unwrap();
        assert!(same(&linked, &dotted));
        assert!(same(&one, &super::super::meta::meta_path(&one)), "the file beside the log is written anew");
        let text = check_logs(Some(&one), Some(&linked)).unwrap_err().to_string();
        assert!(text.starts_with("--log-stages ") && text.contains("link.csv"), "{text}");
        assert!(check_logs(Some(&one), Some(&folder.path().join("stages.csv"))).is_ok());
        assert!(!folder.path().join("stages.csv").exists(), "a check leaves nothing behind");
    }

    #[test]
    fn a_fifo_waits_for_its_reader_until_the_user_wants_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let looks = std::cell::Cell::new(0);
        let after_three = || {
            looks.set(looks.get() + 1);
            looks.get() > 3
        };
        let stopped = open(LogKind::Stages, &fifo, &after_three).unwrap_err();
        assert_eq!(
            stopped.to_string(),
            format!("stopped while the log of stages {} waited for its reader", fifo.display())
        );
        assert_eq!(looks.get(), 4);
        let read = std::thread::spawn({
            let fifo = fifo.clone();
            move || std::fs::read_to_string(fifo).unwrap()
        });
        let (mut file, length) = open(LogKind::Main, &fifo, &|| false).unwrap();
        assert_eq!(length, HEADER.len() as u64);
        // More than a pipe holds: the file waits for room again.
        let rows = "1,t0,0.000000001,44\n".repeat(10_000);
        file.write_all(rows.as_bytes()).unwrap();
        drop(file);
        assert_eq!(read.join().unwrap(), format!("{HEADER}{rows}"));
    }

    #[test]
    fn an_error_names_the_file_and_its_flag() {
        let missing = Path::new("/nonexistent/file.csv");
        let log = check_logs(Some(missing), None).unwrap_err().to_string();
        assert!(log.contains("cannot open the log /nonexistent/file.csv") && log.ends_with("with --log"), "{log}");
        let stages = check_logs(None, Some(missing)).unwrap_err().to_string();
        let expected = "cannot open the log of stages /nonexistent/file.csv for appending";
        assert!(stages.starts_with(expected) && stages.ends_with("with --log-stages"), "{stages}");
    }
}
