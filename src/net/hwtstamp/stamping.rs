//! The guard: stamping is on while it lives.
#![forbid(unsafe_code)]

use super::ioctl::Device;
use super::{Config, Restored, RxFilter, StampingError, TxType};
use crate::net::marker::{self, Process, Slot};
use crate::net::tsinfo;
use nix::errno::Errno;
use std::ffi::{CStr, CString};
use std::fmt;
use std::path::Path;

/// What begins the name of the files for this setting.
const SETTING: &str = "hwtstamp";

type Marker = marker::Marker<Config>;

/// Who answers for a card: the kernel, or a test.
trait Card: Send {
    /// The name of its interface now; ENODEV where that is gone.
    fn name(&self) -> Result<CString, Errno>;
    fn get_of(&self, name: &CStr) -> Result<Config, Errno>;
    fn set_of(&self, name: &CStr, config: Config) -> Result<Config, Errno>;
    /// The filters that the driver says that it has.
    fn offered(&self) -> Option<Vec<RxFilter>>;

    // A name that is another's before the second call is not seen: it is a matter of µs, and no ioctl goes by the index.
    fn get(&self) -> Result<Config, Errno> {
        self.get_of(&self.name()?)
    }

    fn set(&self, config: Config) -> Result<Config, Errno> {
        self.set_of(&self.name()?, config)
    }

    /// Whether its interface is gone, so that there is nothing to restore. To the other calls the kernel answers ENODEV also
    /// while a driver has taken a card away only to reset it.
    fn is_gone(&self) -> bool {
        self.name() == Err(Errno::ENODEV)
    }

    /// What to call its interface that was `known` by this name.
    fn called(&self, known: &str) -> String {
        self.name().map_or_else(|_| known.to_owned(), |name| name.to_string_lossy().into_owned())
    }
}

struct Kernel {
    device: Device,
    if_index: u32,
}

impl Card for Kernel {
    fn name(&self) -> Result<CString, Errno> {
        self.device.name()
    }

    fn get_of(&self, name: &CStr) -> Result<Config, Errno> {
        self.device.get(name)
    }

    fn set_of(&self, name: &CStr, config: Config) -> Result<Config, Errno> {
        self.device.set(name, config)
    }

    fn offered(&self) -> Option<Vec<RxFilter>> {
        tsinfo::tsinfo(self.if_index).ok().flatten().map(|info| info.rx_filters)
    }
}

/// What a card stamped before XDP was attached, for as long as nobody else sees to it: where a start fails after a driver
/// has forgotten it, it is set again. Where the process is killed instead, a file in `/run/xdprobe` tells the next run.
pub struct Found {
    card: Box<dyn Card>,
    interface: String,
    slot: Slot,
    /// What is to be there in the end; `None` once somebody else sees to it.
    config: Option<Config>,
    /// What the card had: more than `config` where an earlier run was killed.
    looked: Config,
    /// Another xdprobe that has switched it on, and restores what was there before.
    holder: Option<Process>,
    remarks: Vec<String>,
}

impl Found {
    /// Looks what the card of an interface stamps now, and notes it where a driver could forget it. What an earlier run that
    /// was killed has left is this one's to restore.
    ///
    /// # Errors
    /// As [`super::read`].
    pub fn look(interface: &str, if_index: u32) -> Result<Self, StampingError> {
        let device = Device::open(if_index).map_err(|answer| StampingError::of_reading(interface, answer))?;
        let slot = Slot::of(Path::new(marker::FOLDER), SETTING, if_index);
        Self::of(Box::new(Kernel { device, if_index }), interface, slot)
    }

    fn of(card: Box<dyn Card>, interface: &str, slot: Slot) -> Result<Self, StampingError> {
        // As in `turn_on_card`.
        let _lock = slot.lock();
        let looked = card.get().map_err(|answer| StampingError::of_reading(interface, answer))?;
        let (interface, config) = (interface.to_owned(), Some(looked));
        let mut found = Self { card, interface, slot, config, looked, holder: None, remarks: Vec::new() };
        match found.slot.read::<Config>() {
            Some(marker) if marker.process.is_another() => found.holder = Some(marker.process),
            Some(marker) => {
                let (original, remark) = left_by(&marker, &found.interface, looked);
                found.config = Some(original.unwrap_or(looked));
                found.remarks.extend(remark);
                found.slot.remove();
                found.note();
            }
            None => found.note(),
        }
        Ok(found)
    }

    /// What is to be there in the end; `None` where another xdprobe restores that.
    pub const fn config(&self) -> Option<Config> {
        match self.holder {
            Some(_) => None,
            None => self.config,
        }
    }

    /// What the user should know: one line each, for stderr.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Sees to it that the file is there again, after an attempt to switch stamping on that failed has removed it.
    pub fn keep(&mut self) {
        let _lock = self.slot.lock();
        if self.holder.is_none() && self.slot.read::<Config>().is_none() {
            self.note();
        }
    }

    /// Somebody else sees to it from now on, and to the file.
    pub fn hand_over(mut self) {
        self.config = None;
    }

    /// Writes the file, unless there is nothing that could be forgotten.
    fn note(&mut self) {
        if let Some(original) = self.config
            && (original != self.looked || stamps_something(original))
        {
            // That it set what was there leaves alone what somebody sets after it was killed.
            let remark = write_marker(&self.slot, &self.interface, original, Some(self.looked));
            self.remarks.extend(remark);
        }
    }

    /// Sets it again where that is for this run to do; whether the file has had its use.
    fn put_back(&self, found: Config, marker: Option<&Marker>) -> bool {
        // What is gone needs no file.
        let Ok(now) = self.card.get() else { return self.card.is_gone() };
        let is_ours = now == self.looked || marker.is_some_and(|marker| marker.set.is_none_or(|set| set == now));
        // More than there was has been set by somebody.
        if now != found
            && (is_ours || found.covers(now))
            && let Err(answer) = self.card.set(found)
        {
            if self.card.is_gone() {
                return true;
            }
            let interface = self.card.called(&self.interface);
            eprintln!(
                "xdprobe: cannot set the hardware stamps of {interface} to {found} again, as they were before the start: {answer}"
            );
            return false;
        }
        true
    }
}

impl Drop for Found {
    fn drop(&mut self) {
        let Some(found) = self.config else { return };
        let _lock = self.slot.lock();
        let marker = self.slot.read::<Config>();
        if let Some(holder) = self.holder {
            // One that has ended since has restored what was there before, and one that was killed is the next run's affair.
            if marker.is_some_and(|marker| marker.process == holder && holder.is_another()) {
                self.put_back(found, None);
            }
            return;
        }
        let own = marker.as_ref().filter(|marker| marker.process == Process::this());
        if self.put_back(found, own) && own.is_some() {
            self.slot.remove();
        }
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Found").field(&self.config).finish()
    }
}

/// Stamping by a card, on for as long as this lives.
///
/// Dropping it restores what was there, and says on stderr where that fails; [`Stamping::restore`] returns it instead.
pub struct Stamping {
    card: Box<dyn Card>,
    interface: String,
    slot: Slot,
    /// What the card is to have in the end; `None` once it has it, or where it is not ours to say.
    original: Option<Config>,
    /// XDP comes and goes: `original` is kept also where nothing had to be changed, as the driver may forget it.
    is_forgetful: bool,
    /// What the card had when it was last looked at.
    present: Config,
    remarks: Vec<String>,
}

impl Stamping {
    /// Sees to it that the card stamps what it sends, and receives with one of `wanted`, the first that it has. A filter
    /// that stamps more than that is as good. To be called after XDP is attached, as some drivers forget it over that.
    ///
    /// `found` is what the card had before XDP was attached: where that alone has changed it, this is what is restored.
    ///
    /// Nothing that somebody else has switched on is switched off, not even for the time that this lives. For the time
    /// that something is changed, a file in `/run/xdprobe` tells a later run what was there, should this one be killed.
    ///
    /// # Errors
    /// Why not, with what can be done. The card is then as it was before.
    ///
    /// # Panics
    /// Where `wanted` is empty.
    pub fn turn_on(
        interface: &str,
        if_index: u32,
        wanted: &[RxFilter],
        found: Option<Config>,
    ) -> Result<Self, StampingError> {
        let device = Device::open(if_index).map_err(|answer| StampingError::of_reading(interface, answer))?;
        let slot = Slot::of(Path::new(marker::FOLDER), SETTING, if_index);
        Self::turn_on_card(Box::new(Kernel { device, if_index }), interface, slot, wanted, found)
    }

    fn turn_on_card(
        card: Box<dyn Card>,
        interface: &str,
        slot: Slot,
        wanted: &[RxFilter],
        found: Option<Config>,
    ) -> Result<Self, StampingError> {
        assert!(!wanted.is_empty(), "no filter is wanted");
        // Without the folder there is no lock and no file, which is told once there is something to keep.
        let lock = slot.lock();
        let present = card.get().map_err(|answer| StampingError::of_reading(interface, answer))?;
        let interface = interface.to_owned();
        let is_forgetful = found.is_some();
        let mut stamping = Self { card, interface, slot, original: None, is_forgetful, present, remarks: Vec::new() };
        let result = match stamping.slot.read::<Config>() {
            Some(marker) if marker.process.is_another() => stamping.stand_beside(marker.process.pid, wanted),
            Some(marker) if marker.process != Process::this() => {
                stamping.take_over(&marker);
                stamping.widen(wanted)
            }
            // One of this run's own is that of `found`.
            Some(_) | None => {
                stamping.original = found;
                stamping.widen(wanted)
            }
        };
        // Before the guard goes, which takes the lock again to restore what an attempt, or an earlier run, left.
        drop(lock);
        result.map(|()| stamping)
    }

    /// What the card stamps.
    pub const fn granted(&self) -> Config {
        self.present
    }

    /// What the user should know: one line each, for stderr.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Restores what was there before.
    ///
    /// # Errors
    /// What the kernel answered. The card is then as this run had set it.
    pub fn restore(mut self) -> Result<Restored, StampingError> {
        self.put_back()
    }

    /// Another xdprobe is at work: what it has set is good enough, or nothing can be done.
    fn stand_beside(&mut self, pid: u32, wanted: &[RxFilter]) -> Result<(), StampingError> {
        let (interface, present) = (self.interface.clone(), self.present);
        if satisfied(present, wanted).is_none() {
            return Err(StampingError::Held { interface, pid, present, wanted: wanted.to_vec() });
        }
        self.remarks.push(format!(
            "xdprobe with process id {pid} has switched on the hardware stamps of {interface} and switches them off at its \
             end, even if this run still needs them then"
        ));
        Ok(())
    }

    /// An earlier run was killed: what it found is what is to be restored, unless somebody has set something since.
    fn take_over(&mut self, marker: &Marker) {
        let (original, remark) = left_by(marker, &self.interface, self.present);
        self.remarks.extend(remark);
        self.original = original;
        if original.is_none() {
            self.slot.remove();
        }
    }

    /// Asks for what is wanted, in order, until it is there.
    fn widen(&mut self, wanted: &[RxFilter]) -> Result<(), StampingError> {
        let before = self.present;
        // What is there may do, but what is wanted more is tried first.
        let good_enough = satisfied(before, wanted);
        let better = &wanted[..good_enough.unwrap_or(wanted.len())];
        if let Some(original) = self.original {
            // The file is this run's from now on.
            self.keep_marker(original, Some(before));
        }
        let mut refused = Vec::new();
        let mut reason = None;
        let mut has_it = false;
        for rx in better {
            match self.attempt(before, *rx, wanted) {
                Ok(()) => {
                    has_it = true;
                    break;
                }
                Err(StampingError::NoSuchFilter { .. }) => refused.push(*rx),
                Err(error) => reason = Some(error),
            }
        }
        if !has_it && self.present != before {
            // An attempt took away what was there: the driver answers with something else than it was asked for.
            let _ = self.card.set(before);
            self.present = self.card.get().unwrap_or(self.present);
        }
        if satisfied(self.present, wanted).is_none() {
            return Err(reason.unwrap_or_else(|| StampingError::NoSuchFilter {
                interface: self.interface.clone(),
                wanted: refused,
                offered: self.card.offered(),
                answer: Errno::ERANGE,
            }));
        }
        match self.original {
            Some(original) if original == self.present && !(self.is_forgetful && stamps_something(original)) => {
                self.original = self.is_forgetful.then_some(original);
                self.slot.remove();
            }
            // Also what is as it was: the driver may forget it when this run is killed, and XDP goes.
            Some(original) => self.keep_marker(original, Some(self.present)),
            None => {}
        }
        Ok(())
    }

    /// Asks for one filter, and looks whether it is there.
    fn attempt(&mut self, before: Config, rx: RxFilter, wanted: &[RxFilter]) -> Result<(), StampingError> {
        let interface = self.interface.clone();
        let asked = Config {
            flags: before.flags,
            tx: if before.tx.covers(TxType::On) { before.tx } else { TxType::On },
            rx: if before.rx.covers(rx) { before.rx } else { rx },
        };
        if !asked.covers(before) {
            return Err(StampingError::InUse { interface, present: before, wanted: wanted.to_vec() });
        }
        let original = *self.original.get_or_insert(before);
        // Before the change, as the process can be killed right after it.
        self.keep_marker(original, None);
        let answered = self.card.set(asked);
        let found = self.card.get().map_err(|answer| StampingError::of_reading(&interface, answer))?;
        self.present = found;
        let answered = answered.map_err(|answer| StampingError::of_setting(&interface, rx, answer))?;
        let is_there = |config: Config| config.tx.covers(TxType::On) && config.rx.covers(rx) && config.covers(before);
        if is_there(answered) && is_there(found) {
            Ok(())
        } else {
            let offered = self.card.offered();
            Err(StampingError::NotHonoured { interface, asked, answered, found, offered })
        }
    }

    fn keep_marker(&mut self, original: Config, set: Option<Config>) {
        if let Some(remark) = write_marker(&self.slot, &self.interface, original, set)
            && !self.remarks.contains(&remark)
        {
            self.remarks.push(remark);
        }
    }

    fn put_back(&mut self) -> Result<Restored, StampingError> {
        let Some(original) = self.original.take() else { return Ok(Restored::NothingToDo) };
        let _lock = self.slot.lock();
        let result = self.set_back(original);
        if result.is_err() && self.card.is_gone() {
            self.slot.remove();
            return Ok(Restored::Gone(self.interface.clone(), original));
        }
        result
    }

    fn set_back(&self, original: Config) -> Result<Restored, StampingError> {
        let interface = self.card.called(&self.interface);
        let not_restored =
            |found, answer| StampingError::NotRestored { interface: interface.clone(), original, found, answer };
        let found = self.card.get().map_err(|answer| not_restored(self.present, Some(answer)))?;
        // Some drivers forget what was set, and then nobody has set it: what was there before is more.
        if found != self.present && !original.covers(found) {
            self.slot.remove();
            return Ok(Restored::LeftTo(interface, found));
        }
        if found != original {
            self.card.set(original).map_err(|answer| not_restored(found, Some(answer)))?;
            match self.card.get() {
                Ok(now) if now == original => {}
                Ok(now) => return Err(not_restored(now, None)),
                Err(answer) => return Err(not_restored(found, Some(answer))),
            }
        }
        // Only now: what is not restored is for the next run to find.
        self.slot.remove();
        Ok(Restored::To(original))
    }
}

impl Drop for Stamping {
    fn drop(&mut self) {
        match self.put_back() {
            Ok(restored) => {
                if let Some(remark) = restored.remark() {
                    eprintln!("xdprobe: {remark}");
                }
            }
            Err(error) => eprintln!("xdprobe: {error}"),
        }
    }
}

impl fmt::Debug for Stamping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { interface, original, present, .. } = self;
        write!(f, "Stamping {{ interface: {interface:?}, original: {original:?}, present: {present:?} }}")
    }
}

/// Which of `wanted`, as an index, a card has that is set to `present`: the first one.
fn satisfied(present: Config, wanted: &[RxFilter]) -> Option<usize> {
    present.tx.covers(TxType::On).then(|| wanted.iter().position(|rx| present.rx.covers(*rx)))?
}

/// Whether there is anything that a driver could forget.
fn stamps_something(config: Config) -> bool {
    config.tx != TxType::Off || config.rx != RxFilter::None
}

/// What is to be restored after a run that was killed and left a card at `present`, `None` where that is what is there to
/// stay; and what the user should know of it.
fn left_by(marker: &Marker, interface: &str, present: Config) -> (Option<Config>, Option<String>) {
    let (original, pid) = (marker.original, marker.process.pid);
    if present == original {
        (None, None)
    } else if marker.set.is_none_or(|set| set == present) || original.covers(present) {
        let remark = format!(
            "an earlier run (process id {pid}) was killed and left the hardware stamps of {interface} at {present}; \
             they were {original} before it, and are set to that again at the end of this run"
        );
        (Some(original), Some(remark))
    } else {
        let remark = format!(
            "an earlier run (process id {pid}) was killed after it had changed the hardware stamps of {interface}, \
             which were {original}; but somebody has set them to {present} since, so that is what stays after this run"
        );
        (None, Some(remark))
    }
}

/// Puts this run's marker there. What the user should know where that fails.
fn write_marker(slot: &Slot, interface: &str, original: Config, set: Option<Config>) -> Option<String> {
    let answer = slot.write(&Marker::new(interface, original, set)).err()?;
    Some(format!(
        "cannot write {}: {answer}: should this run be killed, nobody will know that the hardware stamps of {interface} \
         were {original}",
        slot.path().display()
    ))
}

#[cfg(test)]
mod tests;
