//! The guest's root file system: an archive of cpio's "newc" format, as the kernel's initramfs takes it
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const DIRECTORY: u32 = 0o040755;
const REGULAR: u32 = 0o100000;
const SYMLINK: u32 = 0o120777;
const CHARACTER_DEVICE: u32 = 0o020600;

/// An archive under construction. Folders come by themselves.
#[derive(Default)]
pub struct Initramfs {
    bytes: Vec<u8>,
    paths: BTreeSet<String>,
    files: u32,
}

impl Initramfs {
    /// An archive with the folders and the device that the kernel and an `init` want.
    pub fn new() -> Self {
        let mut archive = Self::default();
        for folder in ["/dev", "/proc", "/sys", "/tmp", "/run"] {
            archive.folder(folder);
        }
        // The kernel opens it for init before devtmpfs is there: major 5, minor 1.
        archive.entry("/dev/console", CHARACTER_DEVICE, (5, 1), &[]);
        archive
    }

    fn folder(&mut self, path: &str) {
        if !path.is_empty() && !self.paths.contains(path) {
            self.entry(path, DIRECTORY, (0, 0), &[]);
        }
    }

    /// A file with these bytes and permissions.
    pub fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) {
        self.entry(path, REGULAR | mode, (0, 0), bytes);
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) {
        self.entry(path, SYMLINK, (0, 0), target.as_bytes());
    }

    /// A file of this machine, under another path.
    pub fn copy(&mut self, from: &Path, to: &str) {
        let bytes = std::fs::read(from).unwrap_or_else(|err| panic!("cannot read {}: {err}", from.display()));
        let mode = std::fs::metadata(from).expect("it was read").permissions().mode() & 0o777;
        self.file(to, mode, &bytes);
    }

    /// A program of this machine and the shared libraries that it loads.
    pub fn program(&mut self, from: &Path, to: &str) {
        self.copy(from, to);
        let output = Command::new("ldd").arg(from).output().expect("ldd runs: install libc-bin");
        for word in String::from_utf8_lossy(&output.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
            assert!(Path::new(word).exists(), "{} needs {word}, which is not here", from.display());
            if !self.paths.contains(word) {
                self.copy(Path::new(word), word);
            }
        }
    }

    fn entry(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        let parent = path.rfind('/').map_or("", |at| &path[..at]);
        self.folder(parent);
        if !self.paths.insert(path.to_owned()) {
            panic!("{path} is twice in the archive");
        }
        self.files += 1;
        self.record(path.trim_start_matches('/'), self.files, mode, (major, minor), content);
    }

    fn record(&mut self, name: &str, inode: u32, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        let size = u32::try_from(content.len()).expect("a file in the guest is small");
        let name_size = name.len() as u32 + 1;
        let mut header = String::from("070701");
        // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check.
        for field in [inode, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0] {
            write!(header, "{field:08x}").expect("a string takes it");
        }
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Writes the archive, closed by its trailer.
    pub fn write(mut self, to: &Path) {
        self.record("TRAILER!!!", 0, 0, (0, 0), &[]);
        std::fs::write(to, &self.bytes).unwrap_or_else(|err| panic!("cannot write {}: {err}", to.display()));
    }
}

/// Where a tool is that this machine has, also outside of PATH.
pub fn tool(name: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"])
        .map(|folder| Path::new(folder).join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("{name} is not here: make deps installs what the tests need"))
}
