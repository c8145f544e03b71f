//! Trying whether the kernel takes the XDP program, without attaching it anywhere.
#![forbid(unsafe_code)]

use super::program::Program;
use crate::wire::frame::MacAddr;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Loads the program and unloads it again. Nothing runs it in between, and no interface hears of it.
///
/// # Errors
/// What the kernel answered, with the end of the verifier's log.
pub fn trial_load() -> anyhow::Result<()> {
    Program::load(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9), MacAddr([0; 6]), 1).map(drop)
}
