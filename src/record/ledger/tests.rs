//! Many sessions' logs at once: whose rows go where, and what is said of each.

use super::super::check_folder;
use super::super::row::HEADER;
use super::super::text::Narrator;
use super::super::{ScheduleFacts, StampSource};
use super::*;
use crate::clock::Source;
use crate::path::Description;
use serde_json::Value;
use std::net::Ipv4Addr;

/// How many logs are open at once here.
const OPEN: usize = 100;

/// What was said, in the order in which it was.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Said {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn start(folder: Option<&Path>, places: usize) -> (Ledger, Said, Said) {
    start_with(Sources::application(), folder, places)
}

fn start_with(sources: Sources, folder: Option<&Path>, places: usize) -> (Ledger, Said, Said) {
    let local = SocketAddrV4::new(Ipv4Addr::new(10, 66, 0, 2), 10666);
    let description = Description {
        path: "kernel",
        xdp_mode: None,
        zero_copy: None,
        queues: vec![],
        local,
        hook_stamps_one_in: None,
    };
    let facts = Facts {
        interface: "eth0".into(),
        driver: None,
        description,
        sent: StampSource::application(),
        received: StampSource::application(),
        schedule: None::<ScheduleFacts>,
        dummies: 0,
        tuning: super::super::TuningFacts::default(),
        stamp_every: None,
        command_line: vec![],
    };
    let (out, err) = (Said::default(), Said::default());
    let narrator = Narrator::new(Voice { role: Role::Server, json: true });
    let speaker = Speaker { narrator, out: Box::new(out.clone()), err: Box::new(err.clone()) };
    let folder = folder.map(Into::into);
    let config = LedgerConfig { sources, stamp_timeout: None, folder, json: true, places };
    let mut ledger = Ledger::with(config, speaker, OPEN).unwrap();
    ledger.describe(facts, None);
    (ledger, out, err)
}

#[test]
fn a_log_waits_once_and_for_its_own_time() {
    let mut held = Held::new(3000);
    let at = |millis| Time::from_nanos(1_000_000_000).plus(Duration::from_millis(millis));
    assert_eq!(held.pop_due(at(0)), None);
    for (place, millis) in [(3, 0), (1, 10), (3, 20), (1, 30)] {
        // As for each row: one that was written meanwhile, or whose session is another's by now, waits all the same.
        if !held.has(place) {
            held.push(place, at(millis));
        }
    }
    let hold = HOLD.as_millis() as u64;
    assert_eq!((held.pop_due(at(hold - 1)), held.pop_due(at(hold))), (None, Some(3)));
    assert_eq!((held.pop_due(at(hold + 9)), held.has(3), held.has(1)), (None, false, true));
    held.push(3, at(hold + 9));
    assert_eq!([0; 3].map(|_| held.pop_due(at(3 * hold))), [Some(1), Some(3), None]);
    // Many are written one every so often, but each before too long.
    (0..500).for_each(|place| held.push(place, at(0)));
    assert_eq!((held.pop_due(at(999)), held.pop_due(at(1000))), (None, Some(0)));
    assert_eq!(held.pop_due(at(1000)), Some(1));
    assert_eq!(std::iter::from_fn(|| held.pop()).count(), 498);
    (0..3000).for_each(|place| held.push(place, at(0)));
    assert_eq!((held.pop_due(at(4999)), held.pop_due(at(5000))), (None, Some(0)));
}

#[test]
fn the_longest_rows_have_room_and_stay_their_own_logs() {
    let mut shorts = Shorts::new(2);
    let longest = Row { sequence: u64::MAX, point: Point::T0cs, stamp_nanos: u64::MAX, size: u16::MAX };
    let short = Row { sequence: 1, point: Point::T1, stamp_nanos: 7, size: 44 };
    let text = |row: &Row| {
        let mut text = vec![];
        row.append_to(&mut text);
        text
    };
    let [mut longest_ones, mut rows] = [0; 2];
    loop {
        assert_eq!(shorts.push(0, &short), (text(&short).len(), false));
        let (added, is_full) = shorts.push(1, &longest);
        assert_eq!(added, text(&longest).len());
        longest_ones += 1;
        if is_full {
            break;
        }
    }
    assert!(longest_ones > 1 && longest_ones * text(&longest).len() <= SHORT);
    assert_eq!(shorts.take(1), (&text(&longest).repeat(longest_ones)[..], longest_ones as u64));
    assert_eq!(shorts.take(1), (&[][..], 0));
    while !shorts.push(0, &short).1 {
        rows += 1;
    }
    let all = longest_ones + rows + 1;
    assert_eq!(shorts.take(0), (&text(&short).repeat(all)[..], all as u64));
}

#[test]
fn no_more_is_held_than_there_is_memory_for() {
    let folder = tempfile::tempdir().unwrap();
    let sessions = 1000;
    let (mut ledger, ..) = start(Some(folder.path()), sessions);
    for place in 0..sessions {
        ledger.begin(place, peer(1 + place as u16), Settings::default());
    }
    // None of them has as much as is worth writing, and all together more than may be held.
    let rows = 1200;
    let row = "1000000,t1,1.000000007,44\n".len();
    assert!(rows * row < WORTH_WRITING && sessions * rows * row > HELD_BYTES + HELD_BYTES / 2);
    for _ in 0..rows {
        for place in 0..sessions {
            while ledger.crowded().is_some() {
                thread::sleep(LOOK);
            }
            ledger.seen(place, &ping(1_000_000));
        }
    }
    while ledger.entries.slots() < ENTRIES {
        thread::sleep(LOOK);
    }
    let written: u64 = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "csv"))
        .map(|entry| entry.metadata().unwrap().len())
        .sum();
    let all = sessions * (HEADER.len() + rows * row);
    assert!(written as usize >= all - HELD_BYTES - WORTH_WRITING, "{written} of {all}");
    (0..sessions).for_each(|place| end(&mut ledger, place));
    assert_eq!(ledger.finish(), LedgerEnd { sessions: sessions as u64, rows_lost: 0, failed: false });
}

fn peer(n: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 66, 0, 1), n)
}

fn ping(sequence: u64) -> Sighting {
    Sighting::of_test(sequence, Point::T1, 1_000_000_007)
}

fn end(ledger: &mut Ledger, place: usize) {
    ledger.end(place, End::Complete, &Totals::default(), StampCounts::default(), 3);
}

fn objects(said: &Said) -> Vec<Value> {
    said.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn more_logs_than_may_be_open_at_once_have_their_own_rows_all_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let sessions = 2 * OPEN + 7;
    let (mut ledger, out, err) = start(Some(folder.path()), sessions);
    for place in 0..sessions {
        ledger.begin(place, peer(1 + place as u16), Settings::default());
    }
    for round in 0..60 {
        for place in 0..sessions {
            ledger.seen(place, &ping((1000 * place + round) as u64));
        }
    }
    (0..sessions).for_each(|place| end(&mut ledger, place));
    // A further session at a place that had one, and a row of nobody's between them.
    ledger.seen(0, &ping(4));
    ledger.begin(0, peer(9999), Settings::default());
    ledger.seen(0, &ping(5));
    end(&mut ledger, 0);
    assert_eq!(ledger.finish(), LedgerEnd { sessions: sessions as u64 + 1, rows_lost: 0, failed: false });

    let mut logs = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(name) = name.strip_suffix(".csv") else { continue };
        let port: u16 = name.rsplit_once('-').unwrap().1.parse().unwrap();
        logs.insert(port, std::fs::read_to_string(&path).unwrap());
    }
    assert_eq!(logs.len(), sessions + 1);
    for place in 0..sessions {
        let rows: String = (0..60).map(|round| format!("{},t1,1.000000007,44\n", 1000 * place + round)).collect();
        assert_eq!(logs[&(1 + place as u16)], format!("{HEADER}{rows}"));
    }
    assert_eq!(logs[&9999], format!("{HEADER}5,t1,1.000000007,44\n"));
    let objects = objects(&out);
    assert_eq!(objects.len(), sessions + 1);
    for object in &objects {
        let rows = if object["peer"] == "10.66.0.1:9999" { 1 } else { 60 };
        assert_eq!((&object["rows_written"], &object["excess"]), (&rows.into(), &3.into()), "{object}");
        assert_eq!(object.get("tx_ring_full"), None, "what the path counts is nobody's");
    }
    assert_eq!(err.text().matches("Connected to client").count(), sessions + 1);
}

#[test]
fn a_session_whose_log_cannot_be_made_has_its_rows_counted_as_lost() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone");
    std::fs::create_dir(&gone).unwrap();
    check_folder(&gone).unwrap();
    assert_eq!(std::fs::read_dir(&gone).unwrap().count(), 0, "a check leaves nothing behind");
    let (mut ledger, out, err) = start(Some(&gone), 2);
    std::fs::remove_dir(&gone).unwrap();
    ledger.begin(1, peer(7), Settings::default());
    (0..5).for_each(|sequence| ledger.seen(1, &ping(sequence)));
    end(&mut ledger, 1);
    assert_eq!(ledger.finish(), LedgerEnd { sessions: 1, rows_lost: 5, failed: false });
    let object = &objects(&out)[0];
    assert_eq!((&object["rows_written"], &object["rows_lost"]), (&0.into(), &5.into()));
    assert_eq!(object["success"], false);
    assert!(err.text().contains("10.66.0.1:7: cannot make a log in "), "{}", err.text());
    let refused = check_folder(&gone).unwrap_err().to_string();
    assert!(refused.contains("(--log-dir)") && refused.contains("name a folder"), "{refused}");
}

#[test]
fn a_row_has_the_stamp_of_the_source_and_one_without_it_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let sources = Sources { sent: Source::Software, received: Source::Hardware };
    let (mut ledger, out, _) = start_with(sources, Some(folder.path()), 1);
    ledger.begin(0, peer(7), Settings::default());
    let (software, hardware) = (Some(Time::from_nanos(2_000_000_002)), Some(Time::from_nanos(3_000_000_003)));
    for (sequence, point, software, hardware) in [
        (1, Point::T1, software, hardware),
        (1, Point::T2, software, hardware),
        (2, Point::T1, software, None),
        (2, Point::T2, None, hardware),
    ] {
        ledger.seen(0, &Sighting { point, software, hardware, ..ping(sequence) });
    }
    end(&mut ledger, 0);
    assert_eq!(ledger.finish(), LedgerEnd { sessions: 1, rows_lost: 0, failed: false });
    let object = &objects(&out)[0];
    assert_eq!((&object["rows_written"], &object["rows_lost"]), (&2.into(), &0.into()));
    assert_eq!((&object["tx_source"], &object["rx_source"]), (&"software".into(), &"hardware".into()));
    let log = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let log: Vec<_> = log.filter(|path| path.extension().is_some_and(|ending| ending == "csv")).collect();
    let text = std::fs::read_to_string(&log[0]).unwrap();
    assert_eq!(text, format!("{HEADER}1,t1,3.000000003,44\n1,t2,2.000000002,44\n"));
}

#[test]
fn without_logs_there_are_statistics_and_no_rows() {
    let (mut ledger, out, err) = start(None, 2);
    ledger.begin(0, peer(7), Settings::default());
    ledger.seen(0, &ping(1));
    ledger.notice(Some(0), Event::Disconnected);
    ledger.notice(None, Event::RefusedFull { from: peer(8), clients: 2 });
    end(&mut ledger, 0);
    let mut crowd = Crowd::default();
    crowd.ends(End::Complete);
    ledger.so_far(crowd, Totals { pings_received: 7, ..Totals::default() });
    assert_eq!(ledger.finish(), LedgerEnd { sessions: 1, rows_lost: 0, failed: false });
    let objects = objects(&out);
    assert_eq!(objects[0]["rows_written"], Value::Null);
    assert_eq!((&objects[1]["type"], &objects[1]["pings_received"]), (&"so_far".into(), &7.into()));
    let said = err.text();
    for line in [
        "Client 10.66.0.1:7 disconnected.",
        "Refused 10.66.0.1:8: all 2 places are taken: raise --clients, or let it try again later.",
    ] {
        assert!(said.lines().any(|said| said == line), "{said}");
    }
}
