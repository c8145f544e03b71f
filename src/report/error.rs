//! Why there is no report.

use std::io;
use std::path::PathBuf;

/// Why there is no report. A damaged row is no reason: it is counted.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file cannot be read.
    #[error("cannot read {}: {answer}: name a log that is there and that this user may read", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the kernel answered.
        answer: io::Error,
    },
    /// It is read more than once, so it must be a file.
    #[error("cannot read {}: {}", path.display(),
        if *is_folder { "it is a folder: name a log in it" }
        else { "it is no regular file, and is to be read twice: write it to a file first" })]
    NotAFile {
        /// Which file.
        path: PathBuf,
        /// It is a folder.
        is_folder: bool,
    },
    /// There is no log in the file.
    #[error("{} is no log: {what}", path.display())]
    NoLog {
        /// Which file.
        path: PathBuf,
        /// What it is instead.
        what: String,
    },
    /// The log has no such session.
    #[error("--session {wanted}: {} has {sessions} session{}: name one from 1 to {sessions}", path.display(),
        if *sessions == 1 { "" } else { "s" })]
    NoSession {
        /// Which file.
        path: PathBuf,
        /// The session that was asked for.
        wanted: u64,
        /// How many there are.
        sessions: u64,
    },
    /// The log of stages has other sessions than the log beside it, and none of them is of that session's time.
    #[error("--stages {}: none of its {sessions} session{} is of the time of session {session} of {}: name the log of stages \
        that was written with that session", path.display(), if *sessions == 1 { "" } else { "s" }, log.display())]
    NoStagesThen {
        /// The log of stages.
        path: PathBuf,
        /// How many sessions it has.
        sessions: u64,
        /// The log beside it.
        log: PathBuf,
        /// The session of that.
        session: u64,
    },
    /// The two logs do not belong together.
    #[error("{} and {}: {why}", client.display(), server.display())]
    NoPair {
        /// The file named first.
        client: PathBuf,
        /// The file named second.
        server: PathBuf,
        /// What speaks against it.
        why: String,
    },
    /// A file of results cannot be written.
    #[error("cannot write {} ({flag}): {answer}: make room, allow this user to write there, or name another file",
        path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// The flag that names it.
        flag: &'static str,
        /// What the kernel, or the format's writer, answered.
        answer: io::Error,
    },
}
