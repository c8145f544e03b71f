//! Two network namespaces that a veth pair joins: the clients' and the server's.

use crate::generator::Generator;
use crate::namespace::{End, Namespace, join};
use anyhow::{Result, ensure};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The two ends of the pair.
pub const CLIENTS: End = End::new("xc", Ipv4Addr::new(10, 99, 0, 1));
pub const SERVER: End = End::new("xs", Ipv4Addr::new(10, 99, 0, 2));

/// Where everybody is, and for how long it is measured.
pub struct Bench {
    pub clients: Namespace,
    pub server: Namespace,
    /// The CPUs of the generator and of the server's busy thread.
    pub cpus: [usize; 2],
    pub time: Duration,
    /// How long a rate is tried.
    pub a_try: Duration,
    interrupted: Arc<AtomicBool>,
}

impl Bench {
    /// Makes the namespaces; they go with the value.
    pub fn new(cpus: [usize; 2], time: Duration, a_try: Duration, interrupted: Arc<AtomicBool>) -> Self {
        let (clients, server) = (Namespace::new("clients"), Namespace::new("server"));
        join((&clients, CLIENTS), (&server, SERVER));
        Self { clients, server, cpus, time, a_try, interrupted }
    }

    pub fn generator(&self) -> Result<Generator<'_>> {
        Generator::open(&self.clients, CLIENTS, self.cpus[0], (&self.server, SERVER))
    }

    /// # Errors
    /// The user wants an end.
    pub fn check(&self) -> Result<()> {
        ensure!(!self.interrupted.load(Ordering::Relaxed), "interrupted");
        Ok(())
    }
}
