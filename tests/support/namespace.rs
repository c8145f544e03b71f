//! Network namespaces and the veth pairs between them, made for one test and gone with it. Takes root and iproute2.

#![allow(dead_code, reason = "each user takes its part")]

use std::ffi::OsStr;
use std::fs::File;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Counts the namespaces of this process: with its id, the names are unique.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A network namespace with its loopback up and without IPv6. Removed with the value, also when a test panics.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// `role` ends the name, for those who meet it in `ip netns`.
    pub fn new(role: &str) -> Self {
        // `ip link` shows the name beside the peer's interface, where the tests look for "xdp".
        let name = format!("probe-{}-{}-{role}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        ip(&["netns", "add", &name]);
        let namespace = Self { name };
        // A test's own traffic only: no router solicitations, no multicast reports.
        namespace.set_ipv6("all", false);
        namespace.set_ipv6("default", false);
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    /// As `ip netns` names it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` in this namespace and returns what it prints; panics where it fails.
    pub fn ip(&self, arguments: &[&str]) -> String {
        ip(&[&["-n", &self.name], arguments].concat())
    }

    /// A command that will run in this namespace.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs `work` on a thread of its own in this namespace, and waits for it. Sockets opened there stay there.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter();
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread into this namespace, for good.
    pub fn enter(&self) {
        let namespace = File::open(format!("/run/netns/{}", self.name)).expect("the namespace exists");
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("setns takes root");
    }

    /// Waits until an interface is up, with carrier, and may send.
    pub fn wait_for_carrier(&self, interface: &str) {
        let began = Instant::now();
        while !self.ip(&["-oneline", "link", "show", interface]).contains(" state UP ") {
            assert!(began.elapsed() < CARRIER, "{interface} in {} has no carrier", self.name);
        }
    }

    /// Gives an interface IPv6, or takes it away; `all` and `default` stand for those there are and those to come.
    pub fn set_ipv6(&self, interface: &str, on: bool) {
        let path = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
        // A kernel without IPv6 has nothing to switch off.
        self.run(|| drop(std::fs::write(path, if on { "0" } else { "1" })));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // A failing test must not be hidden by a second panic.
        if let Err(said) = try_ip(&["netns", "del", &self.name]) {
            eprintln!("{said}");
        }
    }
}

/// One end of a veth pair, as [`join`] makes it.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// The interface's name.
    pub interface: &'a str,
    /// Its address, in a /24 network; the unspecified one for none.
    pub address: Ipv4Addr,
    /// How many queues it has for receiving, and how many for sending.
    pub queues: u32,
    /// In bytes, with the IP header.
    pub mtu: u32,
}

impl<'a> End<'a> {
    /// One queue, and the MTU of Ethernet.
    pub const fn new(interface: &'a str, address: Ipv4Addr) -> Self {
        Self { interface, address, queues: 1, mtu: 1500 }
    }
}

/// Joins two namespaces by a veth pair, both ends up, offloads as the kernel has them, and what is sent from now on arrives. It goes with
/// either namespace.
pub fn join(left: (&Namespace, End), right: (&Namespace, End)) {
    let numbers = [left, right].map(|(_, end)| [end.queues.to_string(), end.mtu.to_string()]);
    let [left_words, right_words] = [(left, &numbers[0]), (right, &numbers[1])].map(|((namespace, end), numbers)| {
        // Said of both: an end of which the queues are left out can have as many as the machine has CPUs.
        let [queues, mtu] = numbers;
        let of_queues = ["numrxqueues", queues, "numtxqueues", queues];
        [&["name", end.interface, "netns", &namespace.name, "mtu", mtu][..], &of_queues].concat()
    });
    ip(&[&["link", "add"], &left_words[..], &["type", "veth", "peer"], &right_words].concat());
    for (namespace, end) in [left, right] {
        if !end.address.is_unspecified() {
            namespace.ip(&["address", "add", &format!("{}/24", end.address), "dev", end.interface]);
        }
        namespace.ip(&["link", "set", end.interface, "up"]);
    }
    // That its peer is up, too, the first end is told by a worker of the kernel's (linkwatch). Until then all that it sends is dropped,
    // silently; and where that was a question for a neighbour's address, it is asked again only after a second.
    for (namespace, end) in [left, right] {
        namespace.wait_for_carrier(end.interface);
    }
}

/// A carrier that takes this long does not come.
const CARRIER: Duration = Duration::from_secs(30);

/// Held while a child runs.
static CHILD: Mutex<()> = Mutex::new(());

/// Waits until no `ip` of this module holds copies of this process's descriptors.
///
/// Between fork and exec a child has all of them, close-on-exec or not; and whoever waits for the exec is let go before
/// the kernel closes them (begin_new_exec, fs/exec.c). A test that looks whether something is gone with its last
/// descriptor calls this first, as the other tests' threads run `ip` at any time.
pub fn settle() {
    drop(CHILD.lock().unwrap_or_else(PoisonError::into_inner));
}

/// Runs `ip` and returns what it prints; panics where it fails.
pub fn ip(arguments: &[&str]) -> String {
    try_ip(arguments).unwrap_or_else(|said| panic!("{said} (network namespaces take root)"))
}

fn try_ip(arguments: &[&str]) -> Result<String, String> {
    let child = CHILD.lock().unwrap_or_else(PoisonError::into_inner);
    let output =
        Command::new("ip").args(arguments).output().map_err(|error| format!("ip: {error}: install iproute2"))?;
    drop(child);
    if !output.status.success() {
        return Err(format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
