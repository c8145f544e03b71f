//! The guard with cards that behave as cards and drivers do.

use super::*;
use std::sync::{Arc, Mutex};

mod renamed;

const OFF: Config = config(TxType::Off, RxFilter::None);
const ALL: Config = config(TxType::On, RxFilter::All);
const PTP: Config = config(TxType::On, RxFilter::PtpV2Event);

const fn config(tx: TxType, rx: RxFilter) -> Config {
    Config { flags: 0, tx, rx }
}

type Driver = fn(Config) -> Result<Config, Errno>;

/// A card whose driver makes of a request what a function says.
struct Fake {
    /// What its interface is called, or what the kernel answers instead.
    name: Result<&'static CStr, Errno>,
    /// Another card, whose interface has this name.
    other: Option<(&'static CStr, Config)>,
    now: Config,
    driver: Driver,
    /// What the driver says that it set, where that is not what it set.
    says: Option<Config>,
    sets: Vec<Config>,
}

#[derive(Clone)]
struct FakeCard(Arc<Mutex<Fake>>);

impl FakeCard {
    fn new(now: Config, driver: Driver) -> Self {
        let (name, other) = (Ok(c"eth0"), None);
        Self(Arc::new(Mutex::new(Fake { name, other, now, driver, says: None, sets: Vec::new() })))
    }

    fn now(&self) -> Config {
        self.0.lock().unwrap().now
    }

    fn sets(&self) -> Vec<Config> {
        self.0.lock().unwrap().sets.clone()
    }

    fn somebody_sets(&self, config: Config) {
        self.0.lock().unwrap().now = config;
    }
}

impl Card for FakeCard {
    fn name(&self) -> Result<CString, Errno> {
        self.0.lock().unwrap().name.map(CStr::to_owned)
    }

    fn get_of(&self, name: &CStr) -> Result<Config, Errno> {
        let fake = self.0.lock().unwrap();
        if fake.name != Ok(name) {
            return fake.other.filter(|other| other.0 == name).map(|other| other.1).ok_or(Errno::ENODEV);
        }
        match (fake.driver)(OFF) {
            // A card without anything to configure cannot be read either.
            Err(Errno::EOPNOTSUPP) => Err(Errno::EOPNOTSUPP),
            _ => Ok(fake.now),
        }
    }

    fn set_of(&self, name: &CStr, config: Config) -> Result<Config, Errno> {
        let mut fake = self.0.lock().unwrap();
        if fake.name != Ok(name) {
            let other = fake.other.as_mut().filter(|other| other.0 == name).ok_or(Errno::ENODEV)?;
            other.1 = config;
            return Ok(config);
        }
        fake.sets.push(config);
        fake.now = (fake.driver)(config)?;
        Ok(fake.says.unwrap_or(fake.now))
    }

    fn offered(&self) -> Option<Vec<RxFilter>> {
        Some(vec![RxFilter::None, RxFilter::PtpV2Event])
    }
}

/// One that does what it is asked for.
fn does_all(asked: Config) -> Result<Config, Errno> {
    Ok(asked)
}

/// One like an 82576's: PTP only, every filter of which is made the widest.
fn does_ptp(asked: Config) -> Result<Config, Errno> {
    match asked.rx {
        RxFilter::None | RxFilter::PtpV2Event => Ok(asked),
        RxFilter::PtpV2L4Sync => Ok(Config { rx: RxFilter::PtpV2Event, ..asked }),
        _ => Err(Errno::ERANGE),
    }
}

struct Bench {
    card: FakeCard,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(now: Config, driver: Driver) -> Self {
        Self { card: FakeCard::new(now, driver), folder: tempfile::tempdir().unwrap() }
    }

    fn slot(&self) -> Slot {
        Slot::of(self.folder.path(), SETTING, 7)
    }

    fn turn_on(&self, wanted: &[RxFilter]) -> Result<Stamping, StampingError> {
        self.turn_on_after(wanted, None)
    }

    /// Where the card had `found` before XDP was attached.
    fn turn_on_after(&self, wanted: &[RxFilter], found: Option<Config>) -> Result<Stamping, StampingError> {
        Stamping::turn_on_card(Box::new(self.card.clone()), "eth0", self.slot(), wanted, found)
    }

    fn look(&self) -> Found {
        Found::of(Box::new(self.card.clone()), "eth0", self.slot()).unwrap()
    }

    /// A marker as a process that has ended left it: no process has started at the tick 1 and this one's id.
    fn killed_run_left(&self, original: Config, set: Option<Config>) {
        let process = Process { pid: std::process::id(), started: 1 };
        self.marker(process, original, set);
    }

    fn marker(&self, process: Process, original: Config, set: Option<Config>) {
        let marker = Marker { process, boot: marker::boot(), interface: "eth0".into(), original, set };
        self.slot().write(&marker).unwrap();
    }
}

#[test]
fn what_is_granted_is_on_until_the_guard_goes() {
    let bench = Bench::new(OFF, does_all);
    let stamping = bench.turn_on(&[RxFilter::All]).unwrap();
    assert_eq!((stamping.granted(), bench.card.now()), (ALL, ALL));
    assert_eq!(stamping.remarks(), [""; 0]);
    let marker = bench.slot().read::<Config>().unwrap();
    assert_eq!((marker.process, marker.original, marker.set), (Process::this(), OFF, Some(ALL)));
    drop(stamping);
    assert_eq!(bench.card.sets(), [ALL, OFF]);
    assert!(bench.slot().read::<Config>().is_none());
}

#[test]
fn what_a_driver_forgot_when_xdp_was_attached_is_restored() {
    let bench = Bench::new(OFF, does_all);
    let stamping = bench.turn_on_after(&[RxFilter::All], Some(PTP)).unwrap();
    assert_eq!((stamping.granted(), bench.slot().read::<Config>().unwrap().original), (ALL, PTP));
    assert_eq!(stamping.restore(), Ok(Restored::To(PTP)));
    assert_eq!(bench.card.now(), PTP);
}

#[test]
fn what_a_driver_forgets_when_xdp_goes_is_restored_too() {
    for wanted in [RxFilter::All, RxFilter::PtpV2Event] {
        let bench = Bench::new(ALL, does_all);
        let stamping = bench.turn_on_after(&[wanted], Some(ALL)).unwrap();
        assert_eq!(bench.card.sets(), [], "it was as wanted");
        bench.card.somebody_sets(OFF);
        assert_eq!(stamping.restore(), Ok(Restored::To(ALL)));
        assert_eq!(bench.card.now(), ALL);
        assert!(bench.slot().read::<Config>().is_none());
    }
}

/// A process that is at work as long as this lives.
struct Other(std::process::Child);

impl Other {
    fn start() -> Self {
        Self(std::process::Command::new("sleep").arg("60").spawn().unwrap())
    }

    fn process(&self) -> Process {
        Process::of(self.0.id()).unwrap()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn what_a_driver_could_forget_is_noted_from_the_look_to_the_end() {
    let bench = Bench::new(PTP, does_all);
    let found = bench.look();
    let marker = bench.slot().read::<Config>().unwrap();
    assert_eq!((marker.process, marker.original, marker.set), (Process::this(), PTP, Some(PTP)));
    bench.card.somebody_sets(OFF);
    let stamping = bench.turn_on_after(&[RxFilter::PtpV2Event], found.config()).unwrap();
    found.hand_over();
    assert_eq!(stamping.remarks(), [""; 0], "it does not stand beside itself");
    assert_eq!(stamping.granted(), PTP);
    assert_eq!(
        bench.slot().read::<Config>().unwrap().original,
        PTP,
        "also where it is on again: XDP goes with the process"
    );
    bench.card.somebody_sets(OFF);
    assert_eq!(stamping.restore(), Ok(Restored::To(PTP)));
    assert!(bench.slot().read::<Config>().is_none());
}

#[test]
fn where_nothing_is_on_nothing_is_noted() {
    let bench = Bench::new(OFF, does_all);
    let found = bench.look();
    assert!(bench.slot().read::<Config>().is_none());
    drop(found);
    assert_eq!((bench.card.sets(), bench.slot().read::<Config>()), (vec![], None));
}

#[test]
fn a_run_killed_after_its_driver_forgot_is_made_good_by_the_next() {
    let bench = Bench::new(OFF, does_all);
    bench.killed_run_left(PTP, Some(PTP));
    let found = bench.look();
    let [remark] = found.remarks() else { panic!("{:?}", found.remarks()) };
    assert!(remark.contains("left the hardware stamps of eth0 at TX off, RX none"), "{remark}");
    let marker = bench.slot().read::<Config>().unwrap();
    assert_eq!((marker.process, marker.original, marker.set), (Process::this(), PTP, Some(OFF)));
    let stamping = bench.turn_on_after(&[RxFilter::All], found.config()).unwrap();
    found.hand_over();
    assert_eq!(stamping.restore(), Ok(Restored::To(PTP)));
    assert_eq!((bench.card.now(), bench.slot().read::<Config>()), (PTP, None));
}

#[test]
fn what_a_killed_run_left_is_restored_where_this_one_does_not_get_as_far() {
    for (left, original) in [(ALL, OFF), (OFF, PTP), (ALL, PTP)] {
        let bench = Bench::new(left, does_all);
        bench.killed_run_left(original, Some(left));
        drop(bench.look());
        assert_eq!((bench.card.now(), bench.slot().read::<Config>()), (original, None), "{left}");
    }
}

#[test]
fn what_somebody_set_after_a_killed_run_is_what_is_found() {
    let bench = Bench::new(ALL, does_all);
    bench.killed_run_left(PTP, Some(PTP));
    let found = bench.look();
    assert!(found.remarks()[0].contains("somebody has set them to TX on, RX all since"), "{:?}", found.remarks());
    assert_eq!((found.config(), bench.slot().read::<Config>().unwrap().original), (Some(ALL), ALL));
    drop(found);
    assert_eq!((bench.card.sets(), bench.slot().read::<Config>()), (vec![], None));
}

#[test]
fn a_living_runs_marker_is_left_alone() {
    let bench = Bench::new(ALL, does_all);
    let other = Other::start();
    bench.marker(other.process(), OFF, Some(ALL));
    let found = bench.look();
    assert_eq!(found.config(), None, "the other restores what was there before");
    bench.card.somebody_sets(OFF);
    drop(found);
    assert_eq!(bench.card.now(), ALL, "it still needs what the driver forgot");
    assert_eq!(bench.slot().read::<Config>().unwrap().process, other.process());
    let found = bench.look();
    bench.slot().remove();
    bench.card.somebody_sets(OFF);
    drop(found);
    assert_eq!(bench.card.now(), OFF, "it has ended, and restored that");
}

#[test]
fn a_failed_attempt_does_not_take_the_note_away_for_good() {
    let bench = Bench::new(PTP, does_ptp);
    let mut found = bench.look();
    bench.card.somebody_sets(OFF);
    assert!(matches!(bench.turn_on_after(&[RxFilter::All], found.config()), Err(StampingError::NoSuchFilter { .. })));
    found.keep();
    assert_eq!(bench.slot().read::<Config>().unwrap().original, PTP);
    drop(found);
    assert_eq!((bench.card.now(), bench.slot().read::<Config>()), (PTP, None));
}

#[test]
fn what_a_driver_forgot_before_a_start_that_failed_is_set_again() {
    // Forgotten; untouched; widened by somebody; handed over.
    for (now, handed_over, sets) in
        [(OFF, false, vec![PTP]), (PTP, false, vec![]), (ALL, false, vec![]), (OFF, true, vec![])]
    {
        let bench = Bench::new(PTP, does_all);
        let found = bench.look();
        bench.card.somebody_sets(now);
        if handed_over {
            assert_eq!(found.config(), Some(PTP));
            found.hand_over();
        } else {
            drop(found);
        }
        assert_eq!(bench.card.sets(), sets, "{now} {handed_over}");
    }
}

#[test]
fn restoring_says_what_it_did() {
    let bench = Bench::new(OFF, does_all);
    assert_eq!(bench.turn_on(&[RxFilter::All]).unwrap().restore(), Ok(Restored::To(OFF)));
    assert_eq!(bench.card.sets(), [ALL, OFF]);
}

#[test]
fn what_is_on_already_is_left_alone() {
    for (now, wanted) in [(ALL, RxFilter::All), (ALL, RxFilter::PtpV2Event), (PTP, RxFilter::PtpV2L4Sync)] {
        let bench = Bench::new(now, does_all);
        let stamping = bench.turn_on(&[wanted]).unwrap();
        assert_eq!(stamping.granted(), now);
        assert!(bench.slot().read::<Config>().is_none());
        assert_eq!(stamping.restore(), Ok(Restored::NothingToDo));
        assert_eq!(bench.card.sets(), []);
    }
}

#[test]
fn a_filter_that_the_card_lacks_is_refused_with_those_that_it_has() {
    let bench = Bench::new(OFF, does_ptp);
    let error = bench.turn_on(&[RxFilter::All]).unwrap_err();
    assert_eq!(
        error,
        StampingError::NoSuchFilter {
            interface: "eth0".into(),
            wanted: vec![RxFilter::All],
            offered: Some(vec![RxFilter::None, RxFilter::PtpV2Event]),
            answer: Errno::ERANGE
        }
    );
    assert_eq!(bench.card.now(), OFF);
    assert!(bench.slot().read::<Config>().is_none());
}

#[test]
fn the_next_wanted_filter_is_asked_for() {
    let bench = Bench::new(OFF, does_ptp);
    let stamping = bench.turn_on(&[RxFilter::All, RxFilter::PtpV2Event]).unwrap();
    assert_eq!(stamping.granted(), PTP);
    drop(stamping);
    assert_eq!(bench.card.sets(), [ALL, PTP, OFF]);
}

#[test]
fn a_daemons_configuration_is_widened_and_given_back() {
    let bench = Bench::new(PTP, does_all);
    let stamping = bench.turn_on(&[RxFilter::All, RxFilter::PtpV2Event]).unwrap();
    assert_eq!(stamping.granted(), ALL);
    drop(stamping);
    assert_eq!(bench.card.sets(), [ALL, PTP]);
}

#[test]
fn a_daemons_configuration_that_does_stays_where_no_wider_one_is_had() {
    let bench = Bench::new(PTP, does_ptp);
    let stamping = bench.turn_on(&[RxFilter::All, RxFilter::PtpV2Event]).unwrap();
    assert_eq!(stamping.granted(), PTP);
    assert!(bench.slot().read::<Config>().is_none());
    drop(stamping);
    assert_eq!(bench.card.sets(), [ALL]);
    assert_eq!(bench.card.now(), PTP);
}

#[test]
fn nothing_is_taken_away_from_a_daemon() {
    let ntp = config(TxType::On, RxFilter::NtpAll);
    let bench = Bench::new(ntp, does_all);
    let error = bench.turn_on(&[RxFilter::PtpV2Event]).unwrap_err();
    assert!(matches!(error, StampingError::InUse { present, .. } if present == ntp), "{error}");
    assert_eq!(bench.card.sets(), []);
    let onestep = config(TxType::OnestepSync, RxFilter::None);
    let bench = Bench::new(onestep, does_all);
    let stamping = bench.turn_on(&[RxFilter::All]).unwrap();
    assert_eq!(stamping.granted(), config(TxType::OnestepSync, RxFilter::All));
    drop(stamping);
    assert_eq!(bench.card.now(), onestep);
}

#[test]
fn transmit_stamps_that_were_on_stay_on() {
    let tx_only = config(TxType::On, RxFilter::None);
    let bench = Bench::new(tx_only, does_all);
    drop(bench.turn_on(&[RxFilter::All]).unwrap());
    assert_eq!(bench.card.sets(), [ALL, tx_only]);
}

#[test]
fn receive_stamps_of_all_stay_of_all_where_less_is_wanted() {
    let rx_only = config(TxType::Off, RxFilter::All);
    let bench = Bench::new(rx_only, does_all);
    drop(bench.turn_on(&[RxFilter::PtpV2Event]).unwrap());
    assert_eq!(bench.card.sets(), [ALL, rx_only]);
}

#[test]
fn a_driver_that_writes_back_less_than_asked_is_not_believed_and_set_back() {
    let bench = Bench::new(OFF, |asked| Ok(Config { rx: RxFilter::None, ..asked }));
    let error = bench.turn_on(&[RxFilter::All]).unwrap_err();
    let half = config(TxType::On, RxFilter::None);
    assert!(
        matches!(error, StampingError::NotHonoured { asked: ALL, answered, found, .. } if (answered, found) == (half, half)),
        "{error}"
    );
    assert!(error.to_string().contains("asked for TX on, RX all, said that it set TX on, RX none"), "{error}");
    assert_eq!(bench.card.now(), OFF);
}

#[test]
fn a_driver_that_says_one_thing_and_does_another_is_found_out() {
    let bench = Bench::new(OFF, |_| Ok(OFF));
    bench.card.0.lock().unwrap().says = Some(ALL);
    let error = bench.turn_on(&[RxFilter::All]).unwrap_err();
    assert!(matches!(error, StampingError::NotHonoured { answered: ALL, found: OFF, .. }), "{error}");
    assert!(bench.slot().read::<Config>().is_none());
}

#[test]
fn a_filter_that_the_driver_widens_is_good() {
    let bench = Bench::new(OFF, does_ptp);
    let stamping = bench.turn_on(&[RxFilter::PtpV2L4Sync]).unwrap();
    assert_eq!(stamping.granted(), PTP);
    assert_eq!(bench.slot().read::<Config>().unwrap().set, Some(PTP));
}

#[test]
fn each_refusal_has_an_error_of_its_own() {
    let refuses = |driver| Bench::new(OFF, driver).turn_on(&[RxFilter::All, RxFilter::PtpV2Event]).unwrap_err();
    let error = refuses(|_| Err(Errno::EPERM));
    assert!(matches!(error, StampingError::Privilege { .. }) && error.to_string().contains("CAP_NET_ADMIN"));
    let error = refuses(|_| Err(Errno::EBUSY));
    assert!(matches!(error, StampingError::Busy { .. }) && error.to_string().contains("ptp4l"));
    let error = refuses(|_| Err(Errno::EOPNOTSUPP));
    assert!(matches!(error, StampingError::NoHardware { .. }) && error.to_string().contains("SIOCGHWTSTAMP"));
    let error = refuses(|_| Err(Errno::EIO));
    assert!(matches!(error, StampingError::Refused { answer: Errno::EIO, .. }));
}

#[test]
fn what_somebody_sets_meanwhile_is_left() {
    let bench = Bench::new(OFF, does_all);
    let stamping = bench.turn_on(&[RxFilter::All]).unwrap();
    bench.card.somebody_sets(PTP);
    let restored = stamping.restore().unwrap();
    assert_eq!((&restored, bench.card.now()), (&Restored::LeftTo("eth0".into(), PTP), PTP));
    assert!(restored.remark().unwrap().contains("eth0 to TX on, RX ptpv2-event during this run"));
    assert!(bench.slot().read::<Config>().is_none());
}

#[test]
fn what_the_driver_forgot_meanwhile_is_restored() {
    let bench = Bench::new(PTP, does_all);
    let stamping = bench.turn_on(&[RxFilter::All]).unwrap();
    bench.card.somebody_sets(OFF);
    assert_eq!((stamping.restore(), bench.card.now()), (Ok(Restored::To(PTP)), PTP));
}

#[test]
fn what_cannot_be_restored_is_an_error_and_leaves_the_marker() {
    let bench = Bench::new(OFF, does_all);
    let stamping = bench.turn_on(&[RxFilter::All]).unwrap();
    bench.card.0.lock().unwrap().driver = |_| Ok(ALL);
    let error = stamping.restore().unwrap_err();
    assert!(matches!(error, StampingError::NotRestored { original: OFF, found: ALL, .. }), "{error}");
    assert_eq!(bench.slot().read::<Config>().unwrap().original, OFF);
}

#[test]
fn a_killed_runs_original_is_what_the_next_one_restores() {
    let bench = Bench::new(ALL, does_all);
    bench.killed_run_left(OFF, Some(ALL));
    let stamping = bench.turn_on(&[RxFilter::All]).unwrap();
    let [remark] = stamping.remarks() else { panic!("{:?}", stamping.remarks()) };
    assert!(remark.contains("was killed and left the hardware stamps of eth0 at TX on, RX all"), "{remark}");
    assert!(remark.contains("they were TX off, RX none before it"), "{remark}");
    assert_eq!(bench.slot().read::<Config>().unwrap().process, Process::this());
    assert_eq!(stamping.restore(), Ok(Restored::To(OFF)));
    assert_eq!(bench.card.sets(), [OFF]);
    assert!(bench.slot().read::<Config>().is_none());
}

#[test]
fn a_run_that_was_killed_on_the_way_is_made_good_too() {
    let bench = Bench::new(ALL, does_all);
    bench.killed_run_left(PTP, None);
    assert_eq!(bench.turn_on(&[RxFilter::All]).unwrap().restore(), Ok(Restored::To(PTP)));
}

#[test]
fn what_a_killed_run_left_is_restored_even_where_this_one_cannot_start() {
    let bench = Bench::new(PTP, does_ptp);
    bench.killed_run_left(OFF, Some(PTP));
    assert!(matches!(bench.turn_on(&[RxFilter::All]), Err(StampingError::NoSuchFilter { .. })));
    assert_eq!(bench.card.now(), OFF);
    assert!(bench.slot().read::<Config>().is_none());
}

#[test]
fn what_was_set_after_a_killed_run_is_the_original() {
    let bench = Bench::new(PTP, does_all);
    bench.killed_run_left(OFF, Some(ALL));
    let stamping = bench.turn_on(&[RxFilter::All]).unwrap();
    let [remark] = stamping.remarks() else { panic!("{:?}", stamping.remarks()) };
    assert!(remark.contains("somebody has set them to TX on, RX ptpv2-event since"), "{remark}");
    assert_eq!(stamping.restore(), Ok(Restored::To(PTP)));
}

#[test]
fn a_killed_runs_marker_of_what_is_no_more_is_forgotten() {
    let bench = Bench::new(OFF, does_all);
    bench.killed_run_left(OFF, Some(ALL));
    let stamping = bench.turn_on(&[RxFilter::All]).unwrap();
    assert_eq!(stamping.remarks(), [""; 0]);
    assert_eq!(stamping.restore(), Ok(Restored::To(OFF)));
}

#[test]
fn beside_a_living_run_nothing_is_changed() {
    let bench = Bench::new(PTP, does_all);
    let other = Other::start();
    bench.marker(other.process(), OFF, Some(PTP));
    let held = bench.turn_on(&[RxFilter::All]).unwrap_err();
    assert!(matches!(held, StampingError::Held { present: PTP, .. }), "{held}");
    let stamping = bench.turn_on(&[RxFilter::All, RxFilter::PtpV2Event]).unwrap();
    assert!(stamping.remarks()[0].contains("has switched on the hardware stamps of eth0"));
    assert_eq!(stamping.restore(), Ok(Restored::NothingToDo));
    assert_eq!(bench.card.sets(), []);
    assert_eq!(bench.slot().read::<Config>().unwrap().original, OFF);
}

#[test]
fn without_a_folder_for_the_marker_it_works_and_says_so() {
    let bench = Bench::new(OFF, does_all);
    let file = bench.folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let slot = Slot::of(&file.join("folder"), SETTING, 7);
    let stamping = Stamping::turn_on_card(Box::new(bench.card.clone()), "eth0", slot, &[RxFilter::All], None).unwrap();
    let [remark] = stamping.remarks() else { panic!("{:?}", stamping.remarks()) };
    assert!(remark.contains("should this run be killed, nobody will know"), "{remark}");
    assert_eq!(stamping.restore(), Ok(Restored::To(OFF)));
}
