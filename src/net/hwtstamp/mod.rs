//! Stamping by a network card, switched on for as long as it is needed (Documentation/networking/timestamping.rst,
//! section 3, "Hardware Timestamping configuration: SIOCSHWTSTAMP and SIOCGHWTSTAMP").
//!
//! The configuration is one for the whole card, shared with ptp4l, chronyd and everybody else: it is only ever widened,
//! and given back as it was found, also where its interface got another name meanwhile. Taking stamps off sockets is the paths' business.

mod ioctl;
mod restored;
mod stamping;

pub use restored::Restored;
pub use stamping::{Found, Stamping};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a card does with what it sends: `enum hwtstamp_tx_types` of `linux/net_tstamp.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TxType {
    /// Stamps nothing.
    Off,
    /// Stamps what is asked to be stamped.
    On,
    /// The same, and writes the stamp into PTP Sync messages as they leave.
    OnestepSync,
    /// The same, and into Pdelay_Resp messages too.
    OnestepP2p,
    /// One that this program does not know.
    Other(i32),
}

/// Which received packets a card stamps: `enum hwtstamp_rx_filters` of `linux/net_tstamp.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the header's, which explains them")]
pub enum RxFilter {
    /// None.
    None,
    /// All packets.
    All,
    /// What was asked for, and some more: an answer, never a request.
    Some,
    PtpV1L4Event,
    PtpV1L4Sync,
    PtpV1L4DelayReq,
    PtpV2L4Event,
    PtpV2L4Sync,
    PtpV2L4DelayReq,
    PtpV2L2Event,
    PtpV2L2Sync,
    PtpV2L2DelayReq,
    /// PTP version 2 event messages, over UDP and over Ethernet.
    PtpV2Event,
    PtpV2Sync,
    PtpV2DelayReq,
    /// NTP in all its forms.
    NtpAll,
    /// One that this program does not know.
    Other(i32),
}

/// The header's number and ethtool's name of each type.
const TX_TYPES: [(TxType, libc::c_uint, &str); 4] = [
    (TxType::Off, libc::HWTSTAMP_TX_OFF, "off"),
    (TxType::On, libc::HWTSTAMP_TX_ON, "on"),
    (TxType::OnestepSync, libc::HWTSTAMP_TX_ONESTEP_SYNC, "onestep-sync"),
    (TxType::OnestepP2p, libc::HWTSTAMP_TX_ONESTEP_P2P, "onestep-p2p"),
];

/// The header's number and ethtool's name of each filter.
const RX_FILTERS: [(RxFilter, libc::c_uint, &str); 16] = [
    (RxFilter::None, libc::HWTSTAMP_FILTER_NONE, "none"),
    (RxFilter::All, libc::HWTSTAMP_FILTER_ALL, "all"),
    (RxFilter::Some, libc::HWTSTAMP_FILTER_SOME, "some"),
    (RxFilter::PtpV1L4Event, libc::HWTSTAMP_FILTER_PTP_V1_L4_EVENT, "ptpv1-l4-event"),
    (RxFilter::PtpV1L4Sync, libc::HWTSTAMP_FILTER_PTP_V1_L4_SYNC, "ptpv1-l4-sync"),
    (RxFilter::PtpV1L4DelayReq, libc::HWTSTAMP_FILTER_PTP_V1_L4_DELAY_REQ, "ptpv1-l4-delay-req"),
    (RxFilter::PtpV2L4Event, libc::HWTSTAMP_FILTER_PTP_V2_L4_EVENT, "ptpv2-l4-event"),
    (RxFilter::PtpV2L4Sync, libc::HWTSTAMP_FILTER_PTP_V2_L4_SYNC, "ptpv2-l4-sync"),
    (RxFilter::PtpV2L4DelayReq, libc::HWTSTAMP_FILTER_PTP_V2_L4_DELAY_REQ, "ptpv2-l4-delay-req"),
    (RxFilter::PtpV2L2Event, libc::HWTSTAMP_FILTER_PTP_V2_L2_EVENT, "ptpv2-l2-event"),
    (RxFilter::PtpV2L2Sync, libc::HWTSTAMP_FILTER_PTP_V2_L2_SYNC, "ptpv2-l2-sync"),
    (RxFilter::PtpV2L2DelayReq, libc::HWTSTAMP_FILTER_PTP_V2_L2_DELAY_REQ, "ptpv2-l2-delay-req"),
    (RxFilter::PtpV2Event, libc::HWTSTAMP_FILTER_PTP_V2_EVENT, "ptpv2-event"),
    (RxFilter::PtpV2Sync, libc::HWTSTAMP_FILTER_PTP_V2_SYNC, "ptpv2-sync"),
    (RxFilter::PtpV2DelayReq, libc::HWTSTAMP_FILTER_PTP_V2_DELAY_REQ, "ptpv2-delay-req"),
    (RxFilter::NtpAll, libc::HWTSTAMP_FILTER_NTP_ALL, "ntp-all"),
];

impl TxType {
    /// The type with this number.
    pub fn from_raw(raw: i32) -> Self {
        TX_TYPES.iter().find(|(_, number, _)| *number as i32 == raw).map_or(Self::Other(raw), |(kind, _, _)| *kind)
    }

    /// The number in the header.
    pub fn as_raw(self) -> i32 {
        match self {
            Self::Other(raw) => raw,
            known => TX_TYPES.iter().find(|(kind, _, _)| *kind == known).map_or(0, |(_, number, _)| *number as i32),
        }
    }

    /// What is stamped by `other` is stamped by this one too.
    pub fn covers(self, other: Self) -> bool {
        match (self, other) {
            (_, Self::Off) => true,
            (Self::OnestepSync | Self::OnestepP2p, Self::On) | (Self::OnestepP2p, Self::OnestepSync) => true,
            (one, other) => one == other,
        }
    }
}

impl RxFilter {
    /// The filter with this number.
    pub fn from_raw(raw: i32) -> Self {
        RX_FILTERS.iter().find(|(_, number, _)| *number as i32 == raw).map_or(Self::Other(raw), |(kind, _, _)| *kind)
    }

    /// The number in the header.
    pub fn as_raw(self) -> i32 {
        match self {
            Self::Other(raw) => raw,
            known => RX_FILTERS.iter().find(|(kind, _, _)| *kind == known).map_or(0, |(_, number, _)| *number as i32),
        }
    }

    /// What is stamped with `other` is stamped with this one too. What "some" stamps nobody knows but its driver.
    pub fn covers(self, other: Self) -> bool {
        use RxFilter as F;
        let wider: &[Self] = match other {
            F::None => return true,
            F::PtpV1L4Sync | F::PtpV1L4DelayReq => &[F::PtpV1L4Event],
            F::PtpV2L4Sync => &[F::PtpV2L4Event, F::PtpV2Sync, F::PtpV2Event],
            F::PtpV2L4DelayReq => &[F::PtpV2L4Event, F::PtpV2DelayReq, F::PtpV2Event],
            F::PtpV2L2Sync => &[F::PtpV2L2Event, F::PtpV2Sync, F::PtpV2Event],
            F::PtpV2L2DelayReq => &[F::PtpV2L2Event, F::PtpV2DelayReq, F::PtpV2Event],
            F::PtpV2L4Event | F::PtpV2L2Event | F::PtpV2Sync | F::PtpV2DelayReq => &[F::PtpV2Event],
            _ => &[],
        };
        self == F::All || self == other || wider.contains(&self)
    }
}

/// ethtool's name.
impl fmt::Display for TxType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match TX_TYPES.iter().find(|(kind, _, _)| kind == self) {
            Some((_, _, name)) => f.write_str(name),
            None => write!(f, "type {}", self.as_raw()),
        }
    }
}

/// ethtool's name.
impl fmt::Display for RxFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match RX_FILTERS.iter().find(|(kind, _, _)| kind == self) {
            Some((_, _, name)) => f.write_str(name),
            None => write!(f, "filter {}", self.as_raw()),
        }
    }
}

/// What a card stamps: `struct hwtstamp_config` of `linux/net_tstamp.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "RawConfig", into = "RawConfig")]
pub struct Config {
    /// `HWTSTAMP_FLAG_...` bits.
    pub flags: i32,
    /// Of what it sends.
    pub tx: TxType,
    /// Of what it receives.
    pub rx: RxFilter,
}

impl Config {
    /// What is stamped with `other` is stamped with this one too.
    pub fn covers(self, other: Self) -> bool {
        self.tx.covers(other.tx) && self.rx.covers(other.rx)
    }
}

/// As in `ethtool --get-hwtimestamp-cfg`: `TX on, RX all`.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TX {}, RX {}", self.tx, self.rx)
    }
}

/// The same in the header's numbers.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct RawConfig {
    flags: i32,
    tx_type: i32,
    rx_filter: i32,
}

impl From<Config> for RawConfig {
    fn from(config: Config) -> Self {
        Self { flags: config.flags, tx_type: config.tx.as_raw(), rx_filter: config.rx.as_raw() }
    }
}

impl From<RawConfig> for Config {
    fn from(raw: RawConfig) -> Self {
        Self { flags: raw.flags, tx: TxType::from_raw(raw.tx_type), rx: RxFilter::from_raw(raw.rx_filter) }
    }
}

/// What an interface's card stamps now. Takes no privilege.
///
/// # Errors
/// [`StampingError::NoHardware`] where the driver has nothing to configure, else [`StampingError::Refused`].
pub fn read(interface: &str, if_index: u32) -> Result<Config, StampingError> {
    let present = ioctl::Device::open(if_index).and_then(|device| device.get(&device.name()?));
    present.map_err(|answer| StampingError::of_reading(interface, answer))
}

/// Why a card does not stamp what is wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StampingError {
    /// The driver has no such configuration: it cannot stamp, or nobody can see how it is set.
    #[error(
        "{interface} takes no hardware stamps: its driver cannot {what} ({answer}): use --timestamps software or \
         application"
    )]
    NoHardware {
        /// The interface.
        interface: String,
        /// Which call it does not have.
        what: &'static str,
        /// What the kernel answered.
        answer: Errno,
    },
    /// The card has none of the wanted filters (ERANGE).
    #[error(
        "{interface} cannot stamp what it receives with the filter {}: SIOCSHWTSTAMP: {answer}; {}: use {}--timestamps \
         software or application",
        or(wanted),
        offers(offered),
        ptp_hint(offered, wanted)
    )]
    NoSuchFilter {
        /// The interface.
        interface: String,
        /// The filters that were tried.
        wanted: Vec<RxFilter>,
        /// Those that the driver says that it has; `None` where it does not say.
        offered: Option<Vec<RxFilter>>,
        /// What the kernel answered.
        answer: Errno,
    },
    /// The process lacks CAP_NET_ADMIN.
    #[error(
        "cannot switch on the hardware stamps of {interface}: {answer}: run as root or with CAP_NET_ADMIN, or use \
         --timestamps software or application"
    )]
    Privilege {
        /// The interface.
        interface: String,
        /// What the kernel answered.
        answer: Errno,
    },
    /// The driver is busy with another configuration.
    #[error(
        "cannot switch on the hardware stamps of {interface}: {answer}: another program uses them; end it (ptp4l and \
         chronyd are the usual ones), or use --timestamps software or application"
    )]
    Busy {
        /// The interface.
        interface: String,
        /// What the kernel answered.
        answer: Errno,
    },
    /// Another xdprobe has switched stamping on, and not to what is wanted here.
    #[error(
        "xdprobe with process id {pid} holds the hardware stamps of {interface} at {present}, and the filter {} is \
         wanted: wait for its end, or use --timestamps software or application",
        or(wanted)
    )]
    Held {
        /// The interface.
        interface: String,
        /// The process.
        pid: u32,
        /// What it holds.
        present: Config,
        /// What is wanted here.
        wanted: Vec<RxFilter>,
    },
    /// Somebody else's configuration would lose something.
    #[error(
        "the hardware stamps of {interface} are set to {present}, and TX on with the filter {} would take that away from \
         the program that set it: end it (or have ptp4l use hwts_filter full, which sets all), or use --timestamps \
         software or application",
        or(wanted)
    )]
    InUse {
        /// The interface.
        interface: String,
        /// What is set.
        present: Config,
        /// What is wanted here.
        wanted: Vec<RxFilter>,
    },
    /// The driver took the request, and did something else.
    #[error(
        "the driver of {interface} was asked for {asked}, said that it set {answered}, and has {found}: it does not stamp \
         what is wanted: use {}--timestamps software or application",
        ptp_hint(offered, &[asked.rx])
    )]
    NotHonoured {
        /// The interface.
        interface: String,
        /// What was asked for.
        asked: Config,
        /// What the driver wrote back.
        answered: Config,
        /// What it had when asked again.
        found: Config,
        /// The filters that the driver says that it has; `None` where it does not say.
        offered: Option<Vec<RxFilter>>,
    },
    /// The former configuration could not be restored.
    #[error(
        "cannot set the hardware stamps of {interface} back to {original} ({}): they are {found} now: set them \
         yourself (hwstamp_ctl -i {interface} -t {} -r {}); the next run tries again", answered(answer), original.tx.as_raw(), original.rx.as_raw()
    )]
    NotRestored {
        /// The interface.
        interface: String,
        /// What was to be restored.
        original: Config,
        /// What is there.
        found: Config,
        /// What the kernel answered; `None` where it agreed and did something else.
        answer: Option<Errno>,
    },
    /// Any other answer.
    #[error("cannot {what} of {interface}: {answer}: use --timestamps software or application")]
    Refused {
        /// The interface.
        interface: String,
        /// What was attempted.
        what: &'static str,
        /// What the kernel answered.
        answer: Errno,
    },
}

impl StampingError {
    fn of_reading(interface: &str, answer: Errno) -> Self {
        let interface = interface.to_owned();
        match answer {
            Errno::EOPNOTSUPP | Errno::ENOTTY => {
                Self::NoHardware { interface, what: "tell how stamping is set, SIOCGHWTSTAMP", answer }
            }
            _ => Self::Refused { interface, what: "read the hardware stamping configuration (SIOCGHWTSTAMP)", answer },
        }
    }

    fn of_setting(interface: &str, rx: RxFilter, answer: Errno) -> Self {
        let interface = interface.to_owned();
        match answer {
            Errno::ERANGE => Self::NoSuchFilter { interface, wanted: vec![rx], offered: None, answer },
            Errno::EPERM | Errno::EACCES => Self::Privilege { interface, answer },
            Errno::EBUSY => Self::Busy { interface, answer },
            Errno::EOPNOTSUPP | Errno::ENOTTY => {
                Self::NoHardware { interface, what: "switch stamping on, SIOCSHWTSTAMP", answer }
            }
            _ => Self::Refused { interface, what: "switch on the hardware stamps (SIOCSHWTSTAMP)", answer },
        }
    }
}

/// "a or b"
fn or(filters: &[RxFilter]) -> String {
    let names: Vec<String> = filters.iter().map(RxFilter::to_string).collect();
    names.join(" or ")
}

fn answered(answer: &Option<Errno>) -> String {
    answer.map_or_else(|| "the driver agreed, and did something else".to_owned(), |errno| errno.to_string())
}

fn offers(offered: &Option<Vec<RxFilter>>) -> String {
    match offered.as_deref() {
        None => "its driver does not say which filters it has".to_owned(),
        Some([]) => "its driver has no filter at all".to_owned(),
        Some(filters) => {
            let names: Vec<String> = filters.iter().map(RxFilter::to_string).collect();
            format!("it offers {}", names.join(", "))
        }
    }
}

/// The way out for a card that stamps PTP event messages, where they were not what was asked for.
fn ptp_hint(offered: &Option<Vec<RxFilter>>, wanted: &[RxFilter]) -> &'static str {
    let has_ptp = offered.iter().flatten().any(|filter| *filter == RxFilter::PtpV2Event);
    if has_ptp && !wanted.contains(&RxFilter::PtpV2Event) { "--ptp udp, or " } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_the_headers_and_ethtools() {
        for raw in 0..16 {
            assert_eq!(RxFilter::from_raw(raw).as_raw(), raw);
        }
        for raw in 0..4 {
            assert_eq!(TxType::from_raw(raw).as_raw(), raw);
        }
        assert_eq!((RxFilter::from_raw(1), RxFilter::from_raw(12)), (RxFilter::All, RxFilter::PtpV2Event));
        assert_eq!((RxFilter::from_raw(40), RxFilter::Other(40).as_raw()), (RxFilter::Other(40), 40));
        assert_eq!((TxType::from_raw(-1), TxType::Other(-1).as_raw()), (TxType::Other(-1), -1));
        let config = Config { flags: 0, tx: TxType::On, rx: RxFilter::PtpV2Event };
        assert_eq!(config.to_string(), "TX on, RX ptpv2-event");
        assert_eq!(RxFilter::Other(40).to_string(), "filter 40");
        assert_eq!(TxType::OnestepP2p.to_string(), "onestep-p2p");
    }

    #[test]
    fn a_filter_covers_what_it_stamps_and_no_more() {
        use RxFilter as F;
        let every = (0..17).map(RxFilter::from_raw);
        for filter in every {
            assert!(F::All.covers(filter) && filter.covers(filter) && filter.covers(F::None), "{filter}");
            assert_eq!(filter.covers(F::All), filter == F::All, "{filter}");
            assert_eq!(F::None.covers(filter), filter == F::None, "{filter}");
        }
        assert!(F::PtpV2Event.covers(F::PtpV2L4Sync) && F::PtpV2Sync.covers(F::PtpV2L2Sync));
        assert!(!F::PtpV2Event.covers(F::PtpV1L4Sync) && !F::PtpV2Event.covers(F::NtpAll));
        assert!(!F::PtpV2L4Event.covers(F::PtpV2Sync) && !F::Some.covers(F::PtpV2Event));
        assert!(TxType::OnestepSync.covers(TxType::On) && !TxType::On.covers(TxType::OnestepSync));
        assert!(TxType::On.covers(TxType::Off) && !TxType::Off.covers(TxType::On));
    }

    #[test]
    fn a_configuration_is_kept_in_the_headers_numbers() {
        let config = Config { flags: 1, tx: TxType::OnestepSync, rx: RxFilter::Other(99) };
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(text, r#"{"flags":1,"tx_type":2,"rx_filter":99}"#);
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
    }

    #[test]
    fn a_refused_filter_is_answered_with_what_the_card_has_and_the_ways_out() {
        let refused = |wanted: &[RxFilter], offered| {
            let error = StampingError::NoSuchFilter {
                interface: "eth0".into(),
                wanted: wanted.into(),
                offered,
                answer: Errno::ERANGE,
            };
            error.to_string()
        };
        assert_eq!(
            refused(&[RxFilter::All], Some(vec![RxFilter::None, RxFilter::PtpV2Event])),
            "eth0 cannot stamp what it receives with the filter all: SIOCSHWTSTAMP: ERANGE: Math result not \
             representable; it offers none, ptpv2-event: use --ptp udp, or --timestamps software or application"
        );
        let said = refused(&[RxFilter::All, RxFilter::PtpV2Event], None);
        assert!(said.contains("the filter all or ptpv2-event: ") && !said.contains("--ptp"), "{said}");
    }
}
