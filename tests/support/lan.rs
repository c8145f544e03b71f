//! Two hosts on a wire: network namespaces joined by a veth pair, removed when the fixture is dropped.
//!
//! Needs root and iproute2; fails without them.
#![allow(dead_code, reason = "each test file uses a part of it")]

use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The interface's name, on both hosts.
pub const ETH: &str = "eth0";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Two hosts, `a` with 10.77.0.1/24 and `b` with 10.77.0.2/24, both up.
pub struct Lan {
    pub a: Host,
    pub b: Host,
}

/// A network namespace.
pub struct Host {
    name: String,
}

impl Lan {
    pub fn new() -> Self {
        Self::with("numrxqueues 1 numtxqueues 1")
    }

    /// As [`Lan::new`]; `options` are those of `ip link` for the interface of `a`, such as `numrxqueues 4`.
    pub fn with(options: &str) -> Self {
        let lan = Self { a: Host::new("a"), b: Host::new("b") };
        let (a, b) = (&lan.a.name, &lan.b.name);
        // Said of the peer too: left out, it can have as many as the machine has CPUs.
        let peer = "numrxqueues 1 numtxqueues 1";
        ip(&format!("link add name {ETH} netns {a} {options} type veth peer name {ETH} netns {b} {peer}"));
        lan.a.ip(&format!("addr add 10.77.0.1/24 dev {ETH}"));
        lan.b.ip(&format!("addr add 10.77.0.2/24 dev {ETH}"));
        for host in [&lan.a, &lan.b] {
            host.ip("link set dev lo up");
            host.ip(&format!("link set dev {ETH} up"));
        }
        lan
    }
}

impl Host {
    fn new(side: &str) -> Self {
        let name = format!("xplan-{}-{}{side}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        ip(&format!("netns add {name}"));
        Self { name }
    }

    /// Runs `ip` with these arguments in the namespace, and fails where it fails.
    pub fn ip(&self, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.name));
    }

    /// A command that will run in the namespace.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs `what` on a thread of its own that is in the namespace. Sockets opened there stay in it.
    pub fn run<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/var/run/netns/{}", self.name)).expect("the namespace was made with ip netns");
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter a network namespace");
                what()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // A failing test must not be hidden by a second panic.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("iproute2 is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {said}(these tests need root)");
}
