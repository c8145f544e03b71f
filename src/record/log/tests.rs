//! What a recorder is handed, and what of that its files and its words have.

use super::super::Role;
use super::super::row::{HEADER, STAGES_HEADER};
use super::super::text::Narrator;
use super::super::{SessionSoFar, StampCounts, TripCounts, TripTotals};
use super::*;
use crate::clock::{Phc, Realtime, Source, Time};
use crate::session::{End, Settings};
use crate::wire::Point;
use std::fs::File;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Condvar;

const VOICE: Voice = Voice { role: Role::Server, json: false };
const PEER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 66, 0, 1), 7);

/// A file in memory that can be blocked and can be full.
#[derive(Clone, Default)]
struct Disk(Arc<(Mutex<DiskState>, Condvar)>);

#[derive(Default)]
struct DiskState {
    content: Vec<u8>,
    blocked: bool,
    /// Somebody waits for it to be free.
    awaited: bool,
    /// The most bytes that it holds.
    room: Option<usize>,
}

impl Disk {
    fn change(&self, change: impl FnOnce(&mut DiskState)) {
        change(&mut lock(&self.0.0));
        self.0.1.notify_all();
    }

    fn content(&self) -> String {
        String::from_utf8(lock(&self.0.0).content.clone()).unwrap()
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.change(|state| state.awaited = true);
        let mut state = self.0.1.wait_while(lock(&self.0.0), |state| state.blocked).unwrap();
        let room = state.room.map_or(bytes.len(), |room| room - state.content.len()).min(bytes.len());
        if room == 0 {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        state.content.extend_from_slice(&bytes[..room]);
        Ok(room)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Disk {
    fn cut(&mut self, whole: u64, length: u64) -> bool {
        let mut state = lock(&self.0.0);
        assert_eq!(state.content.len() as u64, length);
        state.content.truncate(whole as usize);
        true
    }
}

fn start(disk: &Disk, rows: usize, patience: Duration) -> (Recorder, Disk) {
    let said = Disk::default();
    let (out, err) = (Box::new(said.clone()), Box::new(said.clone()));
    let speaker = Speaker { narrator: Narrator::new(VOICE), out, err };
    let products = Products {
        log: Some(main(disk)),
        stage_log: None,
        sources: Sources::application(),
        card: None,
        stage_sink: None,
    };
    (Recorder::with(products, None, Tuning { sightings: rows, patience, speaker }).unwrap(), said)
}

fn main(disk: &Disk) -> LogFile {
    LogFile::new(LogKind::Main, Box::new(disk.clone()), 0)
}

/// A recorder that writes both files, the rows of `log` from `sources`.
fn start_both(log: &Disk, stages: &Disk, sources: Sources) -> (Recorder, Disk) {
    let said = Disk::default();
    let (out, err) = (Box::new(said.clone()), Box::new(said.clone()));
    let speaker = Speaker { narrator: Narrator::new(VOICE), out, err };
    let stage_log = Some(LogFile::new(LogKind::Stages, Box::new(stages.clone()), 0));
    let card = Some(Arc::new(Card) as Arc<dyn CardClock>);
    let products = Products { log: Some(main(log)), stage_log, sources, card, stage_sink: None };
    (Recorder::with(products, None, Tuning { sightings: 64, patience: PATIENCE, speaker }).unwrap(), said)
}

/// A card's clock 1000 ns ahead of the system's.
struct Card;

impl CardClock for Card {
    fn to_system(&self, stamp: Time<Phc>) -> Option<(Time<Realtime>, u64)> {
        Some((Time::from_nanos(stamp.as_nanos().checked_sub(1000)?), 8))
    }

    fn name(&self) -> String {
        "ptp0".into()
    }
}

fn row(sequence: u64) -> Sighting {
    Sighting::of_test(sequence, Point::T0, 5)
}

fn counts(rows_written: u64, rows_lost: u64) -> Option<Written> {
    Some(Written { rows_written, rows_lost, error: None })
}

fn sequences(log: &str) -> Vec<u64> {
    log.lines().map(|line| line.split_once(',').unwrap().0.parse().unwrap()).collect()
}

#[test]
fn a_ring_entry_is_five_words() {
    assert_eq!(size_of::<Entry>(), 40);
}

#[test]
fn rows_that_a_blocked_disk_leaves_no_room_for_are_counted_and_the_others_stay_in_order() {
    let disk = Disk::default();
    disk.change(|disk| disk.blocked = true);
    let (mut recorder, _) = start(&disk, 8, PATIENCE);
    let mut sent = 0;
    while recorder.lost_rows() < 100 {
        sent += 1;
        recorder.seen(&row(sent));
    }
    disk.change(|disk| disk.blocked = false);
    let finished = recorder.finish().log.unwrap();
    let written = sequences(&disk.content());
    assert_eq!((finished.rows_written, finished.error), (written.len() as u64, None));
    assert_eq!(finished.rows_written + finished.rows_lost, sent);
    assert!(written.is_sorted() && written[..8] == [1, 2, 3, 4, 5, 6, 7, 8], "{written:?}");
}

#[test]
fn a_full_disk_keeps_whole_rows_only_and_loses_all_that_follow() {
    let disk = Disk::default();
    let line = "1,t0,0.000000005,44\n".len();
    disk.change(|disk| disk.room = Some(3 * line + 7));
    let (mut recorder, said) = start(&disk, 64, PATIENCE);
    (1..=9).for_each(|sequence| recorder.seen(&row(sequence)));
    let first = recorder.sync().log.unwrap();
    assert_eq!((first.rows_written, first.rows_lost), (3, 6));
    // Room again: still nothing, for a gap in the middle of a log could not be seen.
    disk.change(|disk| disk.room = None);
    recorder.seen(&row(10));
    assert_eq!(sequences(&disk.content()), [1, 2, 3]);
    let finished = recorder.finish().log.unwrap();
    assert_eq!((finished.rows_written, finished.rows_lost), (3, 7));
    assert!(finished.error.as_ref().unwrap().contains("No space left on device"), "{finished:?}");
    assert_eq!(finished.since(&first), Written { rows_written: 0, rows_lost: 1, ..finished.clone() });
    assert_eq!(said.content().matches("Cannot write to the log").count(), 1);
}

#[test]
fn rows_that_were_given_up_make_up_for_none_that_a_later_session_loses() {
    let disk = Disk::default();
    disk.change(|disk| disk.blocked = true);
    let (mut recorder, _) = start(&disk, 64, Duration::from_millis(50));
    (1..=5).for_each(|sequence| recorder.seen(&row(sequence)));
    let first = recorder.sync().log.unwrap();
    assert_eq!((first.rows_written, first.rows_lost), (0, 5));
    // Still nothing: what was given up is told of once.
    (6..=8).for_each(|sequence| recorder.seen(&row(sequence)));
    let second = recorder.sync().log.unwrap();
    assert_eq!((second.since(&first).rows_written, second.since(&first).rows_lost), (0, 3));
    assert_eq!(recorder.log.as_ref().unwrap().given_up(), [0, 8]);
    disk.change(|disk| disk.blocked = false);
    recorder.patience = PATIENCE;
    let third = recorder.sync().log.unwrap();
    assert_eq!((third.since(&second).rows_written, third.since(&second).rows_lost), (0, 0));
    assert_eq!(recorder.log.as_ref().unwrap().given_up(), [8, 8]);
    assert_eq!(sequences(&disk.content()), [1, 2, 3, 4, 5, 6, 7, 8]);
    // Of the next four one fits, and none after it.
    disk.change(|disk| disk.room = Some(disk.content.len() + "9,t0,0.000000005,44\n".len()));
    (9..=12).for_each(|sequence| recorder.seen(&row(sequence)));
    let fourth = recorder.sync().log.unwrap();
    assert_eq!((fourth.since(&third).rows_written, fourth.since(&third).rows_lost), (1, 3));
    recorder.seen(&row(13));
    let last = recorder.finish().log.unwrap();
    assert_eq!((last.since(&fourth).rows_written, last.since(&fourth).rows_lost), (0, 1));
}

#[test]
fn a_disk_that_takes_nothing_is_not_waited_for_without_end() {
    let disk = Disk::default();
    disk.change(|disk| disk.blocked = true);
    let (mut recorder, _) = start(&disk, 64, Duration::from_millis(50));
    (1..=5).for_each(|sequence| recorder.seen(&row(sequence)));
    let finished = recorder.finish().log.unwrap();
    assert_eq!((finished.rows_written, finished.rows_lost), (0, 5));
    assert!(finished.error.unwrap().contains("took nothing"));
    disk.change(|disk| disk.blocked = false);
}

#[test]
fn the_header_of_a_later_session_stands_before_its_rows_even_where_the_ring_was_full() {
    let disk = Disk::default();
    disk.change(|disk| disk.blocked = true);
    let (mut recorder, _) = start(&disk, 2, PATIENCE);
    recorder.begin_session();
    recorder.seen(&row(1));
    while !lock(&disk.0.0).awaited {
        thread::sleep(LOOK);
    }
    // The writer hangs in its first write: two more rows fill the ring.
    recorder.seen(&row(2));
    recorder.seen(&row(3));
    recorder.begin_session();
    recorder.seen(&row(1_000_000));
    assert_eq!(recorder.lost_rows(), 1);
    disk.change(|disk| disk.blocked = false);
    recorder.sync();
    recorder.seen(&row(1_000_001));
    let finished = recorder.finish().log.unwrap();
    assert_eq!((finished.rows_written, finished.rows_lost), (4, 1));
    let content = disk.content();
    let (first, second) = content.split_once(HEADER).unwrap();
    assert_eq!(sequences(first), [1, 2, 3]);
    assert_eq!(sequences(second), [1_000_001]);
}

#[test]
fn a_row_reaches_the_file_without_being_asked_for() {
    let disk = Disk::default();
    let (mut recorder, _) = start(&disk, 64, PATIENCE);
    recorder.seen(&row(1));
    let begun = monotonic_now();
    while disk.content().is_empty() {
        assert!(monotonic_now().duration_since(begun) < Duration::from_secs(20), "it stays in memory");
        thread::sleep(LOOK);
    }
    assert_eq!(disk.content(), "1,t0,0.000000005,44\n");
}

#[test]
fn a_dropped_recorder_writes_what_it_has() {
    let disk = Disk::default();
    let (mut recorder, _) = start(&disk, 64, PATIENCE);
    recorder.seen(&row(1));
    drop(recorder);
    assert_eq!(sequences(&disk.content()), [1]);
}

#[test]
fn every_sighting_makes_a_row_of_stages_and_one_with_the_chosen_stamp_a_row_of_the_log() {
    let (log, stages) = (Disk::default(), Disk::default());
    let sources = Sources { sent: Source::Hardware, received: Source::Software };
    let (mut recorder, _) = start_both(&log, &stages, sources);
    recorder.begin_session();
    let hardware = Some(Time::from_nanos(2_000_000_000));
    recorder.seen(&row(1));
    recorder.seen(&Sighting { hardware, ..row(2) });
    let received = Sighting { point: Point::T3, queue: Some(4), ..row(2) };
    recorder.seen(&Sighting { hardware, ..received });
    recorder.seen(&Sighting { software: Some(Time::from_nanos(0)), ..received });
    let finished = recorder.finish();
    assert_eq!(log.content(), "2,t0,2.000000000,44\n2,t3,0.000000000,44\n");
    let rows = "1,t0,44,,5,,,\n2,t0,44,,5,,2000000000,ptp0\n2,t3,44,4,5,,2000000000,ptp0\n2,t3,44,4,5,0,,\n";
    assert_eq!(stages.content(), rows);
    assert_eq!((finished.log, finished.stage_log), (counts(2, 0), counts(4, 0)));
}

#[test]
fn the_two_files_fail_apart() {
    for broken in [LogKind::Main, LogKind::Stages] {
        let (log, stages) = (Disk::default(), Disk::default());
        let full = if broken == LogKind::Main { &log } else { &stages };
        full.change(|disk| disk.room = Some(50));
        let (mut recorder, said) = start_both(&log, &stages, Sources::application());
        (1..=9).for_each(|sequence| recorder.seen(&row(sequence)));
        let finished = recorder.sync();
        assert_eq!(recorder.lost_rows(), if broken == LogKind::Main { 7 } else { 6 });
        let (whole, torn) = match broken {
            LogKind::Main => (finished.stage_log.clone(), finished.log.clone()),
            LogKind::Stages => (finished.log.clone(), finished.stage_log.clone()),
        };
        assert_eq!(whole, counts(9, 0));
        let torn = torn.unwrap();
        assert_eq!(torn.rows_written + torn.rows_lost, 9);
        assert!(torn.error.unwrap().contains("No space left") && !finished.is_whole());
        assert!(full.content().ends_with('\n'), "a torn row is cut back");
        assert_eq!(sequences(&full.content()).len() as u64, torn.rows_written);
        assert_eq!(said.content().matches("Cannot write to the log").count(), 1);
        assert_eq!(said.content().contains("Cannot write to the log of stages"), broken == LogKind::Stages);
    }
}

#[test]
fn each_session_has_its_own_stages_complete_at_its_sync() {
    let (log, stages) = (Disk::default(), Disk::default());
    let (mut recorder, _) = start_both(&log, &stages, Sources::application());
    let seen = |sequence, software, hardware: Option<u64>| Sighting {
        software: Some(Time::from_nanos(software)),
        hardware: hardware.map(Time::from_nanos),
        ..row(sequence)
    };
    recorder.begin_session();
    (1..=20).for_each(|sequence| recorder.seen(&seen(sequence, 9, Some(1008))));
    let first = recorder.sync();
    let found = |finished: &Finished| -> Vec<_> {
        let stages = finished.stages.clone().unwrap();
        stages.times.iter().map(|(stage, t)| (stage.as_str(), t.count, t.p50, t.uncertainty_ns)).collect()
    };
    assert_eq!(found(&first), [("app->sw", 20, 4, None), ("sw->hw", 20, -1, Some(8)), ("app->hw", 20, 3, Some(8))]);
    // What comes behind the end of a session is not the next one's.
    recorder.seen(&seen(21, 100, None));
    recorder.begin_session();
    recorder.seen(&seen(1, 3, None));
    let second = recorder.sync();
    assert_eq!(found(&second), [("app->sw", 1, -2, None)]);
    assert_eq!(second.since(&first).stage_log, counts(2, 0));
    recorder.begin_session();
    assert_eq!(found(&recorder.sync()), []);
    let content = stages.content();
    assert_eq!(content.matches(STAGES_HEADER).count(), 2);
    assert_eq!(log.content().matches(HEADER).count(), 2);
    assert!(content.ends_with(&format!("{STAGES_HEADER}1,t0,44,,5,3,,\n{STAGES_HEADER}")), "{content}");
}

#[test]
fn a_session_whose_beginning_found_no_room_does_not_get_the_stages_of_the_one_before() {
    let disk = Disk::default();
    let (mut recorder, _) = start(&disk, 2, PATIENCE);
    let staged = |sequence| Sighting { software: Some(Time::from_nanos(7)), ..row(sequence) };
    recorder.begin_session();
    recorder.seen(&staged(1));
    assert_eq!(recorder.sync().stages.unwrap().times[0].1.count, 1);
    disk.change(|disk| (disk.blocked, disk.awaited) = (true, false));
    recorder.seen(&staged(2));
    while !lock(&disk.0.0).awaited {
        thread::sleep(LOOK);
    }
    recorder.seen(&staged(3));
    recorder.seen(&staged(4));
    recorder.begin_session();
    recorder.seen(&staged(1_000_000));
    disk.change(|disk| disk.blocked = false);
    let finished = recorder.sync();
    assert_eq!(finished.stages, Some(Stages::default()));
    assert_eq!((finished.stages_left_out, finished.log), (1, counts(4, 1)));
    assert!(disk.content().ends_with(HEADER));
}

#[test]
fn without_a_log_there_are_stages_all_the_same() {
    let voice = Voice { role: Role::Client, json: false };
    let config = RecorderConfig { card: Some(Arc::new(Card)), ..RecorderConfig::application(None, voice) };
    let mut recorder = Recorder::start(config).unwrap();
    recorder.begin_session();
    recorder.seen(&row(1));
    recorder.seen(&Sighting { hardware: Some(Time::from_nanos(1055)), ..row(2) });
    let finished = recorder.sync();
    assert_eq!((&finished.log, &finished.stage_log, finished.is_whole()), (&None, &None, true));
    let stages = finished.stages.unwrap();
    assert_eq!(stages.times.iter().map(|(stage, t)| (stage.as_str(), t.max)).collect::<Vec<_>>(), [("app->hw", 50)]);
}

#[test]
fn statistics_so_far_are_of_what_was_handed_over_before_them() {
    use crate::path::Description;
    use crate::session::Totals;

    let (log, stages) = (Disk::default(), Disk::default());
    let (mut recorder, said) = start_both(&log, &stages, Sources::application());
    let description = Description {
        path: "kernel",
        xdp_mode: None,
        zero_copy: None,
        queues: Vec::new(),
        local: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1),
        hook_stamps_one_in: None,
    };
    *lock(&recorder.shared.description) = Some(description);
    let staged = |sequence| Sighting { software: Some(Time::from_nanos(7)), ..row(sequence) };
    recorder.begin_session();
    (1..=3).for_each(|sequence| recorder.seen(&staged(sequence)));
    assert!(recorder.can_report());
    recorder.report(Some(SessionSoFar {
        peer: PEER,
        settings: Settings::default(),
        totals: Totals { pings_sent: 9, pongs_expected: 9, measures_loss: true, ..Totals::default() },
        trips: TripTotals {
            counts: TripCounts { unique: 5, newest_answered: 7, ..TripCounts::default() },
            latency: None,
            in_band: None,
        },
        punctuality: None,
        stamps: StampCounts::default(),
        stamp_timeout: None,
        rows_before: [(1, 0), (0, 0)],
        left_out_before: 0,
    }));
    // What comes later is not in it, although the writer has it by then.
    (4..=9).for_each(|sequence| recorder.seen(&staged(sequence)));
    recorder.sync();
    let text = said.content();
    for line in [
        "--- so far ---",
        "app->sw      p50 0.002  p99 0.002  max 0.002 us, 3 samples",
        "lost         2 of 9 pings that asked for a pong got none",
        "outstanding  2 pings have no answer yet",
    ] {
        assert!(text.lines().any(|said| said == line), "{line}: {text}");
    }
    recorder.report(None);
    recorder.sync();
    assert!(said.content().ends_with("No session stands: there are no statistics yet.\n"));
}

#[test]
fn what_is_said_keeps_its_order_and_a_flood_is_counted() {
    let (mut recorder, said) = start(&Disk::default(), 64, PATIENCE);
    recorder.notice(Event::Connected { peer: PEER, settings: Settings::default() });
    recorder.sync();
    for _ in 0..1000 {
        recorder.notice(Event::Refused { from: PEER });
    }
    recorder.sync();
    recorder.notice(Event::Disconnected);
    recorder.notice(Event::Finished(End::PeerStopped));
    recorder.finish();
    let text = said.content();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "Connected to client 10.66.0.1:7");
    let refused = lines.iter().filter(|line| line.contains("drop new connection request")).count();
    let unsaid: usize = lines[lines.len() - 3].split_once(' ').unwrap().0.parse().unwrap();
    assert_eq!(refused + unsaid, 1000);
    assert_eq!(lines[lines.len() - 2], "Client disconnected.");
    assert!(lines[lines.len() - 1].contains("stopped by its user"));
}

#[test]
fn a_flood_from_strangers_leaves_room_for_the_session() {
    let (mut recorder, said) = start(&Disk::default(), 64, PATIENCE);
    for _ in 0..10 * NOTICES {
        recorder.notice(Event::Ignored { from: PEER, kind: crate::wire::Kind::Ping });
    }
    recorder.notice(Event::Disconnected);
    recorder.finish();
    assert!(said.content().contains("Client disconnected.\n"));
}

#[test]
fn a_pipe_gets_every_row_and_no_meta_file() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let reader = thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::read_to_string(pipe).unwrap()
    });
    let mut recorder = Recorder::start(RecorderConfig::application(Some(&pipe), VOICE)).unwrap();
    (1..=100_000).for_each(|sequence| recorder.seen(&row(sequence)));
    let finished = recorder.finish().log.unwrap();
    let text = reader.join().unwrap();
    assert_eq!(finished.rows_written + finished.rows_lost, 100_000);
    assert_eq!(sequences(text.strip_prefix(HEADER).unwrap()).len() as u64, finished.rows_written);
    assert!(!folder.path().join("pipe.meta.json").exists());
}

#[test]
fn a_pipe_whose_reader_went_away_loses_rows_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let reader = thread::spawn({
        let pipe = pipe.clone();
        move || File::open(pipe).map(drop).unwrap()
    });
    let opened = Recorder::start(RecorderConfig::application(Some(&pipe), VOICE));
    reader.join().unwrap();
    // The reader may be gone before the header is written or after it.
    let error = match opened {
        Err(error) => error.to_string(),
        Ok(mut recorder) => {
            recorder.seen(&row(1));
            let finished = recorder.finish().log.unwrap();
            assert_eq!((finished.rows_written, finished.rows_lost), (0, 1));
            finished.error.unwrap()
        }
    };
    assert!(error.contains("Broken pipe"), "{error}");
}
