//! What `FILE.meta.json` beside a log says of a session: whose stamps its rows have, and what was planned.
//!
//! A log without one is nanoprobe's; a file that is damaged or of another form is a remark and nothing more.

use super::Direction;
use super::missing::Counted;
use super::rows::POINTS;
use super::stages::CardClock;
use super::survey::Log;
use crate::clock::{OffsetMethod, OffsetSample, Offsets, Time};
use crate::record::{Role, meta_path};
use crate::wire::Point;
use serde::Serialize;
use serde_json::Value;
use std::{fmt, fs, io};

/// The form of the file that is understood.
const FORMAT: u64 = 1;

/// Which clock the stamps of a point are of, and who read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PointClock {
    /// `application`, `software` or `hardware`.
    pub source: String,
    /// Where the packet was then.
    #[serde(rename = "where")]
    pub place: String,
    /// The clock: `CLOCK_REALTIME`, `PHC`.
    pub clock: String,
    /// Which of several such clocks, as `ptp0`.
    pub device: Option<String>,
    /// The one clock in the world that it is, as `ptp0@` and the id of the machine's boot, where the machine told.
    #[serde(rename = "clock_id")]
    pub id: Option<String>,
}

impl PointClock {
    /// Whether stamps of both, taken on one machine, subtract.
    pub(super) fn is_clock_of(&self, other: &Self) -> bool {
        (&self.clock, &self.device) == (&other.clock, &other.device)
    }
}

impl fmt::Display for PointClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, place, clock, device, .. } = self;
        match device {
            Some(device) => write!(f, "{source} ({place}), {clock} {device}"),
            None => write!(f, "{source} ({place}), {clock}"),
        }
    }
}

/// What a meta file says of one session.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Meta {
    pub(super) role: Option<Role>,
    pub(super) direction: Option<Direction>,
    /// By [`Point`].
    pub(super) clocks: [Option<PointClock>; 8],
    pub(super) delay_us: Option<u64>,
    pub(super) pong_every: Option<u64>,
    /// Of this side's pings only the first and every n-th after it have rows.
    pub(super) stamp_every: Option<u64>,
    /// The pings of this side followed a schedule.
    pub(super) has_schedule: bool,
    /// When the session stood, and when it was over unless it was cut off: ns since the epoch of this side's system's clock.
    pub(super) started: Option<u64>,
    pub(super) ended: Option<u64>,
    /// The log of stages that was written beside this log, by its name.
    pub(super) stages_log: Option<String>,
    /// What its statistics say of packets without a row; `None` while the session lasts.
    pub(super) counted: Option<Counted>,
    /// The card's clock beside the system's.
    clock_offsets: Offsets,
}

impl Meta {
    /// The cards' clocks that the points of this side have.
    pub(super) fn card_clocks(&self) -> Vec<CardClock> {
        let devices = self.clocks.iter().flatten().filter_map(|clock| clock.device.clone());
        let mut names: Vec<String> = devices.collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(|name| CardClock { name, offsets: self.clock_offsets.clone() }).collect()
    }
}

/// What the file beside the log says of its session, if there is one; and a remark where it cannot be used.
pub(super) fn read(log: &Log) -> (Option<Meta>, Option<String>) {
    let path = meta_path(&log.path);
    let unusable = |why: &dyn fmt::Display| (None, Some(format!("{} is not used: {why}", path.display())));
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (None, None),
        Err(error) => return unusable(&error),
    };
    let newest: Value = match serde_json::from_slice(&bytes) {
        Ok(newest) => newest,
        Err(error) => return unusable(&format_args!("it is damaged ({error})")),
    };
    let earlier = newest.get("earlier_sessions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut sessions = [&newest].into_iter().chain(earlier.iter().rev());
    let number = |session: &Value, name| session.get(name).and_then(Value::as_u64);
    let found = sessions.find(|session| number(session, "log_start") == Some(log.place.start));
    match found {
        None => (None, Some(format!("{} says nothing of session {}", path.display(), log.place.session))),
        Some(session) if number(session, "format") != Some(FORMAT) => {
            unusable(&format_args!("its form is not number {FORMAT}"))
        }
        Some(session) => (Some(meta(session)), None),
    }
}

fn meta(session: &Value) -> Meta {
    let settings = session.get("settings");
    let setting = |name| settings.and_then(|settings| settings.get(name)).and_then(Value::as_u64);
    let number = |name| session.get(name).and_then(Value::as_u64);
    let text = |value: &Value, name| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let clock = |point: Point| {
        let clock = session.get("timestamps")?.get(point.as_str())?;
        Some(PointClock {
            source: text(clock, "source")?,
            place: text(clock, "where")?,
            clock: text(clock, "clock")?,
            device: text(clock, "device"),
            id: text(clock, "clock_id"),
        })
    };
    Meta {
        role: match session.get("role").and_then(Value::as_str) {
            Some("client") => Some(Role::Client),
            Some("server") => Some(Role::Server),
            _ => None,
        },
        direction: match session.get("direction").and_then(Value::as_str) {
            Some("forward") => Some(Direction::Forward),
            Some("reverse") => Some(Direction::Reverse),
            Some("duplex") => Some(Direction::Duplex),
            _ => None,
        },
        clocks: POINTS.map(clock),
        delay_us: setting("delay_us"),
        pong_every: setting("pong_every"),
        stamp_every: number("stamp_every").filter(|every| *every > 0),
        has_schedule: session.get("schedule").is_some_and(|schedule| !schedule.is_null()),
        started: number("started_unix_ns"),
        ended: number("ended_unix_ns"),
        stages_log: text(session, "stages_log"),
        counted: Counted::of(session),
        clock_offsets: clock_offsets(session),
    }
}

/// In the order of the file, oldest first: neither clock's own order is that, where it was set back.
fn clock_offsets(session: &Value) -> Offsets {
    let samples = session.get("clock_offsets").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let sample = |sample: &Value| {
        let number = |name| sample.get(name).and_then(Value::as_u64);
        let phc = number("phc_ns")?;
        let system = i128::from(phc) - i128::from(sample.get("offset_ns").and_then(Value::as_i64)?);
        Some(OffsetSample {
            system: Time::from_nanos(u64::try_from(system).ok()?),
            phc: Time::from_nanos(phc),
            uncertainty_ns: number("uncertainty_ns")?,
            // Nothing is reckoned with these two, and the first is in no file.
            taken: Time::from_nanos(0),
            method: OffsetMethod::Basic,
        })
    };
    let mut offsets = Offsets::default();
    for sample in samples.iter().filter_map(sample) {
        if offsets.latest() != Some(sample) {
            offsets.push(sample);
        }
    }
    offsets
}
