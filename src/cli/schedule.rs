//! Probe schedules: one ping a line, `<delay µs>,<ping size>`, no header.
//!
//! What nanoprobe accepts means the same here. Of a field the leading digits count, after blanks and a sign, and what
//! follows them is ignored: `1000x` is 1000, `1.5` is 1, and a CR at the end of a line does no harm. Empty lines are
//! skipped. Unlike nanoprobe, lines of blanks are skipped too, lines may be longer than 127 characters, the last line
//! need not end, a byte order mark at the start is ignored, and line numbers count from 1 and include empty lines.
//!
//! The size of a ping is checked against the protocol's range, not against an interface's MTU.

use crate::session::Probe;
use crate::wire::{MAX_IP_LEN, MIN_IP_LEN};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a schedule cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// The file cannot be read.
    #[error("cannot read the schedule {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// There is nothing in it.
    #[error("schedule {} has no entry: each line is <delay µs>,<ping size in bytes>", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A line is wrong.
    #[error("schedule {}, line {line}: {fault}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1, counting every line of the file.
        line: usize,
        /// What is wrong with it.
        fault: Fault,
    },
}

/// What is wrong with a line of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not two fields.
    #[error("found {0} field{plural}, expected 2: <delay µs>,<ping size in bytes>", plural = if *.0 == 1 { "" } else { "s" })]
    Fields(usize),
    /// A field is empty.
    #[error("{0} is missing: expected <delay µs>,<ping size in bytes>")]
    Missing(&'static str),
    /// A field does not begin with a number.
    #[error("{name} {value:?} is not a number")]
    NotANumber {
        /// Which field.
        name: &'static str,
        /// What it says.
        value: String,
    },
    /// A number is out of range.
    #[error("{name} {value} must be in [{min}, {max}]")]
    Range {
        /// Which field.
        name: &'static str,
        /// What it says.
        value: String,
        /// The smallest value allowed.
        min: u32,
        /// The largest value allowed.
        max: u32,
    },
}

/// Reads a schedule.
///
/// # Errors
/// The file cannot be read, is empty, or has a line that is wrong; the program ends with exit code 1.
pub fn load(path: &Path) -> Result<Arc<[Probe]>, ScheduleError> {
    let text = fs::read(path).map_err(|source| ScheduleError::Read { path: path.into(), source })?;
    match parse(&text) {
        Ok(probes) if probes.is_empty() => Err(ScheduleError::Empty { path: path.into() }),
        Ok(probes) => Ok(probes.into()),
        Err((line, fault)) => Err(ScheduleError::Line { path: path.into(), line, fault }),
    }
}

/// The entries, or the first line that is wrong.
fn parse(text: &[u8]) -> Result<Vec<Probe>, (usize, Fault)> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        // A quote is not part of a number, and must not join two lines.
        .quoting(false)
        // The CR of a CR LF is junk behind a number like any other.
        .terminator(csv::Terminator::Any(b'\n'))
        .trim(csv::Trim::All)
        .from_reader(text);
    let mut record = csv::ByteRecord::new();
    let mut probes = Vec::new();
    loop {
        match reader.read_byte_record(&mut record) {
            Ok(true) if record.len() == 1 && record[0].is_empty() => {}
            Ok(true) => {
                let end = reader.position().byte() as usize;
                probes.push(entry(&record).map_err(|fault| (line_number(text, end), fault))?);
            }
            // Bytes in memory are always readable, and a flexible reader takes records of any length.
            Ok(false) | Err(_) => return Ok(probes),
        }
    }
}

/// Which line the record is that ends before byte `end`. The reader's own count is that of the empty lines before it.
fn line_number(text: &[u8], end: usize) -> usize {
    let record = text[..end.min(text.len())].strip_suffix(b"\n").unwrap_or(&text[..end.min(text.len())]);
    1 + record.iter().filter(|&&byte| byte == b'\n').count()
}

fn entry(record: &csv::ByteRecord) -> Result<Probe, Fault> {
    if record.len() != 2 {
        return Err(Fault::Fields(record.len()));
    }
    let delay_us = number("delay", &record[0], 0, u32::MAX)?;
    let ip_len = number("ping size", &record[1], MIN_IP_LEN.into(), MAX_IP_LEN.into())?;
    let padding = u16::try_from(ip_len).unwrap_or(MAX_IP_LEN) - MIN_IP_LEN;
    Ok(Probe { delay_us, padding })
}

/// The number that a field begins with, as C's `strtoll` sees it.
fn number(name: &'static str, field: &[u8], min: u32, max: u32) -> Result<u32, Fault> {
    if field.is_empty() {
        return Err(Fault::Missing(name));
    }
    let unsigned = field.strip_prefix(b"+").or(field.strip_prefix(b"-")).unwrap_or(field);
    let digits = unsigned.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return Err(Fault::NotANumber { name, value: String::from_utf8_lossy(field).into_owned() });
    }
    let value = String::from_utf8_lossy(&field[..field.len() - unsigned.len() + digits]).into_owned();
    // What does not fit into an i64 is out of every range.
    let number = value.parse::<i64>().ok().and_then(|number| u32::try_from(number).ok());
    number.filter(|number| (min..=max).contains(number)).ok_or(Fault::Range { name, value, min, max })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probes(text: &str) -> Vec<(u32, u16)> {
        parse(text.as_bytes()).unwrap().iter().map(|probe| (probe.delay_us, probe.padding)).collect()
    }

    fn fault(text: &str) -> String {
        let (line, fault) = parse(text.as_bytes()).unwrap_err();
        format!("line {line}: {fault}")
    }

    #[test]
    fn every_line_is_a_ping() {
        assert_eq!(probes("1000,44\n0,2092\n4294967295,45\n"), [(1000, 0), (0, 2048), (u32::MAX, 1)]);
    }

    #[test]
    fn empty_lines_blanks_carriage_returns_and_a_missing_line_end_do_no_harm() {
        let wanted = [(1, 0), (2, 1), (3, 2)];
        assert_eq!(probes("\n1,44\n\n\n2,45\n3,46"), wanted);
        assert_eq!(probes("1,44\r\n\r\n2,45\r\n3,46\r\n"), wanted);
        assert_eq!(probes(" 1,\t44 \n   \n2 ,45\n+3,+46\n"), wanted);
        assert_eq!(probes("\u{feff}1,44\n2,45\n3,46\n"), wanted);
    }

    #[test]
    fn what_follows_the_digits_is_ignored() {
        assert_eq!(probes("1000x,44y\n1.5,1500 bytes\n1e6,60#\n"), [(1000, 0), (1, 1456), (1, 16)]);
    }

    #[test]
    fn leading_zeros_do_not_make_a_number_large() {
        assert_eq!(probes(&format!("{}7,{}44\n", "0".repeat(200), "0".repeat(200))), [(7, 0)]);
    }

    #[test]
    fn an_empty_file_has_no_entry() {
        assert_eq!(probes(""), []);
        assert_eq!(probes("\n\r\n  \n"), []);
    }

    #[test]
    fn a_wrong_line_is_named_by_its_number_in_the_file() {
        assert_eq!(fault("1000,44\n\n\n1000,43\n"), "line 4: ping size 43 must be in [44, 2092]");
        assert_eq!(fault("\n\r\n \n1000,2093"), "line 4: ping size 2093 must be in [44, 2092]");
        assert_eq!(fault("x,44\n1,44\n"), "line 1: delay \"x\" is not a number");
        assert_eq!(fault("1,44\nx,44\n"), "line 2: delay \"x\" is not a number");
        assert_eq!(fault("1,44\r\n\r\n1,x\r\n"), "line 3: ping size \"x\" is not a number");
    }

    #[test]
    fn each_fault_is_told_apart() {
        let fields = "expected 2: <delay µs>,<ping size in bytes>";
        assert_eq!(fault("1000\n"), format!("line 1: found 1 field, {fields}"));
        assert_eq!(fault("1,44,\n"), format!("line 1: found 3 fields, {fields}"));
        assert_eq!(fault(",44\n"), "line 1: delay is missing: expected <delay µs>,<ping size in bytes>");
        assert_eq!(fault("1,\r\n"), "line 1: ping size is missing: expected <delay µs>,<ping size in bytes>");
        assert_eq!(fault("-1,44\n"), "line 1: delay -1 must be in [0, 4294967295]");
        assert_eq!(fault("4294967296,44\n"), "line 1: delay 4294967296 must be in [0, 4294967295]");
        assert_eq!(fault("99999999999999999999,44\n"), "line 1: delay 99999999999999999999 must be in [0, 4294967295]");
        assert_eq!(fault("1,44\n\"1\",44\n"), "line 2: delay \"\\\"1\\\"\" is not a number");
        assert_eq!(fault("- 1,44\n"), "line 1: delay \"- 1\" is not a number");
    }
}
