//! One boot of a guest: what is put into it, QEMU, and what comes out. Knows nothing of what the scenarios do.

use crate::initramfs::{Initramfs, tool};
use std::fs::File;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often a guest is booted at most.
const BOOTS: u32 = 3;

/// The applets of busybox that the guest's scripts use. Its shell and its `ip` are not among them.
const APPLETS: &[&str] = &[
    "cat", "chmod", "cp", "date", "dmesg", "grep", "head", "insmod", "kill", "ls", "mkdir", "mkfifo", "mount", "pidof",
    "poweroff", "rm", "rmmod", "sed", "sleep", "sync", "tail", "tar", "timeout", "tr", "true", "uname", "wc",
];

/// The NICs that the machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hardware {
    /// None of QEMU's: the guest makes its own with the module testnic.
    Testnic,
    /// Two emulated Intel 82576 on one hub; the driver makes them eth0 and eth1.
    Igb,
}

impl Hardware {
    /// Names what belongs to it: guests, scenarios, and the kernel in the cache.
    pub fn name(self) -> &'static str {
        match self {
            Self::Testnic => "testnic",
            Self::Igb => "igb",
        }
    }
}

/// What a guest is to do.
pub struct Boot {
    /// Names the folder that the results are in.
    pub name: String,
    pub hardware: Hardware,
    /// Name and script; they are run in the order of their names.
    pub scenarios: Vec<(String, String)>,
    /// How long all of it may take.
    pub bound: Duration,
}

/// What came of it.
pub struct Results {
    folder: PathBuf,
    console: String,
    /// `None` where it had to be stopped.
    ended: Option<ExitStatus>,
    shown: AtomicBool,
    pub took: Duration,
}

impl Results {
    /// The folder of a scenario's files, or why there is none: the guest hung, died, or never came so far.
    pub fn scenario(&self, name: &str) -> Result<PathBuf, String> {
        let folder = self.folder.join(name);
        if folder.join("code").is_file() {
            return Ok(folder);
        }
        // Once is enough.
        let console = match self.shown.swap(true, Ordering::Relaxed) {
            true => String::new(),
            false => format!("; its console:\n{}", self.console),
        };
        Err(format!("the guest {} without a result of {name:?}{console}", self.how()))
    }

    fn how(&self) -> String {
        match self.ended {
            None => format!("was stopped after {} s", self.took.as_secs()),
            Some(status) => format!("ended ({status}) after {} s", self.took.as_secs()),
        }
    }
}

/// Where the kernel, its modules and the tools are: what tests/vm/setup.sh filled.
struct Cache {
    root: PathBuf,
    folder: PathBuf,
    release: String,
}

impl Cache {
    fn find(hardware: Hardware) -> Self {
        let folder = std::env::var_os("VM_CACHE")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm/cache"), PathBuf::from);
        let release = std::fs::read_to_string(folder.join("release").with_extension(hardware.name()))
            .unwrap_or_else(|err| panic!("no guest kernel in {} ({err}): run make test-vm", folder.display()));
        Self { root: folder.join("root"), folder, release: release.trim().to_owned() }
    }

    /// The kernel itself. Debian has moved it from /boot to its modules.
    fn kernel(&self) -> PathBuf {
        let old = self.root.join(format!("boot/vmlinuz-{}", self.release));
        if old.is_file() { old } else { self.of_modules("vmlinuz") }
    }

    /// A module of the kernel's, uncompressed.
    fn module(&self, path: &str) -> Vec<u8> {
        let packed = self.of_modules(&format!("kernel/{path}.xz"));
        let output = Command::new(self.busybox()).args(["xz", "-dc"]).arg(&packed).output().expect("busybox runs");
        assert!(output.status.success(), "cannot unpack {}", packed.display());
        output.stdout
    }

    fn of_modules(&self, path: &str) -> PathBuf {
        let trees = ["lib", "usr/lib"].map(|lib| self.root.join(lib).join("modules").join(&self.release));
        let file = trees.map(|tree| tree.join(path)).into_iter().find(|file| file.is_file());
        file.unwrap_or_else(|| panic!("the kernel {} has no {path}: remove tests/vm/cache", self.release))
    }

    fn busybox(&self) -> PathBuf {
        self.tool("busybox")
    }

    /// A program that was unpacked beside the kernel.
    fn tool(&self, name: &str) -> PathBuf {
        ["bin", "sbin", "usr/bin", "usr/sbin"]
            .map(|folder| self.root.join(folder).join(name))
            .into_iter()
            .find(|file| file.is_file())
            .unwrap_or_else(|| panic!("no {name} in {}: remove it and run make test-vm", self.root.display()))
    }
}

impl Boot {
    /// Boots the guest and waits until it has switched itself off, or for as long as it may take.
    ///
    /// QEMU itself dies now and then: with several threads of emulation one may look up memory that another is just mapping
    /// ("iotlb_to_section: Assertion"), as the driver's devices are found. Then the guest is booted again.
    pub fn run(self) -> Results {
        for _ in 1..BOOTS {
            let results = self.run_once();
            match results.ended.and_then(|status| status.signal()) {
                Some(signal) => eprintln!("QEMU died of signal {signal} as guest {}: it is booted again", self.name),
                None => return results,
            }
        }
        self.run_once()
    }

    fn run_once(&self) -> Results {
        let cache = Cache::find(self.hardware);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vm").join(&self.name);
        // Of an earlier run.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("results")).expect("the target folder can be written to");
        let archive = folder.join("initramfs");
        self.fill(&cache, &folder).write(&archive);

        let start = Instant::now();
        let console = folder.join("console");
        let tar = folder.join("results.tar");
        // A socket's path must be short.
        let sockets = tempfile::tempdir().expect("a temporary folder");
        let mut qemu = self.qemu(&cache, &archive, &tar, &console, &sockets.path().join("monitor"));
        let ended = wait(&mut qemu, start + self.bound);
        let took = start.elapsed();

        let results = folder.join("results");
        // One archive behind the other; the last may be cut off.
        let unpacked = Command::new("tar").arg("-xif").arg(&tar).arg("-C").arg(&results).stderr(Stdio::null()).status();
        unpacked.expect("tar runs");
        let mut text = String::new();
        if let Ok(mut file) = File::open(&console) {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).expect("the console can be read");
            text = String::from_utf8_lossy(&bytes).into_owned();
        }
        Results { folder: results, console: text, ended, shown: AtomicBool::new(false), took }
    }

    fn fill(&self, cache: &Cache, folder: &Path) -> Initramfs {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vm/guest");
        let mut archive = Initramfs::new();
        let init = std::fs::read(here.join("init")).expect("it is part of the source");
        archive.file("/init", 0o755, &init);
        archive.copy(&here.join("scenario.sh"), "/lib/scenario.sh");
        archive.copy(&cache.busybox(), "/bin/busybox");
        for applet in APPLETS {
            archive.link(&format!("/bin/{applet}"), "busybox");
        }
        archive.program(&tool("dash"), "/bin/dash");
        archive.program(&tool("ip"), "/sbin/ip");
        archive.program(&tool("setpriv"), "/bin/setpriv");
        for name in ["ethtool", "hwstamp_ctl", "phc_ctl", "ptp4l"] {
            archive.program(&cache.tool(name), &format!("/sbin/{name}"));
        }
        archive.program(&cache.folder.join("set_tai"), "/sbin/set_tai");
        archive.program(&stripped(Path::new(env!("CARGO_BIN_EXE_xdprobe")), folder), "/bin/xdprobe");
        if let Some(original) = original() {
            archive.program(&original, "/bin/original");
        }
        match self.hardware {
            Hardware::Testnic => archive.copy(&cache.folder.join("testnic/testnic.ko"), "/modules/testnic.ko"),
            Hardware::Igb => {
                // In the order in which they need each other.
                let modules = [
                    "drivers/dca/dca.ko",
                    "drivers/i2c/algos/i2c-algo-bit.ko",
                    "drivers/net/ethernet/intel/igb/igb.ko",
                ];
                let mut script = String::new();
                for path in modules {
                    let name = path.rsplit('/').next().expect("a path has a last part");
                    archive.file(&format!("/modules/{name}"), 0o644, &cache.module(path));
                    script += &format!("insmod /modules/{name}\n");
                }
                archive.file("/boot.sh", 0o644, script.as_bytes());
            }
        }
        for (name, script) in &self.scenarios {
            archive.file(&format!("/scenarios/{name}.sh"), 0o644, script.as_bytes());
        }
        archive
    }

    fn qemu(&self, cache: &Cache, archive: &Path, tar: &Path, console: &Path, monitor: &Path) -> Child {
        let mut command = Command::new(tool("qemu-system-x86_64"));
        command.args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024"]);
        command.args(["-nodefaults", "-display", "none", "-no-reboot", "-monitor", "none"]);
        command.arg("-kernel").arg(cache.kernel()).arg("-initrd").arg(archive);
        // Where the host is busy, the kernel's check for a timer that works finds none, and it gives up.
        command.args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check"]);
        command.arg("-serial").arg(prefixed("file:", console));
        command.arg("-chardev").arg(prefixed("file,id=results,path=", tar));
        command.args(["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=results,name=results"]);
        if self.hardware == Hardware::Igb {
            for nic in 0..2 {
                command.arg("-netdev").arg(format!("hubport,id=port{nic},hubid=0"));
                command.arg("-device").arg(format!("pcie-root-port,id=root{nic},chassis={nic},slot={nic}"));
                let mac = format!("02:00:00:00:76:0{}", nic + 1);
                command.arg("-device").arg(format!("igb,bus=root{nic},netdev=port{nic},mac={mac}"));
            }
            // QEMU's monitor, which the guest itself talks to, through a second port: it may pull the cable (set_link).
            let mut server = prefixed("socket,id=monitor,path=", monitor);
            server.push(",server=on,wait=off");
            command.arg("-chardev").arg(server).args(["-mon", "chardev=monitor"]);
            command.arg("-chardev").arg(prefixed("socket,id=operator,path=", monitor));
            command.args(["-device", "virtserialport,chardev=operator,name=operator"]);
        }
        command.stdin(Stdio::null()).spawn().expect("QEMU runs: make test-vm installs it")
    }
}

/// nanoprobe's binary, where the environment names one: it takes part in scenarios of its own.
pub fn original() -> Option<PathBuf> {
    std::env::var_os("NANOPROBE").map(PathBuf::from)
}

fn prefixed(prefix: &str, path: &Path) -> std::ffi::OsString {
    let mut word = std::ffi::OsString::from(prefix);
    word.push(path);
    word
}

/// The program without what only a debugger reads: it is all loaded into the guest's memory.
fn stripped(binary: &Path, folder: &Path) -> PathBuf {
    let to = folder.join("xdprobe");
    let status = Command::new("objcopy").arg("--strip-debug").arg(binary).arg(&to).status();
    assert!(status.expect("objcopy runs: install binutils").success(), "cannot strip {}", binary.display());
    to
}

/// How a child ended; `None` where it had to be stopped.
fn wait(child: &mut Child, until: Instant) -> Option<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return Some(status);
        }
        if Instant::now() >= until {
            child.kill().expect("a child can be killed");
            child.wait().expect("a child can be waited for");
            return None;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
