//! Two hosts on a wire.

use std::net::Ipv4Addr;

#[path = "namespace.rs"]
mod namespace;
pub use namespace::Namespace;
use namespace::{End, join};

/// The interface's name, on both hosts.
pub const ETH: &str = "eth0";
/// The address of the host `a`.
pub const A: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The address of the host `b`.
pub const B: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// Two hosts in one /24 network.
pub struct Lan {
    pub a: Namespace,
    pub b: Namespace,
}

impl Lan {
    pub fn new() -> Self {
        Self::with(1, 1500)
    }

    /// The interface of `a` has so many queues in each direction, and this MTU in bytes.
    pub fn with(queues: u32, mtu: u32) -> Self {
        let lan = Self { a: Namespace::new("a"), b: Namespace::new("b") };
        join((&lan.a, End { queues, mtu, ..End::new(ETH, A) }), (&lan.b, End::new(ETH, B)));
        lan
    }
}
