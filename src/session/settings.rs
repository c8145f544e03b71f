//! What a session does, with every value in its range.

use crate::wire::in_band;
use crate::wire::ptp::Transport;
use crate::wire::{Extension, Load, MAX_PADDING, RawSettings, ServePath};

/// The most seconds a server pings for: an hour.
pub const MAX_COUNT_S: u32 = 3600;
/// The most microseconds between two pings of a server: 100 s.
pub const MAX_DELAY_US: u32 = 100_000_000;
/// The largest `--pong-every`.
pub const MAX_PONG_EVERY: u32 = 1_000_000;
/// Delays up to this many microseconds are waited for busily unless `--timer` says otherwise.
const BUSY_UP_TO_US: u32 = 1000;

/// Who pings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The client pings, the server pongs.
    Forward,
    /// The server pings, the client pongs.
    Reverse,
    /// Both ping, nobody pongs.
    Duplex,
}

impl Direction {
    /// nanoprobe's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Reverse => "reverse",
            Self::Duplex => "duplex",
        }
    }

    /// The number in a SYN.
    pub const fn to_raw(self) -> u32 {
        match self {
            Self::Forward => 0,
            Self::Reverse => 1,
            Self::Duplex => 2,
        }
    }
}

/// How to wait for the next ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerKind {
    /// Sleep in the kernel.
    Sleep,
    /// Look at the clock and the rings without pause.
    Busy,
}

impl TimerKind {
    /// nanoprobe's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sleep => "sleep",
            Self::Busy => "busy",
        }
    }
}

/// nanoprobe's rule where `--timer` is not given: busy up to a millisecond, sleep above.
pub const fn default_timer(delay_us: u32) -> TimerKind {
    if delay_us <= BUSY_UP_TO_US { TimerKind::Busy } else { TimerKind::Sleep }
}

/// One line of a probe schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Microseconds from this ping to the next.
    pub delay_us: u32,
    /// Bytes of padding in this ping.
    pub padding: u16,
}

/// What a session does. In a SYN these are [`RawSettings`], and an [`Extension`] where they do not say all.
///
/// In this order: what a server looks at for each ping stands in front, together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// Every n-th ping is answered; 0 is none.
    pub pong_every: u32,
    /// Bytes of padding in a pong.
    pub pong_padding: u16,
    /// Pings and pongs travel behind a PTP header, carried by this. Their padding is [`Transport::min_padding`] at least.
    pub ptp: Option<Transport>,
    /// Pongs carry the stamps of the side that sends them. Their padding is [`Settings::min_pong_padding`] at least. Nobody pongs in
    /// duplex: there is no such thing.
    pub in_band: bool,
    /// Who pings.
    pub direction: Direction,
    /// How the pinging side waits.
    pub timer: TimerKind,
    /// Seconds to ping for; 0 is until the user ends it.
    pub count_s: u32,
    /// Microseconds between two pings; 0 is as fast as it goes.
    pub delay_us: u32,
    /// Bytes of padding in a ping.
    pub ping_padding: u16,
    /// The path on which the server serves; `None` where it is the server's choice.
    pub serve_on: Option<ServePath>,
    /// The server says in its FIN-ACK what it has counted.
    pub account: bool,
    /// The flood of dummies that the client sends, and the server has agreed to.
    pub load: Option<Load>,
}

impl Default for Settings {
    /// nanoprobe's defaults.
    fn default() -> Self {
        Self {
            count_s: 0,
            delay_us: 100,
            ping_padding: 0,
            pong_padding: 0,
            pong_every: 1,
            timer: TimerKind::Busy,
            direction: Direction::Forward,
            ptp: None,
            in_band: false,
            serve_on: None,
            account: false,
            load: None,
        }
    }
}

/// A value of a client's that a server replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Correction {
    /// nanoprobe's name of the setting.
    pub setting: &'static str,
    /// What the client asked for.
    pub asked: u32,
    /// The smallest value allowed.
    pub min: u32,
    /// The largest value allowed.
    pub max: u32,
    /// What is used instead.
    pub used: u32,
    /// The name of what is used, where the values have names.
    pub used_name: Option<&'static str>,
}

impl Settings {
    /// The settings as a SYN carries them.
    pub const fn to_raw(self) -> RawSettings {
        RawSettings {
            count_s: self.count_s,
            delay_us: self.delay_us,
            ping_padding: self.ping_padding,
            pong_padding: self.pong_padding,
            pong_every: self.pong_every,
            timer: match self.timer {
                TimerKind::Sleep => 0,
                TimerKind::Busy => 1,
            },
            direction: self.direction.to_raw(),
        }
    }

    /// What a SYN asks for besides; `None` where [`RawSettings`] say all.
    pub fn extension(&self) -> Option<Extension> {
        let &Self { ptp, in_band, serve_on, account, load, .. } = self;
        let extension = Extension { ptp, in_band, serve_on, account, load };
        (extension != Extension::default()).then_some(extension)
    }

    /// Of that what the server's path has to get ready.
    pub fn path_extension(&self) -> Option<Extension> {
        let &Self { ptp, serve_on, .. } = self;
        let extension = Extension { ptp, serve_on, ..Extension::default() };
        (extension != Extension::default()).then_some(extension)
    }

    /// These with what the server has granted of them; `None` where something is missing that the session is not to be
    /// had without, which is all but the rate of a load: that may be lower.
    pub fn granted(self, granted: Option<Extension>) -> Option<Self> {
        let Some(asked) = self.extension() else { return Some(self) };
        let granted = granted?;
        let load = match (asked.load, granted.load) {
            (None, None) => None,
            (Some(asked), Some(granted)) if granted.ip_len == asked.ip_len => {
                Some(Load { packets_per_second: granted.packets_per_second.min(asked.packets_per_second), ..asked })
            }
            _ => return None,
        };
        (Extension { load: None, ..asked } == Extension { load: None, ..granted }).then_some(Self { load, ..self })
    }

    /// What was asked for and not granted, where [`Settings::granted`] says so.
    pub fn missing(&self, granted: Option<Extension>) -> Extension {
        let asked = self.extension().unwrap_or_default();
        let granted = granted.unwrap_or_default();
        Extension {
            ptp: asked.ptp.filter(|_| granted.ptp != asked.ptp),
            in_band: asked.in_band && !granted.in_band,
            serve_on: asked.serve_on.filter(|_| granted.serve_on != asked.serve_on),
            account: asked.account && !granted.account,
            load: asked.load.filter(|load| granted.load.map(|granted| granted.ip_len) != Some(load.ip_len)),
        }
    }

    /// The least padding of a ping, in bytes: what makes room for a PTP header.
    pub fn min_padding(&self) -> u16 {
        self.ptp.map_or(0, Transport::min_padding)
    }

    /// The least padding of a pong, in bytes: that of a ping, and room for stamps.
    pub fn min_pong_padding(&self) -> u16 {
        self.min_padding() + if self.in_band { in_band::MIN_PADDING } else { 0 }
    }

    /// What a server makes of a client's wishes: values out of range are replaced, each replacement told. `extension` is
    /// what both agree to.
    ///
    /// As in nanoprobe only the fields that matter to the server in that direction are checked: in forward what it
    /// pongs, otherwise what it pings, unless it has a schedule of its own. So what this side sends behind a PTP header
    /// holds that header, and its pongs hold their stamps; that the client's pings and pongs do is the client's care.
    pub fn from_client(
        raw: RawSettings,
        extension: Extension,
        has_schedule: bool,
        mut tell: impl FnMut(Correction),
    ) -> Self {
        let mut limit = |setting, asked: u32, min, max| {
            let used = asked.clamp(min, max);
            if used != asked {
                tell(Correction { setting, asked, min, max, used, used_name: None });
            }
            used
        };
        let direction = match raw.direction {
            0 => Direction::Forward,
            1 => Direction::Reverse,
            2 => Direction::Duplex,
            _ => Direction::Forward,
        };
        let pings = direction != Direction::Forward && !has_schedule;
        let pongs = direction == Direction::Forward;
        let Extension { ptp, in_band, serve_on, account, load } = extension;
        let in_band = in_band && direction != Direction::Duplex;
        let least = Self { ptp, in_band, ..Self::default() };
        let (min_padding, min_pong_padding) = (least.min_padding().into(), least.min_pong_padding().into());
        let max_padding = u32::from(MAX_PADDING);
        let count_s = if pings { limit("count", raw.count_s, 1, MAX_COUNT_S) } else { raw.count_s };
        let delay_us = if pings { limit("delay", raw.delay_us, 0, MAX_DELAY_US) } else { raw.delay_us };
        let ping_padding = match pings {
            true => limit("ping padding", raw.ping_padding.into(), min_padding, max_padding) as u16,
            false => raw.ping_padding,
        };
        let pong_padding = match pongs {
            true => limit("pong padding", raw.pong_padding.into(), min_pong_padding, max_padding) as u16,
            false => raw.pong_padding,
        };
        let pong_every = if pongs { limit("pong every", raw.pong_every, 0, MAX_PONG_EVERY) } else { raw.pong_every };
        let timer = match raw.timer {
            0 => TimerKind::Sleep,
            1 => TimerKind::Busy,
            _ => default_timer(delay_us),
        };
        if raw.direction > 2 {
            let used_name = Some(direction.as_str());
            tell(Correction { setting: "test direction", asked: raw.direction, min: 0, max: 2, used: 0, used_name });
        }
        if raw.timer > 1 && !pongs {
            let (used, used_name) = (timer as u32, Some(timer.as_str()));
            tell(Correction { setting: "timer type", asked: raw.timer, min: 0, max: 1, used, used_name });
        }
        Self {
            count_s,
            delay_us,
            ping_padding,
            pong_padding,
            pong_every,
            timer,
            direction,
            ptp,
            in_band,
            serve_on,
            account,
            load,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corrected(raw: RawSettings, has_schedule: bool) -> (Settings, Vec<Correction>) {
        let mut told = Vec::new();
        let settings =
            Settings::from_client(raw, Extension::default(), has_schedule, |correction| told.push(correction));
        (settings, told)
    }

    #[test]
    fn settings_in_range_pass_unchanged() {
        let settings = Settings { count_s: 7, direction: Direction::Reverse, ..Settings::default() };
        assert_eq!(corrected(settings.to_raw(), false), (settings, vec![]));
    }

    #[test]
    fn a_forward_server_checks_only_what_it_pongs() {
        let raw = RawSettings { ping_padding: 3000, pong_padding: 3000, pong_every: 1_000_001, ..Default::default() };
        let (settings, told) = corrected(raw, false);
        assert_eq!((settings.ping_padding, settings.pong_padding, settings.pong_every), (3000, 2048, 1_000_000));
        assert_eq!(told.iter().map(|c| c.setting).collect::<Vec<_>>(), ["pong padding", "pong every"]);
    }

    #[test]
    fn a_pinging_server_checks_what_it_pings_unless_it_has_a_schedule() {
        let raw =
            RawSettings { delay_us: 100_000_001, ping_padding: 2049, timer: 9, direction: 1, ..Default::default() };
        let (settings, told) = corrected(raw, false);
        assert_eq!((settings.count_s, settings.delay_us, settings.ping_padding), (1, 100_000_000, 2048));
        assert_eq!(settings.timer, TimerKind::Sleep);
        assert_eq!(
            told.iter().map(|c| c.setting).collect::<Vec<_>>(),
            ["count", "delay", "ping padding", "timer type"]
        );
        let (_, told) = corrected(raw, true);
        assert_eq!(told.iter().map(|c| c.setting).collect::<Vec<_>>(), ["timer type"]);
    }

    #[test]
    fn what_a_server_sends_behind_a_ptp_header_has_room_for_it() {
        for (transport, least) in [(Transport::Udp, 44), (Transport::L2, 40)] {
            for (direction, setting) in [(0, "pong padding"), (1, "ping padding"), (2, "ping padding")] {
                let asked = least - 1;
                let raw = RawSettings {
                    count_s: 1,
                    ping_padding: asked,
                    pong_padding: asked,
                    direction,
                    ..Settings::default().to_raw()
                };
                let mut told = Vec::new();
                let behind = Extension { ptp: Some(transport), ..Extension::default() };
                let settings = Settings::from_client(raw, behind, false, |correction| told.push(correction));
                let sent = if direction == 0 { settings.pong_padding } else { settings.ping_padding };
                assert_eq!((sent, settings.ptp, settings.min_padding()), (least, Some(transport), least));
                let [Correction { setting: name, min, used, .. }] = told[..] else { panic!("{told:?}") };
                assert_eq!((name, min, used), (setting, least.into(), least.into()));
            }
        }
    }

    #[test]
    fn a_pong_with_stamps_has_room_for_them_and_for_what_is_in_front_of_them() {
        for (ptp, least) in [(None, 56), (Some(Transport::Udp), 100), (Some(Transport::L2), 96)] {
            for (padding, used) in [(0, least), (least - 1, least), (least, least), (2048, 2048)] {
                let raw = RawSettings { pong_padding: padding, ..Settings::default().to_raw() };
                let asked = Extension { ptp, in_band: true, ..Extension::default() };
                let mut told = Vec::new();
                let settings = Settings::from_client(raw, asked, false, |correction| told.push(correction));
                assert_eq!((settings.pong_padding, settings.in_band), (used, true));
                assert_eq!(settings.min_pong_padding(), least);
                assert_eq!(settings.min_padding(), ptp.map_or(0, Transport::min_padding), "pings carry no stamps");
                assert_eq!(told.len(), usize::from(used != padding), "{told:?}");
                assert!(told.iter().all(|told| told.setting == "pong padding" && told.min == u32::from(least)));
            }
        }
    }

    #[test]
    fn where_nobody_pongs_no_pong_carries_stamps() {
        let asked = Settings { in_band: true, count_s: 1, direction: Direction::Duplex, ..Settings::default() };
        let extension = asked.extension().unwrap();
        let settings = Settings::from_client(asked.to_raw(), extension, false, |told| panic!("{told:?}"));
        assert_eq!(settings, Settings { in_band: false, ..asked });
        // So the client is told, and there is no session.
        assert_eq!(asked.granted(Some(settings.extension().unwrap_or_default())), None);
    }

    #[test]
    fn only_what_needs_an_extension_asks_for_one() {
        assert_eq!(Settings::default().extension(), None);
        let ptp = Some(Transport::L2);
        assert_eq!(
            Settings { ptp, ..Settings::default() }.extension(),
            Some(Extension { ptp, ..Extension::default() })
        );
        let account = Settings { account: true, ..Settings::default() };
        assert_eq!(account.extension(), Some(Extension { account: true, ..Extension::default() }));
        assert_eq!(account.path_extension(), None, "the path has nothing to do with it");
    }

    #[test]
    fn all_that_is_asked_for_is_granted_or_there_is_no_session() {
        let plain = Settings::default();
        assert_eq!(plain.granted(None), Some(plain));
        assert_eq!(plain.granted(Some(Extension::default())), Some(plain));
        let load = Load { packets_per_second: 1000, ip_len: 1500 };
        let asked = Settings {
            ptp: Some(Transport::Udp),
            in_band: true,
            serve_on: Some(ServePath::Kernel),
            account: true,
            load: Some(load),
            ..plain
        };
        let all = asked.extension().unwrap();
        assert_eq!(asked.granted(Some(all)), Some(asked));
        for less in [
            Extension { ptp: None, ..all },
            Extension { ptp: Some(Transport::L2), ..all },
            Extension { in_band: false, ..all },
            Extension { serve_on: None, ..all },
            Extension { serve_on: Some(ServePath::Xdp), ..all },
            Extension { account: false, ..all },
            Extension { load: None, ..all },
            Extension { load: Some(Load { ip_len: 1400, ..load }), ..all },
        ] {
            assert_eq!(asked.granted(Some(less)), None, "{less:?}");
            let missing = asked.missing(Some(less));
            let fields = [missing.ptp.is_some(), missing.in_band, missing.serve_on.is_some(), missing.account];
            let count = fields.into_iter().chain([missing.load.is_some()]).filter(|is_missing| *is_missing).count();
            assert_eq!(count, 1, "{less:?}: {missing:?}");
        }
        assert_eq!(asked.granted(None), None);
        assert_eq!((asked.missing(None), asked.missing(Some(all))), (all, Extension::default()));
        // A server may lower the rate, and cannot raise it.
        let at = |packets_per_second| Some(Load { packets_per_second, ..load });
        assert_eq!(asked.granted(Some(Extension { load: at(10), ..all })).unwrap().load, at(10));
        assert_eq!(asked.granted(Some(Extension { load: at(2000), ..all })).unwrap().load, at(1000));
    }

    #[test]
    fn an_unknown_direction_becomes_forward() {
        let (settings, told) = corrected(RawSettings { direction: 3, ..Default::default() }, false);
        assert_eq!(settings.direction, Direction::Forward);
        assert_eq!(told[0].used_name, Some("forward"));
    }
}
