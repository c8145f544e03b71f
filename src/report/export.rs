//! The joined rows as files: CSV, and Parquet for engines that people already have.

use super::error::ReportError;
use super::output::Output;
use super::parquet::ParquetFile;
use std::io::Write;
use std::path::Path;

/// What became of a ping, or, in duplex sessions, of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The pong, or the packet, arrived.
    Received,
    /// The echoing side's log alone: answered.
    Answered,
    /// Nobody was to answer, or what became of it cannot be told.
    Unanswered,
    /// The ping, or the client's packet, was lost.
    LostForward,
    /// The pong, or the server's packet, was lost.
    LostBackward,
    /// One of both.
    Lost,
    /// It is in the log of the other side alone, behind the end of this one's.
    Unlogged,
}

impl State {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Answered => "answered",
            Self::Unanswered => "unanswered",
            Self::LostForward => "lost_forward",
            Self::LostBackward => "lost_backward",
            Self::Lost => "lost",
            Self::Unlogged => "unlogged",
        }
    }
}

/// One row of the exports: all of one sequence.
#[derive(Debug, Clone, Copy)]
pub(super) struct Joined {
    pub(super) sequence: u64,
    /// 1 of what a duplex session's server pings.
    pub(super) lane: usize,
    pub(super) sizes: [u16; 2],
    pub(super) stamps: [Option<i64>; 4],
    pub(super) rtt: Option<i64>,
    pub(super) t3_t0: Option<i64>,
    pub(super) forward: Option<i64>,
    pub(super) backward: Option<i64>,
    pub(super) state: State,
}

/// The names of the columns, in their order.
pub(super) const COLUMNS: [&str; 13] = [
    "seq",
    "way",
    "size",
    "pong_size",
    "t0_ns",
    "t1_ns",
    "t2_ns",
    "t3_ns",
    "rtt_ns",
    "t3_t0_ns",
    "owd_forward_ns",
    "owd_backward_ns",
    "state",
];

impl Joined {
    /// `ping`, or of duplex sessions `client-server` and `server-client`.
    pub(super) const fn way(&self, is_duplex: bool) -> &'static str {
        match (is_duplex, self.lane) {
            (false, _) => "ping",
            (true, 0) => "client-server",
            (true, _) => "server-client",
        }
    }

    /// The columns of numbers behind `way`.
    pub(super) fn numbers(&self) -> [Option<i64>; 10] {
        let [t0, t1, t2, t3] = self.stamps;
        let [ping, pong] = self.sizes.map(|size| (size > 0).then_some(i64::from(size)));
        [ping, pong, t0, t1, t2, t3, self.rtt, self.t3_t0, self.forward, self.backward]
    }
}

/// The files that were asked for.
#[derive(Debug, Default)]
pub(super) struct Exports {
    is_duplex: bool,
    csv: Option<Output>,
    parquet: Option<ParquetFile>,
    line: Vec<u8>,
}

impl Exports {
    pub(super) fn create(csv: Option<&Path>, parquet: Option<&Path>) -> Result<Self, ReportError> {
        let mut exports = Self::default();
        if let Some(path) = csv {
            let mut file = Output::create(path, "--csv")?;
            let header = format!("{}\n", COLUMNS.join(","));
            file.write_all(header.as_bytes()).map_err(|error| file.failed(error))?;
            exports.csv = Some(file);
        }
        if let Some(path) = parquet {
            exports.parquet = Some(ParquetFile::create(path)?);
        }
        Ok(exports)
    }

    pub(super) const fn set_duplex(&mut self, is_duplex: bool) {
        self.is_duplex = is_duplex;
    }

    #[inline]
    pub(super) fn write(&mut self, row: &Joined) -> Result<(), ReportError> {
        if let Some(csv) = &mut self.csv {
            self.line.clear();
            append(row, self.is_duplex, &mut self.line);
            csv.writer().write_all(&self.line).map_err(|error| csv.failed(error))?;
        }
        if let Some(parquet) = &mut self.parquet {
            parquet.write(row, self.is_duplex)?;
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<(), ReportError> {
        self.csv.map_or(Ok(()), Output::finish)?;
        self.parquet.map_or(Ok(()), ParquetFile::finish)
    }
}

fn append(row: &Joined, is_duplex: bool, line: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    line.extend_from_slice(digits.format(row.sequence).as_bytes());
    line.push(b',');
    line.extend_from_slice(row.way(is_duplex).as_bytes());
    for number in row.numbers() {
        line.push(b',');
        if let Some(number) = number {
            line.extend_from_slice(digits.format(number).as_bytes());
        }
    }
    line.push(b',');
    line.extend_from_slice(row.state.as_str().as_bytes());
    line.push(b'\n');
}
