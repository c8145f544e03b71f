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
    /// `sockperf`, where it is installed.
    Sockperf,
    /// `irtt`, where it is installed.
    Irtt,
}

impl Who {
    /// As tables and `bench.json` name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Xdp => "xdp path",
            Self::Kernel => "kernel path",
            Self::Nanoprobe => "nanoprobe",
            Self::Sockperf => "sockperf",
            Self::Irtt => "irtt",
        }
    }

    /// Whether it speaks nanoprobe's protocol, takes its flags and writes its logs.
    pub const fn is_prober(self) -> bool {
        matches!(self, Self::Xdp | Self::Kernel | Self::Nanoprobe)
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
            Self { who: Who::Kernel, program: ours },
        ];
        let named = std::env::var_os("NANOPROBE").map(PathBuf::from);
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
            _ => &mut command,
        };
        command
    }
}

fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}
