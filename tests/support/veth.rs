//! Both ends of a veth pair, and what a sender of raw frames must know of them.

use std::net::Ipv4Addr;
use std::ops::Deref;

#[path = "namespace.rs"]
mod namespace;
#[allow(unused_imports, reason = "each user takes its part")]
pub use namespace::settle;
use namespace::{Namespace, join};

/// Two namespaces and the pair between them.
pub struct Veth {
    /// `veth-l`, 10.77.0.1
    pub left: End,
    /// `veth-r`, 10.77.0.2
    pub right: End,
}

/// One end, in a namespace of its own.
pub struct End {
    namespace: Namespace,
    /// The interface's name.
    pub interface: &'static str,
    /// Its address.
    pub address: Ipv4Addr,
}

impl Veth {
    /// A pair with one queue.
    pub fn new() -> Self {
        Self::with_queues(1)
    }

    /// A pair with so many receive and send queues at both ends.
    pub fn with_queues(queues: u32) -> Self {
        let end = |role, interface, last| {
            let address = Ipv4Addr::new(10, 77, 0, last);
            End { namespace: Namespace::new(role), interface, address }
        };
        let veth = Self { left: end("left", "veth-l", 1), right: end("right", "veth-r", 2) };
        let of = |end: &End| namespace::End { queues, ..namespace::End::new(end.interface, end.address) };
        join((&veth.left, of(&veth.left)), (&veth.right, of(&veth.right)));
        veth
    }
}

impl Deref for End {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}

impl End {
    /// The interface's index.
    pub fn if_index(&self) -> u32 {
        self.run(|| nix::net::if_::if_nametoindex(self.interface).expect("the interface exists"))
    }

    /// The interface's Ethernet address.
    pub fn mac(&self) -> [u8; 6] {
        let text = self.ip(&["link", "show", self.interface]);
        let mac = text.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).expect("an Ethernet device");
        let bytes: Vec<u8> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal")).collect();
        bytes.try_into().expect("six bytes")
    }
}
