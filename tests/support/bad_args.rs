//! The command lines of `tests/golden/bad-args`, which the original program answered, and what ours says to each.
//!
//! Everywhere else: the original's exit code for a wrong command line is 1, ours is 2, and its usage text is one line.

use std::path::{Path, PathBuf};

/// What becomes of a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Wrong: exit code 2 and this line.
    Usage(&'static str),
    /// Help on stdout, exit code 0.
    Help,
    /// A schedule that cannot be used: exit code 1 and this line, in which the file's folder is left out.
    Schedule(&'static str),
    /// Accepted, with a schedule of this many entries: what follows is a session.
    Accepted(usize),
    /// Accepted here; the runner finds out what is wrong on this machine and ends with exit code 1.
    Machine(&'static str),
}

/// A command line with what ours says, and why that differs from the original where it does.
pub struct Row {
    /// Its number in `bad-args.txt`.
    pub number: usize,
    /// What ours says.
    pub expect: Expect,
    /// Why it is not what the original says.
    pub differs: Option<&'static str>,
}

const fn same(number: usize, expect: Expect) -> Row {
    Row { number, expect, differs: None }
}

const fn other(number: usize, expect: Expect, why: &'static str) -> Row {
    Row { number, expect, differs: Some(why) }
}

const NO_ROLE: &str = "--client or --server is needed (see xdprobe --help)";
const NO_HOST: &str = "--client needs the server's name or address as its last argument (see xdprobe --help)";
const NO_INTERFACE: &str = "--interface <nic> is needed (see xdprobe --help)";
const AMBIGUOUS: &str =
    "--p is ambiguous: --port, --ping-size, --pong-size, --pong-every, --probe-schedule, --ptp or --path";
const NO_STAMPS: &str = "the interface has no hardware time stamps";

/// All of them.
pub const TABLE: [Row; 55] = [
    same(1, Expect::Usage(NO_ROLE)),
    other(2, Expect::Machine(NO_STAMPS), "flags come in any order; this line only lacks --emulation"),
    other(3, Expect::Help, "asking for help is no failure"),
    other(4, Expect::Help, "asking for help is no failure"),
    same(5, Expect::Usage(NO_HOST)),
    same(6, Expect::Usage(NO_INTERFACE)),
    same(7, Expect::Usage(NO_INTERFACE)),
    other(8, Expect::Usage(NO_HOST), "the last argument is the flag's value, not the host"),
    other(9, Expect::Usage(NO_HOST), "the last argument is a flag, not the host"),
    same(10, Expect::Usage("--reverse and --duplex exclude each other (see xdprobe --help)")),
    same(11, Expect::Usage("--count 0: must be in [1, 3600] (seconds) with --reverse")),
    same(12, Expect::Usage("--reverse needs --count in [1, 3600] (seconds)")),
    same(13, Expect::Usage("--count 0: must be in [1, 3600] (seconds) with --duplex")),
    same(14, Expect::Usage("--count 3601: must be in [1, 3600] (seconds) with --reverse")),
    same(15, Expect::Usage("--delay 100000001: must be in [0, 100000000] (µs) with --reverse")),
    same(16, Expect::Usage("--pong-every 1000001: must be in [0, 1000000] (pings)")),
    same(17, Expect::Usage("--pong-every -1: must be in [0, 1000000] (pings)")),
    same(18, Expect::Usage("--ping-size 43: must be in [44, 2092] (bytes with the IP header)")),
    same(19, Expect::Usage("--ping-size 3000: must be in [44, 2092] (bytes with the IP header)")),
    same(20, Expect::Usage("--ping-size 2093: must be in [44, 2092] (bytes with the IP header)")),
    same(21, Expect::Usage("--ping-size abc: must be a whole number in [44, 2092] (bytes with the IP header)")),
    same(22, Expect::Usage("--pong-size 43: must be in [44, 2092] (bytes with the IP header)")),
    same(23, Expect::Usage("--timer turbo: must be sleep or busy")),
    same(24, Expect::Usage("--frobnicate is no flag of xdprobe (see xdprobe --help)")),
    other(25, Expect::Accepted(0), "the original documents -x but does not take it"),
    same(26, Expect::Usage(AMBIGUOUS)),
    same(27, Expect::Usage("--interface needs a value: <nic> (see xdprobe --help)")),
    same(28, Expect::Schedule("cannot read the schedule sched-missing.csv: No such file or directory (os error 2)")),
    same(
        29,
        Expect::Schedule(
            "schedule sched-1-field.csv, line 1: found 1 field, expected 2: <delay µs>,<ping size in bytes>",
        ),
    ),
    same(
        30,
        Expect::Schedule(
            "schedule sched-3-fields.csv, line 2: found 3 fields, expected 2: <delay µs>,<ping size in bytes>",
        ),
    ),
    same(31, Expect::Schedule("schedule sched-size-43.csv, line 2: ping size 43 must be in [44, 2092]")),
    same(32, Expect::Schedule("schedule sched-size-3000.csv, line 1: ping size 3000 must be in [44, 2092]")),
    same(33, Expect::Schedule("schedule sched-size-70000.csv, line 1: ping size 70000 must be in [44, 2092]")),
    same(34, Expect::Schedule("schedule sched-text-size.csv, line 1: ping size \"abc\" is not a number")),
    same(35, Expect::Schedule("schedule sched-text-delay.csv, line 1: delay \"abc\" is not a number")),
    same(36, Expect::Schedule("schedule sched-negative-delay.csv, line 1: delay -1 must be in [0, 4294967295]")),
    same(
        37,
        Expect::Schedule("schedule sched-delay-too-large.csv, line 1: delay 4294967296 must be in [0, 4294967295]"),
    ),
    same(38, Expect::Schedule("schedule sched-empty.csv has no entry: each line is <delay µs>,<ping size in bytes>")),
    same(
        39,
        Expect::Schedule("schedule sched-only-newlines.csv has no entry: each line is <delay µs>,<ping size in bytes>"),
    ),
    same(40, Expect::Schedule("schedule sched-header.csv, line 1: delay \"delay\" is not a number")),
    same(
        41,
        Expect::Schedule(
            "schedule sched-no-size.csv, line 1: ping size is missing: expected <delay µs>,<ping size in bytes>",
        ),
    ),
    same(
        42,
        Expect::Schedule(
            "schedule sched-no-delay.csv, line 1: delay is missing: expected <delay µs>,<ping size in bytes>",
        ),
    ),
    // The original counts entries from 0 and says 2.
    same(
        43,
        Expect::Schedule(
            "schedule sched-empty-lines-then-bad.csv, line 5: found 1 field, expected 2: <delay µs>,<ping size in bytes>",
        ),
    ),
    other(44, Expect::Accepted(1), "a line may have any length; this one is right"),
    same(45, Expect::Machine("the host has no address")),
    same(46, Expect::Machine("the host has no address")),
    same(47, Expect::Usage("--port abc: must be a whole number in [1, 65535] (UDP port)")),
    same(48, Expect::Machine("there is no such interface")),
    same(49, Expect::Machine("there is no such interface")),
    same(50, Expect::Machine("the log cannot be written")),
    same(51, Expect::Machine(NO_STAMPS)),
    same(52, Expect::Machine("the port is taken by another server")),
    same(53, Expect::Accepted(3)),
    same(54, Expect::Accepted(2)),
    same(55, Expect::Accepted(2)),
];

/// A command line of `bad-args.txt` and the original's answer.
pub struct Recorded {
    /// From 1.
    pub number: usize,
    /// What it is about.
    pub title: String,
    /// The arguments behind the program's name.
    pub arguments: Vec<String>,
    /// The original's exit code.
    pub exit: i32,
}

/// The folder of `bad-args.txt` and its schedules.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/bad-args")
}

/// What was recorded, in the file's order.
pub fn recorded() -> Vec<Recorded> {
    let text = std::fs::read_to_string(folder().join("bad-args.txt")).expect("bad-args.txt can be read");
    let mut cases = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some((number, title)) = line.strip_prefix("### ").and_then(|rest| rest.split_once(' ')) else { continue };
        let mut field = |name: &str| {
            let line = lines.next().and_then(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("case {number} has no {name}")).trim().to_owned()
        };
        let command = field("command:");
        let exit = field("exit:").parse().expect("an exit code");
        let arguments = command.split(' ').skip(1).map(str::to_owned).collect();
        cases.push(Recorded { number: number.parse().expect("a number"), title: title.to_owned(), arguments, exit });
    }
    cases
}
