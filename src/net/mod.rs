//! What the kernel knows about the machine: interface, route, neighbour, capabilities, its own version.
//!
//! Everything is asked for, nothing is changed, save that a neighbour is resolved, a card's stamping switched on, and interrupts deferred. What is learnt belongs to the network
//! namespace of the calling thread and to the moment of asking. No raw packets and no sessions here.

mod error;
mod ethtool;
mod genl;
mod host;
pub mod hwtstamp;
mod interface;
pub mod kernel_version;
mod marker;
pub mod napi;
pub mod netdev;
mod netlink;
pub mod privilege;
mod route;
mod speed;
pub mod tsinfo;
pub mod tuning;

pub use error::NetError;
pub use ethtool::{DriverFacts, driver_facts};
pub use host::{local_address, reserve_port, resolve_host};
pub use interface::{Interface, interface, martian_sources, wait_for_carrier};
pub use route::{Route, resolve_neighbour, route};
pub use speed::link_speed;
