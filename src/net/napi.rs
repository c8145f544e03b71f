//! How long an interface's interrupts stay off between two polls of its driver: `napi_defer_hard_irqs` and `gro_flush_timeout`
//! (Documentation/networking/napi.rst, "IRQ mitigation"), changed for as long as a guard lives.
//!
//! Where a busy-polling socket looks at the driver again within the time-out, no interrupt comes in between, and no other CPU takes
//! a packet. Where nobody polls, a packet waits for the time-out: [`require_polling`] looks whether somebody can.
//!
//! The settings are the whole interface's: they are only widened, and set back to what was found; a file in `/run/xdprobe` tells the
//! next run what one that was killed had found.
#![forbid(unsafe_code)]

use super::kernel_version::KernelVersion;
use super::marker::{FOLDER, Marker, Process, Slot};
use super::{Interface, netdev};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

/// What begins the name of the files for this setting.
const SETTING: &str = "napi";
const DEFER: &str = "napi_defer_hard_irqs";
const TIMEOUT: &str = "gro_flush_timeout";
/// The first kernel that busy-polls an AF_XDP socket by the link between its queue and a NAPI instance.
const NEEDS_LINK: KernelVersion = KernelVersion { major: 6, minor: 13 };

/// The two settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// How often an empty poll leaves interrupts off, each time for `gro_flush_timeout_ns`.
    #[serde(rename = "napi_defer_hard_irqs")]
    pub defer_hard_irqs: u64,
    /// For how long, in ns.
    pub gro_flush_timeout_ns: u64,
}

/// What the kernel's documentation of busy polling over AF_XDP has (Documentation/networking/af_xdp.rst is for `SO_PREFER_BUSY_POLL`):
/// a busy loop is back within a few µs, and one that was stopped finds its packets 200 µs later at most.
const WANTED: Config = Config { defer_hard_irqs: 2, gro_flush_timeout_ns: 200_000 };

impl Config {
    /// What makes busy polling work with what somebody has set already.
    const fn widened(self) -> Self {
        Self {
            defer_hard_irqs: if self.defer_hard_irqs > WANTED.defer_hard_irqs {
                self.defer_hard_irqs
            } else {
                WANTED.defer_hard_irqs
            },
            gro_flush_timeout_ns: if self.gro_flush_timeout_ns > 0 {
                self.gro_flush_timeout_ns
            } else {
                WANTED.gro_flush_timeout_ns
            },
        }
    }

    /// What is to be there in the end where this is there now: what was there before, but for a number that is no longer what was
    /// `set`, as somebody else has set it meanwhile.
    const fn given_back(self, set: Self, before: Self) -> Self {
        let mut last = self;
        if self.defer_hard_irqs == set.defer_hard_irqs {
            last.defer_hard_irqs = before.defer_hard_irqs;
        }
        if self.gro_flush_timeout_ns == set.gro_flush_timeout_ns {
            last.gro_flush_timeout_ns = before.gro_flush_timeout_ns;
        }
        last
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{DEFER} {} and {TIMEOUT} {} ns", self.defer_hard_irqs, self.gro_flush_timeout_ns)
    }
}

/// Why the settings are not changed, or not as they were.
#[derive(Debug, thiserror::Error)]
pub enum NapiError {
    /// sysfs did not take or give a number.
    #[error("--tune: cannot {what} {}: {answer}: run as root (CAP_NET_ADMIN, and /sys mounted for writing), or leave --tune out", file.display())]
    Sysfs {
        /// `read` or `write`.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// What the kernel answered.
        answer: io::Error,
    },
    /// `/sys` shows the interfaces of another network namespace.
    #[error(
        "--tune: {} is not the interface {interface} of this network namespace: mount its /sys (ip netns exec does), or leave \
         --tune out",
        folder.display()
    )]
    Foreign {
        /// The interface.
        interface: String,
        /// Its folder.
        folder: PathBuf,
    },
    /// The kernel took the numbers and has others.
    #[error("--tune: {interface} was set to {asked} and has {found}: leave --tune out")]
    NotHonoured {
        /// The interface.
        interface: String,
        /// What was asked for.
        asked: Config,
        /// What is there.
        found: Config,
    },
    /// Nobody would poll.
    #[error(
        "--tune: none of the receive queues of {interface} that are used is linked to a NAPI instance, so that --busypoll has \
         nothing to poll over AF_XDP (see xdprobe caps), and each packet would wait for {TIMEOUT}: leave --tune out, or use --path \
         kernel"
    )]
    NobodyPolls {
        /// The interface.
        interface: String,
    },
    /// They could not be set back.
    #[error(
        "cannot set {interface} back to {original} ({why}): set it yourself (echo {} > {}/{DEFER}; echo {} > {}/{TIMEOUT}); the next \
         run tries again", original.defer_hard_irqs, folder.display(), original.gro_flush_timeout_ns, folder.display()
    )]
    NotRestored {
        /// The interface.
        interface: String,
        /// What was to be restored.
        original: Config,
        /// The interface's folder.
        folder: PathBuf,
        /// What happened.
        why: String,
    },
}

/// Fails where busy polling over AF_XDP finds nothing to poll on the queues that are used (`None`: all), as far as the kernel tells.
///
/// # Errors
/// [`NapiError::NobodyPolls`].
pub fn require_polling(interface: &Interface, used: Option<&[u32]>) -> Result<(), NapiError> {
    let goes_by_link = KernelVersion::running().is_some_and(|kernel| kernel >= NEEDS_LINK);
    let Ok(Some(queues)) = netdev::rx_queues(interface.index) else { return Ok(()) };
    let mut queues = queues.iter().filter(|queue| used.is_none_or(|used| used.contains(&queue.queue)));
    if goes_by_link && queues.all(|queue| queue.napi_id.is_none()) {
        return Err(NapiError::NobodyPolls { interface: interface.name.clone() });
    }
    Ok(())
}

/// Where an interface's settings are.
#[derive(Debug)]
struct Device {
    interface: String,
    /// What stays the same where the interface gets another name.
    index: u32,
    folder: PathBuf,
}

impl Device {
    /// The interface in `sysfs` (`/sys/class/net`), which has to be that of this network namespace.
    fn of(sysfs: &Path, interface: &Interface) -> Result<Self, NapiError> {
        let Interface { name, index, .. } = interface;
        let device = Self { interface: name.clone(), index: *index, folder: sysfs.join(name) };
        // A thread can be in another namespace than the one whose /sys is mounted, and names and indices are the same in both.
        let has_address = fs::read_to_string(device.folder.join("address"))
            .is_ok_and(|text| text.trim() == interface.mac.to_string());
        if device.is_at(&device.folder) && has_address {
            Ok(device)
        } else {
            Err(NapiError::Foreign { interface: device.interface, folder: device.folder })
        }
    }

    fn is_at(&self, folder: &Path) -> bool {
        fs::read_to_string(folder.join("ifindex")).is_ok_and(|text| text.trim() == self.index.to_string())
    }

    /// Finds the interface again, whatever its name is by now: its old one may be another's. Whether it is still there.
    fn find_again(&mut self) -> bool {
        if self.is_at(&self.folder) {
            return true;
        }
        let all = self.folder.parent().and_then(|sysfs| fs::read_dir(sysfs).ok());
        let found = all.into_iter().flatten().flatten().map(|entry| entry.path()).find(|folder| self.is_at(folder));
        let Some(folder) = found else { return false };
        if let Some(name) = folder.file_name() {
            self.interface = name.to_string_lossy().into_owned();
        }
        self.folder = folder;
        true
    }

    fn number(&self, file: &str) -> Result<u64, NapiError> {
        let file = self.folder.join(file);
        let text = fs::read_to_string(&file);
        let number = text.and_then(|text| text.trim().parse().map_err(|_| io::ErrorKind::InvalidData.into()));
        number.map_err(|answer| NapiError::Sysfs { what: "read", file, answer })
    }

    fn set_number(&self, file: &str, number: u64) -> Result<(), NapiError> {
        let file = self.folder.join(file);
        // Not created where it is missing: an old kernel lacks one.
        let written = fs::OpenOptions::new().write(true).truncate(true).open(&file);
        let written =
            written.and_then(|mut opened| io::Write::write_all(&mut opened, format!("{number}\n").as_bytes()));
        written.map_err(|answer| NapiError::Sysfs { what: "write", file, answer })
    }

    fn get(&self) -> Result<Config, NapiError> {
        Ok(Config { defer_hard_irqs: self.number(DEFER)?, gro_flush_timeout_ns: self.number(TIMEOUT)? })
    }

    fn set(&self, config: Config) -> Result<(), NapiError> {
        self.set_number(DEFER, config.defer_hard_irqs)?;
        self.set_number(TIMEOUT, config.gro_flush_timeout_ns)
    }

    fn set_and_check(&self, asked: Config) -> Result<(), NapiError> {
        self.set(asked)?;
        match self.get()? {
            found if found == asked => Ok(()),
            found => Err(NapiError::NotHonoured { interface: self.interface.clone(), asked, found }),
        }
    }

    fn not_restored(&self, original: Config, why: impl fmt::Display) -> NapiError {
        let Self { interface, folder, .. } = self;
        let (interface, folder) = (interface.clone(), folder.clone());
        NapiError::NotRestored { interface, original, folder, why: why.to_string() }
    }
}

/// The settings are wide enough for busy polling for as long as this lives.
///
/// Dropping it sets back what was there, and says on stderr where that fails; [`Deferral::restore`] returns it instead.
#[derive(Debug)]
pub struct Deferral {
    device: Device,
    slot: Slot,
    /// What is to be there in the end; `None` once it is, or where it is not ours to say.
    original: Option<Config>,
    set: Config,
    remarks: Vec<String>,
}

impl Deferral {
    /// Widens the settings of an interface to what busy polling needs.
    ///
    /// # Errors
    /// [`NapiError`]; they are then as before.
    pub fn widen(interface: &Interface) -> Result<Self, NapiError> {
        Self::widen_in(Path::new("/sys/class/net"), Path::new(FOLDER), interface)
    }

    fn widen_in(sysfs: &Path, folder: &Path, interface: &Interface) -> Result<Self, NapiError> {
        let device = Device::of(sysfs, interface)?;
        let slot = Slot::of(folder, SETTING, interface.index);
        // Without the folder there is no lock and no file, which is told once there is something to keep.
        let lock = slot.lock();
        let before = device.get()?;
        let set = before.widened();
        let mut deferral = Self { device, slot, original: None, set, remarks: Vec::new() };
        if let Some(marker) = deferral.slot.read::<Config>().filter(|marker| marker.process.is_another()) {
            deferral.remarks.push(format!(
                "xdprobe with process id {} has set {} to {before}, and sets back what was there at its end, even if this run still \
                 needs it then",
                marker.process.pid, interface.name
            ));
        }
        let changed = if set == before { Ok(()) } else { deferral.change(before) };
        // What could not be undone is tried again by the guard, which takes the lock.
        drop(lock);
        changed?;
        Ok(deferral)
    }

    /// Sets what is to be; where that fails what was there `before` is there again, if that can be had.
    fn change(&mut self, before: Config) -> Result<(), NapiError> {
        // Before the change, as the process can be killed right after it.
        self.mark(before, None);
        self.original = Some(before);
        let answer = self.device.set_and_check(self.set);
        if answer.is_ok() {
            self.mark(before, Some(self.set));
        } else if self.device.get().is_ok_and(|found| found == before) || self.device.set_and_check(before).is_ok() {
            // Nothing was changed, or nothing is any more.
            self.original = None;
            self.slot.remove();
        }
        answer
    }

    /// What was set.
    pub const fn config(&self) -> Config {
        self.set
    }

    /// What the user should know: one line each, for stderr.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    fn mark(&mut self, original: Config, set: Option<Config>) {
        if let Err(answer) = self.slot.write(&Marker::new(&self.device.interface, original, set)) {
            let remark = format!(
                "cannot write {}: {answer}: should this run be killed, nobody will know that {} had {original}",
                self.slot.path().display(),
                self.device.interface
            );
            if !self.remarks.contains(&remark) {
                self.remarks.push(remark);
            }
        }
    }

    /// Sets back what was there, unless somebody has set something else meanwhile; what the user should know of that.
    ///
    /// # Errors
    /// [`NapiError::NotRestored`].
    pub fn restore(mut self) -> Result<Option<String>, NapiError> {
        self.put_back()
    }

    fn put_back(&mut self) -> Result<Option<String>, NapiError> {
        let Some(original) = self.original.take() else { return Ok(None) };
        let _lock = self.slot.lock();
        if !self.device.find_again() {
            // The interface is gone, and its settings with it.
            self.slot.remove();
            return Ok(None);
        }
        let found = self.device.get().map_err(|error| self.device.not_restored(original, error))?;
        let last = found.given_back(self.set, original);
        self.device.set_and_check(last).map_err(|error| self.device.not_restored(last, error))?;
        // Only now: what is not restored is for the next run to find.
        self.slot.remove();
        let interface = &self.device.interface;
        Ok((last != original)
            .then(|| format!("somebody has set {interface} to {found} during this run: it is left at {last}")))
    }
}

impl Drop for Deferral {
    fn drop(&mut self) {
        match self.put_back() {
            Ok(None) => {}
            Ok(Some(remark)) => eprintln!("xdprobe: {remark}"),
            Err(error) => eprintln!("xdprobe: {error}"),
        }
    }
}

/// Sets back what a run that was killed has left on an interface; what the user should know of it.
pub fn tidy_up(interface: &Interface) -> Option<String> {
    tidy_up_in(Path::new("/sys/class/net"), Path::new(FOLDER), interface)
}

fn tidy_up_in(sysfs: &Path, folder: &Path, interface: &Interface) -> Option<String> {
    let slot = Slot::of(folder, SETTING, interface.index);
    // Nearly always: no folder is made for it.
    if !slot.is_there() {
        return None;
    }
    let _lock = slot.lock();
    let Some(marker) = slot.read::<Config>() else {
        // Of another boot, or nobody's.
        slot.remove();
        return None;
    };
    if marker.process.is_another() || marker.process == Process::this() {
        return None;
    }
    let (name, pid, original) = (&interface.name, marker.process.pid, marker.original);
    let told = |what: String| Some(format!("an earlier run (process id {pid}) was killed {what}"));
    let device = match Device::of(sysfs, interface) {
        Ok(device) => device,
        Err(error) => return told(format!("and had changed {name}, which had {original}: {error}")),
    };
    let present = match device.get() {
        Ok(present) => present,
        Err(error) => return told(format!("and had changed {name}, which had {original}: {error}")),
    };
    if present == original {
        slot.remove();
        return None;
    }
    // While it set them, either number may be the old one or the new one.
    let last = present.given_back(marker.set.unwrap_or(original.widened()), original);
    match device.set_and_check(last) {
        Ok(()) => {
            slot.remove();
            told(if last == original {
                format!("and left {name} at {present}: it is set back to {original}")
            } else {
                format!(
                    "after it had changed {name}, which had {original}; but somebody has set {present} since: {last} is what stays"
                )
            })
        }
        Err(error) => told(format!("and left {name} at {present}: {}", device.not_restored(last, error))),
    }
}

#[cfg(test)]
mod tests;
