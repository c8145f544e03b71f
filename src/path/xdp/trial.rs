//! Trying whether the kernel takes the XDP program, without attaching it anywhere.
#![forbid(unsafe_code)]

use super::program::Program;
use crate::wire::frame::MacAddr;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Loads the program and unloads it again; with `device`, an interface's index, the one that is bound to it. Nothing runs
/// it in between, and the interface does not notice.
///
/// # Errors
/// What the kernel answered, with the end of the verifier's log.
pub fn trial_load(device: Option<u32>) -> anyhow::Result<()> {
    Program::load(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9), MacAddr([0; 6]), 1, device).map(drop)
}
