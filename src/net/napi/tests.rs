//! Interrupts that are deferred and restored, and what a run that was killed has left.

use super::*;
use crate::wire::frame::MacAddr;

const OFF: Config = Config { defer_hard_irqs: 0, gro_flush_timeout_ns: 0 };

/// A folder that looks like sysfs, and one for markers.
struct Bench {
    sysfs: tempfile::TempDir,
    run: tempfile::TempDir,
    interface: Interface,
}

impl Bench {
    fn new(present: Config) -> Self {
        let (sysfs, run) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let interface = Interface {
            name: "eth0".into(),
            index: 7,
            mac: MacAddr([2, 0, 0, 0, 0, 10]),
            mtu: 1500,
            is_ethernet: true,
            is_loopback: false,
            is_up: true,
            address: None,
            driver: None,
            rx_queues: 1,
        };
        let folder = sysfs.path().join("eth0");
        fs::create_dir(&folder).unwrap();
        for (file, text) in [("ifindex", "7\n"), ("address", "02:00:00:00:00:0a\n"), (DEFER, ""), (TIMEOUT, "")] {
            fs::write(folder.join(file), text).unwrap();
        }
        let bench = Self { sysfs, run, interface };
        bench.set(present);
        bench
    }

    fn device(&self) -> Device {
        Device::of(self.sysfs.path(), &self.interface).unwrap()
    }

    fn set(&self, config: Config) {
        for (file, number) in [(DEFER, config.defer_hard_irqs), (TIMEOUT, config.gro_flush_timeout_ns)] {
            fs::write(self.sysfs.path().join("eth0").join(file), format!("{number}\n")).unwrap();
        }
    }

    fn now(&self) -> Config {
        self.device().get().unwrap()
    }

    fn slot(&self) -> Slot {
        Slot::of(self.run.path(), SETTING, 7)
    }

    fn widen(&self) -> Result<Deferral, NapiError> {
        Deferral::widen_in(self.sysfs.path(), self.run.path(), &self.interface)
    }

    fn tidy_up(&self) -> Option<String> {
        tidy_up_in(self.sysfs.path(), self.run.path(), &self.interface)
    }

    /// What a run that was killed leaves.
    fn killed(&self, original: Config, set: Option<Config>) {
        let process = Process { pid: std::process::id(), started: 1 };
        self.slot().write(&Marker { process, ..Marker::new("eth0", original, set) }).unwrap();
    }
}

#[test]
fn what_was_there_is_there_again_and_the_file_is_gone() {
    let bench = Bench::new(OFF);
    let deferral = bench.widen().unwrap();
    assert_eq!((bench.now(), deferral.config(), deferral.remarks().len()), (WANTED, WANTED, 0));
    let marker = bench.slot().read::<Config>().unwrap();
    assert_eq!((marker.original, marker.set, marker.process), (OFF, Some(WANTED), Process::this()));
    assert_eq!(bench.tidy_up(), None, "this run is not killed");
    assert_eq!(deferral.restore().unwrap(), None);
    assert_eq!((bench.now(), bench.slot().is_there()), (OFF, false));
    drop(bench.widen().unwrap());
    assert_eq!((bench.now(), bench.slot().is_there()), (OFF, false));
}

#[test]
fn what_somebody_has_set_is_only_widened() {
    let bench = Bench::new(Config { defer_hard_irqs: 100, gro_flush_timeout_ns: 0 });
    let deferral = bench.widen().unwrap();
    assert_eq!(bench.now(), Config { defer_hard_irqs: 100, gro_flush_timeout_ns: 200_000 });
    drop(deferral);
    let wide = Config { defer_hard_irqs: 5, gro_flush_timeout_ns: 20_000 };
    bench.set(wide);
    let deferral = bench.widen().unwrap();
    assert_eq!((bench.now(), bench.slot().is_there()), (wide, false));
    bench.set(OFF);
    drop(deferral);
    assert_eq!(bench.now(), OFF, "nothing was changed, and nothing is set back");
}

#[test]
fn what_somebody_sets_meanwhile_stays() {
    let bench = Bench::new(OFF);
    let deferral = bench.widen().unwrap();
    let other = Config { defer_hard_irqs: 9, gro_flush_timeout_ns: 9 };
    bench.set(other);
    let remark = deferral.restore().unwrap().unwrap();
    assert!(remark.contains("napi_defer_hard_irqs 9 and gro_flush_timeout 9 ns"), "{remark}");
    assert_eq!((bench.now(), bench.slot().is_there()), (other, false));
    // One of the two: the other one is ours to set back.
    for killed in [false, true] {
        bench.set(OFF);
        let deferral = bench.widen().unwrap();
        bench.set(Config { gro_flush_timeout_ns: 9, ..WANTED });
        let remark = if killed {
            std::mem::forget(deferral);
            bench.killed(OFF, Some(WANTED));
            bench.tidy_up().unwrap()
        } else {
            deferral.restore().unwrap().unwrap()
        };
        assert!(remark.contains("napi_defer_hard_irqs 0 and gro_flush_timeout 9 ns"), "{remark}");
        assert_eq!((bench.now(), bench.slot().is_there()), (Config { gro_flush_timeout_ns: 9, ..OFF }, false));
    }
}

#[test]
fn the_next_run_sets_back_what_a_killed_one_left() {
    for (set, present) in [
        (Some(WANTED), WANTED),
        // Killed in between.
        (None, Config { gro_flush_timeout_ns: 0, ..WANTED }),
    ] {
        let bench = Bench::new(present);
        bench.killed(OFF, set);
        let remark = bench.tidy_up().unwrap();
        assert!(remark.contains("it is set back to napi_defer_hard_irqs 0 and gro_flush_timeout 0 ns"), "{remark}");
        assert_eq!((bench.now(), bench.slot().is_there(), bench.tidy_up()), (OFF, false, None));
    }
    let bench = Bench::new(Config { defer_hard_irqs: 1, gro_flush_timeout_ns: 1 });
    bench.killed(OFF, Some(WANTED));
    assert!(bench.tidy_up().unwrap().contains("is what stays"));
    assert_eq!((bench.now().defer_hard_irqs, bench.slot().is_there()), (1, false));
    bench.set(OFF);
    bench.killed(OFF, None);
    assert_eq!((bench.tidy_up(), bench.slot().is_there()), (None, false));
}

#[test]
fn another_run_at_work_keeps_its_settings_and_its_file() {
    let bench = Bench::new(WANTED);
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let process = Process::of(child.id()).unwrap();
    bench.slot().write(&Marker { process, ..Marker::new("eth0", OFF, Some(WANTED)) }).unwrap();
    assert_eq!(bench.tidy_up(), None);
    let deferral = bench.widen().unwrap();
    assert!(deferral.remarks()[0].contains(&format!("process id {}", child.id())), "{deferral:?}");
    drop(deferral);
    assert_eq!((bench.now(), bench.slot().read::<Config>().unwrap().process), (WANTED, process));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(bench.tidy_up().is_some());
    assert_eq!(bench.now(), OFF);
}

#[test]
fn the_interface_of_another_namespace_is_left_alone() {
    let bench = Bench::new(OFF);
    fs::write(bench.sysfs.path().join("eth0/address"), "02:00:00:00:00:0b\n").unwrap();
    let error = bench.widen().unwrap_err().to_string();
    assert!(error.contains("is not the interface eth0 of this network namespace"), "{error}");
    bench.killed(OFF, Some(WANTED));
    assert!(bench.tidy_up().unwrap().contains("which had napi_defer_hard_irqs 0"));
    assert!(bench.slot().is_there(), "a run that sees the interface finds it");
}

#[test]
fn an_interface_with_a_new_name_is_set_back_and_the_one_that_has_its_old_name_is_left_alone() {
    let bench = Bench::new(OFF);
    let deferral = bench.widen().unwrap();
    let [old, new] = ["eth0", "lan0"].map(|name| bench.sysfs.path().join(name));
    fs::rename(&old, &new).unwrap();
    fs::create_dir(&old).unwrap();
    for (file, text) in [("ifindex", "8\n"), ("address", "02:00:00:00:00:0a\n"), (DEFER, "2\n"), (TIMEOUT, "200000\n")]
    {
        fs::write(old.join(file), text).unwrap();
    }
    assert_eq!(deferral.restore().unwrap(), None);
    let of = |folder: &Path| [DEFER, TIMEOUT].map(|file| fs::read_to_string(folder.join(file)).unwrap());
    assert_eq!((of(&new), of(&old)), (["0\n", "0\n"].map(Into::into), ["2\n", "200000\n"].map(Into::into)));
    assert!(!bench.slot().is_there());
    // One that is gone took its settings along.
    let bench = Bench::new(OFF);
    let deferral = bench.widen().unwrap();
    fs::remove_dir_all(bench.sysfs.path().join("eth0")).unwrap();
    assert_eq!((deferral.restore().unwrap(), bench.slot().is_there()), (None, false));
}

#[test]
fn who_may_not_write_has_changed_nothing_and_has_nothing_to_set_back() {
    let bench = Bench::new(Config { gro_flush_timeout_ns: 9, ..OFF });
    let file = bench.sysfs.path().join("eth0").join(DEFER);
    fs::remove_file(&file).unwrap();
    // A file that not even root may write to, the index of lo: 1.
    std::os::unix::fs::symlink("/sys/class/net/lo/iflink", &file).unwrap();
    let device = bench.device();
    let mut deferral =
        Deferral { device, slot: bench.slot(), original: None, set: bench.now().widened(), remarks: vec![] };
    let error = deferral.change(bench.now()).unwrap_err();
    assert!(error.to_string().contains("cannot write ") && error.to_string().contains("run as root"), "{error}");
    assert_eq!((deferral.original, bench.slot().is_there()), (None, false));
}

#[test]
fn a_kernel_without_the_settings_is_named_and_left_as_it_was() {
    let bench = Bench::new(OFF);
    fs::remove_file(bench.sysfs.path().join("eth0").join(DEFER)).unwrap();
    let error = bench.widen().unwrap_err().to_string();
    assert!(error.starts_with("--tune: cannot read ") && error.contains(DEFER), "{error}");
    assert!(!bench.slot().is_there());
}
