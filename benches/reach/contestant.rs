//! Who is measured.

use crate::namespace::Namespace;
use std::path::PathBuf;
use std::process::Command;

/// Which program, or what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// AF_XDP with nothing around it, in this process.
    Floor,
    /// xdprobe on AF_XDP.
    Xdp,
    /// xdprobe on the kernel's UDP.
    Kernel,
    /// The original that `NANOPROBE=` names.
    Nanoprobe,
    /// xdprobe with options for the lowest latency (`docs/low-latency.md`): as it is named, and all its flags.
    Tuned(&'static str, &'static [&'static str]),
    /// `sockperf`, where it is installed.
    Sockperf,
    /// `irtt`, where it is installed.
    Irtt,
}

/// Each option by itself, and all that there is for a veth together. All others are pinned, so that what this brings shows where it
/// is left out. A veth's queues have no NAPI instance that AF_XDP could poll: `--tune` is refused there, and the kernel path alone has it.
const TUNED: [(&str, &[&str]); 8] = [
    (UNPINNED, &[]),
    ("--realtime 50", &["--realtime", "50"]),
    ("--lock-memory", &["--lock-memory"]),
    ("--cpu-latency 0", &["--cpu-latency", "0"]),
    ("all three", &["--realtime", "50", "--lock-memory", "--cpu-latency", "0"]),
    ("--busypoll 50", &["--busypoll", "50"]),
    ("kernel path, --busypoll 50", &["--path", "kernel", "--busypoll", "50"]),
    ("kernel path, --busypoll 50 --tune", &["--path", "kernel", "--busypoll", "50", "--tune"]),
];
/// The one that runs where the kernel puts it.
const UNPINNED: &str = "without --cpu";

impl Who {
    /// As tables and `bench.json` name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Xdp => "xdp path",
            Self::Kernel => "kernel path",
            Self::Nanoprobe => "nanoprobe",
            Self::Tuned(name, _) => name,
            Self::Sockperf => "sockperf",
            Self::Irtt => "irtt",
        }
    }

    /// Whether it speaks nanoprobe's protocol, takes its flags and writes its logs.
    pub const fn is_prober(self) -> bool {
        matches!(self, Self::Xdp | Self::Kernel | Self::Nanoprobe)
    }

    /// Whether the kernel puts it where it likes: nanoprobe cannot be told.
    pub fn is_unpinned(self) -> bool {
        matches!(self, Self::Nanoprobe | Self::Tuned(UNPINNED, _))
    }
}

/// One of them, with its program; the floor has none.
#[derive(Debug)]
pub struct Contestant {
    pub who: Who,
    pub program: PathBuf,
}

impl Contestant {
    /// All that there are on this machine.
    pub fn all() -> Vec<Self> {
        let ours = PathBuf::from(env!("CARGO_BIN_EXE_xdprobe"));
        let mut all = vec![
            Self { who: Who::Floor, program: PathBuf::new() },
            Self { who: Who::Xdp, program: ours.clone() },
            Self { who: Who::Kernel, program: ours.clone() },
        ];
        let named = std::env::var_os("NANOPROBE").map(PathBuf::from);
        all.extend(TUNED.map(|(name, flags)| Self { who: Who::Tuned(name, flags), program: ours.clone() }));
        all.extend(named.map(|program| Self { who: Who::Nanoprobe, program }));
        for (who, name) in [(Who::Sockperf, "sockperf"), (Who::Irtt, "irtt")] {
            all.extend(installed(name).map(|program| Self { who, program }));
        }
        all
    }

    /// A command of a prober in a namespace, with the flags that it always gets: `role` (`--client` or `--server`) is the
    /// first, as nanoprobe wants it.
    pub fn command(&self, namespace: &Namespace, role: &str) -> Command {
        let mut command = namespace.command(&self.program);
        command.args([role, "--emulation"]);
        match self.who {
            Who::Xdp => command.args(["--path", "xdp"]),
            Who::Kernel => command.args(["--path", "kernel"]),
            Who::Tuned(_, flags) if flags.contains(&"--path") => command.args(flags),
            Who::Tuned(_, flags) => command.args(["--path", "xdp"]).args(flags),
            _ => &mut command,
        };
        command
    }
}

fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
