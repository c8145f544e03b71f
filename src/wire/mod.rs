//! Bytes and types: nanoprobe's datagram, the settings in its SYN and what we say behind them, the stamps in its pongs, the PTP
//! header in front of it, and the Ethernet/IPv4/UDP frame around it.
//!
//! Nothing here does I/O or knows a clock. Parsers take any bytes and never panic.
#![forbid(unsafe_code)]

pub mod account;
pub mod extension;
pub mod frame;
pub mod in_band;
pub mod message;
mod point;
pub mod ptp;

pub use account::Account;
pub use extension::{Extension, Load, ServePath};
pub use in_band::InBand;
pub use message::{
    DUMMY_SEQUENCE, HEADER_LEN, Kind, MAX_IP_LEN, MAX_PADDING, MIN_IP_LEN, Message, ParseError, Parsed, RawSettings,
    SETTINGS_LEN, Said, UDP_IP_HEADERS,
};
pub use point::Point;
