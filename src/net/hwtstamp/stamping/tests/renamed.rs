//! A card whose interface has another name by the end, or is gone.

use super::*;

impl Bench {
    fn rename(&self, name: &'static CStr) {
        self.card.0.lock().unwrap().name = Ok(name);
    }

    /// `eth0` is another card's name from now on.
    fn swap(&self, other: Config) {
        self.rename(c"eth1");
        self.card.0.lock().unwrap().other = Some((c"eth0", other));
    }

    fn other(&self) -> Config {
        self.card.0.lock().unwrap().other.unwrap().1
    }

    fn unplug(&self) {
        self.card.0.lock().unwrap().name = Err(Errno::ENODEV);
    }

    fn has_marker(&self) -> bool {
        self.slot().is_there()
    }
}

#[test]
fn a_card_with_another_name_is_restored_and_told_by_that() {
    let bench = Bench::new(OFF, does_all);
    let stamping = bench.turn_on(&[RxFilter::All]).unwrap();
    bench.rename(c"lan0");
    assert_eq!(stamping.restore(), Ok(Restored::To(OFF)));
    assert_eq!((bench.card.now(), bench.has_marker()), (OFF, false));

    let stamping = bench.turn_on(&[RxFilter::All]).unwrap();
    bench.card.somebody_sets(PTP);
    let restored = stamping.restore().unwrap();
    assert_eq!(restored, Restored::LeftTo("lan0".into(), PTP));
    assert!(restored.remark().unwrap().contains("the hardware stamps of lan0 to TX on, RX ptpv2-event"));

    bench.card.somebody_sets(OFF);
    let stamping = bench.turn_on(&[RxFilter::All]).unwrap();
    bench.card.0.lock().unwrap().driver = |_| Err(Errno::EIO);
    let error = stamping.restore().unwrap_err().to_string();
    assert!(error.contains("of lan0 back to TX off, RX none") && error.contains("hwstamp_ctl -i lan0 "), "{error}");
    assert!(bench.has_marker(), "it is for the next run to find");
}

#[test]
fn a_card_that_has_the_old_name_is_left_alone() {
    // As the original, which would pass for restored; as this run has set it; as somebody has set it.
    for other in [OFF, ALL, PTP] {
        let bench = Bench::new(OFF, does_all);
        let stamping = bench.turn_on(&[RxFilter::All]).unwrap();
        bench.swap(other);
        assert_eq!(stamping.restore(), Ok(Restored::To(OFF)), "{other}");
        assert_eq!((bench.card.now(), bench.other(), bench.has_marker()), (OFF, other, false), "{other}");
    }
}

#[test]
fn what_a_driver_forgot_is_set_again_under_the_new_name() {
    for other in [OFF, PTP] {
        let bench = Bench::new(PTP, does_all);
        let found = bench.look();
        bench.card.somebody_sets(OFF);
        bench.swap(other);
        drop(found);
        assert_eq!((bench.card.now(), bench.other(), bench.has_marker()), (PTP, other, false), "{other}");
    }
}

#[test]
fn a_card_that_is_gone_needs_nothing_but_a_word() {
    for other in [None, Some((c"eth0", ALL))] {
        let bench = Bench::new(OFF, does_all);
        let stamping = bench.turn_on(&[RxFilter::All]).unwrap();
        assert!(bench.has_marker());
        bench.unplug();
        bench.card.0.lock().unwrap().other = other;
        let restored = stamping.restore().unwrap();
        assert_eq!(restored, Restored::Gone("eth0".into(), OFF));
        assert!(restored.remark().unwrap().ends_with("TX off, RX none there (hwstamp_ctl -i eth0 -t 0 -r 0)"));
        assert!(!bench.has_marker());
        assert_eq!(bench.card.0.lock().unwrap().other, other);

        let bench = Bench::new(PTP, does_all);
        let found = bench.look();
        assert!(bench.has_marker());
        bench.unplug();
        drop(found);
        assert!(!bench.has_marker());
    }
}

#[test]
fn a_card_that_only_its_driver_calls_gone_is_for_the_next_run() {
    let bench = Bench::new(OFF, does_all);
    let stamping = bench.turn_on(&[RxFilter::All]).unwrap();
    // While it is being reset.
    bench.card.0.lock().unwrap().driver = |_| Err(Errno::ENODEV);
    let error = stamping.restore().unwrap_err();
    assert!(matches!(error, StampingError::NotRestored { answer: Some(Errno::ENODEV), .. }), "{error}");
    assert!(bench.has_marker());
}

#[test]
fn what_a_killed_run_left_is_found_under_another_name() {
    let bench = Bench::new(ALL, does_all);
    bench.killed_run_left(OFF, Some(ALL));
    bench.swap(ALL);
    // The file has the index in its name; that of the interface in it is of no account.
    let stamping =
        Stamping::turn_on_card(Box::new(bench.card.clone()), "eth1", bench.slot(), &[RxFilter::All], None).unwrap();
    assert!(stamping.remarks()[0].contains("left the hardware stamps of eth1 at"), "{:?}", stamping.remarks());
    assert_eq!(stamping.restore(), Ok(Restored::To(OFF)));
    assert_eq!((bench.card.now(), bench.other(), bench.has_marker()), (OFF, ALL, false));
}
